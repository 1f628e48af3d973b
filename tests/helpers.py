"""What the tests share: how results are compared, derivatives by differences, and the oracles.

Oracles are the definitions in plain NumPy, in float64 or long double, and exact values from mpmath for one row.
"""

import re
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import ml_dtypes
import numpy as np
from mpmath import mp, mpf

mp.prec = 200

FLOATS = [np.float32, np.float64]
HALVES = [np.float16, ml_dtypes.bfloat16]
# Of results beside those of plain NumPy, for logits whose distance to the maximum is up to 100, in ulp.
RTOL = {"float32": 3e-5, "float64": 1e-13}


# Comparisons


def assert_same_bits(found, expected, name="result"):
    """The same dtype, shape and bits."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
    if found.tobytes() != expected.tobytes():
        a, b = (np.frombuffer(array.tobytes(), np.uint8).reshape(-1, array.itemsize) for array in (found, expected))
        (places,) = np.nonzero((a != b).any(axis=1))
        first, wanted = found.ravel()[places[0]], expected.ravel()[places[0]]
        raise AssertionError(
            f"{name}: other bits in {len(places)} of {found.size}, the first {first!r}, not {wanted!r}"
        )


def assert_all_same_bits(found, expected):
    """The same bits in two dictionaries of results."""
    assert found.keys() == expected.keys()
    for name in expected:
        assert_same_bits(found[name], expected[name], name)


@contextmanager
def unchanged(*arrays):
    """What happens inside leaves the bits of these arrays as they are."""
    before = [array.copy() for array in arrays]
    yield
    for array, copy in zip(arrays, before, strict=True):
        assert_same_bits(array, copy, "an input")


@cache
def limits(dtype):
    """The smallest normal number, and how many bits follow the first."""
    info = np.finfo(dtype)
    return mpf(float(info.smallest_normal)), info.nmant


def ulp(value, dtype):
    """The unit in the last place of `value`; that of the smallest normal number below it."""
    smallest, bits = limits(dtype)
    return mp.ldexp(1, mp.mag(max(abs(mpf(value)), smallest)) - 1 - bits)


def ulps_off(found, exact, unit, dtype):
    """|found - exact| in ulp of `unit`."""
    return float(abs(mpf(float(found)) - exact) / ulp(unit, dtype))


def words(message):
    """A regular expression for a message of which the words between are written as ...: a name and the values count."""
    return ".*".join(map(re.escape, message.split(" ... ")))


def assert_within_ulps(found, exact, allowed, units=None, weight=1):
    """Every number within its allowed error; a probability (times weight) below the smallest normal number may be 0."""
    dtype = found.dtype
    may_be_0 = weight * limits(dtype)[0]
    for j, (value, true) in enumerate(zip(np.atleast_1d(found).tolist(), exact, strict=True)):
        if abs(true) < may_be_0 and abs(value - true) <= abs(true):
            continue
        off = ulps_off(value, true, true if units is None else units[j], dtype)
        assert off <= allowed[j], (
            f"[{j}]: {value!r} is {off:.2f} ulp from {mp.nstr(true, 20)}; allowed {allowed[j]:.2f}"
        )


@contextmanager
def little_memory():
    """What happens inside may have 64 MB beyond what the process has."""
    import resource

    with open("/proc/self/status") as file:
        data = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData"))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data + (64 << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


# Derivatives by differences


def central_differences(function, x, h=1e-6):
    """The derivative of every result by every number of x: an array of the shape of x, then that of the results."""
    differences = []
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = h
        differences.append((function(x + step) - function(x - step)) / (2 * h))
    return np.reshape(differences, x.shape + np.shape(differences[0]))


# Definitions, in plain NumPy


def one_hot(labels, classes, axis=-1):
    """A row for each label, 1 at the label and 0 elsewhere."""
    return np.moveaxis((np.asarray(labels)[..., np.newaxis] == np.arange(classes)).astype(float), -1, axis)


def softmax_by_definition(x, axis, where=True):
    """Softmax, its logarithm and the logsumexp (with its axes), in float64, of the logits where the mask is True."""
    x = np.where(where, np.asarray(x, np.float64), -np.inf)
    any_counts = np.broadcast_to(where, x.shape).any(axis=axis, keepdims=True)
    m = np.where(any_counts, x.max(axis=axis, keepdims=True, initial=-np.inf), 0)
    exponentials = np.exp(x - m)
    total = exponentials.sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        log_total = np.log(total)
    p = exponentials / np.where(any_counts, total, 1)
    log_p = x - m - np.where(any_counts, log_total, 0)
    return p, log_p, m + log_total


def loss_by_definition(
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
    """loss, gradient, logsumexp, and the diagonal of the Hessian (of a loss without z_loss and softcap).

    In long double, slow and plain: nothing but the shift by the maximum differs from the formulas.
    """
    u = np.moveaxis(np.asarray(u).astype(np.float64).astype(np.longdouble), axis, -1)
    classes = u.shape[-1]
    target = np.asarray(target)
    w = np.ones(classes, np.longdouble) if weight is None else np.asarray(weight, np.longdouble)
    s = np.ones(u.shape[:-1], np.longdouble) if sample_weight is None else np.asarray(sample_weight, np.longdouble)
    if target.ndim == u.ndim:
        q = np.moveaxis(target, axis, -1).astype(np.longdouble)
        divisor = s.sum()
    else:
        ignored = np.zeros(target.shape, bool) if ignore_index is None else target == ignore_index
        labels = np.where(ignored, 0, target).astype(int)
        s = np.where(ignored, 0, s)
        q = np.eye(classes, dtype=np.longdouble)[labels]
        divisor = (s * w[labels]).sum()
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
    # A mean over nothing has no slope.
    share, z_share = (s / n if n else np.zeros_like(s) for n in (divisor, z_divisor))
    with np.errstate(invalid="ignore"):
        terms = np.where(q == 0, 0, q * (lse - x)).sum(axis=-1, keepdims=True)
        rows = np.where(s == 0, 0, share * terms + z_loss * z_share * lse**2)
        grad = slope * (share * (total * p - q) + 2 * z_loss * z_share * lse * p)
        hess = slope**2 * share * total * p * (1 - p)
    grad, hess = (np.where(s == 0, 0, array) for array in (grad, hess))
    rows, lse = rows[..., 0], lse[..., 0]
    loss = rows if reduction == "none" else rows.sum() if reduction == "sum" or divisor else np.longdouble("nan")
    return loss, np.moveaxis(grad, -1, axis), lse, np.moveaxis(hess, -1, axis)


# Exact values, from mpmath, of one row at a time; computed once for all kernel modules


def exact_numbers(array):
    """The exact values of an array's elements."""
    return [mpf(float(v)) for v in array]


