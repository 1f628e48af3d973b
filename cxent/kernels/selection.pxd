"""Which numbers of a row are large: how many are larger than one of them, and the k largest in their order.

The k largest so far are a heap, whose first is the last of them in their order: numbers that are not larger are passed
over, a stretch at a time, so that a row costs little more than a look at it, and never a sort. Of rows in columns, a
few rounds over all classes find one after the other, in many rows at once.
"""

from libc.stdint cimport int64_t

from .math cimport INFINITY, number_of
from .simd cimport (
    LANES, VECTORS, W, at_least, bits, broadcast, broadcast_bits, count, equal, greater, lanes_of, load, load_first,
    maximum, real, select, store, vec,
)
from .terms cimport for_strip
from .tiles cimport Batch, Block, number_at

cdef enum:
    COUNTED = 4096          # steps, of which a lane's count is a number of float32
    STRETCH = 4 * LANES     # classes that are passed over at once
    FEW_ROUNDS = 16         # of more largest numbers, a heap of each row is sooner found

cdef extern from * nogil:
    const int64_t AFTER_ALL "INT64_MAX"     # an id that comes after all others


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


cdef inline void count_larger(const Batch* batch, Block x, const real* than, int64_t* larger) noexcept nogil:
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
        for first in range(0, batch.steps, 4096):  # COUNTED
            count_steps(batch, start + first * x.step, x.step, min(<Py_ssize_t> COUNTED, batch.steps - first), limit,
                        counts)
            for lane in range(LANES):
                larger[strip * LANES + lane if batch.columns else strip] += <int64_t> counts[lane]
        if batch.tail > 0:
            larger[strip] += count_tail(batch, start + batch.steps * x.step, limit[0])


cdef inline bint is_before(real a, int64_t id_of_a, real b, int64_t id_of_b) noexcept nogil:
    """Whether the number a comes before b: it is larger, or as large and found sooner."""
    return a > b or (a == b and id_of_a < id_of_b)


cdef inline void sift(real* value, int64_t* id, Py_ssize_t k, Py_ssize_t place, real number,
                      int64_t number_id) noexcept nogil:
    """Put a number in its place in the heap below `place`: of a number and those below it, none comes after it."""
    cdef Py_ssize_t child = 2 * place + 1
    while child < k:
        if child + 1 < k and is_before(value[child], id[child], value[child + 1], id[child + 1]):
            child += 1
        if is_before(value[child], id[child], number, number_id):
            break
        value[place], id[place] = value[child], id[child]
        place = child
        child = 2 * place + 1
    value[place], id[place] = number, number_id


cdef inline void offer(real number, int64_t number_id, Py_ssize_t k, real* value, int64_t* id) noexcept nogil:
    """Take a number into the heap if it comes before the first of it."""
    if is_before(number, number_id, value[0], id[0]):
        sift(value, id, k, 0, number, number_id)


cdef inline void begin_heap(real limit, Py_ssize_t k, real* value, int64_t* id) noexcept nogil:
    """k numbers that are in no row, and that come after all that are as large."""
    cdef Py_ssize_t n
    for n in range(k):
        value[n], id[n] = limit, AFTER_ALL


cdef inline real find_limit(const Batch* batch, const real* start, Py_ssize_t k, real* value,
                            int64_t* id) noexcept nogil:
    """A number that at least k of the row are not below: the k-th of the largest in 2 k parts of it."""
    cdef Py_ssize_t parts = 2 * k // LANES + 1
    cdef Py_ssize_t steps = batch.steps // parts
    cdef real maxima[W]
    cdef vec largest
    cdef Py_ssize_t part, v, step, lane
    begin_heap(-INFINITY, k, value, id)
    for part in range(parts if steps > 4 else 0):
        for v in range(VECTORS):
            largest = broadcast(-INFINITY)
            for step in range(part * steps, (part + 1) * steps):
                largest = maximum(load(start + step * LANES + v * W), largest)
            store(maxima, largest)
            for lane in range(W):
                offer(maxima[lane], part, k, value, id)
    return value[0]


