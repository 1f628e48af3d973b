"""What is summed over the classes of each row: terms of its numbers, of which the most important are exponentials.

These are kept times 2^BIAS: then thousands of them, each too small to be a number, still make a sum.
"""

from .batch cimport Batch, Block
from .math cimport INFINITY, Scale, exponential, flush, product, scale_of, shift_of, unbiased
from .maxima cimport Next_maxima
from .simd cimport (
    LANES, W, absolute, bits, broadcast, count, equal, greater, load, mask, maximum, real, scalar, select, store,
    unless, vec,
)
from .sums cimport max_of_lanes
from .traffic cimport Pending, Traffic

cdef enum Terms:
    EXPONENTIALS        # e, the exponential of x
    SUMEXP_M1           # e but for the largest; and 1 for each of these
    TARGETS             # y, and y (x - n) c; c is 1/2 or less, since a difference of large numbers may be too large
    SHIFTED             # y (x - n) c, y an exponential
    MOMENTS             # y (x - n)^2, and y^2, y an exponential
    PRODUCTS            # x y n
    NUMBERS             # x n
    FACTORS             # y where x is n, the largest exponential, and x y elsewhere
    DIFFERENCES         # w (x - n) c, w the class weights
    PRESENT             # (x - n) c where x is a number above -inf; and 1 for each of these

cdef struct Scales:             # the scales of a batch's exponentials, and what they make of its largest numbers
    real* shift
    real* lowest
    real* magic
    real* largest
    bint shifted            # of some row

cdef struct Terms_of_batch:     # what a sum reads and writes
    Block x
    Block y
    const real* w       # class weights
    const real* n       # a number for each row; where there are exponentials, the largest
    real c
    const Scales* scales
    Block kept          # where e goes; NULL if it is not kept, which only rows can do
    bint far            # x is larger than a cache that is near: rows are prefetched
    Block next_out      # and so are the next results, if this is not NULL
    Next_maxima* next
    Pending* pending    # NULL if these terms are not for it
    Traffic traffic


cdef inline bint is_counting(Terms terms) noexcept nogil:
    """Whether the second term is 1 or 0."""
    return terms == SUMEXP_M1 or terms == PRESENT


cdef inline Py_ssize_t count_of(Terms terms) noexcept nogil:
    return 2 if is_counting(terms) or terms == TARGETS or terms == FACTORS or terms == MOMENTS else 1


cdef inline bint has_exponentials(Terms terms) noexcept nogil:
    return terms == EXPONENTIALS or terms == SUMEXP_M1


cdef inline bint has_y(Terms terms) noexcept nogil:
    return terms == TARGETS or terms == SHIFTED or terms == PRODUCTS or terms == FACTORS or terms == MOMENTS


cdef inline vec for_strip(const real* numbers, const Batch* batch, Py_ssize_t strip, Py_ssize_t v) noexcept nogil:
    """A number for each row, as the vector v of a strip wants it."""
    if batch.columns:
        return load(numbers + strip * LANES + v * W)
    return broadcast(numbers[strip])


cdef inline vec for_step(const real* numbers, bint columns, Py_ssize_t step, Py_ssize_t v) noexcept nogil:
    """A number for each class, as the vector v of a whole step wants it."""
    if columns:
        return broadcast(numbers[step])
    return load(numbers + step * LANES + v * W)


cdef inline void find_scales(const Batch* batch, const real* m, bint shifted, Scales* scales) noexcept nogil:
    """The scales of rows whose largest numbers are m; `shifted`, of exponentials of x - m."""
    cdef Scales of = scales[0]
    cdef Scale scale
    cdef vec top
    cdef vec farthest = broadcast(0)
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        top = load(m + r)
        scale = scale_of(top, top if shifted else shift_of(top))
        store(of.shift + r, scale.shift)
        store(of.lowest + r, scale.lowest)
        store(of.magic + r, scale.magic)
        farthest = maximum(absolute(scale.shift), farthest)
    scales.shifted = scalar(max_of_lanes(farthest)) > 0


cdef inline void find_largest(const Batch* batch, const real* m, Scales* scales) noexcept nogil:
    """What the scales make of the largest numbers."""
    cdef Scales of = scales[0]
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        store(of.largest + r, exponential(load(m + r) - load(of.shift + r), load(of.lowest + r), load(of.magic + r)))


cdef inline Scale scale_for_strip(const Scales* of, const Batch* batch, Py_ssize_t strip, Py_ssize_t v) noexcept nogil:
    return Scale(for_strip(of.shift, batch, strip, v), for_strip(of.lowest, batch, strip, v),
                 for_strip(of.magic, batch, strip, v))


cdef inline void compute_terms(Terms terms, vec x, vec y, vec w, vec n, vec c, vec* t, bits* counted) noexcept nogil:
    """The terms, and one more for each that is counted; x are the exponentials e, if there are any."""
    cdef vec zero = broadcast(0)
    cdef mask at_top, here
    if terms == EXPONENTIALS:
        t[0] = x
    elif terms == SUMEXP_M1:
        at_top = equal(x, n)
        t[0] = unless(at_top, x)
        counted[0] = count(counted[0], at_top)
    elif terms == TARGETS:
        t[0] = y
        t[1] = product(y, c * x - c * n)
    elif terms == SHIFTED:
        t[0] = product(flush(y), c * x - c * n)
    elif terms == MOMENTS:
        t[0] = product(flush(y), (x - n) * (x - n))
        t[1] = flush(y) * unbiased(flush(y))
    elif terms == PRODUCTS:
        t[0] = (x * n) * y
    elif terms == NUMBERS:
        t[0] = x * n
    elif terms == FACTORS:
        at_top = equal(x, n)
        t[0] = select(at_top, y, zero)
        t[1] = unless(at_top, product(y, unbiased(flush(x))))
    elif terms == PRESENT:
        here = greater(x, broadcast(-INFINITY))
        t[0] = select(here, c * x - c * n, zero)
        counted[0] = count(counted[0], here)
    else:
        t[0] = product(w, c * x - c * n)
