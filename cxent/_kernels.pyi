"""What every kernel module has: the compiled ones and the one in pure NumPy."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def softmax(x: Array, mask: Array | None, out: Array, past_cache: bool) -> None: ...
def log_softmax(x: Array, mask: Array | None, out: Array, past_cache: bool) -> None: ...
def logsumexp(x: Array, mask: Array | None, out: Array) -> None: ...
def softmax_backward(grad_output: Array, output: Array, out: Array) -> None: ...
def log_softmax_backward(grad_output: Array, output: Array, out: Array) -> None: ...
def cross_entropy(
    x: Array,
    labels: Array | None,
    target: Array | None,
    class_weights: Array | None,
    row_weights: Array | None,
    ignored: int | None,
    smoothing: float,
    z: float,
    cap: float,
    temperature: float,
    divisor: float,
    z_divisor: float,
    losses: Array | None,
    lse: Array | None,
    grad: Array | None,
    hess: Array | None,
    past_cache: bool,
) -> float: ...
def from_probs_index(
    probs: Array, labels: Array, divisor: float, losses: Array | None, grad: Array | None
) -> float: ...
def from_probs_dense(
    probs: Array, target: Array, divisor: float, losses: Array | None, grad: Array | None
) -> float: ...
def labels_in_range(labels: Array, classes: int, ignored: int | None) -> bool: ...
def sums_of_weights(
    labels: Array, row_weights: Array | None, class_weights: Array | None, ignored: int | None
) -> tuple[float, float]: ...
def small_softmax(x: object, axis: object, out: object) -> Array | None: ...
def small_log_softmax(x: object, axis: object, out: object) -> Array | None: ...
def small_logsumexp(x: object, axis: object) -> Any: ...
def small_cross_entropy(
    logits: object, target: object, axis: object, out: object, mean: bool, with_grad: bool
) -> tuple[float, Array | None] | None: ...
