"""The formulas that are applied to every number of a batch, with numbers of its row."""

from .batch cimport Batch
from .math cimport INFINITY, exp, exp_any, exp_less, flush, log, product, unbiased
from .simd cimport absolute, broadcast, equal, fma, greater, real, select, vec
from .sums cimport Sum, divided, two_sum
from .terms cimport for_strip

cdef enum Formula:          # of x and y, blocks; w, the class weights; a, b, c, numbers of the row
    PROBABILITY             # (a + b) e,     e the exponentials x, and 0 for the smallest
    SHIFT                   # (x - a) - b
    GRADIENT                # (a + b) e,     e the exponentials x 2^-BIAS, likewise
    GRADIENT_LABELS         # (a + b) e,     and at_label in the class w, its number, that is the label
    GRADIENT_CLASSES        # a e - b w,     and 0 in rows that do not count
    GRADIENT_TARGETS        # a e - b y,     likewise; where e is the largest: b ((d - y) + g)
    COUNTED                 # a e,           likewise
    WEIGHTED                # a x,           likewise
    HESSIAN                 # b p (1 - p) power,   p = a e; where e is the largest 1 - p is c
    HESSIAN_FOCAL           # likewise, and added to b (1 - p): g p label; but for the label
    MULTIPLY                # x y,           and 0 where x is, or where y is and x infinite
    SMOOTH                  # w (a x + b)
    SMOOTH_CHOSEN           # w (a x + b y)
    HIDE                    # x where y is not 0, else -inf
    KEEP                    # x where y is not 0, else 0
    DIVIDE                  # (x / 2 - b / 2) / a: the whole difference may be too large
    CAP                     # (the difference from the row's largest of softcap * tanh, see `capped`)
    CAP_SLOPE               # (its derivative, see `slope_of_cap`)
    SOFTMAX_BACKWARD        # y (b x - a) c, c being 1 / b: the difference may be too large, but for that
    LOG_SOFTMAX_BACKWARD    # (b x - exp(y) a) c
    LOSS_OF_PROBS           # -b x / (y a), and 0 where b x is
    HESSIAN_PRODUCT         # b p (y - c) power,   p = a x, and 0 in rows that do not count
    EXPONENTIAL             # b exp((x / 2 - a / 2) c),    and 0 where b is
    LOG_SHARE               # (x / 2 - a / 2) c - b
    LOGARITHM               # log(x),        and 0 where y is
    LOG_RATIO               # (the difference of x and y, less that of their largest, see `log_ratio`)

cdef struct Row_factors:    # arrays of a number for each row of a batch
    real* a
    real* b
    real* c
    real* d
    real* g
    real* label
    real* at_label
    real* counts            # 0 if it does not count
    real* power             # of 2: what a product is multiplied by whose factor b would be too large or too small

cdef struct Factors:        # for a vector
    vec a
    vec b
    vec c
    vec d
    vec g
    vec label
    vec at_label
    vec counts
    vec power


cdef inline Factors factors_of(Row_factors of, const Batch* batch, Py_ssize_t strip,
                               Py_ssize_t v) noexcept nogil:
    return Factors(for_strip(of.a, batch, strip, v), for_strip(of.b, batch, strip, v), for_strip(of.c, batch, strip, v),
                   for_strip(of.d, batch, strip, v), for_strip(of.g, batch, strip, v),
                   for_strip(of.label, batch, strip, v), for_strip(of.at_label, batch, strip, v),
                   for_strip(of.counts, batch, strip, v), for_strip(of.power, batch, strip, v))


cdef inline vec exponential_of(vec x) noexcept nogil:
    """Without the bias, and 0 for the smallest."""
    return unbiased(flush(x))


cdef inline vec capped(vec u, Factors f) noexcept nogil:
    """x - x_m for x = softcap * tanh(u / (temperature * softcap)), with v = u / (temperature * softcap).

    tanh(v_m) - tanh(v) = sinh(v_m - v) / (cosh(v_m) cosh(v)), in exponentials of what is negative: the difference of
    two large logits is not lost to the rounding of their tanh. a = u_m, b = -2 / (temperature * softcap),
    c = 2 softcap / (1 + exp(-2 |v_m|)), d = 1 if u_m > 0, else exp(-2 |v_m|).
    """
    cdef vec e = exp_less(f.b * absolute(u), 0, 0)
    cdef vec difference = exp_less(f.b * (f.a - u), 0, 1)
    cdef vec share = broadcast(1) / (broadcast(1) + e)
    cdef vec result = f.c * difference * (select(greater(u, broadcast(0)), e, f.d) * share)
    return select(equal(u, f.a), broadcast(0), result)


cdef inline vec slope_of_cap(vec u, Factors f) noexcept nogil:
    """dx/du = (1 - tanh(v)^2) / temperature. g = 4 / temperature, b as above."""
    cdef vec e = exp_less(f.b * absolute(u), 0, 0)
    cdef vec share = broadcast(1) / (broadcast(1) + e)
    return f.g * (e * (share * share))


