"""Classes in several places: what is known of each part is merged, and results of a part follow from the whole."""

from .apply cimport change_block, store_results
from .batch cimport Block, block_of
from .call cimport Call
from .formulas cimport EXPONENTIAL, LOG_SHARE, Formula, Row_factors
from .masks cimport load_chosen
from .math cimport BIAS, exp, expm1, unbiased
from .simd cimport W, at_least, broadcast, equal, fma, load_first, maximum, real, select, store_first, vec
from .sums cimport Sum, add_sum
from .values cimport fill, take_values


cdef inline Sum times_exp(Sum sum, vec d) noexcept nogil:
    """The sum times exp(d), d <= 0.

    Where the factor is near 1 the sum is changed by expm1(d) of it: the error is that share of an ulp, so those of any
    number of factors come to 1 ulp together, as those of factors below 0.6 do.
    """
    cdef vec change = expm1(d)
    cdef vec e = exp(d, BIAS)
    cdef vec added = sum.total * change
    cdef Sum changed = sum
    add_sum(&changed, Sum(added, fma(sum.total, change, -added) + sum.lost * change))
    return Sum(select(at_least(d, broadcast(-0.5)), changed.total, unbiased(sum.total * e)),
               select(at_least(d, broadcast(-0.5)), changed.lost, unbiased(sum.lost * e)))


cdef inline void store_sum(real* p, Py_ssize_t rows, Py_ssize_t n, Sum sum) noexcept nogil:
    """The sum as the nearest number, and what that lacks."""
    cdef vec value = sum.total + sum.lost
    store_first(p, value, n)
    store_first(p + rows, sum.lost - (value - sum.total), n)


cdef inline Sum load_sum(const real* p, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    return Sum(load_first(p, n, broadcast(0)), load_first(p + rows, n, broadcast(0)))


cdef inline Sum chosen(vec m, vec other, Sum a, Sum b) noexcept nogil:
    """a where m >= other, else b."""
    return Sum(select(at_least(m, other), a.total, b.total), select(at_least(m, other), a.lost, b.lost))


cdef inline void merge_rows(const real* a, const real* b, Py_ssize_t rows, real temperature, real* out) noexcept nogil:
    """The states of rows, five runs of numbers each: m, then r and sum(exp(x - m) (x - m)), each with what it lacks.

    With d = m_b - m_a <= 0 the state of b with m_a in the place of m_b is (1 + r_b) exp(d) and
    (shifted_b + (1 + r_b) d) exp(d).
    """
    cdef vec m_a, m_b, m, low, d, change
    cdef Sum r_a, r_b, shifted_a, shifted_b, r, shifted, of_low, moved
    cdef Py_ssize_t k, n
    for k in range(0, (rows + W - 1) // W):
        n = rows - k * W
        m_a, m_b = load_first(a + k * W, n, broadcast(0)), load_first(b + k * W, n, broadcast(0))
        m = select(at_least(m_a, m_b), m_a, m_b)
        m = select(equal(m_a, m_a), m, m_a)     # NaN
        low = select(at_least(m_a, m_b), m_b, m_a)
        d = (broadcast(0.5) * low - broadcast(0.5) * m) / broadcast(<real> 0.5 * temperature)
        d = select(equal(low, m), broadcast(0), maximum(broadcast(-2000), d))   # (finite: times 0 it is 0)
        r_a, shifted_a = load_sum(a + k * W + rows, rows, n), load_sum(a + k * W + 3 * rows, rows, n)
        r_b, shifted_b = load_sum(b + k * W + rows, rows, n), load_sum(b + k * W + 3 * rows, rows, n)
        r, shifted = chosen(m_a, m_b, r_a, r_b), chosen(m_a, m_b, shifted_a, shifted_b)
        of_low = Sum(broadcast(1), broadcast(0))
        add_sum(&of_low, chosen(m_a, m_b, r_b, r_a))
        moved = chosen(m_a, m_b, shifted_b, shifted_a)
        change = of_low.total * d
        add_sum(&moved, Sum(change, fma(of_low.total, d, -change) + of_low.lost * d))
        add_sum(&r, times_exp(of_low, d))
        add_sum(&shifted, times_exp(moved, d))
        store_first(out + k * W, m, n)
        store_sum(out + k * W + rows, rows, n, r)
        store_sum(out + k * W + 3 * rows, rows, n, shifted)


cdef inline void apply_to_part(Formula formula, Call* call) noexcept nogil:
    """Results of a part of the classes, by a formula of numbers that are known from all."""
    cdef Row_factors* factors = &call.factors
    cdef Block x = load_chosen(call, &call.x)
    cdef Block out = block_of(&call.batch, &call.out)
    take_values(&call.batch, &call.shifts, factors.a)
    take_values(&call.batch, &call.shares, factors.b)
    fill(&call.batch, <real> (2 / call.loss.temperature), factors.c)
    change_block(formula, &call.batch, x, x, NULL, factors, out)
    store_results(&call.batch, out, &call.out, &call.pending)


cdef inline void part_of_softmax_batch(Call* call) noexcept nogil:
    """out = b exp((x - m) / temperature), and 0 where b is."""
    apply_to_part(EXPONENTIAL, call)


cdef inline void part_of_log_softmax_batch(Call* call) noexcept nogil:
    """out = (x - m) / temperature - b."""
    apply_to_part(LOG_SHARE, call)
