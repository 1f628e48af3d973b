"""Which numbers of a row are large: how many are larger than one of them, and the k largest in their order.

The k largest of a row are at least as large as the k-th of the largest in its parts. What is below that limit is passed
over, a stretch at a time, so that a row costs little more than a look at it, and never a sort. What is not is put in
order by ranks: of each number, how many come before it, which needs no branch that a CPU could mistake. If there are
many of these, or many are wanted, a heap takes them. Of rows in columns, a few rounds over all classes find one after
the other, in many rows at once.

Tried: a heap for all, 0.3 to 0.5 of the speed at 257 to 1,000 classes, for half of its branches were mistaken.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from .math cimport INFINITY, number_of
from .simd cimport (
    LANES, VECTORS, W, at_least, bits, broadcast, broadcast_bits, count, equal, greater, lanes_of, load, load_first,
    lowest, maximum, real, select, store, vec,
)
from .sums cimport fold_maxima
from .terms cimport for_strip
from .tiles cimport Batch, Block, number_at

cdef enum:
    COUNTED = 4096          # steps, of which a lane's count is a number of float32
    STRETCH = 4 * LANES     # classes that are passed over at once
    FEW_ROUNDS = 16         # of more largest numbers in columns, a heap of each row is sooner found
    MOST_PARTS = 128        # of a row, of whose largest numbers the k-th is found by ranks
    MOST_FOUND = 128        # numbers above it that are put in order by their ranks

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


cdef inline real kth_largest(const real* x, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """The smallest of n numbers, a multiple of LANES, than which fewer than k are larger."""
    cdef vec least_negated[VECTORS]
    cdef vec number
    cdef bits larger
    cdef Py_ssize_t part, v, other
    for v in range(VECTORS):
        least_negated[v] = broadcast(-INFINITY)
    for part in range(n // LANES):
        for v in range(VECTORS):
            number = load(x + part * LANES + v * W)
            larger = broadcast_bits(0)
            for other in range(n):
                larger = count(larger, greater(broadcast(x[other]), number))
            least_negated[v] = maximum(select(greater(broadcast(<real> k), number_of(larger)), -number,
                                              broadcast(-INFINITY)), least_negated[v])
    return -fold_maxima(least_negated)


cdef inline real find_limit(const Batch* batch, const real* start, Py_ssize_t k, real* value,
                            int64_t* id) noexcept nogil:
    """A number that at least k of the row are not below: the k-th of the largest in 2 k parts of it, where these have
    two classes or more. Of many, value and id become a heap.
    """
    cdef real maxima[MOST_PARTS]
    cdef real* at = maxima
    cdef Py_ssize_t parts = 2 * k // LANES + 1      # in each lane
    cdef Py_ssize_t steps = batch.steps // parts
    cdef bint are_many = parts * LANES > MOST_PARTS
    cdef vec largest
    cdef Py_ssize_t part, v, step, lane
    if are_many:
        begin_heap(-INFINITY, k, value, id)
    for part in range(parts if steps > 1 else 0):
        for v in range(VECTORS):
            largest = broadcast(-INFINITY)
            for step in range(part * steps, (part + 1) * steps):
                largest = maximum(load(start + step * LANES + v * W), largest)
            store(at + v * W, largest)
        if are_many:
            for lane in range(LANES):
                offer(at[lane], part, k, value, id)
        else:
            at += LANES
    if are_many:
        return value[0]
    if steps > 1:
        return kth_largest(maxima, at - maxima, k)
    return -INFINITY


cdef struct Found:              # numbers of a row, and their classes, in the order of these
    real value[MOST_FOUND + LANES]
    int64_t id[MOST_FOUND + LANES]
    Py_ssize_t count            # MOST_FOUND + 1 if there are more


cdef inline void find_in_vector(const real* x, vec number, vec limit, int64_t first, Found* found) noexcept nogil:
    cdef unsigned int lanes = lanes_of(at_least(number, limit))
    cdef int lane
    while lanes != 0:
        lane = lowest(lanes)
        found.value[found.count], found.id[found.count] = x[lane], first + lane
        found.count += 1
        lanes &= lanes - 1


cdef inline void find_above(const Batch* batch, const real* x, real limit, Found* found) noexcept nogil:
    """The numbers of a row that are not below a limit, which is not -inf."""
    cdef vec below = broadcast(-INFINITY)
    cdef vec at_limit = broadcast(limit)
    cdef vec largest
    cdef Py_ssize_t c = 0
    cdef Py_ssize_t v
    found.count = 0
    while c + STRETCH <= batch.classes and found.count <= MOST_FOUND:
        largest = load(x + c)
        for v in range(1, STRETCH // W):
            largest = maximum(load(x + c + v * W), largest)
        if lanes_of(at_least(largest, at_limit)) != 0:
            for v in range(STRETCH // W):
                if found.count <= MOST_FOUND:
                    find_in_vector(x + c + v * W, load(x + c + v * W), at_limit, c + v * W, found)
        c += STRETCH
    while c < batch.classes and found.count <= MOST_FOUND:
        find_in_vector(x + c, load_first(x + c, batch.classes - c, below), at_limit, c, found)
        c += W


cdef inline void put_in_order(const Found* found, Py_ssize_t k, real* value, int64_t* id) noexcept nogil:
    """The first k in descending order; of equal ones, the lower class first."""
    cdef real places[MOST_FOUND + LANES]
    cdef real ranks[MOST_FOUND + LANES]
    cdef real values_by_rank[MOST_FOUND + LANES]
    cdef int64_t ids_by_rank[MOST_FOUND + LANES]
    cdef vec number, place, other
    cdef bits before
    cdef Py_ssize_t n, m
    for n in range(found.count):
        places[n] = <real> n
    for m in range((found.count + W - 1) // W):
        number = load_first(found.value + m * W, found.count - m * W, broadcast(0))
        place = load_first(places + m * W, found.count - m * W, broadcast(0))
        before = broadcast_bits(0)
        for n in range(found.count):
            other = broadcast(found.value[n])
            before = count(before, greater(other, number))
            before = count(before, greater(select(equal(other, number), place, broadcast(-1)), broadcast(<real> n)))
        store(ranks + m * W, number_of(before))
    for n in range(found.count):
        m = <Py_ssize_t> ranks[n]
        values_by_rank[m], ids_by_rank[m] = found.value[n], found.id[n]
    memcpy(value, values_by_rank, k * sizeof(real))
    memcpy(id, ids_by_rank, k * sizeof(int64_t))


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
    cdef Found found
    cdef real limit = -INFINITY
    cdef Py_ssize_t c = 0
    cdef Py_ssize_t n
    cdef real number
    cdef int64_t number_id
    if not batch.columns:
        limit = find_limit(batch, number_at(batch, x, row, 0), k, value, id)
        if limit > -INFINITY:
            find_above(batch, number_at(batch, x, row, 0), limit, &found)
            if k <= found.count <= MOST_FOUND:
                put_in_order(&found, k, value, id)
                return
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
