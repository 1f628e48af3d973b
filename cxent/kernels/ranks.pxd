"""How many numbers of a row are larger than each of some of its own.

A few are compared with all numbers, each in a look at the row. Many are put in order first; then one look at the row
finds the place of each number among them: 1,000 of 128,000 take a tenth of the time.

Tried: a binary search in the order itself, which GCC's and Clang's branches made two to ten times as slow.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset

from .batch cimport Batch, Block, number_at
from .math cimport INFINITY, number_of
from .selection cimport put_heap_in_order, sift
from .simd cimport (
    LANES, VECTORS, W, at_least, bits, broadcast_bits, count, gather, greater, load, load_first, real, store, vec, word,
)
from .terms cimport for_strip

cdef enum:
    COUNTED_STEPS = 4096    # steps, of which a lane's count is a number of float32
    RANKED_ALONE = 48       # numbers, of which each is compared with a row sooner than all are put in order

cdef inline void count_steps(const Batch* batch, const real* start, Py_ssize_t step, Py_ssize_t steps, const vec* than,
                             real* larger) noexcept nogil:
    """larger = how many numbers of these steps of a strip are larger, in each lane."""
    cdef bits n
    cdef Py_ssize_t k, v
    for v in range(VECTORS):
        n = broadcast_bits(0)
        for k in range(steps):
            n = count(n, greater(load(start + k * step + v * W), than[v]))
        store(larger + v * W, number_of(n))


cdef inline int64_t count_tail(const Batch* batch, const real* start, vec than) noexcept nogil:
    cdef real larger[W]
    cdef int64_t total = 0
    cdef Py_ssize_t v, lane
    for v in range(VECTORS):
        store(larger, number_of(count(broadcast_bits(0),
                                      greater(load_first(start + v * W, batch.tail - v * W, than), than))))
        for lane in range(W):
            total += <int64_t> larger[lane]
    return total


cdef inline void count_above(const Batch* batch, Block x, const real* than, int64_t* larger) noexcept nogil:
    """How many numbers of each row are larger than the one that is given for it; than has room for LANES more rows."""
    cdef real counts[LANES]
    cdef vec limit[VECTORS]
    cdef const real* start
    cdef Py_ssize_t strip, first, v, lane
    for strip in range(batch.strips):
        start = x.start + strip * x.strip
        for v in range(VECTORS):
            limit[v] = for_strip(than, batch, strip, v)
        for lane in range(LANES if batch.columns else 1):
            larger[strip * (LANES if batch.columns else 1) + lane] = 0
        for first in range(0, batch.steps, 4096):  # COUNTED_STEPS
            count_steps(batch, start + first * x.step, x.step, min(<Py_ssize_t> COUNTED_STEPS, batch.steps - first),
                        limit, counts)
            for lane in range(LANES):
                larger[strip * LANES + lane if batch.columns else strip] += <int64_t> counts[lane]
        if batch.tail > 0:
            larger[strip] += count_tail(batch, start + batch.steps * x.step, limit[0])


cdef struct Ordered:        # numbers of a row in descending order, and -inf after them
    real* value             # 2^depth - 1 in all, and room for one more
    real* tree              # the same as a binary tree: below the number k are 2 k, which comes before it, and 2 k + 1
    int64_t* id             # which of the numbers that were given
    int64_t* above          # how many numbers of the row are larger than this one, and no larger than the one before
    Py_ssize_t size         # 2^depth
    Py_ssize_t depth


cdef inline bint allocate(Ordered* of, Py_ssize_t n) noexcept nogil:
    """Memory for n numbers, which starts with the values; returns whether there is some."""
    of.size, of.depth = 1, 0
    while of.size <= n:
        of.size, of.depth = 2 * of.size, of.depth + 1
    of.value = <real*> malloc(2 * of.size * (sizeof(real) + sizeof(int64_t)))
    of.tree = of.value + of.size
    of.id = <int64_t*> (of.tree + of.size)
    of.above = of.id + of.size
    return of.value != NULL


cdef inline void put_in_order(Py_ssize_t n, Ordered* of) noexcept nogil:
    cdef Py_ssize_t k, place, level
    for k in range(n, of.size):
        of.value[k] = -INFINITY
    for k in range(n):
        of.id[k] = k
    for k in range(n // 2 - 1, -1, -1):
        sift(of.value, of.id, n, k, of.value[k], of.id[k])
    put_heap_in_order(n, of.value, of.id)
    for k in range(of.size - 1):    # in the last level is every second number, in that above every second of the rest
        place, level = k + 1, of.size // 2
        while place % 2 == 0:
            place, level = place // 2, level // 2
        of.tree[level + place // 2] = of.value[k]


cdef inline void find_places(const real* x, const Ordered* of, word* place) noexcept nogil:
    """of.size + how many of the numbers are at least as large as each of LANES others (without a branch)."""
    cdef bits node[VECTORS]
    cdef Py_ssize_t _level, v
    for v in range(VECTORS):
        node[v] = broadcast_bits(1)
    for _level in range(of.depth):
        for v in range(VECTORS):
            node[v] = count(node[v] + node[v], at_least(gather(of.tree, node[v]), load(x + v * W)))
    memcpy(place, node, sizeof(node))


cdef inline void count_above_many(const Batch* batch, Block x, Py_ssize_t row, Py_ssize_t n, Ordered* of,
                                  int64_t* larger) noexcept nogil:
    """How many numbers of a row are larger than each of the n that are given as the values, in any order."""
    cdef real numbers[LANES]
    cdef word place[LANES]
    cdef Py_ssize_t distance = x.step if batch.columns else 1
    cdef const real* start
    cdef Py_ssize_t group, c, k, present
    cdef int64_t total = 0
    put_in_order(n, of)
    memset(of.above, 0, of.size * sizeof(int64_t))
    for group in range((batch.classes + LANES - 1) // LANES):
        c = group * LANES
        start = number_at(batch, x, row, c)
        present = min(<Py_ssize_t> LANES, batch.classes - c)
        if batch.columns or present < LANES:
            for k in range(LANES):
                numbers[k] = start[k * distance] if k < present else -INFINITY  # (which is larger than none)
            start = numbers
        find_places(start, of, place)
        for k in range(LANES):
            of.above[place[k] - of.size] += 1
    for k in range(n):
        total += of.above[k]
        larger[of.id[k]] = total
