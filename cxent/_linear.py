"""Losses and scores of logits that never exist as a whole: of ``hidden @ weight.T + bias``, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, SupportsIndex, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._layout import as_stored, layout_of
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
    LossOptions,
    checked_ids,
    class_weights,
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
    workers: SupportsIndex | None = None,
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
        How much memory the logits of some rows may take, and copies of their hidden states, if these are converted; at
        least one row is computed at a time.
    progress : callable or bool, optional
        What is called after each chunk with the number of rows that are done, and of all that are computed; True shows
        a bar, by tqdm.
    workers : int, optional
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
    The products are those of NumPy's BLAS, whose rounding depends on the machine, on its threads, and on the number of
    rows at a time. So linear layers are outside the promise of the same bits on every machine, and another
    `chunk_bytes` changes a result as another order of the D products of each logit does.

    Rows that do not count, being ignored or of weight 0, are not computed, unless `return_lse` wants their logsumexps,
    and add nothing to any result, whatever their hidden states are.

    Beside inputs and results, `chunk_bytes` and 8 MB are in memory, whatever the dtypes: weights of another dtype than
    that in which the logits are computed are converted in blocks of 8 MB.

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
    layer = _Layer(hidden, weight, bias, chunk_bytes, progress, threads)
    loss = layer.checked_loss(target, class_weight, sample_weight, options)
    results = layer.loss(loss, return_lse, with_grad=False)
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
    workers: SupportsIndex | None = None,
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
        None without a bias. A row that does not count has a gradient of 0, and no part in those of weight and bias.
    lse : ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError, ValueError, IndexError, ImportError
        As in `linear_cross_entropy`.

    Notes
    -----
    The gradients of weight and bias are summed in the dtype in which the logits are computed, and narrowed at the end
    if that is wider than their own. What such sums take beside the result (as much again for half precision, or three
    times that with float64 hidden states) is part of `chunk_bytes` if it is no more than half of that, and comes on top
    of it if it is more; there are no such sums if all rows fit one chunk. `linear_cross_entropy` says what else is in
    memory, and on what the rounding depends.

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
    layer = _Layer(hidden, weight, bias, chunk_bytes, progress, threads)
    loss = layer.checked_loss(target, class_weight, sample_weight, options)
    total, *lse = layer.loss(loss, return_lse, with_grad=True)
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
    workers: SupportsIndex | None = None,
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
    layer = _Layer(hidden, weight, bias, chunk_bytes, progress, threads)
    layout = layout_of(layer.stand_in, -1)
    require_classes(layout, -1, "logits")
    checked = checked_ids(ids, layout, options.ignore_index)
    several = np.ndim(ids) > 1
    k = integer_in_range(top_k, "top_k", layout.classes)
    scores = ScoreArrays.empty(layout, layer.dtype, checked.view.shape[2], k)
    given = (checked.ignored, options.softcap, options.temperature)
    kernel = kernels.serving.of(layer.dtype).token_logprobs
    for rows, _, _, logits in layer.chunks(layer.rows_at_once()):
        kernel(logits[:, :, np.newaxis], checked.view[rows], given, *scores.part(rows), threads)
    return scores.results(layout, several)


class _Chunk(NamedTuple):
    """Rows whose logits are in memory together."""

    rows: Any  # where they are: a slice, or their numbers
    counted: int  # so many, the first, count
    hidden: Array
    logits: Array  # (rows, V)

    def that_count(self) -> tuple[Any, Array, Array]:
        """The same of the rows that count."""
        rows = self.rows if isinstance(self.rows, slice) else self.rows[: self.counted]
        return rows, self.hidden[: self.counted], self.logits[: self.counted]


class _Layer:
    """A linear layer: its outputs in chunks of rows, and its gradients, added up chunk by chunk.

    Arrays of another dtype than the one in which the logits are computed are converted in parts, of the weights into
    the memory that is also that of a part of their gradient.
    """

    def __init__(
        self,
        hidden: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None,
        chunk_bytes: SupportsIndex,
        progress: Progress,
        threads: int,
    ) -> None:
        self.hidden = floating_array(hidden, "hidden")
        self.weight = floating_array(weight, "weight")
        if self.hidden.ndim != 2:
            raise ValueError(f"hidden must have shape (N, D), got {self.hidden.shape}")
        n, d = self.hidden.shape
        if self.weight.ndim != 2 or self.weight.shape[1] != d:
            raise ValueError(
                f"weight must have shape (V, {d}) for hidden of shape {(n, d)}, got {self.weight.shape}; "
                "V is the number of classes"
            )
        classes = self.weight.shape[0]
        self.bias = None if bias is None else floating_array(bias, "bias")
        if self.bias is not None and self.bias.shape != (classes,):
            raise ValueError(f"bias must have shape {(classes,)}, got {self.bias.shape}")
        self.dtype: np.dtype[Any] = np.result_type(computed_dtype(self.hidden.dtype), computed_dtype(self.weight.dtype))
        self.threads = threads
        self._chunk_bytes = positive_integer(chunk_bytes, "chunk_bytes")
        self._progress = progress
        self._has_gradients = False
        self._sum_dtype = self.dtype  # of the gradient of the weights; nothing is added to that of a single chunk
        block = max(1, _BLOCK_BYTES // (max(1, d) * self.dtype.itemsize))
        self._blocks = [slice(start, start + block) for start in range(0, classes, block)]
        # In place of the logits, where their shape and dtype count.
        self.stand_in: Array = np.broadcast_to(np.zeros((), self.dtype), (n, classes))

    def checked_loss(
        self,
        target: ArrayLike,
        class_weight: ArrayLike | None,
        sample_weight: ArrayLike | None,
        options: LossOptions,
    ) -> CheckedLoss:
        """A loss of the outputs."""
        if class_weight is not None:
            class_weight = class_weights(class_weight, len(self.weight), self.dtype, "class_weight")
        return checked_loss(self.stand_in, "logits", target, class_weight, sample_weight, options)

    def loss(self, loss: CheckedLoss, return_lse: bool, *, with_grad: bool) -> tuple[RowResults, ...]:
        """The loss of the outputs, and the logsumexps, if they are wanted; gradients are added up.

        Only rows that count are computed, for those that do not may be no numbers. If logsumexps are wanted, the others
        follow, and take no part in the products of the gradients.
        """
        lse = loss.layout.empty_row_results(loss.dtype) if return_lse else None
        counted = loss.counted()[:, 0]
        order: Array | None = None
        if not counted.all():
            order = np.argsort(~counted, kind="stable") if return_lse else np.flatnonzero(counted)
            if loss.row_losses is not None:
                loss.row_losses[...] = 0
        total = 0.0
        step = self.rows_at_once(order, copies_target=loss.target.ndim == 3, with_grad=with_grad)
        if len(counted if order is None else order) <= step:
            self._sum_dtype = self.weight.dtype
        for chunk in self.chunks(step, order, int(np.count_nonzero(counted))):
            part = loss.of_rows(chunk.rows)
            part_lse = None if lse is None else lse[chunk.rows]
            logits = chunk.logits[:, :, np.newaxis]
            total += part.compute(logits, self.threads, lse=part_lse, grad=logits if with_grad else None)
            if order is not None:  # then these are copies
                if loss.row_losses is not None:
                    loss.row_losses[chunk.rows] = part.row_losses
                if lse is not None:
                    lse[chunk.rows] = part_lse
            if with_grad and chunk.counted:
                rows, hidden, g = chunk.that_count()
                self._add_gradients(rows, hidden, g)
        return (loss.reduced(total),) if lse is None else (loss.reduced(total), loss.layout.row_results(lse))

    def rows_at_once(self, order: Array | None = None, *, copies_target: bool = False, with_grad: bool = False) -> int:
        """How many rows fit a chunk, with what sums of gradients take beside these if it is no more than half of it."""
        n, classes = self.stand_in.shape
        d = self.hidden.shape[1]
        width = classes  # how many numbers of each row are in memory
        if order is not None or self.hidden.dtype != self.dtype or self.weight.dtype != self.dtype:
            width += 3 * d  # those of hidden, of its gradient, and of a part of this
        if order is not None and copies_target:
            width += classes
        row_bytes: int = max(1, width) * self.dtype.itemsize
        step = max(1, self._chunk_bytes // row_bytes)
        extra: int = self.weight.size * (self.dtype.itemsize - self.weight.dtype.itemsize)
        if with_grad and step < (n if order is None else len(order)) and 2 * extra <= self._chunk_bytes:
            step = max(1, (self._chunk_bytes - extra) // row_bytes)
        return step

    def chunks(self, step: int, order: Array | None = None, counted: int | None = None) -> Iterator[_Chunk]:
        """So many rows at a time, of all or of those of these numbers, of which so many count.

        The memory is used again for the next chunk.
        """
        n, classes = self.stand_in.shape
        total = n if order is None else len(order)
        counted = n if counted is None else counted
        memory = np.empty((min(total, step), classes), self.dtype)
        report = _reporter(self._progress, total)
        if total == 0:
            report(0, 0)  # (it may have opened a bar)
        for start in range(0, total, step):
            stop = min(total, start + step)
            rows = slice(start, stop) if order is None else order[start:stop]
            hidden = self._converted(self.hidden[rows], self.dtype)
            logits = memory[: stop - start]
            self._multiply(hidden, logits)
            yield _Chunk(rows, max(0, min(stop, counted) - start), hidden, logits)
            report(stop, total)

    @np.errstate(all="ignore")
    def _multiply(self, hidden: Array, logits: Array) -> None:
        if self.weight.dtype == self.dtype:
            np.matmul(hidden, self.weight.T, out=logits)
        else:
            for classes in self._blocks:
                np.matmul(hidden, self._weights(classes).T, out=logits[:, classes])
        if self.bias is not None:
            logits += self.bias.astype(self.dtype, copy=False)

    @np.errstate(all="ignore")
    def _add_gradients(self, rows: slice | Array, hidden: Array, g: Array) -> None:
        """Of rows whose gradient with respect to the logits is g."""
        by_hidden, by_weight, by_bias = self._sums
        for classes in self._blocks:
            if not self._has_gradients and by_weight.dtype == self.dtype:
                np.matmul(g[:, classes].T, hidden, out=by_weight[classes])
                continue
            part = np.matmul(g[:, classes].T, hidden, out=self._block[: len(by_weight[classes])])
            if self._has_gradients:  # (NumPy has no product that is added to what is there)
                by_weight[classes] += part
            else:
                self._convert(part, by_weight[classes])
        self._has_gradients = True
        if by_bias is not None:
            by_bias += np.ones(len(g), self.dtype) @ g
        if by_hidden.dtype == self.weight.dtype == self.dtype and isinstance(rows, slice):
            np.matmul(g, self.weight, out=by_hidden[rows])
            return
        if self.weight.dtype == self.dtype:
            total = g @ self.weight
        else:
            total = np.zeros(hidden.shape, self.dtype)
            for classes in self._blocks:
                total += g[:, classes] @ self._weights(classes)
        by_hidden[rows] = self._converted(total, by_hidden.dtype)

    @cached_property
    def _sums(self) -> tuple[Array, Array, Array | None]:
        """The gradients so far. That of hidden, of which no row is added to, has its dtype."""
        return (
            np.zeros_like(self.hidden, order="C"),
            np.zeros(self.weight.shape, self._sum_dtype),
            None if self.bias is None else np.zeros(self.bias.shape, self.dtype),
        )

    @cached_property
    def _block(self) -> Array:
        """Memory for a part of the weights, or of their gradient."""
        return np.empty(self.weight[: self._blocks[0].stop].shape, self.dtype)

    def _weights(self, classes: slice) -> Array:
        """Those of some classes, until the memory is used again."""
        weight = self.weight[classes]
        return self._convert(weight, self._block[: len(weight)])

    def _converted(self, array: Array, dtype: np.dtype[Any]) -> Array:
        return array if array.dtype == dtype else self._convert(array, np.empty(array.shape, dtype))

    @np.errstate(all="ignore")
    def _convert(self, array: Array, out: Array) -> Array:
        """`out`, with the numbers of an array of another dtype."""
        if array.size and {array.itemsize, out.itemsize} == {2, 4}:
            views = (as_stored(a)[:, :, np.newaxis] for a in (array, out))
            kernels.serving.float32.convert(*views, self.threads)
        else:
            out[...] = array
        return out

    @np.errstate(all="ignore")
    def gradients(self) -> LinearGradients:
        """The gradients that were added up, in the dtypes of what was given."""
        by_hidden, by_weight, by_bias = self._sums
        del self._sums
        if by_weight.dtype != self.weight.dtype:
            by_weight = self._narrowed_in_place(by_weight)
        if by_bias is not None and self.bias is not None:
            by_bias = by_bias.astype(self.bias.dtype, copy=False)
        return LinearGradients(by_hidden, by_weight, by_bias)

    def _narrowed_in_place(self, sums: Array) -> Array:
        """The sums in the dtype of the weights, at the start of their memory, of which the rest is given back."""
        dtype = self.weight.dtype
        narrow = sums.reshape(-1).view(dtype)[: sums.size].reshape(sums.shape)
        for classes in self._blocks:
            part = self._block[: len(narrow[classes])]
            part[...] = sums[classes]  # (the first part would be written to where it is)
            self._convert(part, narrow[classes])
        del narrow
        sums.resize(-(-sums.size * dtype.itemsize // sums.itemsize), refcheck=False)  # nothing else refers to it
        return sums.view(dtype)[: self.weight.size].reshape(self.weight.shape)


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
