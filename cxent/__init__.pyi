"""The types of the public functions, with an overload for each type of the result.

Functions whose result has only one type are imported from their modules.
"""

# fmt: off
from typing import Any, Literal, SupportsIndex, overload

from numpy.typing import ArrayLike

from . import boosting, sharded
from ._binary import log_sigmoid, sigmoid
from ._calibration import Reliability, TemperatureFit, binary_reliability, fit_temperature, reliability
from ._compare import Comparison, Estimate, compare_logits
from ._config import get_workers, set_workers
from ._cross_entropy import cross_entropy_hvp
from ._linear import LinearGradients, linear_token_logprobs
from ._scoring import Perplexity, TokenLogprobs, perplexity, token_logprobs
from ._softmax import log_softmax, log_softmax_backward, softmax, softmax_backward, softmax_jacobian
from ._types import (
    Array,
    Axis,
    Combined,
    Config,
    Direction,
    Out,
    Progress,
    Real,
    Reduction,
    RowResults,
    Scalar,
)

__version__: str

__all__ = [
    "Comparison",
    "Estimate",
    "LinearGradients",
    "Perplexity",
    "Reliability",
    "TemperatureFit",
    "TokenLogprobs",
    "binary_cross_entropy",
    "binary_cross_entropy_with_grad",
    "binary_cross_entropy_with_hess",
    "binary_reliability",
    "boosting",
    "compare_logits",
    "cross_entropy",
    "cross_entropy_from_probs",
    "cross_entropy_from_probs_with_grad",
    "cross_entropy_hvp",
    "cross_entropy_with_grad",
    "cross_entropy_with_hess",
    "fit_temperature",
    "get_workers",
    "js_divergence",
    "js_divergence_with_grad",
    "kl_divergence",
    "kl_divergence_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "linear_token_logprobs",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "perplexity",
    "reliability",
    "set_workers",
    "sharded",
    "show_config",
    "sigmoid",
    "softmax",
    "softmax_backward",
    "softmax_jacobian",
    "token_logprobs",
]

@overload
def logsumexp(
    x: ArrayLike, axis: Axis = -1, *, keepdims: bool = False, b: ArrayLike | None = None, return_sign: Literal[True],
    where: ArrayLike | None = None, workers: SupportsIndex | None = None,
) -> tuple[RowResults, RowResults]: ...
@overload
def logsumexp(
    x: ArrayLike, axis: Axis = -1, *, keepdims: bool = False, b: ArrayLike | None = None, return_sign: bool = False,
    where: ArrayLike | None = None, workers: SupportsIndex | None = None,
) -> RowResults: ...

@overload
def binary_cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0, reduction: Combined = "mean", workers: SupportsIndex | None = None,
) -> Scalar: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0, reduction: Reduction = "mean", workers: SupportsIndex | None = None,
) -> RowResults: ...

@overload
def binary_cross_entropy_with_grad(
    logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0, reduction: Combined = "mean", out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array]: ...
@overload
def binary_cross_entropy_with_grad(
    logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0, reduction: Reduction = "mean", out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]: ...

@overload
def binary_cross_entropy_with_hess(
    logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0, reduction: Combined = "mean", out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array, Array]: ...
@overload
def binary_cross_entropy_with_hess(
    logits: ArrayLike, target: ArrayLike, *, pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0,
    focal_gamma: Real = 0.0, reduction: Reduction = "mean", out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array, Array]: ...

@overload
def cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Combined = "mean", return_lse: Literal[False] = False,
    workers: SupportsIndex | None = None,
) -> Scalar: ...
@overload
def cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Combined = "mean", return_lse: Literal[True],
    workers: SupportsIndex | None = None,
) -> tuple[Scalar, RowResults]: ...
@overload
def cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Literal["none"], return_lse: Literal[True],
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, RowResults]: ...
@overload
def cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Reduction = "mean", return_lse: bool = False,
    workers: SupportsIndex | None = None,
) -> RowResults: ...

