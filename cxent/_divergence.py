"""Divergences between two softmaxes, for instance for distillation, and their gradients."""

from __future__ import annotations

from typing import Any, SupportsIndex

from numpy.typing import ArrayLike

from . import kernels
from ._arrays import logits_of_two
from ._layout import lay_out
from ._loss import weighted
from ._options import DivergenceOptions, js_options, kl_options
from ._results import loss_of
from ._targets import checked_targets
from ._types import (
    Array,
    Direction,
    Out,
    Real,
    Reduction,
    RowResults,
)


def kl_divergence(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    direction: Direction = "forward",
    temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: Reduction = "mean",
    workers: SupportsIndex | None = None,
) -> RowResults:
    r"""Kullback-Leibler divergence KL(p, q) of the softmaxes of two arrays of logits, in nats.

    .. math::

        \mathrm{KL}(p, q) &= \sum_j p_j \log(p_j / q_j) \\
        p &= \mathrm{softmax}(\text{logits_p} / T)

    and q likewise, with temperature T; p is usually the teacher and q the student. ``direction="reverse"`` gives KL(q,
    p). Both arguments are logits. (PyTorch's ``kl_div(input, target)`` takes log-probabilities, and in the other order:
    first q, then p.)

    Parameters
    ----------
    logits_p, logits_q : array_like
        Logits, of the same shape with at least one class; dtypes as in `softmax`. If the dtypes differ, the wider is
        used.
    axis : int, default -1
        Class axis.
    direction : {"forward", "reverse"}, default "forward"
        "forward" is KL(p, q), which makes q cover all that p covers. "reverse" is KL(q, p), which keeps q where p is.
    temperature : float, default 1
        Both logits are divided by it; from 1e-30 to 1e30. The divergence is not multiplied by its square, as is often
        done to keep the size of gradients.
    sample_weight : array_like, optional
        Weight of each row, of either sign, in a shape that broadcasts to that of the logits without the class axis. A
        row with weight 0 does not count, whatever its logits are.
    where : array_like of bool, optional
        Which classes take part, in a shape that broadcasts to that of the logits. A row without any has divergence 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the divergences of the rows are combined. The mean divides their sum by the sum of the weights, or by the
        number of rows. (In PyTorch this is "batchmean"; its "mean" divides by the number of logits.)
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    scalar or ndarray
        The divergence, in float32 or float64; with reduction "none", one per row.

    Raises
    ------
    TypeError
        If the logits have none of the dtypes of `softmax`, `where` is not boolean, or an option is not a number.
    ValueError
        If shapes do not match, there are rows without classes, an option is out of range, or `workers` is 0 or below
        minus the number of CPUs.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    kl_divergence_with_grad : The divergence and its gradient.
    js_divergence : The divergence of both from their mixture.

    Notes
    -----
    The sum is computed as :math:`\sum_j p_j (d_j + \mathrm{expm1}(-d_j))` with :math:`d_j = \log(p_j / q_j)`. This is
    equal, since p and q both sum to 1, and has no negative terms. So a divergence is never negative, it is 0 for equal
    logits, and it keeps its digits where it is small. A class with :math:`q_j = 0 < p_j`, from a logit of -inf, makes
    the divergence infinite, unless :math:`p_j` underflows; a class with probability 0 in both adds nothing. A row with
    NaN or +inf is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import kl_divergence
    >>> teacher = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    >>> student = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 3.0]])
    >>> kl_divergence(teacher, student, reduction="none")
    array([0.26621671, 0.02360981])
    >>> print(f"{kl_divergence(teacher, teacher + 1e-7 * student):.3e}")
    7.670e-16
    """
    options = kl_options(direction, axis, reduction, temperature, workers)
    return _divergence(logits_p, logits_q, options, sample_weight, where)[0]


def kl_divergence_with_grad(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    direction: Direction = "forward",
    temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]:
    r"""Kullback-Leibler divergence, and its gradient with respect to the student's logits, in one pass.

    .. math::

        \text{forward: } & \frac{s}{D T} (q_j - p_j) \\
        \text{reverse: } & \frac{s}{D T} q_j (\log(q_j / p_j) - \mathrm{KL}(q, p))

    with temperature T, the row's weight s, and the divisor D of the mean, or 1 with reduction "sum" or "none".

    Parameters
    ----------
    logits_p, logits_q : array_like
        Logits of the teacher and of the student.
    axis : int, default -1
        Class axis.
    direction : {"forward", "reverse"}, default "forward"
        Whether the divergence is KL(p, q) or KL(q, p).
    temperature : float, default 1
        Logits are divided by it.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    where : array_like of bool, optional
        Which classes take part.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the divergences of the rows are combined. With "none", the gradient is that of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape of `logits_q` and the dtype of the gradient. It may be one of the
        inputs.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The divergence, as returned by `kl_divergence`.
    grad : ndarray
        The gradient, in the shape and dtype of `logits_q`, or in float64 if `logits_p` is float64. It is `out`, if
        given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `kl_divergence`, and if `out` has another shape or dtype, or is read-only.

    Notes
    -----
    :math:`q_j - p_j` is computed from :math:`\log(p_j / q_j)`, so it is 0 for equal logits and keeps its digits for
    nearly equal ones. Where the reverse divergence is infinite, its gradient is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import kl_divergence_with_grad
    >>> loss, grad = kl_divergence_with_grad([[2.0, 1.0, 0.0]], [[1.0, 1.0, 1.0]])
    >>> grad
    array([[-0.33190762,  0.08860486,  0.24330276]])
    """
    options = kl_options(direction, axis, reduction, temperature, workers)
    return _divergence(logits_p, logits_q, options, sample_weight, where, out, with_grad=True)


