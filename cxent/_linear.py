"""Losses and scores of the logits ``hidden @ weight.T + bias``, which are computed a chunk of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import Layer, layer_and, plain_array
from ._layout import lay_out
from ._loss import weighted
from ._options import LayerOptions, layer_options
from ._progress import CHUNK_BYTES, reporter
from ._results import loss_of, rows_of
from ._scoring import TokenLogprobs, score_rows
from ._targets import checked_ids, checked_mask, checked_targets
from ._types import Array, Progress, Real, Reduction, RowResults

_BLOCK_BYTES = 8 << 20  # of weights that are converted, or of a part of their gradient


class LinearGradients(NamedTuple):
    """The gradients that `linear_cross_entropy_with_grad` returns."""

    hidden: Array
    """Of shape (N, D), in the dtype of `hidden`."""
    weight: Array
    """Of shape (V, D), in the dtype of `weight`."""
    bias: Array | None
    """Of shape (V,), in the dtype of `bias`; None if there is no bias."""


def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    chunk_bytes: SupportsIndex = CHUNK_BYTES,
    progress: Progress = None,
    workers: SupportsIndex | None = None,
) -> Any:
    """Cross-entropy of the outputs of a linear layer, without holding all of them in memory.

    Equal to ``cross_entropy(hidden @ weight.T + bias, target)``, but computed a chunk of rows at a time.

    Parameters
    ----------
    hidden : array_like of shape (N, D)
        Inputs of the layer, one row per target. float32 and float64 are computed in their own dtype, half precision in
        float32, integers and booleans in float64. If `weight` has another dtype, the wider of the two is used.
    weight : array_like of shape (V, D)
        Weight matrix of the layer, with one row for each of V classes. Weights of classes are `class_weight` here.
    target : array_like
        Class indices of shape (N,), or class probabilities of shape (N, V).
    bias : array_like of shape (V,), optional
        Bias of the layer.
    where : array_like of bool of shape (V,), optional
        Which classes take part: one mask for all rows. The results are those of a layer without the others, whose
        weights and bias may be anything, and have gradients of 0.
    class_weight : array_like of shape (V,), optional
        Weight of each class: the `weight` of `cross_entropy`.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes, from 0 to 1.
    z_loss : float, default 0
        Factor of the squared logsumexp that is added to the loss.
    softcap : float, optional
        Bound that logits approach smoothly.
    temperature : float, default 1
        Logits are divided by it.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.
    return_lse : bool, default False
        Whether to return the logsumexp of each row too.
    chunk_bytes : int, default 48 MiB
        Memory for the logits of a chunk, and for a copy of its hidden states if they have to be converted. A chunk has
        at least one row.
    progress : callable or bool, optional
        Called after each chunk as ``progress(rows_done, rows)``. True shows a progress bar, which needs tqdm.
    workers : int, optional
        Number of threads; -1 means all CPUs. The matrix products use the threads of NumPy's BLAS instead.

    Returns
    -------
    loss : scalar or ndarray
        The loss, as returned by `cross_entropy`.
    lse : ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError, ValueError, IndexError
        As in `cross_entropy`, and if `hidden` or `weight` is not two-dimensional, their shapes do not match each other
        or those of `bias` and `where`, or `chunk_bytes` is below 1.
    ImportError
        If `progress` is True and tqdm is not installed.

    See Also
    --------
    linear_cross_entropy_with_grad : The loss and its gradients.
    linear_token_logprobs : Scores of tokens.

    Notes
    -----
    NumPy's BLAS computes the matrix products, and its rounding depends on the machine, on its number of threads, and on
    the number of rows in a chunk. So the results of linear layers are not promised to have the same bits on every
    machine, and they may differ in the last digits with another `chunk_bytes`.

    Rows that do not count, because they are ignored or have weight 0, are skipped, unless `return_lse` needs their
    logsumexp. They add nothing to any result, whatever their hidden states are.

    Apart from inputs and results, a call takes `chunk_bytes` and 8 MiB of memory, whatever the dtypes: if the weights
    have another dtype than the logits, they are converted in blocks of 8 MiB.

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
    options = layer_options(
        chunk_bytes, reduction, ignore_index, workers, label_smoothing, z_loss, softcap, temperature
    )
    arrays = layer_and(hidden, weight, bias, target=target, class_weight=class_weight, sample_weight=sample_weight)
    loss, _, lse = _loss_of_layer(arrays, where, options, progress, return_lse=return_lse, with_grad=False)
    return (loss, lse) if return_lse else loss