@overload
def cross_entropy_with_grad(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Combined = "mean", return_lse: Literal[False] = False, out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array]: ...
@overload
def cross_entropy_with_grad(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Literal["none"], return_lse: Literal[False] = False, out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]: ...
@overload
def cross_entropy_with_grad(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Combined = "mean", return_lse: Literal[True], out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array, RowResults]: ...
@overload
def cross_entropy_with_grad(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Literal["none"], return_lse: Literal[True], out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array, RowResults]: ...
@overload
def cross_entropy_with_grad(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, z_loss: Real = 0.0, softcap: Real | None = None,
    temperature: Real = 1.0, reduction: Reduction = "mean", return_lse: bool = False, out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[Any, ...]: ...

@overload
def cross_entropy_with_hess(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, temperature: Real = 1.0, reduction: Combined = "mean",
    out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array, Array]: ...
@overload
def cross_entropy_with_hess(
    logits: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, where: ArrayLike | None = None,
    weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0, focal_gamma: Real = 0.0, temperature: Real = 1.0, reduction: Reduction = "mean",
    out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array, Array]: ...

@overload
def cross_entropy_from_probs(
    probs: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, reduction: Combined = "mean",
    workers: SupportsIndex | None = None,
) -> Scalar: ...
@overload
def cross_entropy_from_probs(
    probs: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, reduction: Reduction = "mean",
    workers: SupportsIndex | None = None,
) -> RowResults: ...

@overload
def cross_entropy_from_probs_with_grad(
    probs: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, reduction: Combined = "mean",
    out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array]: ...
@overload
def cross_entropy_from_probs_with_grad(
    probs: ArrayLike, target: ArrayLike, *, axis: SupportsIndex = -1, weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None, ignore_index: SupportsIndex | None = None, reduction: Reduction = "mean",
    out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]: ...

@overload
def kl_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, direction: Direction = "forward",
    temperature: Real = 1.0, sample_weight: ArrayLike | None = None, where: ArrayLike | None = None,
    reduction: Combined = "mean", workers: SupportsIndex | None = None,
) -> Scalar: ...
@overload
def kl_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, direction: Direction = "forward",
    temperature: Real = 1.0, sample_weight: ArrayLike | None = None, where: ArrayLike | None = None,
    reduction: Reduction = "mean", workers: SupportsIndex | None = None,
) -> RowResults: ...

@overload
def kl_divergence_with_grad(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, direction: Direction = "forward",
    temperature: Real = 1.0, sample_weight: ArrayLike | None = None, where: ArrayLike | None = None,
    reduction: Combined = "mean", out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array]: ...
@overload
def kl_divergence_with_grad(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, direction: Direction = "forward",
    temperature: Real = 1.0, sample_weight: ArrayLike | None = None, where: ArrayLike | None = None,
    reduction: Reduction = "mean", out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]: ...

@overload
def js_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, beta: Real = 0.5, temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None, where: ArrayLike | None = None, reduction: Combined = "mean",
    workers: SupportsIndex | None = None,
) -> Scalar: ...
@overload
def js_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, beta: Real = 0.5, temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None, where: ArrayLike | None = None, reduction: Reduction = "mean",
    workers: SupportsIndex | None = None,
) -> RowResults: ...

@overload
def js_divergence_with_grad(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, beta: Real = 0.5, temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None, where: ArrayLike | None = None, reduction: Combined = "mean",
    out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[Scalar, Array]: ...
@overload
def js_divergence_with_grad(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: SupportsIndex = -1, beta: Real = 0.5, temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None, where: ArrayLike | None = None, reduction: Reduction = "mean",
    out: Out = None, workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]: ...

@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Combined = "mean",
    return_lse: Literal[False] = False, chunk_bytes: SupportsIndex = 50331648, progress: Progress = None,
    workers: SupportsIndex | None = None,
) -> Scalar: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Combined = "mean", return_lse: Literal[True],
    chunk_bytes: SupportsIndex = 50331648, progress: Progress = None, workers: SupportsIndex | None = None,
) -> tuple[Scalar, RowResults]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Literal["none"], return_lse: Literal[True],
    chunk_bytes: SupportsIndex = 50331648, progress: Progress = None, workers: SupportsIndex | None = None,
) -> tuple[RowResults, RowResults]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Reduction = "mean", return_lse: bool = False,
    chunk_bytes: SupportsIndex = 50331648, progress: Progress = None, workers: SupportsIndex | None = None,
) -> RowResults: ...

@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Combined = "mean",
    return_lse: Literal[False] = False, chunk_bytes: SupportsIndex = 50331648, progress: Progress = None,
    workers: SupportsIndex | None = None,
) -> tuple[Scalar, LinearGradients]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Literal["none"],
    return_lse: Literal[False] = False, chunk_bytes: SupportsIndex = 50331648, progress: Progress = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, LinearGradients]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Combined = "mean", return_lse: Literal[True],
    chunk_bytes: SupportsIndex = 50331648, progress: Progress = None, workers: SupportsIndex | None = None,
) -> tuple[Scalar, LinearGradients, RowResults]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Literal["none"], return_lse: Literal[True],
    chunk_bytes: SupportsIndex = 50331648, progress: Progress = None, workers: SupportsIndex | None = None,
) -> tuple[RowResults, LinearGradients, RowResults]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike, weight: ArrayLike, target: ArrayLike, *, bias: ArrayLike | None = None,
    where: ArrayLike | None = None, class_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None, label_smoothing: Real = 0.0, z_loss: Real = 0.0,
    softcap: Real | None = None, temperature: Real = 1.0, reduction: Reduction = "mean", return_lse: bool = False,
    chunk_bytes: SupportsIndex = 50331648, progress: Progress = None, workers: SupportsIndex | None = None,
) -> tuple[Any, ...]: ...

@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> Config: ...