def js_divergence(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    beta: Real = 0.5,
    temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: Reduction = "mean",
    workers: SupportsIndex | None = None,
) -> RowResults:
    r"""Jensen-Shannon divergence of the softmaxes of two arrays of logits, in nats: that of both from their mixture.

    .. math::

        \mathrm{JS}(p, q) &= \beta \, \mathrm{KL}(p, m) \\
        &\quad + (1 - \beta) \, \mathrm{KL}(q, m) \\
        m &= \beta p + (1 - \beta) q

    It is finite for any p and q, and at most log(2) for :math:`\beta = 1/2`.

    Parameters
    ----------
    logits_p, logits_q : array_like
        Logits, of the same shape with at least one class; dtypes as in `softmax`. If the dtypes differ, the wider is
        used.
    axis : int, default -1
        Class axis.
    beta : float, default 0.5
        Share of p in the mixture, between 0 and 1. The divergence divided by beta approaches KL(p, q) as beta
        approaches 0; divided by 1 - beta, it approaches KL(q, p) as beta approaches 1.
    temperature : float, default 1
        Both logits are divided by it.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    where : array_like of bool, optional
        Which classes take part.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the divergences of the rows are combined.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    scalar or ndarray
        The divergence, in float32 or float64; with reduction "none", one per row.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `kl_divergence`, and if `beta` is not between 0 and 1.

    See Also
    --------
    js_divergence_with_grad : The divergence and its gradient.

    References
    ----------
    .. [1] J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37, 1991.
    .. [2] R. Agarwal et al., "On-policy distillation of language models: learning from self-generated mistakes", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import js_divergence
    >>> js_divergence([[2.0, 1.0, 0.0]], [[1.0, 1.0, 1.0]], reduction="none")
    array([0.0687116])
    >>> apart = js_divergence([0.0, -np.inf], [-np.inf, 0.0])
    >>> bool(np.isclose(apart, np.log(2)))
    True
    """
    options = js_options(beta, axis, reduction, temperature, workers)
    return _divergence(logits_p, logits_q, options, sample_weight, where)[0]


def js_divergence_with_grad(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    beta: Real = 0.5,
    temperature: Real = 1.0,
    sample_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: Out = None,
    workers: SupportsIndex | None = None,
) -> tuple[RowResults, Array]:
    r"""Jensen-Shannon divergence, and its gradient with respect to the student's logits, in one pass.

    .. math:: \frac{s}{D T} (1 - \beta) \, q_j (\log(q_j / m_j) - \mathrm{KL}(q, m))

    with the mixture m, temperature T, the row's weight s, and the divisor D of the mean, or 1 with reduction "sum" or
    "none".

    Parameters
    ----------
    logits_p, logits_q : array_like
        Logits of the teacher and of the student.
    axis : int, default -1
        Class axis.
    beta : float, default 0.5
        Share of p in the mixture.
    temperature : float, default 1
        Both logits are divided by it.
    sample_weight : array_like, optional
        Weight of each row. A row with weight 0 does not count.
    where : array_like of bool, optional
        Which classes take part.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the divergences of the rows are combined. With "none", the gradient is that of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape of `logits_q` and the dtype of the gradient. It may be one of the
        inputs.
    workers : int, optional
        Number of threads; -1 means all CPUs.

    Returns
    -------
    loss : scalar or ndarray
        The divergence, as returned by `js_divergence`.
    grad : ndarray
        The gradient, in the shape and dtype of `logits_q`, or in float64 if `logits_p` is float64. It is `out`, if
        given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `js_divergence`, and if `out` has another shape or dtype, or is read-only.

    Examples
    --------
    >>> import numpy as np
    >>> from cxent import js_divergence_with_grad
    >>> loss, grad = js_divergence_with_grad([[2.0, 1.0, 0.0]], [[1.0, 1.0, 1.0]])
    >>> grad
    array([[-0.07804134,  0.01306662,  0.06497473]])
    """
    options = js_options(beta, axis, reduction, temperature, workers)
    return _divergence(logits_p, logits_q, options, sample_weight, where, out, with_grad=True)


def _divergence(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    options: DivergenceOptions,
    sample_weight: ArrayLike | None,
    where: ArrayLike | None,
    out: Out = None,
    *,
    with_grad: bool = False,
) -> tuple[RowResults, Any]:
    """The divergence, and its gradient, if requested."""
    plain: tuple[RowResults, Any] | None = kernels.for_plain(logits_q).plain_divergence(
        logits_p, logits_q, where, sample_weight, options, out, with_grad
    )
    if plain is not None:
        return plain
    arrays = logits_of_two(logits_p, logits_q, options.loss.axis, sample_weight, where, out)
    if arrays.are_converted:
        plain = kernels.for_plain(arrays.x).plain_divergence(
            arrays.beside, arrays.x, arrays.where, arrays.row_weights, options, out, with_grad
        )
        if plain is not None:
            return plain
    shape, dtype = arrays.shape, arrays.dtype
    *_, by_row, where = checked_targets(arrays, None)
    laid = lay_out(
        shape, [arrays.x, arrays.beside, where], [by_row],
        rows=[dtype if options.loss.reduction == "none" else None],
        outputs=[with_grad], result_dtype=arrays.result_dtype, out=out, in_place=3,
    )  # fmt: skip
    q, p, mask = laid.inputs
    _, by_row, given = weighted(options.loss, shape, dtype, by_row=laid.row_inputs[0])
    total = 0.0
    if shape.row_count:
        total = kernels.serving.of(dtype).divergence(
            options.comparison, options.beta, p, q, mask, by_row, given.temperature, given.divisor, *laid.rows,
            *laid.outputs, options.loss.threads,
        )  # fmt: skip
    (loss,), (grad,) = loss_of(laid, total, given.divisor, dtype)
    return loss, grad
