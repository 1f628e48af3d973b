"""The weights of rows and classes, over whole arrays: what a mean is divided by, and whether numbers are finite."""

from libc.stdint cimport int64_t

from .labels cimport Labels, bounded, label_at
from .math cimport exponent_to_one
from .simd cimport (
    FLOAT64, HALVES, LANES, VECTORS, W, absolute, broadcast, broadcast_wide, load_first, maximum, real, store,
    store_wide, vec, wide, widen,
)
from .sums cimport add_number, add_wide
from .values cimport Values

cdef enum:
    LARGEST_EXPONENT = 126 + 896 * FLOAT64    # of numbers that can be doubled

cdef struct Weights:            # of the rows of an array
    Labels labels               # the origin is NULL if there are none
    Values row_weights          # likewise: then s is 1
    const real* w               # NULL if there are none: then w_y is 1
    Py_ssize_t classes
    Py_ssize_t outer
    Py_ssize_t inner


cdef inline bint take_weights(const Weights* of, Py_ssize_t i, Py_ssize_t k, double* s,
                              double* label_weight) noexcept nogil:
    """The weights s and w_y of a row; returns whether it counts."""
    cdef int64_t label = 0
    s[0] = label_weight[0] = 1
    if of.labels.at.origin != NULL:
        label = label_at(of.labels.dtype,
                         of.labels.at.origin + i * of.labels.at.outer_stride + k * of.labels.at.inner_stride)
        if of.labels.ignoring and label == of.labels.ignored:
            return False
        if of.w != NULL:
            label_weight[0] = of.w[bounded(label, of.classes)]
    if of.row_weights.origin != NULL:
        s[0] = (<const real*> (of.row_weights.origin + i * of.row_weights.outer_stride
                               + k * of.row_weights.inner_stride))[0]
    return True


cdef inline void sum_weights(const Weights* of, double row_scale, double class_scale, double* sums) noexcept nogil:
    """sums = the sums of s w_y and of s over the rows that count, in multiples of the scales, powers of 2."""
    cdef double value[16]
    cdef double lost[16]
    cdef double s, label_weight
    cdef Py_ssize_t lane = 0
    cdef Py_ssize_t i, k
    for k in range(16):
        value[k] = lost[k] = 0
    for i in range(of.outer):
        for k in range(of.inner):
            if take_weights(of, i, k, &s, &label_weight):
                s *= row_scale
                add_number(s * (label_weight * class_scale), &value[lane], &lost[lane])
                add_number(s, &value[8 + lane], &lost[8 + lane])
                lane = (lane + 1) & 7
    for k in range(1, 8):
        add_number(value[k], &value[0], &lost[0])
        add_number(value[8 + k], &value[8], &lost[8])
        lost[0] += lost[k]
        lost[8] += lost[8 + k]
    sums[0] = value[0] + lost[0] if value[0] - value[0] == 0 else value[0]
    sums[1] = value[8] + lost[8] if value[8] - value[8] == 0 else value[8]


cdef inline void find_largest_weights(const Weights* of, double* largest) noexcept nogil:
    """The largest magnitudes of s and of w_y over the rows that count."""
    cdef double s, label_weight
    cdef Py_ssize_t i, k
    largest[0] = largest[1] = 0
    for i in range(of.outer):
        for k in range(of.inner):
            if take_weights(of, i, k, &s, &label_weight):
                largest[0] = max(largest[0], s, -s)
                largest[1] = max(largest[1], label_weight, -label_weight)


cdef inline bint can_divide(double sum) noexcept nogil:
    """Whether neither its reciprocal nor that over a temperature is too large for this dtype, nor the sum for any."""
    return 9.5367431640625e-07 <= abs(sum) <= 1152921504606846976.0    # 2^-20, 2^60


cdef inline int exponent_for_products(const real* w, Py_ssize_t n) noexcept nogil:
    """k, so that the largest of w * 2^k is about 1, where it is so large or small that float32 may not have products
    with it; else 0."""
    cdef vec most = broadcast(0)
    cdef real lanes[W]
    cdef real largest = 0
    cdef Py_ssize_t k
    if FLOAT64:
        return 0
    for k in range((n + W - 1) // W):
        most = maximum(most, absolute(load_first(w + k * W, n - k * W, broadcast(0))))
    store(lanes, most)
    for k in range(W):
        largest = max(largest, lanes[k])
    return 0 if 8.673617379884035e-19 <= largest <= 1152921504606846976.0 else exponent_to_one(largest)   # 2^-60, 2^60


cdef inline bint are_finite(const real* x, Py_ssize_t n) noexcept nogil:
    cdef real zeros[W]
    cdef vec number
    cdef vec zero = broadcast(0)
    cdef Py_ssize_t k
    for k in range((n + W - 1) // W):
        number = load_first(x + k * W, n - k * W, broadcast(0))
        zero = zero + (number - number)     # NaN for what is not finite
    store(zeros, zero)
    for k in range(W):
        if zeros[k] != 0:
            return False
    return True


cdef inline double sum_of_numbers(const real* x, Py_ssize_t n) noexcept nogil:
    """In as many lanes as 64 bytes hold numbers, each with Knuth's two-sum in float64."""
    cdef double value[LANES]
    cdef double lost[LANES]
    cdef wide total[VECTORS * HALVES]
    cdef wide lost_of[VECTORS * HALVES]
    cdef vec numbers
    cdef Py_ssize_t k, v, half, i
    for i in range(VECTORS * HALVES):
        total[i] = lost_of[i] = broadcast_wide(0)
    for k in range((n + LANES - 1) // LANES):
        for v in range(VECTORS):
            numbers = load_first(x + k * LANES + v * W, n - k * LANES - v * W, broadcast(0))
            for half in range(HALVES):
                i = v * HALVES + half
                add_wide(widen(numbers, half), &total[i], &lost_of[i])
    for i in range(VECTORS * HALVES):
        store_wide(value + i * (W // HALVES), total[i])
        store_wide(lost + i * (W // HALVES), lost_of[i])
    for k in range(1, LANES):
        add_number(value[k], &value[0], &lost[0])
        lost[0] += lost[k]
    return value[0] + lost[0] if value[0] - value[0] == 0 else value[0]