def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    temperature: Real = 1.0,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    chunk_bytes: SupportsIndex = CHUNK_BYTES,
    progress: Progress = None,
    workers: SupportsIndex | None = None,
) -> tuple[Any, ...]:
    """Cross-entropy of the outputs of a linear layer, and its gradients with respect to hidden states, weight and bias.

    With G the gradient with respect to the logits, these are ``G @ weight``, ``G.T @ hidden`` and ``G.sum(axis=0)``.
    Neither G nor the logits are ever in memory as a whole.

    Parameters
    ----------
    hidden : array_like of shape (N, D)
        Inputs of the layer, one row per target.
    weight : array_like of shape (V, D)
        Weight matrix of the layer, with one row for each of V classes.
    target : array_like
        Class indices of shape (N,), or class probabilities of shape (N, V).
    bias : array_like of shape (V,), optional
        Bias of the layer.
    where : array_like of bool of shape (V,), optional
        Which classes take part.
    class_weight : array_like of shape (V,), optional
        Weight of each class.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    ignore_index : int, optional
        Rows with this class index do not count.
    label_smoothing : float, default 0
        Fraction of each target that is spread evenly over all classes, from 0 to 1.
    z_loss : float, default 0
        Factor of the squared logsumexp that is added to the loss.
    softcap : float, optional
        Bound that logits approach smoothly.
    temperature : float, default 1
        Logits are divided by it.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none", the gradients are those of their sum.
    return_lse : bool, default False
        Whether to return the logsumexp of each row too.
    chunk_bytes : int, default 48 MiB
        Memory for the logits of a chunk.
    progress : callable or bool, optional
        Called after each chunk as ``progress(rows_done, rows)``. True shows a progress bar.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The loss, as returned by `cross_entropy`.
    gradients : LinearGradients
        A named tuple of the gradients with respect to hidden, weight and bias, in their shapes and dtypes; without a
        bias, the last is None. A row that does not count has gradient 0, and no part in the gradients of weight and
        bias.
    lse : ndarray
        The logsumexp of each row, if `return_lse`.

    Raises
    ------
    TypeError, ValueError, IndexError, ImportError
        As in `linear_cross_entropy`.

    Notes
    -----
    The gradients of weight and bias are accumulated in the dtype in which the logits are computed, and converted to
    their own dtype at the end. If that is narrower, the sums take more memory than the result: twice as much for half
    precision, four times with float64 hidden states. The extra memory is part of `chunk_bytes` if it is at most half of
    it, otherwise it comes on top. If all rows fit into one chunk, there are no sums. Memory and rounding are otherwise
    as in `linear_cross_entropy`.

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
    options = layer_options(
        chunk_bytes, reduction, ignore_index, workers, label_smoothing, z_loss, softcap, temperature
    )
    arrays = layer_and(hidden, weight, bias, target=target, class_weight=class_weight, sample_weight=sample_weight)
    loss, gradients, lse = _loss_of_layer(arrays, where, options, progress, return_lse=return_lse, with_grad=True)
    return (loss, gradients, lse) if return_lse else (loss, gradients)


def linear_token_logprobs(
    hidden: ArrayLike,
    weight: ArrayLike,
    ids: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    top_k: SupportsIndex = 0,
    temperature: Real = 1.0,
    softcap: Real | None = None,
    ignore_index: SupportsIndex | None = None,
    chunk_bytes: SupportsIndex = CHUNK_BYTES,
    progress: Progress = None,
    workers: SupportsIndex | None = None,
) -> TokenLogprobs:
    """Scores of tokens under the outputs of a linear layer, without holding all of them in memory.

    Equal to ``token_logprobs(hidden @ weight.T + bias, ids)``, but computed a chunk of rows at a time.

    Parameters
    ----------
    hidden : array_like of shape (N, D)
        Inputs of the layer, one row per position.
    weight : array_like of shape (V, D)
        Weight matrix of the layer, with one row for each of V classes.
    ids : array_like of int
        One id for each row, of shape (N,), or K candidates for each row, of shape (N, K).
    bias : array_like of shape (V,), optional
        Bias of the layer.
    where : array_like of bool of shape (V,), optional
        Which classes take part.
    top_k : int, default 0
        How many of the largest logits of each row to return.
    temperature : float, default 1
        Logits are divided by it.
    softcap : float, optional
        Bound that logits approach smoothly.
    ignore_index : int, optional
        Ids with this value do not count.
    chunk_bytes : int, default 48 MiB
        Memory for the logits of a chunk.
    progress : callable or bool, optional
        Called after each chunk as ``progress(rows_done, rows)``. True shows a progress bar.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    TokenLogprobs
        The scores, as returned by `token_logprobs`.

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
    options = layer_options(
        chunk_bytes, "sum", ignore_index, workers, softcap=softcap, temperature=temperature, top_k=top_k
    )
    arrays = layer_and(hidden, weight, bias, ids=ids)
    outputs, given = arrays.outputs, options.loss
    candidates, several, _, _ = checked_ids(outputs, given.ignore_index, top_k=options.top_k)
    layer = _Layer(arrays, _class_mask(where, outputs.shape.classes), options, progress)
    rows = score_rows(outputs.dtype, several, options.top_k)
    laid = lay_out(outputs.shape, [outputs.x], [candidates], rows=rows)
    (ids_view,) = laid.row_inputs
    kernel = kernels.serving.of(outputs.dtype).token_logprobs
    of_kernel = kernels.ScoreOptions(given.ignore_index, given.softcap, given.temperature)
    for chunk in layer.chunks(layer.rows_at_once()):
        logits = chunk.logits[:, :, np.newaxis]
        memory = [None if a is None else a[chunk.rows] for a in laid.rows]
        kernel(logits, layer.mask_of(chunk), ids_view[chunk.rows], of_kernel, *memory, None, None, given.threads)
    return TokenLogprobs(*rows_of(laid))


