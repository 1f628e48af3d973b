"""The largest number of each row, which is taken from all others before anything is added.
"""

from libc.string cimport memcpy

from .batch cimport MOST_IN_ROWS, Batch, Block, Rows, are_native_rows, row_at
from .math cimport INFINITY
from .simd cimport LANES, VECTORS, W, broadcast, flattened, load, load_first, maximum, real, scalar, store, vec
from .sums cimport fold_maxima

cdef struct Next_maxima:        # of the next batch's rows, found beside the exponentials of this one
    const real* start           # its first row in the array,
    Py_ssize_t strip            # numbers from one to the next,
    Py_ssize_t first            # and the number of that in the array
    Py_ssize_t end              # of the rows that may be read
    Py_ssize_t rows             # that are to be found,
    Py_ssize_t found            # and are
    real largest[MOST_IN_ROWS]


cdef inline void take_tail_maximum(const Batch* batch, const real* start, vec* largest) noexcept nogil:
    """The largest of the classes that do not fill a step."""
    cdef vec lowest = broadcast(-INFINITY)
    cdef Py_ssize_t v
    for v in range(VECTORS):
        if batch.tail > v * W:
            largest[v] = maximum(load_first(start + v * W, batch.tail - v * W, lowest), largest[v])


cdef inline void max_of_strip(const Batch* batch, const real* x, Py_ssize_t x_step, vec* lane) noexcept nogil:
    """The largest number in each lane of a row, or of LANES columns."""
    cdef vec lowest = broadcast(-INFINITY)
    cdef Py_ssize_t _quad, v, step
    for v in range(VECTORS):
        lane[v] = lowest
    for _quad in range(batch.steps // 4):
        for v in range(VECTORS):
            # (The second of the two is what comes of a NaN in the first.)
            lane[v] = maximum(
                maximum(load(x + v * W), maximum(load(x + x_step + v * W), lane[v])),
                maximum(load(x + 2 * x_step + v * W), maximum(load(x + 3 * x_step + v * W), lowest)))
        x += 4 * x_step
    for step in range(batch.steps % 4):
        for v in range(VECTORS):
            lane[v] = maximum(load(x + step * x_step + v * W), lane[v])
    take_tail_maximum(batch, x + batch.steps % 4 * x_step, lane)


cdef inline vec max_of_row(const Batch* batch, const real* x) noexcept nogil:
    cdef vec lane[VECTORS]
    max_of_strip(batch, x, LANES, lane)
    return fold_maxima(lane)


cdef inline flattened find_maxima(const Batch* batch, Block x, Py_ssize_t first_row, real* largest) noexcept nogil:
    """The largest number in each row from one on, NaN left out: it comes back in the exponentials."""
    cdef vec lane[VECTORS]
    cdef Py_ssize_t strip, v
    for strip in range(first_row, batch.strips):
        max_of_strip(batch, x.start + strip * x.strip, x.step, lane)
        for v in range(VECTORS if batch.columns else 0):
            store(largest + strip * LANES + v * W, lane[v])
        if not batch.columns:
            largest[strip] = scalar(fold_maxima(lane))


cdef inline void max_rows(const Batch* batch, const Rows* rows, Block x, Next_maxima* next,
                          real* largest) noexcept nogil:
    """The same, of which some may have been found beside the last batch; and what is to be found beside this one."""
    cdef Py_ssize_t found = next.found if next.first == batch.first else 0
    memcpy(largest, next.largest, found * sizeof(real))
    if found < batch.rows:
        find_maxima(batch, x, found, largest)
    next.rows = next.found = 0
    if are_native_rows(batch, rows):
        next.start = <const real*> row_at(batch, rows, batch.first + batch.rows)
        next.strip = rows.outer_stride // <Py_ssize_t> sizeof(real)
        next.first = batch.first + batch.rows
        next.rows = min(batch.rows, next.end - next.first)