class ExactRow:
    """A row of logits: its softmax and what follows from it, to 60 digits."""

    def __init__(self, x):
        top = mpf(max(x))
        place = x.index(max(x))
        exponentials = {v: mp.exp(v - top) for v in set(x)}
        terms = [exponentials[v] for v in x]
        x = exact_numbers(x)
        self.max = top
        self.gap = float(min((top - v for j, v in enumerate(x) if j != place), default=0))
        self.sum = mp.fsum(terms)
        self.rest = mp.fsum(term for j, term in enumerate(terms) if j != place)  # sum - 1, without cancellation
        self.log_sum = mp.log1p(self.rest)
        self.lse = top + self.log_sum
        self.p = [term / self.sum for term in terms]
        self.log_p = [(v - top) - self.log_sum for v in x]
        #: |x_j - m|: what the rounding of the shift may cost, in ulp; at the maximum only the others matter
        self.shift = [float(top - v) if v < top else self.gap for v in x]


_exact_row = cache(ExactRow)


def exact_row(x):
    """The ExactRow of an array."""
    return _exact_row(tuple(x.tolist()))


class ExactLoss(NamedTuple):
    """The loss of a row with its options, and what follows from it."""

    loss: mpf
    grad: list
    hess: list
    units: list  # of the gradient, where its terms cancel
    shift: list  # |x_j - m|
    gap: float  # the least of them that is not 0


def exact_loss(u, target, *, weight=None, **options):
    """The ExactLoss of an array and a class index or class probabilities."""
    w = np.ones_like(u) if weight is None else weight
    q = np.arange(len(u)) == target if np.ndim(target) == 0 else target
    return _exact_loss(*(tuple(a.tolist()) for a in (u, q, w)), **options)


@cache
def _exact_loss(u, q, w, *, label_smoothing=0.0, z_loss=0.0, softcap=None, temperature=1.0):
    row = _options_row(u, softcap, temperature)
    q, w = exact_numbers(q), exact_numbers(w)
    e, z = mpf(float(label_smoothing)), mpf(float(z_loss))
    q = [a * ((1 - e) * b + e / len(u)) if a and (b or e) else mpf(0) for a, b in zip(w, q, strict=True)]
    size = mp.fsum(q)
    loss = mp.fsum(-b * v for b, v in zip(q, row.log_p, strict=True) if b) + z * row.lse**2
    # (Q - q) - Q (1 - p) is Q p - q, with the digits of a p near 1
    from_z = [2 * z * row.lse * v for v in row.p] if z else [0] * len(u)
    grad = [
        s * (((size - b) - size * f if j == row.top else size * v - b) + more)
        for j, (s, b, v, f, more) in enumerate(zip(row.slope, q, row.p, row.far, from_z, strict=True))
    ]
    units = [s * (size * v + b + abs(more)) for s, v, b, more in zip(row.slope, row.p, q, from_z, strict=True)]
    hess = [s**2 * size * v * f for s, v, f in zip(row.slope, row.p, row.far, strict=True)]
    return ExactLoss(loss, grad, hess, units, row.shift, row.gap)


class _OptionsRow:
    """What an exact loss takes from the logits alone: capped, and divided by the temperature."""

    def __init__(self, u, softcap, temperature):
        u, t = exact_numbers(u), mpf(float(temperature))
        x, self.slope = [v / t for v in u], [1 / t] * len(u)
        if softcap is not None:
            k = mpf(float(softcap))
            x, self.slope = [k * mp.tanh(v / (t * k)) for v in u], [mp.sech(v / (t * k)) ** 2 / t for v in u]
        m = max(x)
        self.top = x.index(m)
        terms = [mp.exp(v - m) for v in x]
        total = mp.fsum(terms)
        rest = mp.fsum(term for j, term in enumerate(terms) if j != self.top)
        log_sum = mp.log1p(rest)
        self.lse = m + log_sum
        self.log_p = [(v - m) - log_sum for v in x]
        self.p = [term / total for term in terms]
        self.far = [rest / total if j == self.top else 1 - v for j, v in enumerate(self.p)]  # 1 - p
        self.shift = [float(m - v) for v in x]
        self.gap = float(min((m - v for v in x if v < m), default=0))


_options_row = cache(_OptionsRow)
