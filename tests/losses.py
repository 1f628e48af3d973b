"""The loss with all its options by their definitions, in long double: slow, plain, and shifted alone."""

import numpy as np


def reference(
    u,
    target,
    *,
    axis=-1,
    weight=None,
    sample_weight=None,
    ignore_index=None,
    label_smoothing=0.0,
    z_loss=0.0,
    softcap=None,
    temperature=1.0,
    reduction="mean",
):
    """loss, gradient, logsumexp, and the diagonal of the Hessian (of a loss without z_loss and softcap)."""
    u = np.moveaxis(np.asarray(u).astype(np.float64).astype(np.longdouble), axis, -1)
    classes = u.shape[-1]
    target = np.asarray(target)
    w = np.ones(classes, np.longdouble) if weight is None else np.asarray(weight, np.longdouble)
    s = np.ones(u.shape[:-1], np.longdouble) if sample_weight is None else np.asarray(sample_weight, np.longdouble)
    counts = s != 0
    if target.ndim == u.ndim:
        q = np.moveaxis(target, axis, -1).astype(np.longdouble)
        divisor = s.sum()
    else:
        if ignore_index is not None:
            counts = counts & (target != ignore_index)
        labels = np.where(counts, target, 0).astype(int)
        labels = np.where(target == ignore_index, 0, target).astype(int) if ignore_index is not None else target
        q = np.eye(classes, dtype=np.longdouble)[labels.astype(int)]
        divisor = (counts * s * w[labels.astype(int)]).sum()
    s = s * counts
    z_divisor = s.sum()
    if reduction != "mean":
        divisor = z_divisor = np.longdouble(1)

    temperature = np.longdouble(temperature)
    x = u / temperature
    slope = np.ones_like(u) / temperature
    if softcap is not None:
        k = np.longdouble(softcap)
        x = k * np.tanh(u / (temperature * k))
        slope = (1 - np.tanh(u / (temperature * k)) ** 2) / temperature
    m = x.max(axis=-1, keepdims=True)
    lse = m + np.log(np.exp(x - m).sum(axis=-1, keepdims=True))
    p = np.exp(x - lse)
    q = w * ((1 - np.longdouble(label_smoothing)) * q + np.longdouble(label_smoothing) / classes)
    total = q.sum(axis=-1, keepdims=True)
    s = s[..., np.newaxis]
    share, z_share = (
        s / n if n else np.zeros_like(s) for n in (divisor, z_divisor)
    )  # a mean over nothing has no slope
    with np.errstate(invalid="ignore"):
        terms = np.where(q == 0, 0, q * (lse - x)).sum(axis=-1, keepdims=True)
        rows = np.where(s == 0, 0, share * terms + z_loss * z_share * lse**2)
        grad = slope * (share * (total * p - q) + 2 * z_loss * z_share * lse * p)
        hess = slope**2 * share * total * p * (1 - p)
    grad, hess = (np.where(s == 0, 0, array) for array in (grad, hess))
    rows, lse = rows[..., 0], lse[..., 0]
    loss = rows if reduction == "none" else rows.sum() if reduction == "sum" or divisor else np.longdouble("nan")
    return loss, np.moveaxis(grad, -1, axis), lse, np.moveaxis(hess, -1, axis)
