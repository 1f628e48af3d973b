"""The calibration of logits: the temperature that suits them best, and how reliable their probabilities are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from ._arrays import Arrays, logits_and, two_class_logits_and
from ._layout import lay_out
from ._options import LossOptions, binary_reliability_options, fit_options, reliability_options
from ._targets import checked_binary_targets, checked_targets
from ._types import Array, Real

_BLOCK = 1 << 14  # rows at a time: what there is for each row stays below a megabyte, and in the caches
_MOST_PASSES = 100
_FACTOR = 8.0  # by which a temperature changes at most from one pass to the next
_SMALL_STEP, _SMALLEST_STEP = 1e-6, 1e-9

_At: TypeAlias = tuple[slice, slice]
_Evaluate: TypeAlias = Callable[[float], "_Point"]


class TemperatureFit(NamedTuple):
    """The result of `fit_temperature`."""

    temperature: float
    """The temperature of least loss within the bounds; NaN if the loss is infinite or NaN at every temperature."""
    loss: float
    """The mean cross-entropy at that temperature, in nats."""
    loss_before: float
    """The mean cross-entropy at temperature 1."""
    iterations: int
    """How often the loss was computed: the number of passes over the logits."""
    converged: bool
    """Whether the loss has its minimum at that temperature, rather than beyond a bound or nowhere."""


class Reliability(NamedTuple):
    """The result of `reliability` and `binary_reliability`."""

    confidence: Array
    """The mean confidence in each bin, float64 of shape (bins,); NaN for an empty one."""
    accuracy: Array
    """The share of correct predictions (of labels 1 in `binary_reliability`) in each bin, likewise."""
    count: Array  # type: ignore[assignment]  # (tuples have a method of this name)
    """How many rows that count are in each bin, int64."""
    ece: float
    """The expected calibration error: the mean of ``abs(accuracy - confidence)``, each bin weighted by its rows."""
    mce: float
    """The maximum calibration error: the largest ``abs(accuracy - confidence)``."""
    brier: float
    """The Brier score: the mean squared distance of the probabilities from the labels."""
    loss: float
    """The mean cross-entropy, in nats."""


class _Point(NamedTuple):
    """The mean loss at a temperature, and its derivatives with respect to the logarithm of a = 1 / temperature, as if
    a were multiplied: dE/da * a and d2E/da2 * a^2."""

    loss: float
    slope: float
    curvature: float


class _BinSums:
    """Sums over the rows of each bin, and over all rows."""

    def __init__(self, bins: int) -> None:
        self.edges = np.arange(1, bins) / bins
        self.counts = np.zeros(bins, np.int64)
        self.of_bins = np.zeros((3, bins))  # weights, and by weight confidence and accuracy
        self.of_all = np.zeros(2)  # by weight, the Brier score and the loss

    def add(
        self,
        confidence: Array,
        correct: Array,
        brier: Array,
        losses: Array,
        counts: Array | None,
        weights: Array | None,
    ) -> None:
        """Add a block of rows."""
        bins = len(self.counts)
        places = np.searchsorted(self.edges, confidence).reshape(-1)
        self.counts += np.bincount(places, None if counts is None else counts.reshape(-1), bins).astype(np.int64)
        for k, numbers in enumerate((np.ones(confidence.shape), confidence, correct)):
            # (A sum in the order of the rows, so its bits are the same on every CPU.)
            self.of_bins[k] += np.bincount(places, _weighed(numbers, counts, weights).reshape(-1), bins)
        for k, numbers in enumerate((brier, losses)):
            self.of_all[k] += _total(_weighed(numbers, counts, weights))

    def result(self, total: float) -> Reliability:
        """The means, given the sum of the weights."""
        weights, confidence, accuracy = self.of_bins
        with np.errstate(all="ignore"):
            confidence, accuracy = confidence / weights, accuracy / weights
            gaps = np.where(self.counts > 0, abs(accuracy - confidence), 0)
            brier, loss = (self.of_all / total).tolist()
            ece = _total(weights * gaps) / total
        return Reliability(confidence, accuracy, self.counts, ece, float(gaps.max()), brier, loss)


class _Rows(NamedTuple):
    """Rows of logits, their labels and their weights, as kernels take them."""

    x: Array  # (outer, classes, inner)
    mask: Array | None  # likewise
    labels: Array  # (outer, inner, 1)
    weights: Array | None  # (outer, inner)
    options: LossOptions
    dtype: np.dtype[Any]


def fit_temperature(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    bounds: tuple[Real, Real] = (1e-3, 1e3),
    workers: SupportsIndex | None = None,
) -> TemperatureFit:
    r"""The temperature at which logits have the least cross-entropy (temperature scaling).

    .. math:: \operatorname{argmin}_T \sum_i s_i (\mathrm{lse}(x_i / T) - x_{i, y_i} / T)

    for rows x with labels y and weights s [1]_. Fit it on data that the model was not trained on. Dividing logits by a
    temperature changes no prediction, but makes their probabilities more realistic: pass it as `temperature` to
    `softmax`, for instance. Nothing of the size of the logits is allocated, so they may be a memory map larger than the
    memory.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class; dtypes as in `softmax`.
    target : array_like of int
        Class indices from 0 to C-1, in the shape of the logits without the class axis.
    axis : int, default -1
        Class axis.
    where : array_like of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits.
    sample_weight : array_like, optional
        Non-negative weight of each row, in a shape that broadcasts to that of the logits without the class axis. A row
        with weight 0 does not count, whatever its logits are.
    ignore_index : int, optional
        Rows with this class index do not count.
    bounds : (float, float), default (1e-3, 1e3)
        The lowest and the highest temperature, from 1e-30 to 1e30.
    workers : int, optional
        Number of threads; -1 means all CPUs. The result has the same bits for any number.

    Returns
    -------
    TemperatureFit
        A named tuple of temperature, loss, loss_before, iterations and converged.

    Raises
    ------
    TypeError
        If the logits have none of the dtypes of `softmax`, the class indices are not integers, or an option is not a
        number.
    ValueError
        If shapes do not match, no row counts, a weight is negative or not finite, the bounds are not in ascending order
        or out of range, or `workers` is 0 or below minus the number of CPUs.
    IndexError
        If a class index is neither in 0..C-1 nor `ignore_index`.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    reliability : How reliable the probabilities are, before and after.

    Notes
    -----
    The loss is convex in :math:`a = 1/T`. With q the softmax of x / T, one pass over the logits gives the loss E of a
    row and its derivatives,

    .. math::

        \frac{dE}{da} &= T (E - H(q)) \\
        \frac{d^2 E}{da^2} &= \operatorname{Var}_q(x)

    with the entropy H. Newton's method starts at T = 1, and usually needs 5 to 10 passes. A step that is too long, or
    that leaves the interval in which the slope changes its sign, is shortened; so the minimum is found wherever it is.
    The temperature is usually within a relative error of 1e-6 for float32 and half precision, and 1e-8 for float64; for
    logits that tell almost nothing, the rounding errors of float32 matter more.

    In some cases there is no minimum, and ``converged`` is False:

    - Every label has the largest logit of its row: the lower the temperature, the lower the loss. The result is the
      lower bound. (Such data say nothing about confidence: use more of them, or others.)
    - The logits tell nothing about the labels, or the opposite: the mean logit of the labels is at most that of all
      classes. The result is the upper bound.
    - The minimum lies beyond a bound. The result is that bound.
    - All logits of each row are equal, so all temperatures have the same loss. The result is 1, or the bound next to
      it.
    - The loss is infinite or NaN at every temperature, since a row that counts has the logit -inf at its label, or a
      NaN. The temperature is NaN.

    For a model with one score per row, the logit of class 1 of two, pass ``np.stack([np.zeros_like(s), s], axis=-1)``.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural Networks", International
       Conference on Machine Learning, 2017.

    Examples
    --------
    Logits that are five times too large:

    >>> import numpy as np
    >>> from cxent import fit_temperature, softmax
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.standard_normal((10_000, 3))
    >>> target = (softmax(logits).cumsum(axis=1) < rng.random((10_000, 1))).sum(axis=1)
    >>> fit = fit_temperature(5 * logits, target)
    >>> print(f"{fit.temperature:.2f}")
    5.03
    >>> fit.loss < fit.loss_before, fit.converged
    (True, True)
    """
    options, low, high = fit_options(axis, ignore_index, workers, bounds)
    rows = _rows_of(logits, target, where, sample_weight, options)
    scale, total = _scale_and_sum(rows)
    real = rows.dtype.type

    def evaluate(temperature: float) -> _Point:
        sums = np.zeros(3)
        with np.errstate(all="ignore"):
            for at in _blocks(rows.labels):
                logprob, entropy, moments, _, _ = _scores(rows, at, temperature)
                weights = _weights_at(rows, at, scale)
                for k, numbers in enumerate((-logprob, entropy, moments[..., 0])):
                    sums[k] += _total(_weighed(numbers, *weights))
            loss, mean_entropy, variance = (sums / total).tolist()
        return _Point(loss, loss - mean_entropy, variance)

    # (Kernels of float32 round a temperature to float32: so it is rounded here, and returned as it was used.)
    return _least(evaluate, lambda temperature: float(real(temperature)), low, high)


def reliability(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    bins: SupportsIndex = 15,
    axis: SupportsIndex = -1,
    temperature: Real = 1.0,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> Reliability:
    r"""How reliable the probabilities of logits are: a reliability diagram, and the numbers that sum it up.

    The prediction of a row is the class with the largest logit (the lowest of equal ones), and its confidence is the
    probability of that class. Rows are sorted into bins by their confidence. Where the probabilities are realistic, the
    share of correct predictions in each bin is near the mean confidence there. The numbers of the whole are

    .. math::

        \text{ECE} &= \sum_b \frac{n_b}{n} |\text{accuracy}_b - \text{confidence}_b| \\
        \text{MCE} &= \max_b |\text{accuracy}_b - \text{confidence}_b| \\
        \text{Brier} &= \frac{1}{n} \sum_i \sum_j (p_{ij} - [j = y_i])^2

    with :math:`n_b` of n rows in bin b [1]_ [2]_. One pass over the logits; nothing of their size is allocated, so they
    may be a memory map larger than the memory.

    Parameters
    ----------
    logits : array_like
        Logits, of any shape with at least one class; dtypes as in `softmax`.
    target : array_like of int
        Class indices from 0 to C-1, in the shape of the logits without the class axis.
    bins : int, default 15
        Number of bins of equal width from 0 to 1. A bin holds its upper edge, the first holds both.
    axis : int, default -1
        Class axis.
    temperature : float, default 1
        Logits are divided by it; from 1e-30 to 1e30.
    where : array_like of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits.
    sample_weight : array_like, optional
        Non-negative weight of each row, in a shape that broadcasts to that of the logits without the class axis. All
        means and shares are weighted; `count` is not. A row with weight 0 does not count, whatever its logits are.
    ignore_index : int, optional
        Rows with this class index do not count.
    workers : int, optional
        Number of threads; -1 means all CPUs. The result has the same bits for any number.

    Returns
    -------
    Reliability
        A named tuple of confidence, accuracy, count, ece, mce, brier and loss. A row that counts and contains NaN makes
        the last bin NaN, and all four numbers.

    Raises
    ------
    TypeError, ValueError, IndexError, numpy.exceptions.AxisError
        As in `fit_temperature`, and if `bins` is not a positive integer.

    See Also
    --------
    fit_temperature : The temperature that makes probabilities more realistic.
    binary_reliability : For logits of one class of two.

    Notes
    -----
    The calibration errors depend on the bins. With few rows in a bin, its accuracy differs from its confidence by
    chance, so even perfect probabilities have an ECE above 0. The Brier score and the loss have no bins.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
       Binning", AAAI Conference on Artificial Intelligence, 2015.
    .. [2] G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78(1),
       1950.

    Examples
    --------
    >>> from cxent import reliability
    >>> logits = [[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.2, 0.0]]
    >>> found = reliability(logits, [0, 0, 0, 1], bins=4)
    >>> found.count
    array([0, 0, 1, 3])
    >>> found.confidence.round(3)
    array([  nan,   nan, 0.55 , 0.905])
    >>> found.accuracy.round(3)
    array([  nan,   nan, 0.   , 0.667])
    >>> print(f"{found.ece:.3f} {found.mce:.3f} {found.brier:.3f} {found.loss:.3f}")
    0.316 0.550 0.547 0.775
    """
    options, number_of_bins = reliability_options(axis, bins, ignore_index, workers, temperature)
    rows = _rows_of(logits, target, where, sample_weight, options)
    scale, total = _scale_and_sum(rows)
    others = max(rows.x.shape[1] - 1, 1)
    sums = _BinSums(number_of_bins)
    with np.errstate(all="ignore"):
        for at in _blocks(rows.labels):
            logprob, _, moments, top_id, top_logprob = _scores(rows, at, options.temperature, top_k=1)
            confidence = kernels.serving.evaluate("exp_any", top_logprob[..., 0]).astype(np.float64)
            p = kernels.serving.evaluate("exp_any", logprob).astype(np.float64)
            missing = -kernels.serving.evaluate("expm1", logprob).astype(np.float64)  # 1 - p, with its digits
            # Of the other classes: a difference, within the bounds of any such sum, since where p is near 1 it cancels.
            squares = np.clip(moments[..., 1] - p * p, missing * missing / others, missing * missing)
            brier = missing * missing + squares
            correct = top_id[..., 0] == rows.labels[at][..., 0]
            sums.add(confidence, correct, brier, -logprob, *_weights_at(rows, at, scale))
    return sums.result(total)


def binary_reliability(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    bins: SupportsIndex = 15,
    temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: SupportsIndex | None = None,
    workers: SupportsIndex | None = None,
) -> Reliability:
    """How reliable the probabilities of two-class logits are: those of class 1, with labels 0 and 1.

    One pass over the logits, as in `reliability`. This is a function of its own, as `binary_cross_entropy` is: integers
    in the shape of the logits are one-hot rows for other functions. The bins hold probabilities of class 1 from 0 to 1,
    as in scikit-learn's `calibration_curve`, rather than those of the more likely class. So in each bin ``confidence``
    is the mean probability of class 1, and ``accuracy`` the share of labels 1; ``brier`` is the mean of
    ``(p - target) ** 2``, half of what `reliability` finds for the same two classes.

    Parameters
    ----------
    logits : array_like
        Logits of class 1, of any shape; dtypes as in `softmax`. Every number is a problem of its own.
    target : array_like of int or bool
        Labels 0 and 1, in the shape of the logits.
    bins : int, default 15
        Number of bins of equal width from 0 to 1. A bin holds its upper edge, the first holds both.
    temperature : float, default 1
        Logits are divided by it; from 1e-30 to 1e30.
    sample_weight : array_like, optional
        Non-negative weights, in the shape of the logits, or without its last axis: one per row. All means and shares
        are weighted; `count` is not. A logit or row with weight 0 does not count, whatever it is.
    ignore_index : int, optional
        Logits with this label do not count.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    Reliability
        A named tuple of confidence, accuracy, count, ece, mce, brier and loss. A NaN that counts makes the last bin
        NaN, and all four numbers.

    Raises
    ------
    TypeError
        If an array is complex, object, string or masked, the labels are not integers, or an option is not a number.
    ValueError
        If shapes do not match, a label is neither 0, 1 nor `ignore_index`, no logit counts, a weight is negative or not
        finite, or an option is out of range.

    See Also
    --------
    reliability : For any number of classes.

    Examples
    --------
    >>> from cxent import binary_reliability
    >>> found = binary_reliability([2.0, -1.0, 3.0, -0.5], [1, 0, 1, 1], bins=2)
    >>> found.confidence.round(3), found.accuracy, found.count
    (array([0.323, 0.917]), array([0.5, 1. ]), array([2, 2]))
    """
    options, of_labels, number_of_bins = binary_reliability_options(bins, ignore_index, workers, temperature)
    arrays = two_class_logits_and(logits, target, None, sample_weight, None)
    assert arrays.target is not None
    if arrays.target.dtype.kind == "f" and arrays.target.size:
        raise TypeError(
            f"target must have an integer or boolean dtype (labels 0 and 1), got {arrays.target.dtype}: convert it "
            "with astype(int)"
        )
    labels, _, weights = checked_binary_targets(arrays, of_labels, checks_labels=True)
    x, dtype = arrays.x, arrays.dtype
    columns = x.shape[-1] if x.ndim else 1
    size = x.size // max(columns, 1), columns
    weights = None if weights is None else np.broadcast_to(weights, x.shape).reshape(size)
    numbers = x.reshape(size)
    rows = _Rows(numbers[:, np.newaxis], None, labels.reshape(*size, 1), weights, options, dtype)
    scale, total = _scale_and_sum(rows, "logit")
    sums = _BinSums(number_of_bins)
    kernel, threads = kernels.serving.of(dtype), options.threads
    with np.errstate(all="ignore"):
        for at in _blocks(rows.labels):
            y = np.ascontiguousarray(rows.labels[at][..., 0])
            x = numbers[at].astype(dtype) / dtype.type(options.temperature)
            p, missing, losses = np.empty_like(x), np.empty_like(x), np.empty_like(x)
            kernel.sigmoid(x, p, threads)
            kernel.sigmoid(-x, missing, threads)
            given = options.ignore_index, 0.0, 0.0, 1.0
            kernel.binary_cross_entropy(x, kernels.stored(y), None, None, given, losses, None, None, threads)
            distance = np.where(y == 1, missing, p).astype(np.float64)  # |p - y|, with its digits
            sums.add(p.astype(np.float64), y == 1, distance * distance, losses, *_weights_at(rows, at, scale))
    return sums.result(total)


def _rows_of(
    logits: ArrayLike, target: ArrayLike, where: ArrayLike | None, sample_weight: ArrayLike | None, options: LossOptions
) -> _Rows:
    """The arrays, checked and laid out."""
    arrays = logits_and("logits", logits, options.axis, target=target, sample_weight=sample_weight, where=where)
    _require_indices(arrays)
    indices, _, _, by_row, where = checked_targets(arrays, options.ignore_index)
    assert indices is not None
    laid = lay_out(arrays.shape, [arrays.x, where], [indices[..., np.newaxis], by_row])
    (x, mask), (labels, weights) = laid.inputs, laid.row_inputs
    return _Rows(x, mask, labels, weights, options, arrays.dtype)


def _require_indices(arrays: Arrays) -> None:
    """Require class indices: probabilities as targets have no right class, so no accuracy either."""
    target, shape = arrays.target, arrays.shape
    assert target is not None
    if target.shape == shape.whole:
        raise ValueError(
            f"target must be class indices of shape {shape.rows}, got shape {target.shape}, that of the logits: for "
            "one-hot rows pass target.argmax(axis), for labels 0 and 1 of one score each see binary_reliability"
        )


def _blocks(labels: Array) -> Iterator[_At]:
    """Where the blocks of rows are, in (outer, inner). They do not depend on the number of threads."""
    outer, inner = labels.shape[:2]
    many = max(1, _BLOCK // max(1, inner))
    for i in range(0, outer, many):
        for j in range(0, inner, _BLOCK):
            yield slice(i, i + many), slice(j, j + _BLOCK)


def _weights_at(rows: _Rows, at: _At, scale: int) -> tuple[Array | None, Array | None]:
    """Which rows of a block count, and their weights in float64 divided by 2^scale; None for all, or all equal."""
    counts = None if rows.options.ignore_index is None else rows.labels[at][..., 0] != rows.options.ignore_index
    if rows.weights is None:
        return counts, None
    given = rows.weights[at]
    weights = np.ldexp(given.astype(np.float64), -scale)
    return given != 0 if counts is None else counts & (given != 0), weights


def _weighed(numbers: Array, counts: Array | None, weights: Array | None) -> Array:
    """Numbers in float64, times their weights, and 0 where rows do not count."""
    numbers = numbers.astype(np.float64)
    if counts is not None:
        numbers = np.where(counts, numbers, 0)
    return numbers if weights is None else np.asarray(numbers * weights)


def _total(numbers: Array) -> float:
    """The sum of a float64 array. Unlike NumPy's, its bits do not depend on the CPU."""
    return float(kernels.serving.float64.total_of(np.ascontiguousarray(numbers).reshape(-1)))