cdef inline vec log_ratio(vec x, vec y, Factors f) noexcept nogil:
    """((x - y) / 2 - a - b) c; a + b is the same of the largest. The rounding of the difference is added, and that of
    two equal numbers is 0, also where these are infinite.
    """
    cdef vec half = broadcast(0.5), zero = broadcast(0)
    cdef Sum sum = two_sum(half * x, -(half * y))
    cdef vec lost = select(equal(sum.lost, sum.lost), sum.lost, zero)
    return ((select(equal(x, y), zero, sum.total) - f.a) + (lost - f.b)) * f.c


cdef inline vec limited_product(vec a, vec b) noexcept nogil:
    """a * b, and 0 where b is and a is infinite, since it was too large for this dtype."""
    return select(equal(absolute(a), broadcast(INFINITY)), product(b, a), a * b)


cdef inline vec factor_of(vec e, vec a) noexcept nogil:
    """a, and 0 where e is, since a is infinite if a z_loss is too large. (A NaN stays one.)"""
    cdef vec at_zero = select(equal(a, a), broadcast(0), a)
    return select(equal(e, broadcast(0)), at_zero, a)


cdef inline vec evaluate(Formula formula, vec x, vec y, vec w, Factors f) noexcept nogil:
    cdef vec zero = broadcast(0)
    cdef vec p, result
    cdef vec e = exponential_of(x)
    if formula == PROBABILITY:
        return divided(flush(x), f.a, f.b)
    if formula == SHIFT:
        return (x - f.a) - f.b
    if formula == GRADIENT:
        return divided(e, f.a, f.b)
    if formula == GRADIENT_LABELS:
        return select(equal(w, f.label), f.at_label, divided(e, f.a, f.b))
    if formula == COUNTED:
        return select(equal(f.counts, zero), zero, factor_of(e, f.a) * e)
    if formula == WEIGHTED:
        return select(equal(f.counts, zero), zero, f.a * x)
    if formula == GRADIENT_CLASSES:
        return select(equal(f.counts, zero), zero, fma(factor_of(e, f.a), e, -(f.b * w)))
    if formula == GRADIENT_TARGETS:
        result = select(equal(x, f.c), f.b * ((f.d - y) + f.g), fma(factor_of(e, f.a), e, -(f.b * y)))
        return select(equal(f.counts, zero), zero, result)
    if formula == HESSIAN:
        p = f.a * e
        result = limited_product(f.b, p * select(equal(x, f.d), f.c, broadcast(1) - p)) * f.power
        return select(equal(f.counts, zero), zero, result)
    if formula == HESSIAN_FOCAL:
        p = f.a * e
        result = fma(f.b, select(equal(x, f.d), f.c, broadcast(1) - p), f.g * (p * f.label))
        return select(equal(f.counts, zero), zero, limited_product(result, p) * f.power)
    if formula == MULTIPLY:
        return select(equal(x, zero), x, limited_product(x, y))
    if formula == SMOOTH:
        return w * fma(f.a, x, f.b)
    if formula == SMOOTH_CHOSEN:
        return w * fma(f.a, x, f.b * y)
    if formula == KEEP:
        return select(equal(y, zero), zero, x)
    if formula == HIDE:
        return select(equal(y, zero), broadcast(-INFINITY), x)
    if formula == DIVIDE:
        return (broadcast(0.5) * x - broadcast(0.5) * f.b) / f.a
    if formula == CAP:
        return capped(x, f)
    if formula == CAP_SLOPE:
        return slope_of_cap(x, f)
    if formula == SOFTMAX_BACKWARD:
        return (y * fma(f.b, x, -f.a)) * f.c
    if formula == LOG_SOFTMAX_BACKWARD:
        return fma(-exp_any(y), f.a, f.b * x) * f.c
    if formula == LOSS_OF_PROBS:
        result = product(f.b, x)
        return select(equal(result, zero), zero, -result / (y * f.a))
    if formula == EXPONENTIAL:
        p = exp((broadcast(0.5) * x - broadcast(0.5) * f.a) * f.c, 0)
        return select(equal(f.b, zero), zero, limited_product(f.b, p))
    if formula == LOG_SHARE:
        return (broadcast(0.5) * x - broadcast(0.5) * f.a) * f.c - f.b
    if formula == LOGARITHM:
        return select(equal(y, zero), zero, log(x))
    if formula == LOG_RATIO:
        return log_ratio(x, y, f)
    p = f.a * x
    return select(equal(f.counts, zero), zero, limited_product(f.b, p * (y - f.c)) * f.power)


cdef inline bint uses_y(Formula formula) noexcept nogil:
    return (formula == GRADIENT_TARGETS or formula == MULTIPLY or formula == HIDE or formula == KEEP
            or formula == SMOOTH_CHOSEN or formula == SOFTMAX_BACKWARD
            or formula == LOG_SOFTMAX_BACKWARD or formula == LOSS_OF_PROBS or formula == HESSIAN_PRODUCT
            or formula == LOG_RATIO or formula == LOGARITHM)


cdef inline bint uses_w(Formula formula) noexcept nogil:
    return (formula == GRADIENT_LABELS or formula == GRADIENT_CLASSES or formula == SMOOTH
            or formula == SMOOTH_CHOSEN)
