"""The functions of cxent for Dask arrays, chunked along rows, along classes, or both.

Everything is lazy. If each row is in one chunk, the functions of `cxent` compute chunk by chunk. Results per row then
have the same bits as for the whole array; means and sums over rows, and gradients of weighted means, may differ in the
last bits, since they are added up chunk by chunk. If classes are in several chunks, each chunk is reduced to a few
numbers per row, which are merged (see `cxent.sharded`). No row is ever gathered, and results are accurate within the
same bounds. Errors are the same as in `cxent`.

Needs Dask: ``pip install cxent[dask]``.
"""

from ._functions import cross_entropy, cross_entropy_with_grad, log_softmax, logsumexp, softmax, token_logprobs

__all__ = ["cross_entropy", "cross_entropy_with_grad", "log_softmax", "logsumexp", "softmax", "token_logprobs"]
