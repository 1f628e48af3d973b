"""The k largest numbers of a row, in their order.

They are at least as large as the k-th of the largest in its parts. What is below that limit is passed over, a stretch
at a time, so that a row costs little more than a look at it, and never a sort. What is not is kept, and whenever that
is much, its first k alone, the last of which is the new limit. They are put in order by ranks: of each number, how many
come before it, which needs no branch that a CPU could mistake. If many are wanted, a heap takes them. Of rows in
columns, a few rounds over all classes find one after the other, in many rows at once.

No order of a row is to make the limit low. So a part takes steps from all over it; and a heap that has no limit is
offered a column's numbers in no order.

Tried: a heap for all, 0.3 to 0.5 of the speed at 257 to 1,000 classes, for half of its branches were mistaken; parts
that are runs of a row, 20 to 50 times as slow where a long row ascends.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from .batch cimport Batch, Block, number_at
from .math cimport INFINITY, NAN, number_of
from .simd cimport (
    LANES, VECTORS, W, at_least, bits, broadcast, broadcast_bits, count, equal, greater, lanes_of, load, load_first,
    lowest, mask, maximum, real, scalar, select, store, vec,
)
from .sums cimport fold_maxima

cdef enum:
    STRETCH = 4 * LANES     # classes that are passed over at once
    MOST_ROUNDS = 16         # of more largest numbers in columns, a heap of each row is sooner found
    MOST_RANKED = 128       # of a row, of whose largest numbers the k-th is found by ranks
    MOST_FOUND = 128        # numbers above it that are kept, and put in order by their ranks

cdef extern from * nogil:
    const int64_t AFTER_ALL "INT64_MAX"     # an id that comes after all others


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
    return -scalar(fold_maxima(least_negated))


cdef inline bint fits_ranks(Py_ssize_t k) noexcept nogil:
    """Whether the k-th of twice as many numbers is found by ranks."""
    return 2 * k // LANES * LANES + LANES <= MOST_RANKED


cdef inline real find_limit(const Batch* batch, const real* start, Py_ssize_t k, real* value,
                            int64_t* id) noexcept nogil:
    """A number that at least k of the row are not below: the k-th of the largest in 2 k parts of it, where these have
    two classes or more. Of many, value and id become a heap.
    """
    cdef real maxima[MOST_RANKED]
    cdef real* at = maxima
    cdef Py_ssize_t parts = 2 * k // LANES + 1      # in each lane: of the steps, every so many
    cdef Py_ssize_t steps = batch.steps // parts
    cdef vec largest[VECTORS]
    cdef Py_ssize_t part, v, n, lane
    if not fits_ranks(k):
        begin_heap(-INFINITY, k, value, id)
    for part in range(parts if steps > 1 else 0):
        for v in range(VECTORS):
            largest[v] = broadcast(-INFINITY)
        for n in range(steps):
            for v in range(VECTORS):
                largest[v] = maximum(load(start + (part + n * parts) * LANES + v * W), largest[v])
        for v in range(VECTORS):
            store(at + v * W, largest[v])
        if fits_ranks(k):
            at += LANES
        else:
            for lane in range(LANES):
                offer(at[lane], part, k, value, id)
    if not fits_ranks(k):
        return value[0]
    if steps > 1:
        return kth_largest(maxima, at - maxima, k)
    return -INFINITY


cdef struct Found:              # numbers of a row, not below the limit, and their classes, in the order of these
    real value[MOST_FOUND + LANES]
    int64_t id[MOST_FOUND + LANES]
    Py_ssize_t count
    real limit
    bint filled                 # as many as are wanted are not below it: others must be larger


cdef inline void keep_first(Py_ssize_t k, Found* found) noexcept nogil:
    """Of the numbers found so far, the k that come before the others, still in the order of their classes."""
    cdef Py_ssize_t larger = 0
    cdef Py_ssize_t kept = 0
    cdef Py_ssize_t equal_ones = 0
    cdef Py_ssize_t whole = (found.count + LANES - 1) // LANES * LANES
    cdef Py_ssize_t n
    cdef bint at_limit
    for n in range(found.count, whole):
        found.value[n] = -INFINITY
    found.limit = kth_largest(found.value, whole, k)
    for n in range(found.count):
        larger += found.value[n] > found.limit
    for n in range(found.count):
        at_limit = found.value[n] == found.limit
        found.value[kept], found.id[kept] = found.value[n], found.id[n]
        kept += (found.value[n] > found.limit) | (at_limit & (larger + equal_ones < k))
        equal_ones += at_limit
    found.count = kept
    found.filled = True


cdef inline mask chosen_of(vec number, const Found* found) noexcept nogil:
    if found.filled:
        return greater(number, broadcast(found.limit))
    return at_least(number, broadcast(found.limit))


cdef inline void find_in_vector(const real* x, vec number, int64_t first, Py_ssize_t k, Found* found) noexcept nogil:
    cdef unsigned int lanes = lanes_of(chosen_of(number, found))
    cdef int lane
    while lanes != 0:
        lane = lowest(lanes)
        found.value[found.count], found.id[found.count] = x[lane], first + lane
        found.count += 1
        lanes &= lanes - 1
    if found.count > min(<Py_ssize_t> MOST_FOUND, 2 * k + 2 * LANES):
        keep_first(k, found)


cdef inline void find_above(const Batch* batch, const real* x, real limit, Py_ssize_t k, Found* found) noexcept nogil:
    """The first k of a row, and some others; NaN is left out."""
    cdef vec nothing = broadcast(NAN)
    cdef vec largest
    cdef Py_ssize_t c = 0
    cdef Py_ssize_t v
    found.count, found.limit, found.filled = 0, limit, False
    while c + STRETCH <= batch.classes:
        largest = load(x + c)
        for v in range(1, STRETCH // W):
            largest = maximum(load(x + c + v * W), largest)
        if lanes_of(chosen_of(largest, found)) != 0:
            for v in range(STRETCH // W):
                find_in_vector(x + c + v * W, load(x + c + v * W), c + v * W, k, found)
        c += STRETCH
    while c < batch.classes:
        find_in_vector(x + c, load_first(x + c, batch.classes - c, nothing), c, k, found)
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


cdef inline void put_heap_in_order(Py_ssize_t k, real* value, int64_t* id) noexcept nogil:
    """The last of the heap to its end, one after the other."""
    cdef Py_ssize_t n
    cdef real number
    cdef int64_t number_id
    for n in range(k - 1, 0, -1):
        number, number_id = value[n], id[n]
        value[n], id[n] = value[0], id[0]
        sift(value, id, n, 0, number, number_id)


cdef inline void choose_in_row(const Batch* batch, const real* x, Py_ssize_t k, real* value,
                               int64_t* id) noexcept nogil:
    """The k largest numbers of a row in descending order, and their classes: of equal ones, the lower class first."""
    cdef Found found
    cdef Py_ssize_t c = 0
    cdef real limit = find_limit(batch, x, k, value, id)
    if fits_ranks(k):
        find_above(batch, x, limit, k, &found)
        if k <= found.count:    # (else there is NaN)
            put_in_order(&found, k, value, id)
        return
    begin_heap(limit, k, value, id)
    while c + STRETCH <= batch.classes:
        offer_stretch(x + c, c, k, value, id)
        c += STRETCH
    while c < batch.classes:
        offer(x[c], c, k, value, id)
        c += 1
    put_heap_in_order(k, value, id)


cdef inline Py_ssize_t coprime_stride(Py_ssize_t n) noexcept nogil:
    """A number below n without a common factor, near its golden section: steps of it go everywhere, in no order."""
    cdef Py_ssize_t stride = n * 5 // 8
    cdef Py_ssize_t a, b
    while True:
        a, b = n, stride
        while b != 0:
            a, b = b, a % b
        if a == 1:
            return stride
        stride += 1


cdef inline void choose_in_column(const Batch* batch, Block x, Py_ssize_t row, Py_ssize_t k, real* value,
                                  int64_t* id) noexcept nogil:
    """The same of one row that is a column."""
    cdef Py_ssize_t stride = coprime_stride(batch.classes)
    cdef Py_ssize_t c = 0
    cdef Py_ssize_t _n
    begin_heap(-INFINITY, k, value, id)
    for _n in range(batch.classes):
        offer(number_at(batch, x, row, c)[0], c, k, value, id)
        c = c + stride if c + stride < batch.classes else c + stride - batch.classes
    put_heap_in_order(k, value, id)


cdef inline void choose_round(const Batch* batch, const real* x, Py_ssize_t step, vec* last,
                              vec* last_id) noexcept nogil:
    """The number that comes after the last in the order of each column, and its class; -1 if there is none."""
    cdef vec nothing = broadcast(-INFINITY)
    cdef vec best = nothing
    cdef vec best_id = broadcast(-1)
    cdef vec number, id, after
    cdef Py_ssize_t c
    for c in range(batch.classes):
        number, id = load(x + c * step), broadcast(<real> c)
        after = select(greater(last[0], number), number, nothing)
        after = select(equal(last[0], number), select(greater(id, last_id[0]), number, nothing), after)
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
    cdef bint in_columns = batch.columns and k <= MOST_ROUNDS
    cdef Py_ssize_t r
    if in_columns:
        choose_in_columns(batch, x, k, value, id)
    for r in range(batch.rows if k > 0 else 0):
        if not batch.columns:
            choose_in_row(batch, number_at(batch, x, r, 0), k, value + r * k, id + r * k)
        elif not in_columns or id[r * k + k - 1] < 0:  # (classes of -inf come last, and are in no round)
            choose_in_column(batch, x, r, k, value + r * k, id + r * k)