def _loss_of_layer(
    arrays: Layer,
    where: ArrayLike | None,
    options: LayerOptions,
    progress: Progress,
    *,
    return_lse: bool,
    with_grad: bool,
) -> tuple[RowResults, LinearGradients | None, RowResults]:
    """The loss of the outputs of a layer, and the gradients and the logsumexps, if requested.

    Rows that do not count are skipped, since they may contain anything. If their logsumexps are requested, they are
    computed after all others, and take no part in the products of the gradients.
    """
    outputs, given = arrays.outputs, options.loss
    shape, dtype = outputs.shape, outputs.dtype
    labels, probabilities, by_class, by_row, _ = checked_targets(outputs, given.ignore_index, "class_weight")
    layer = _Layer(arrays, _class_mask(where, shape.classes), options, progress)
    laid = lay_out(
        shape, [outputs.x, probabilities], [labels, by_row],
        rows=[dtype if given.reduction == "none" else None, dtype if return_lse else None],
    )  # fmt: skip
    _, probabilities = laid.inputs
    labels, by_row = laid.row_inputs
    losses, lse = laid.rows
    by_class, by_row, for_kernel = weighted(given, shape, dtype, labels, by_class, by_row)
    target = probabilities if labels is None else labels
    kernel = kernels.serving.of(dtype).cross_entropy

    counted = np.ones(shape.rows, np.bool_)
    if labels is not None and given.ignore_index is not None:
        counted &= labels[:, 0] != given.ignore_index
    if by_row is not None:
        counted &= by_row[:, 0] != 0
    order: Array | None = None
    if not counted.all():
        order = np.argsort(~counted, kind="stable") if return_lse else np.flatnonzero(counted)
        if losses is not None:
            losses[...] = 0
    step = layer.rows_at_once(order, copies_target=labels is None, with_grad=with_grad)
    if len(counted if order is None else order) <= step:
        layer.sum_dtype = arrays.weight.dtype
    total = 0.0
    for chunk in layer.chunks(step, order, int(np.count_nonzero(counted))):
        # (If there is an order, these are copies.)
        weights, *memory = (None if a is None else a[chunk.rows] for a in (by_row, losses, lse))
        logits = chunk.logits[:, :, np.newaxis]
        grad = logits if with_grad else None
        total += kernel(
            logits, layer.mask_of(chunk), target[chunk.rows], by_class, weights, for_kernel, *memory, grad, None, False,
            given.threads,
        )  # fmt: skip
        if order is not None:
            for rows, computed in zip(laid.rows, memory, strict=True):
                if rows is not None:
                    rows[chunk.rows] = computed
        if with_grad and chunk.counted:
            layer.add_gradients(chunk)
    results, _ = loss_of(laid, total, for_kernel.divisor, dtype)
    return results[0], layer.gradients() if with_grad else None, results[1]