def _scale_and_sum(rows: _Rows, of: str = "row") -> tuple[int, float]:
    """The exponent that brings the weights near 1, and the sum of those that count, so divided; for no weights, the
    number of rows."""
    scale = 0
    if rows.weights is not None and rows.weights.size:
        least, most = rows.weights.min(), rows.weights.max()
        if least < 0:
            raise ValueError(f"sample_weight must be non-negative, got {least}")
        scale = math.frexp(most)[1]
    total = 0.0
    with np.errstate(all="ignore"):
        for at in _blocks(rows.labels):
            total += _total(_weighed(np.ones(rows.labels[at].shape[:2]), *_weights_at(rows, at, scale)))
    if total == 0:
        raise ValueError(f"logits must have at least one {of} that counts, got none of {rows.labels.size}")
    return scale, total


def _scores(rows: _Rows, at: _At, temperature: float, top_k: int = 0) -> tuple[Array, Array, Array, Any, Any]:
    """The log-probabilities of the labels of a block, the entropies, the moments, and the top k if there are any."""
    x = rows.x[at[0], :, at[1]]
    shape, dtype = (x.shape[0], x.shape[2]), rows.dtype
    logprob, entropy, lse = np.empty((*shape, 1), dtype), np.empty(shape, dtype), np.empty(shape, dtype)
    moments = np.empty((*shape, 2), dtype)
    top_ids, top_logprobs = (np.empty((*shape, top_k), of) if top_k else None for of in (np.int64, dtype))
    kernels.serving.of(dtype).token_logprobs(
        x,
        None if rows.mask is None else rows.mask[at[0], :, at[1]],
        rows.labels[at],
        kernels.ScoreOptions(rows.options.ignore_index, 0.0, temperature),
        logprob,
        None,
        entropy,
        lse,
        top_ids,
        top_logprobs,
        moments,
        None,
        rows.options.threads,
    )
    return logprob[..., 0], entropy, moments, top_ids, top_logprobs


