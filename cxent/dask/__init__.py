"""The functions of cxent for Dask arrays, chunked along rows, along classes, or both.

Everything is lazy. Where each row is in one chunk, the functions of `cxent` compute chunk by chunk, and results of each
row have the same bits as on the whole array; a mean or a sum over rows, and the gradient of a mean with weights, may
differ in the last bits, since they are added chunk by chunk. Where classes are in several chunks, each is reduced to a
few numbers a row (see `cxent.sharded`) and these are merged: no row is ever gathered, and results are the same within
the bounds of the functions. Errors are those of the functions of `cxent`.

It needs Dask: ``pip install cxent[dask]``.
"""

from ._functions import cross_entropy, cross_entropy_with_grad, log_softmax, logsumexp, softmax, token_logprobs

__all__ = ["cross_entropy", "cross_entropy_with_grad", "log_softmax", "logsumexp", "softmax", "token_logprobs"]
