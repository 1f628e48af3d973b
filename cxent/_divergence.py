"""Divergences of two softmaxes, as in distillation, and their gradients."""

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
    """Kullback-Leibler divergence KL(p, q) of the softmaxes of two arrays of logits, in nats.

    ``KL(p, q) = sum_j p_j log(p_j / q_j)`` with ``p = softmax(logits_p / temperature)``, the teacher's, and q, the
    student's, likewise; with ``direction="reverse"`` it is KL(q, p). Both arguments are logits. PyTorch's
    ``kl_div(input, target)`` has the other order and takes log-probabilities of q first, and then p.

    Parameters
    ----------
    logits_p, logits_q : array_like
        Logits, of one shape with at least one class; dtypes as in `softmax`. If their dtypes differ, the wider is
        computed.
    axis : int, default -1
        The class axis.
    direction : {"forward", "reverse"}, default "forward"
        Forward, q is to cover all that p has; reverse, q is to be where p is.
    temperature : float, default 1
        What both logits are divided by, from 1e-30 to 1e30. Losses are not multiplied by its square, which is often
        done to keep gradients as large.
    sample_weight : array_like, optional
        A weight for each row, of either sign, of a shape that broadcasts to that of the logits without the class axis.
        A row of weight 0 does not count, whatever its logits are.
    where : array_like of bool, optional
        Which classes take part, of a shape that broadcasts to that of the logits. Of a row without any, the divergence
        is 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the divergences of the rows are combined. The mean divides their sum by that of the weights, or by the
        number of rows (PyTorch's "batchmean"; its "mean" divides by the number of logits).
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    float32 or float64, or ndarray
        The divergence; with ``reduction="none"`` that of each row.

    Raises
    ------
    TypeError
        If the logits are no real numbers of a dtype above, `where` is not boolean, or an option is not a number.
    ValueError
        If shapes do not match, there are rows without classes, an option is out of its range, or `workers` is 0 or
        below -CPUs.
    numpy.exceptions.AxisError
        If `axis` is out of range.

    See Also
    --------
    kl_divergence_with_grad : With the gradient.
    js_divergence : Of both to their mixture.

    Notes
    -----
    The sum is computed as ``sum_j p_j (d_j + expm1(-d_j))`` with ``d = log(p / q)``, which is the same, since p and q
    both sum to 1, and has no negative term. So a divergence is never negative, 0 for equal logits, and keeps its digits
    where it is small. A class with ``q_j = 0 < p_j``, which a logit of -inf makes, makes it infinite, unless p_j is
    too small a number; one that both lack adds nothing. NaN and +inf make a row NaN.

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
    """Kullback-Leibler divergence, and its gradient with respect to the student's logits, in one pass.

    ``grad = s / D * (q - p) / temperature``, and with ``direction="reverse"``
    ``s / D * q * (log(q / p) - KL(q, p)) / temperature``, s being the row's weight, and D what the mean divides by, or
    else 1.

    Parameters
    ----------
    logits_p, logits_q : array_like
        As in `kl_divergence`.
    axis : int, default -1
        The class axis.
    direction : {"forward", "reverse"}, default "forward"
        Whether the divergence is KL(p, q) or KL(q, p).
    temperature : float, default 1
        What logits are divided by.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    where : array_like of bool, optional
        Which classes take part.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none" the gradient is that of their sum.
    out : ndarray, optional
        Where to put the gradient, with the shape of `logits_q` and the dtype of the gradient. It may be either of the
        logits.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    loss : float32 or float64, or ndarray
        As `kl_divergence` returns it.
    grad : ndarray
        The gradient, in the shape and dtype of `logits_q`; in float64 if `logits_p` is. It is `out`, if given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `kl_divergence`, and if `out` has another shape or dtype, or is read-only.

    Notes
    -----
    ``q - p`` is computed of ``d = log(p / q)`` too: it is 0 for equal logits, and has its digits for logits that are
    nearly so. Where the reverse divergence is infinite, its gradient is not finite.

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
    """Jensen-Shannon divergence of the softmaxes of two arrays of logits, in nats: that of both to their mixture.

    ``JS(p, q) = beta * KL(p, m) + (1 - beta) * KL(q, m)`` with ``m = beta * p + (1 - beta) * q``,
    ``p = softmax(logits_p / temperature)``, and q likewise. It is finite for any p and q: at most log(2) for a beta of
    1/2.

    Parameters
    ----------
    logits_p, logits_q : array_like
        As in `kl_divergence`.
    axis : int, default -1
        The class axis.
    beta : float, default 0.5
        The share of p in the mixture, between 0 and 1. Divided by it, the divergence approaches KL(p, q) as beta
        approaches 0; divided by 1 - beta, KL(q, p) as beta approaches 1.
    temperature : float, default 1
        What logits are divided by.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    where : array_like of bool, optional
        Which classes take part.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    float32 or float64, or ndarray
        The divergence; with ``reduction="none"`` that of each row.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As in `kl_divergence`, and if `beta` is not between 0 and 1.

    See Also
    --------
    js_divergence_with_grad : With the gradient.

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
    """Jensen-Shannon divergence, and its gradient with respect to the student's logits, in one pass.

    ``grad = s / D * (1 - beta) * q * (log(q / m) - KL(q, m)) / temperature``, m being the mixture, s the row's weight,
    and D what the mean divides by, or else 1.

    Parameters
    ----------
    logits_p, logits_q : array_like
        As in `kl_divergence`.
    axis : int, default -1
        The class axis.
    beta : float, default 0.5
        The share of p in the mixture.
    temperature : float, default 1
        What logits are divided by.
    sample_weight : array_like, optional
        A weight for each row; a row of weight 0 does not count.
    where : array_like of bool, optional
        Which classes take part.
    reduction : {"mean", "sum", "none"}, default "mean"
        How the losses of the rows are combined. With "none" the gradient is that of their sum.
    out : ndarray, optional
        As in `kl_divergence_with_grad`.
    workers : int, optional
        As in `softmax`.

    Returns
    -------
    loss : float32 or float64, or ndarray
        As `js_divergence` returns it.
    grad : ndarray
        As `kl_divergence_with_grad` returns it.

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
    """The divergence, and the gradient, if it is wanted."""
    arrays = logits_of_two(logits_p, logits_q, options.loss.axis, sample_weight, where, out)
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
