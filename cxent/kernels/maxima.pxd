"""The largest number of each row, which is taken from all others before anything is added.

Beside the exponentials of a batch, which keep the CPU's arithmetic busy and its memory idle, the maxima of the next
batch's rows are found: 1.05 to 1.15 times as fast in the caches, on AVX-512 and on AVX2.
"""

from libc.string cimport memcpy

from .math cimport INFINITY
from .simd cimport LANES, VECTORS, W, broadcast, flattened, load, load_first, maximum, real, store, vec
from .sums cimport fold_maxima
from .tiles cimport MOST_IN_ROWS, Batch, Block, Rows

cdef struct Next_maxima:        # of the next batch's rows, found beside the exponentials of this one
    const real* start           # its first row,
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


cdef inline flattened find_maxima(const Batch* batch, Block x, Py_ssize_t first, real* largest) noexcept nogil:
    """The largest number in each row, from the `first` on, NaN left out: it comes back in the differences from it."""
    cdef vec lane[VECTORS]
    cdef vec lowest = broadcast(-INFINITY)
    cdef const real* start
    cdef Py_ssize_t quads = batch.steps // 4
    cdef Py_ssize_t strip, quad, step, v
    for strip in range(first, batch.strips):
        start = x.start + strip * x.strip
        for v in range(VECTORS):
            lane[v] = lowest
        for quad in range(quads):
            for v in range(VECTORS):
                step = 4 * quad
                # (The second of the two is what comes of a NaN in the first.)
                lane[v] = maximum(
                    maximum(load(start + step * x.step + v * W),
                            maximum(load(start + (step + 1) * x.step + v * W), lane[v])),
                    maximum(load(start + (step + 2) * x.step + v * W),
                            maximum(load(start + (step + 3) * x.step + v * W), lowest)))
        for step in range(4 * quads, batch.steps):
            for v in range(VECTORS):
                lane[v] = maximum(load(start + step * x.step + v * W), lane[v])
        take_tail_maximum(batch, start + batch.steps * x.step, lane)
        for v in range(VECTORS):
            if batch.columns:
                store(largest + strip * LANES + v * W, lane[v])
        if not batch.columns:
            largest[strip] = fold_maxima(lane)


cdef inline void max_rows(const Batch* batch, const Rows* rows, Block x, Next_maxima* next,
                          real* largest) noexcept nogil:
    """The same, of which some may have been found beside the last batch; and what is to be found beside this one."""
    cdef Py_ssize_t found = next.found if next.first == batch.first else 0
    memcpy(largest, next.largest, found * sizeof(real))
    if found < batch.rows:
        find_maxima(batch, x, found, largest)
    next.start = x.start + batch.rows * x.strip
    next.first = batch.first + batch.rows
    next.rows = min(batch.rows, next.end - next.first) if rows.direct else 0
    next.found = 0
