"""The exponentials of a tile whose columns are rows: class by class, over all vectors of rows that there are.

A few vectors are computed together, the first half of each before the second half of each: what a half computes waits
for what is before it, and a CPU looks only some tens of operations ahead for others.
"""

from .batch cimport Batch
from .math cimport exponential_of_remainder, remainder_of
from .simd cimport VECTORS, W, load, real, store, vec
from .terms cimport Scales, Terms_of_batch
from .traffic cimport Traffic, begin_run, is_busy, move_line

cdef enum:
    GROUP = 2 * VECTORS     # vectors that are computed together


cdef inline void take_group(bint busy, bint shifted, Py_ssize_t vectors, const real* x, Scales of, real* e,
                            Traffic* traffic) noexcept nogil:
    cdef vec r[GROUP]
    cdef vec t[GROUP]
    cdef Py_ssize_t _strip, k
    for _strip in range(vectors // VECTORS if busy else 0):
        move_line(traffic)
    for k in range(vectors):
        r[k] = load(x + k * W)
        if shifted:
            r[k] = r[k] - load(of.shift + k * W)
        r[k] = remainder_of(r[k], load(of.lowest + k * W), load(of.magic + k * W), &t[k])
    for k in range(vectors):
        store(e + k * W, exponential_of_remainder(r[k], t[k]))


cdef inline Scales scales_from(Scales of, Py_ssize_t row) noexcept nogil:
    return Scales(of.shift + row, of.lowest + row, of.magic + row, of.largest + row, of.shifted)


cdef inline void take_exponentials(bint busy, bint shifted, const Batch* batch, Terms_of_batch* of) noexcept nogil:
    cdef Scales scales = of.scales[0]
    cdef const real* x = of.x.start
    cdef real* e = of.kept.start
    cdef Py_ssize_t x_step = of.x.step
    cdef Py_ssize_t e_step = of.kept.step
    cdef Py_ssize_t classes = batch.classes
    cdef Py_ssize_t vectors = (batch.rows + W - 1) // W
    cdef Py_ssize_t groups = vectors // GROUP
    cdef Py_ssize_t c, group, r
    for c in range(classes):
        if busy:
            begin_run(&of.traffic, c)
        for group in range(groups):
            r = group * GROUP * W
            take_group(busy, shifted, GROUP, x + r, scales_from(scales, r), e + r, &of.traffic)
        r = groups * GROUP * W
        take_group(busy, shifted, vectors % GROUP, x + r, scales_from(scales, r), e + r, &of.traffic)
        x += x_step
        e += e_step


cdef inline void take_exponentials_of_columns(const Batch* batch, Terms_of_batch* of) noexcept nogil:
    """e of every number. (Literals, for loops without a test.)"""
    if of.scales.shifted:
        take_exponentials(True, True, batch, of)
    elif is_busy(&of.traffic):
        take_exponentials(True, False, batch, of)
    else:
        take_exponentials(False, False, batch, of)