cdef inline void offer_stretch(const real* x, int64_t first, Py_ssize_t k, real* value, int64_t* id) noexcept nogil:
    """Offer STRETCH numbers that lie side by side, from the class `first` on."""
    cdef vec largest = load(x)
    cdef vec limit = broadcast(value[0])
    cdef unsigned int lanes
    cdef Py_ssize_t v, lane
    for v in range(1, STRETCH // W):
        largest = maximum(load(x + v * W), largest)
    if id[0] != AFTER_ALL and lanes_of(greater(largest, limit)) == 0:   # (those as large are found later)
        return
    for v in range(STRETCH // W):
        lanes = lanes_of(at_least(load(x + v * W), limit))
        lane = v * W
        while lanes != 0:
            if lanes & 1:
                offer(x[lane], first + lane, k, value, id)
            lanes >>= 1
            lane += 1


cdef inline void choose_largest(const Batch* batch, Block x, Py_ssize_t row, Py_ssize_t k, real* value,
                                int64_t* id) noexcept nogil:
    """The k largest numbers of a row in descending order, and their classes: of equal ones, the lower class first."""
    cdef real limit = -INFINITY
    cdef Py_ssize_t c = 0
    cdef Py_ssize_t n
    cdef real number
    cdef int64_t number_id
    if not batch.columns:
        limit = find_limit(batch, number_at(batch, x, row, 0), k, value, id)
    begin_heap(limit, k, value, id)
    while not batch.columns and c + STRETCH <= batch.classes:
        offer_stretch(number_at(batch, x, row, c), c, k, value, id)
        c += STRETCH
    while c < batch.classes:
        offer(number_at(batch, x, row, c)[0], c, k, value, id)
        c += 1
    for n in range(k - 1, 0, -1):   # the last of them to the end, one after the other
        number, number_id = value[n], id[n]
        value[n], id[n] = value[0], id[0]
        sift(value, id, n, 0, number, number_id)


cdef inline void choose_round(const Batch* batch, const real* x, Py_ssize_t step, vec* last,
                              vec* last_id) noexcept nogil:
    """The number that comes after the last in the order of each column, and its class; -1 if there is none."""
    cdef vec lowest = broadcast(-INFINITY)
    cdef vec best = lowest
    cdef vec best_id = broadcast(-1)
    cdef vec number, id, after
    cdef Py_ssize_t c
    for c in range(batch.classes):
        number, id = load(x + c * step), broadcast(<real> c)
        after = select(greater(last[0], number), number, lowest)
        after = select(equal(last[0], number), select(greater(id, last_id[0]), number, lowest), after)
        best_id = select(greater(after, best), id, best_id)
        best = maximum(after, best)
    last[0], last_id[0] = best, best_id


cdef inline void choose_in_columns(const Batch* batch, Block x, Py_ssize_t k, real* value, int64_t* id) noexcept nogil:
    """The same of rows that are columns, W at a time: k rounds over their classes."""
    cdef real numbers[W]
    cdef real ids[W]
    cdef vec last, last_id
    cdef Py_ssize_t group, n, r, lane
    for group in range((batch.rows + W - 1) // W):
        last, last_id = broadcast(INFINITY), broadcast(-1)
        for n in range(k):
            choose_round(batch, x.start + group * W, x.step, &last, &last_id)
            store(numbers, last)
            store(ids, last_id)
            for lane in range(min(<Py_ssize_t> W, batch.rows - group * W)):
                r = group * W + lane
                value[r * k + n], id[r * k + n] = numbers[lane], <int64_t> ids[lane]


cdef inline void choose_of_batch(const Batch* batch, Block x, Py_ssize_t k, real* value, int64_t* id) noexcept nogil:
    """The k largest numbers of each row in descending order, and their classes."""
    cdef bint in_columns = batch.columns and k <= FEW_ROUNDS
    cdef Py_ssize_t r
    if in_columns:
        choose_in_columns(batch, x, k, value, id)
    for r in range(batch.rows if k > 0 else 0):
        if not in_columns or id[r * k + k - 1] < 0:    # (classes of -inf come last, and are in no round)
            choose_largest(batch, x, r, k, value + r * k, id + r * k)
