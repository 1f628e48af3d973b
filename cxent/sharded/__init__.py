"""Logits whose classes are in several places: chunks of a file, blocks of an array, shards of a vocabulary.

Each place summarises its classes as a `Part`, which holds a few numbers per row, whatever the number of classes. The
parts are merged, and the merged part gives results for all classes::

    parts = [sharded.part(x[:, a:b], target, first_class=a, classes=n) for a, b in ...]  # each where its logits are
    whole = sharded.merge(*parts)                                      # small enough to send between processes
    loss = sharded.loss(whole)
    grad = sharded.grad(x[:, a:b], whole, target, first_class=a)       # for each part
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
