"""Logits whose classes are in several places: chunks of a file, blocks of an array, shards of a vocabulary.

Each place summarises its classes as a `Part`, which holds a few numbers per row, whatever the number of classes. The
parts are merged, and the merged part gives results for all classes::

    # in each process, which has the logits x of the classes from a
    part = sharded.part(x, target, first_class=a, classes=n)
    # anywhere: parts are small enough to send between processes
    whole = sharded.merge(*parts)
    loss = sharded.loss(whole)
    # in each process again
    grad = sharded.grad(x, whole, target, first_class=a)
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
