"""Logits whose classes are in several places: each reduces its part, the parts are merged, and what is wanted of the
whole is computed of the small arrays that remain.

A row's logits may be chunks of a file, blocks of a Dask array, or shards of a vocabulary in several processes. A
`Part` has a few numbers for each row, whatever the number of classes::

    parts = [sharded.part(x[:, a:b], target, first_class=a, classes=n) for a, b in ...]  # each where its logits are
    whole = sharded.merge(*parts)                                                        # small: may be sent
    loss = sharded.loss(whole)
    grad = sharded.grad(x[:, a:b], whole, target, first_class=a)                         # each its own part
"""

from ._part import Part, merge, part
from ._whole import count_larger, entropy, grad, log_softmax, logprob, logsumexp, loss, softmax

__all__ = [
    "Part",
    "count_larger",
    "entropy",
    "grad",
    "log_softmax",
    "logprob",
    "logsumexp",
    "loss",
    "merge",
    "part",
    "softmax",
]
