"""Losses and scores of logits that never exist as a whole: of ``hidden @ weight.T + bias``, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, SupportsIndex, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._layout import layout_of, narrowed
from ._losses import CheckedLoss, checked_loss
from ._scoring import ScoreArrays, TokenLogprobs
from ._types import (
    Array,
    Combined,
    LinearMaybeLse,
    LinearNoLse,
    LinearWithLse,
    PerRow,
    Progress,
    Real,
    Reduction,
    RowResults,
    Scalar,
)
from ._validation import (
    checked_ids,
    computed_dtype,
    floating_array,
    integer_in_range,
    loss_options,
    positive_integer,
    require_classes,
    thread_count,
)

_CHUNK_BYTES = 48 << 20
_BLOCK_BYTES = 8 << 20  # of weights that are converted, or of a part of their gradient


class LinearGradients(NamedTuple):
    """The gradients that `linear_cross_entropy_with_grad` returns."""

    hidden: Array
    weight: Array
    bias: Array | None


@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Combined = "mean",
    **options: Unpack[LinearNoLse],
) -> Scalar: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: PerRow,
    **options: Unpack[LinearNoLse],
) -> RowResults: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Combined = "mean",
    **options: Unpack[LinearWithLse],
) -> tuple[Scalar, RowResults]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: PerRow,
    **options: Unpack[LinearWithLse],
) -> tuple[RowResults, RowResults]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    **options: Unpack[LinearMaybeLse],
) -> Any: ...
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    chunk_bytes: SupportsIndex = _CHUNK_BYTES,
    progress: Progress = None,
    workers: SupportsIndex = 1,
) -> Any:
    """Cross-entropy of a linear layer's outputs, which are never all in memory.

    ``cross_entropy(hidden @ weight.T + bias, target)``, some rows at a time.

    Parameters
    ----------
    hidden : array_like of shape (N, D)
        What the layer gets: one row for each target. float32 and float64 are computed as such, half precision in
        float32, integers and booleans in float64; with another dtype of `weight`, in the wider of the two.
    weight : array_like of shape (V, D)
        The matrix of the layer, with one row for each of V classes. Class weights are `class_weight` here.
    target : array_like
        Class indices of shape (N,), or probabilities of shape (N, V); as in `cross_entropy`.
    bias : array_like of shape (V,), optional
        What is added to the logits of each class.
    class_weight : array_like of shape (V,), optional
        A weight for each class: the `weight` of `cross_entropy`.
    sample_weight, ignore_index, label_smoothing, z_loss, softcap, temperature, reduction, return_lse : optional
        As in `cross_entropy`.
    chunk_bytes : int, default 48 MB
        How much memory the logits of some rows may take; at least one row is computed at a time.
    progress : callable or bool, optional
        What is called after each chunk with the number of rows that are done, and of all; True shows a bar, by tqdm.
    workers : int, default 1
        As in `cross_entropy`. The matrix products have the threads of NumPy's BLAS.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` returns it.
    lse : ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `cross_entropy`, and if `hidden` or `weight` has not two dimensions, their shapes do not match each other
        or that of `bias`, or `chunk_bytes` is below 1.
    ImportError
        If `progress` is True and tqdm is not installed.

    See Also
    --------
    linear_cross_entropy_with_grad : With the gradients.
    linear_token_logprobs : Scores of tokens, likewise.

    Notes
    -----
    The products are those of NumPy's BLAS, whose rounding depends on the machine and on the number of rows at a time.
    Another `chunk_bytes` therefore changes a result as another order of the D products of each logit does.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import cross_entropy, linear_cross_entropy
    >>> hidden, weight = np.eye(3, 4), np.arange(20.0).reshape(5, 4) / 10
    >>> print(linear_cross_entropy(hidden, weight, [0, 1, 4]).round(6))
    1.897553
    >>> print(cross_entropy(hidden @ weight.T, [0, 1, 4]).round(6))
    1.897553
    """
    threads = thread_count(workers)
    options = loss_options(-1, reduction, ignore_index, label_smoothing, temperature, z_loss, softcap)
    layer = _Layer(hidden, weight, bias, chunk_bytes)
    loss = checked_loss(layer.stand_in, "logits", target, class_weight, sample_weight, options)
    results = layer.loss(loss, return_lse, progress, threads, with_grad=False)
    return results if return_lse else results[0]


@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Combined = "mean",
    **options: Unpack[LinearNoLse],
) -> tuple[Scalar, LinearGradients]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: PerRow,
    **options: Unpack[LinearNoLse],
) -> tuple[RowResults, LinearGradients]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: Combined = "mean",
    **options: Unpack[LinearWithLse],
) -> tuple[Scalar, LinearGradients, RowResults]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    reduction: PerRow,
    **options: Unpack[LinearWithLse],
) -> tuple[RowResults, LinearGradients, RowResults]: ...
@overload
def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    **options: Unpack[LinearMaybeLse],
) -> tuple[Any, ...]: ...
def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    chunk_bytes: SupportsIndex = _CHUNK_BYTES,
    progress: Progress = None,
    workers: SupportsIndex = 1,
) -> tuple[Any, ...]:
    """Cross-entropy of a linear layer's outputs, and its gradients with respect to the layer's inputs and parameters.

    With G the gradient with respect to the logits, those are ``G @ weight``, ``G.T @ hidden`` and ``G.sum(0)``. Neither
    G nor the logits are ever all in memory.

    Parameters
    ----------
    hidden, weight, target, bias : array_like
        As in `linear_cross_entropy`.
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, temperature : optional
        As in `linear_cross_entropy`.
    reduction, return_lse : optional
        As in `linear_cross_entropy`. With reduction "none" the gradients are those of the sum.
    chunk_bytes, progress, workers : optional
        As in `linear_cross_entropy`.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` returns it.
    gradients : LinearGradients
        A named tuple of the gradients with respect to hidden, weight and bias, in their shapes and dtypes; the last is
        None without a bias. They are summed in the dtype in which the logits are computed.
    lse : ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError, ValueError, IndexError, ImportError
        As in `linear_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import linear_cross_entropy_with_grad
    >>> hidden, weight = np.eye(3, 4), np.arange(20.0).reshape(5, 4) / 10
    >>> loss, gradients = linear_cross_entropy_with_grad(hidden, weight, [0, 1, 4])
    >>> gradients.hidden.shape, gradients.weight.shape, gradients.bias
    ((3, 4), (5, 4), None)
    >>> weight -= 0.1 * gradients.weight
    """
    threads = thread_count(workers)
    options = loss_options(-1, reduction, ignore_index, label_smoothing, temperature, z_loss, softcap)
    layer = _Layer(hidden, weight, bias, chunk_bytes)
    loss = checked_loss(layer.stand_in, "logits", target, class_weight, sample_weight, options)
    total, *lse = layer.loss(loss, return_lse, progress, threads, with_grad=True)
    return (total, layer.gradients(), *lse)


def linear_token_logprobs(
    hidden: ArrayLike,
    weight: ArrayLike,
    ids: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
    chunk_bytes: SupportsIndex = _CHUNK_BYTES,
    progress: Progress = None,
    workers: SupportsIndex = 1,
) -> TokenLogprobs:
    """Scores of tokens from hidden states: those of a linear layer's outputs, which are never all in memory.

    ``token_logprobs(hidden @ weight.T + bias, ids)``, some rows at a time.

    Parameters
    ----------
    hidden, weight : array_like
        As in `linear_cross_entropy`.
    ids : array_like of int
        Of shape (N,), or (N, K) for K candidates of each row; as in `token_logprobs`.
    bias : array_like, optional
        As in `linear_cross_entropy`.
    top_k, temperature, softcap, ignore_index : optional
        As in `token_logprobs`.
    chunk_bytes, progress, workers : optional
        As in `linear_cross_entropy`.

    Returns
    -------
    TokenLogprobs
        As `token_logprobs` returns them.

    Raises
    ------
    TypeError, ValueError, IndexError, ImportError
        As in `token_logprobs` and `linear_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import linear_token_logprobs
    >>> hidden, weight = np.eye(3, 4), np.arange(20.0).reshape(5, 4) / 10
    >>> linear_token_logprobs(hidden, weight, [0, 1, 4]).rank
    array([5, 4, 1])
    """
    threads = thread_count(workers)
    options = loss_options(-1, "sum", ignore_index, temperature=temperature, softcap=softcap)
    layer = _Layer(hidden, weight, bias, chunk_bytes)
    layout = layout_of(layer.stand_in, -1)
    require_classes(layout, -1, "logits")
    checked = checked_ids(ids, layout, options.ignore_index)
    several = np.ndim(ids) > 1
    k = integer_in_range(top_k, "top_k", layout.classes)
    scores = ScoreArrays.empty(layout, layer.dtype, checked.view.shape[2], k)
    given = (checked.ignored, options.softcap, options.temperature)
    for rows, logits in layer.chunks(progress):
        kernel = kernels.serving.of(layer.dtype).token_logprobs
        kernel(logits, checked.view[rows], given, *scores.part(rows), threads)
    return scores.results(layout, several)


class _Layer:
    """A linear layer: its outputs in chunks of rows, and its gradients, added up chunk by chunk."""

    def __init__(
        self, hidden: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, chunk_bytes: SupportsIndex
    ) -> None:
        self.hidden = floating_array(hidden, "hidden")
        self.weight = floating_array(weight, "weight")
        if self.hidden.ndim != 2:
            raise ValueError(f"hidden has shape {self.hidden.shape}; accepted are two dimensions, (N, D)")
        n, d = self.hidden.shape
        if self.weight.ndim != 2 or self.weight.shape[1] != d:
            raise ValueError(
                f"weight has shape {self.weight.shape}; accepted for hidden of shape {(n, d)} is (V, {d}), "
                "V being the number of classes"
            )
        classes = self.weight.shape[0]
        self.bias = None if bias is None else floating_array(bias, "bias")
        if self.bias is not None and self.bias.shape != (classes,):
            raise ValueError(f"bias has shape {self.bias.shape}; accepted is {(classes,)}, one for each row of weight")
        self.dtype: np.dtype[Any] = np.result_type(computed_dtype(self.hidden.dtype), computed_dtype(self.weight.dtype))
        row_bytes = max(1, classes) * self.dtype.itemsize
        self._chunk_rows = max(1, positive_integer(chunk_bytes, "chunk_bytes") // row_bytes)
        block = max(1, _BLOCK_BYTES // (max(1, d) * self.dtype.itemsize))
        self._blocks = [slice(start, start + block) for start in range(0, classes, block)]
        # In place of the logits, where their shape and dtype count.
        self.stand_in: Array = np.broadcast_to(np.zeros((), self.dtype), (n, classes))

    def chunks(self, progress: Progress) -> Iterator[tuple[slice, Array]]:
        """The rows of each chunk and their logits as (rows, V, 1), in memory that is used again for the next."""
        n, classes = self.stand_in.shape
        memory = np.empty((min(n, self._chunk_rows), classes), self.dtype)
        report = _reporter(progress, n)
        for start in range(0, n, self._chunk_rows):
            rows = slice(start, min(n, start + self._chunk_rows))
            logits = memory[: rows.stop - start]
            with np.errstate(over="ignore", invalid="ignore"):
                self._multiply(self._hidden(rows), logits)
            yield rows, logits[:, :, np.newaxis]
            report(rows.stop, n)

    def loss(
        self, loss: CheckedLoss, return_lse: bool, progress: Progress, threads: int, *, with_grad: bool
    ) -> tuple[RowResults, ...]:
        """The loss of the outputs, and the logsumexps, if they are wanted; gradients are added up."""
        lse = loss.layout.empty_row_results(loss.dtype) if return_lse else None
        total = 0.0
        for rows, logits in self.chunks(progress):
            total += loss.compute(logits, threads, rows=rows, lse=lse, grad=logits if with_grad else None)
            if with_grad:
                self._add_gradients(rows, logits)
        return (loss.reduced(total),) if lse is None else (loss.reduced(total), loss.layout.row_results(lse))

    def _hidden(self, rows: slice) -> Array:
        return self.hidden[rows].astype(self.dtype, copy=False)

    def _multiply(self, hidden: Array, logits: Array) -> None:
        if self.weight.dtype == self.dtype:
            np.matmul(hidden, self.weight.T, out=logits)
        else:
            for classes in self._blocks:
                logits[:, classes] = hidden @ self.weight[classes].astype(self.dtype).T
        if self.bias is not None:
            logits += self.bias.astype(self.dtype, copy=False)

    def _add_gradients(self, rows: slice, logits_grad: Array) -> None:
        """Of a chunk, whose gradient with respect to its logits is given as (rows, V, 1)."""
        g = logits_grad[:, :, 0]
        by_hidden, by_weight, by_bias = self._sums
        hidden = self._hidden(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.weight.dtype == self.dtype:
                np.matmul(g, self.weight, out=by_hidden[rows])
            for classes in self._blocks:
                if rows.start == 0:
                    np.matmul(g[:, classes].T, hidden, out=by_weight[classes])
                else:  # (NumPy has no product that is added to what is there)
                    part = self._block[: len(by_weight[classes])]
                    np.matmul(g[:, classes].T, hidden, out=part)
                    by_weight[classes] += part
                if self.weight.dtype != self.dtype:
                    by_hidden[rows] += g[:, classes] @ self.weight[classes].astype(self.dtype)
            if by_bias is not None:
                by_bias += np.ones(len(g), self.dtype) @ g

    @cached_property
    def _sums(self) -> tuple[Array, Array, Array | None]:
        """The gradients so far."""
        make = np.zeros if len(self.hidden) == 0 else np.empty
        return (
            np.zeros(self.hidden.shape, self.dtype),
            make(self.weight.shape, self.dtype),
            None if self.bias is None else np.zeros(self.bias.shape, self.dtype),
        )

    @cached_property
    def _block(self) -> Array:
        """Memory for a part of the weight's gradient."""
        return np.empty_like(self._sums[1][self._blocks[0]])

    def gradients(self) -> LinearGradients:
        """The gradients that were added up, in the dtypes of what was given."""
        by_hidden, by_weight, by_bias = self._sums
        return LinearGradients(
            narrowed(by_hidden, self.hidden.dtype),
            narrowed(by_weight, self.weight.dtype),
            None if by_bias is None or self.bias is None else narrowed(by_bias, self.bias.dtype),
        )


def _reporter(progress: Progress, total: int) -> Callable[[int, int], object]:
    """What is called with the rows that are done, and with their total."""
    if progress is None or progress is False:
        return lambda done, total: None
    if progress is not True:
        if not callable(progress):
            raise TypeError(f"progress is {progress!r}; accepted are a callable, a boolean and None")
        return progress
    try:
        tqdm = import_module("tqdm").tqdm
    except ImportError as error:
        raise ImportError("progress is True, which needs tqdm; accepted without it is a callable") from error
    bar = tqdm(total=total, unit=" rows")

    def show(done: int, total: int) -> None:
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show
