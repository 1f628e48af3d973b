"""The types of the public functions."""

# fmt: off
from typing import overload

from numpy.typing import ArrayLike

from .._types import Combined, Real, Reduction, RowResults, Scalar
from ._part import Part, merge, part
from ._whole import count_larger, entropy, grad, log_softmax, logprob, logsumexp, softmax

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

@overload
def loss(
    p: Part, *, sample_weight: ArrayLike | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    reduction: Combined = "mean",
) -> Scalar: ...
@overload
def loss(
    p: Part, *, sample_weight: ArrayLike | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    reduction: Reduction = "mean",
) -> RowResults: ...
