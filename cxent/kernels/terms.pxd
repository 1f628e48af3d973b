"""What is summed over the classes of each row: terms of its numbers, of which the most important are exponentials.

Exponentials of which the sum needs the small ones, beside the largest or beyond the smallest normal number, are kept
times 2^LIFT: then thousands of them, each too small to be a number, still make a sum. The largest are exactly 2^LIFT.
"""

from .math cimport LIFT, lifted_one, product
from .maxima cimport Next_maxima
from .simd cimport LANES, W, bits, broadcast, count, equal, load, mask, real, select, unless, vec
from .stores cimport Beside, Pending
from .tiles cimport Batch, Block

cdef enum Terms:
    EXPONENTIALS        # e = exp(x - shift)
    SUMEXP_M1           # e = exp(x - shift) 2^LIFT but for the maxima; and 1 for each of these
    TARGETS             # y, and y (x - shift) c; c is 1/2 or less, since a difference of large numbers may be too large
    PRODUCTS            # x y, times the number that elsewhere is a shift
    NUMBERS             # x, likewise
    FACTORS             # y where x is 1, the largest exponential, and y x elsewhere
    DIFFERENCES         # w (x - shift) c, w the class weights

cdef struct Terms_of_batch:     # what a sum reads and writes
    Block x
    Block y
    const real* w       # class weights
    const real* shift   # a number for each row
    real c
    Block kept          # where e goes; NULL if it is not kept, which only rows can do
    Next_maxima* next
    Pending* pending    # NULL if these terms are not for it
    Beside beside


cdef inline Py_ssize_t count_of(Terms terms) noexcept nogil:
    return 2 if terms == SUMEXP_M1 or terms == TARGETS or terms == FACTORS else 1


cdef inline bint has_exponentials(Terms terms) noexcept nogil:
    return terms == EXPONENTIALS or terms == SUMEXP_M1


cdef inline int lift_of(Terms terms) noexcept nogil:
    return LIFT if terms == SUMEXP_M1 else 0


cdef inline bint has_y(Terms terms) noexcept nogil:
    return terms == TARGETS or terms == PRODUCTS or terms == FACTORS


cdef inline vec for_strip(const real* numbers, const Batch* batch, Py_ssize_t strip, Py_ssize_t v) noexcept nogil:
    """A number for each row, as the vector v of a strip wants it."""
    if batch.columns:
        return load(numbers + strip * LANES + v * W)
    return broadcast(numbers[strip])


cdef inline vec for_step(const real* numbers, const Batch* batch, Py_ssize_t step, Py_ssize_t v) noexcept nogil:
    """A number for each class, as the vector v of a whole step wants it."""
    if batch.columns:
        return broadcast(numbers[step])
    return load(numbers + step * LANES + v * W)


cdef inline void compute_terms(Terms terms, vec x, vec y, vec w, vec shift, vec c, vec* t, bits* maxima) noexcept nogil:
    """The terms, and one more for each maximum; x are the exponentials e, if there are any."""
    cdef vec zero = broadcast(0)
    cdef mask at_top
    if terms == EXPONENTIALS:
        t[0] = x
    elif terms == SUMEXP_M1:
        at_top = equal(x, lifted_one())
        t[0] = unless(at_top, x)
        maxima[0] = count(maxima[0], at_top)
    elif terms == TARGETS:
        t[0] = y
        t[1] = product(y, c * x - c * shift)
    elif terms == PRODUCTS:
        t[0] = (x * shift) * y
    elif terms == NUMBERS:
        t[0] = x * shift
    elif terms == FACTORS:
        at_top = equal(x, broadcast(1))
        t[0] = select(at_top, y, zero)
        t[1] = unless(at_top, product(y, x))
    else:
        t[0] = product(w, c * x - c * shift)
