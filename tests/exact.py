"""Exact values from mpmath, for one row at a time, and the units that errors are measured in."""

from functools import lru_cache

import numpy as np
from mpmath import mp, mpf

mp.prec = 200


def numbers(array):
    """The exact values of an array's elements."""
    return [mpf(float(v)) for v in array]


def row(x):
    """The Row of an array; computed once for all kernel modules."""
    return _row(tuple(x.tolist()))


class Row:
    """A row of logits: its softmax and what follows from it, to 60 digits."""

    def __init__(self, x):
        x = numbers(x)
        top, *others = sorted(x, reverse=True)
        self.max = top
        self.gap = float(top - others[0]) if others else 0.0
        self.sum = mp.fsum(mp.exp(v - top) for v in x)
        self.rest = mp.fsum(mp.exp(v - top) for v in others)  # sum - 1, without cancellation
        self.log_sum = mp.log1p(self.rest)
        self.lse = top + self.log_sum
        self.p = [mp.exp(v - top) / self.sum for v in x]
        self.log_p = [(v - top) - self.log_sum for v in x]
        #: |x_j - m|: what the rounding of the shift may cost, in ulp; at the maximum only the others matter
        self.shift = [float(top - v) if v < top else self.gap for v in x]


_row = lru_cache(maxsize=None)(Row)


def ulp(value, dtype):
    """The unit in the last place of `value`; that of the smallest normal number below it."""
    info = np.finfo(dtype)
    size = max(abs(mpf(value)), mpf(float(info.smallest_normal)))
    return mpf(2) ** (mp.floor(mp.log(size, 2)) - info.nmant)


def error(found, exact, unit, dtype):
    """|found - exact| in ulp of `unit`."""
    return float(abs(mpf(float(found)) - exact) / ulp(unit, dtype))