def _class_mask(where: ArrayLike | None, classes: int) -> Array | None:
    """The mask of the classes of a layer, checked."""
    if where is None:
        return None
    mask = plain_array(where, "where")
    if mask.shape != (classes,):
        raise ValueError(f"where must have shape {(classes,)}, got {mask.shape}")
    return checked_mask(mask, (classes,))


class _Chunk(NamedTuple):
    """Rows whose logits are in memory at the same time."""

    rows: Any  # where they are: a slice, or their numbers
    counted: int  # so many, the first, count
    hidden: Array
    logits: Array  # (rows, V)

    def that_count(self) -> tuple[Any, Array, Array]:
        """The rows that count, with their hidden states and logits."""
        rows = self.rows if isinstance(self.rows, slice) else self.rows[: self.counted]
        return rows, self.hidden[: self.counted], self.logits[: self.counted]


class _Layer:
    """A linear layer: its outputs, a chunk of rows at a time, and its gradients, added up chunk by chunk.

    Arrays of another dtype than the logits are converted in parts. Blocks of converted weights and blocks of their
    gradient share the same memory.

    The logits of classes that take no part may be anything, since the kernels do not read them, and their gradient is
    0. Their weights may be anything too, so the product with the gradient has zeros in their place."""

    def __init__(self, arrays: Layer, where: Array | None, options: LayerOptions, progress: Progress) -> None:
        self.hidden, self.weight, self.bias, outputs = arrays
        self._where = where
        self.dtype = outputs.dtype
        self.sum_dtype = self.dtype  # of the gradient of the weights; nothing is added to that of a single chunk
        self._threads = options.loss.threads
        self._chunk_bytes = options.chunk_bytes
        self._progress = progress
        self._has_gradients = False
        classes, d = self.weight.shape
        block = max(1, _BLOCK_BYTES // (max(1, d) * self.dtype.itemsize))
        self._blocks = [slice(start, start + block) for start in range(0, classes, block)]

    def rows_at_once(self, order: Array | None = None, *, copies_target: bool = False, with_grad: bool = False) -> int:
        """How many rows fit into a chunk, together with the extra memory of the gradient sums, if that is at most half
        of it."""
        n, d = self.hidden.shape
        classes = len(self.weight)
        width = classes  # how many numbers of each row are in memory
        if order is not None or self.hidden.dtype != self.dtype or self._weights_are_copied:
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
        """All rows, or the rows of `order`, in chunks of `step` rows; the first `counted` rows count.

        The memory is reused for the next chunk.
        """
        n, classes = len(self.hidden), len(self.weight)
        total = n if order is None else len(order)
        counted = n if counted is None else counted
        memory = np.empty((min(total, step), classes), self.dtype)
        report = reporter(self._progress, total)
        for start in range(0, total, step):
            stop = min(total, start + step)
            rows = slice(start, stop) if order is None else order[start:stop]
            hidden = self._converted(self.hidden[rows], self.dtype)
            logits = memory[: stop - start]
            self._multiply(hidden, logits)
            yield _Chunk(rows, max(0, min(stop, counted) - start), hidden, logits)
            if report is not None:
                report(stop, total)

    def mask_of(self, chunk: _Chunk) -> Array | None:
        """The mask for the logits of a chunk, as kernels take it."""
        if self._where is None:
            return None
        return np.broadcast_to(kernels.stored(self._where)[:, np.newaxis], (*chunk.logits.shape, 1))

    @np.errstate(all="ignore")
    def _multiply(self, hidden: Array, logits: Array) -> None:
        if self.weight.dtype == self.dtype:
            np.matmul(hidden, self.weight.T, out=logits)
        else:
            for classes in self._blocks:
                np.matmul(hidden, self._converted_weights(classes).T, out=logits[:, classes])
        if self.bias is not None:
            logits += self.bias.astype(self.dtype, copy=False)

    @np.errstate(all="ignore")
    def add_gradients(self, chunk: _Chunk) -> None:
        """Add the gradients from a chunk, whose logits have been replaced by their gradient."""
        rows, hidden, g = chunk.that_count()
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
        if by_hidden.dtype == self.dtype and not self._weights_are_copied and isinstance(rows, slice):
            np.matmul(g, self.weight, out=by_hidden[rows])
            return
        if not self._weights_are_copied:
            total = g @ self.weight
        else:
            total = np.zeros(hidden.shape, self.dtype)
            for classes in self._blocks:
                total += g[:, classes] @ self._weights_that_take_part(classes)
        by_hidden[rows] = self._converted(total, by_hidden.dtype)

    @cached_property
    def _sums(self) -> tuple[Array, Array, Array | None]:
        """The gradients so far. Each row of the gradient of hidden is written once, so it has the dtype of hidden."""
        return (
            np.zeros_like(self.hidden, order="C"),
            np.zeros(self.weight.shape, self.sum_dtype),
            None if self.bias is None else np.zeros(self.bias.shape, self.dtype),
        )

    @cached_property
    def _block(self) -> Array:
        """Memory for a block of the weights, or of their gradient."""
        return np.empty(self.weight[: self._blocks[0].stop].shape, self.dtype)

    @property
    def _weights_are_copied(self) -> bool:
        """Whether products with a gradient need a copy of the weights."""
        return self._where is not None or self.weight.dtype != self.dtype

    def _converted_weights(self, classes: slice) -> Array:
        """The weights of some classes, valid until the memory is reused."""
        weight = self.weight[classes]
        return self._convert(weight, self._block[: len(weight)])

    def _weights_that_take_part(self, classes: slice) -> Array:
        """The weights of some classes, with zeros for those that take no part."""
        weight = self._converted_weights(classes)
        if self._where is not None:
            _set_to_zero(weight, ~self._where[classes])
        return weight

    def _converted(self, array: Array, dtype: np.dtype[Any]) -> Array:
        return array if array.dtype == dtype else self._convert(array, np.empty(array.shape, dtype))

    @np.errstate(all="ignore")
    def _convert(self, array: Array, out: Array) -> Array:
        """`out`, filled with an array of another dtype."""
        if array.size and {array.itemsize, out.itemsize} == {2, 4}:
            views = (kernels.stored(a)[:, :, np.newaxis] for a in (array, out))
            kernels.serving.float32.convert(*views, self._threads)
        else:
            out[...] = array
        return out

    @np.errstate(all="ignore")
    def gradients(self) -> LinearGradients:
        """The accumulated gradients, in the dtypes of the inputs."""
        by_hidden, by_weight, by_bias = self._sums
        del self._sums
        if self._where is not None:  # (a row without probabilities has NaN gradients, but not for these classes)
            _set_to_zero(by_weight, ~self._where)
            if by_bias is not None:
                _set_to_zero(by_bias, ~self._where)
        if by_weight.dtype != self.weight.dtype:
            by_weight = self._narrowed_in_place(by_weight)
        if by_bias is not None and self.bias is not None:
            by_bias = by_bias.astype(self.bias.dtype, copy=False)
        return LinearGradients(by_hidden, by_weight, by_bias)

    def _narrowed_in_place(self, sums: Array) -> Array:
        """The sums in the dtype of the weights, in the first part of their own memory; the rest is freed."""
        dtype = self.weight.dtype
        narrow = sums.reshape(-1).view(dtype)[: sums.size].reshape(sums.shape)
        for classes in self._blocks:
            part = self._block[: len(narrow[classes])]
            part[...] = sums[classes]  # (the first part would be written to where it is)
            self._convert(part, narrow[classes])
        del narrow
        sums.resize(-(-sums.size * dtype.itemsize // sums.itemsize), refcheck=False)  # nothing else refers to it
        return sums.view(dtype)[: self.weight.size].reshape(self.weight.shape)


def _set_to_zero(array: Array, classes: Array) -> None:
    """Set these classes, along the first axis, to 0."""
    where = classes.reshape(-1, *(1 for _ in array.shape[1:]))
    np.copyto(array, array.dtype.type(0), where=where)