def _least(evaluate: _Evaluate, rounded: Callable[[float], float], low: float, high: float) -> TemperatureFit:
    """The temperature of least loss: Newton's method in a = 1 / temperature, within what is known of the slope."""
    before = point = evaluate(1.0)
    t, passes = min(max(1.0, low), high), 1
    if t != 1:
        point, passes = evaluate(t), 2
    ends, tried = [low, high], [False, False]  # the minimum lies between them, if both were tried
    last, slow = math.inf, 0
    while True:
        is_finite = math.isfinite(point.loss) and math.isfinite(point.slope)
        is_flat = point.slope == 0 and not point.curvature > 0
        # Where the loss is 0, it fell as the temperature did; where it is infinite, the temperature may be too low.
        is_too_high = is_finite and (point.slope < 0 or (is_flat and point.loss == 0))
        near, far = (1, 0) if is_too_high else (0, 1)
        step = math.copysign(math.inf, -point.slope)
        if is_finite and point.curvature > 0:
            step = -point.slope / point.curvature
        newton = t / (1 + step) if -1 < step < math.inf else math.inf
        # (With rounding errors in the slope, steps stop to become smaller.)
        converged = abs(step) <= _SMALLEST_STEP or rounded(newton) == rounded(t)
        converged = converged or (abs(step) <= _SMALL_STEP and abs(step) > abs(last) / 2)
        is_at_bound = t == ends[far] and not tried[far]
        if converged or is_at_bound or (is_flat and not is_too_high) or passes == _MOST_PASSES:
            temperature = t if is_finite else math.nan
            return TemperatureFit(temperature, point.loss, before.loss, passes, converged)
        ends[near], tried[near] = t, True
        slow = slow + 1 if abs(step) > abs(last) / 2 else 0  # (as steps are where the loss is exponential)
        last = step
        jump = t / _FACTOR if is_too_high else t * _FACTOR
        if slow < 2 and newton < math.inf:
            jump = max(newton, jump) if is_too_high else min(newton, jump)
        jump = rounded(jump)
        if not ends[0] < jump < ends[1] or (slow >= 2 and tried[far]):
            jump = rounded(math.sqrt(ends[0]) * math.sqrt(ends[1])) if tried[far] else ends[far]
        if tried[far] and not ends[0] < jump < ends[1]:  # there is no number between them
            return TemperatureFit(t, point.loss, before.loss, passes, converged=True)
        t, point, passes = jump, evaluate(jump), passes + 1
