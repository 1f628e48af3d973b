"""The order of every sum: lanes, totals with compensation, and the tree in which the lanes of a row are folded.

A row's numbers are added in LANES lanes, as many as 64 bytes hold, whatever a vector holds; lane k takes the numbers
k, k + LANES, and so on. Two numbers of a lane are added, and then their sum to the lane's total with compensation.
Lanes are folded pairwise: k and k + LANES / 2, then the quarters, to one. A row that is a column of a tile has one
lane, and nothing to fold. The error of a sum of terms of one sign is below 1 ulp of it plus 1 of its largest two
terms', however long the row.

Tried: twice as many lanes, 0.95 to 1.1 of the speed; four numbers between two additions to a total, 1 to 3 % faster,
and one rounding more beside a large probability (4.7 ulp instead of 4.0); totals in float64 for float32, another
mechanism; lanes folded without compensation, 5.7 ulp off where a probability is just below 1; the lanes of 16 rows
transposed and folded at once, 0.93 of the speed at 1,000 classes on AVX-512, where a batch has fewer.
"""

from .simd cimport VECTORS, W, broadcast, equal, fma, maximum, real, select, swap_pieces, vec, wide

cdef struct Sum:
    vec total
    vec lost        # what rounding has taken from it


cdef inline void add(Sum* sum, vec term) noexcept nogil:
    """Add a term (Dekker's two-sum, exact if the total is larger than the term, which soon it is)."""
    cdef vec total = sum.total + term
    sum.lost = sum.lost + (term - (total - sum.total))
    sum.total = total


cdef inline void add_to(real* total, real* lost, real term) noexcept nogil:
    """The same of one number."""
    cdef real sum = total[0] + term
    lost[0] = lost[0] + (term - (sum - total[0]))
    total[0] = sum


cdef inline Sum two_sum(vec a, vec b) noexcept nogil:
    """a + b, and exactly what rounding takes from it (Knuth's: whichever is larger)."""
    cdef vec total = a + b
    cdef vec added = total - a
    return Sum(total, (a - (total - added)) + (b - added))


cdef inline void add_sum(Sum* a, Sum b) noexcept nogil:
    """Add a sum to a."""
    cdef Sum sum = two_sum(a.total, b.total)
    a.lost = (a.lost + b.lost) + sum.lost
    a.total = sum.total


cdef inline vec value_of(Sum sum) noexcept nogil:
    """The sum as one number. Where it is infinite, what is lost is NaN."""
    cdef vec difference = sum.total - sum.total
    return select(equal(difference, difference), sum.total + sum.lost, sum.total)


cdef inline Sum fold_sums(Sum* lanes) noexcept nogil:
    """The sum of a row's lanes, those of VECTORS vectors: in every lane of one."""
    cdef Py_ssize_t half = VECTORS // 2
    cdef Py_ssize_t k
    while half > 0:
        for k in range(half):
            add_sum(&lanes[k], lanes[k + half])
        half //= 2
    half = W // 2
    while half > 0:
        add_sum(&lanes[0], Sum(swap_pieces(lanes[0].total, half), swap_pieces(lanes[0].lost, half)))
        half //= 2
    return lanes[0]


cdef struct Reciprocal:     # in two parts: e / sum(e) is then 1 where e is the sum, and 1/2 where it is half of it
    vec value
    vec correction


cdef inline Reciprocal reciprocal_of(vec total, vec lost) noexcept nogil:
    """1 / (total + lost); lost is what the total, the nearest number, lacks."""
    cdef vec value = broadcast(1) / total
    return Reciprocal(value, value * fma(-value, lost, fma(-value, total, broadcast(1))))


cdef inline vec divided(vec x, vec value, vec correction) noexcept nogil:
    """x times a reciprocal."""
    return fma(x, value, x * correction)


cdef inline vec sum_of_lanes(vec x) noexcept nogil:
    """Of integers: in every lane."""
    cdef Py_ssize_t half = W // 2
    while half > 0:
        x = x + swap_pieces(x, half)
        half //= 2
    return x


cdef inline vec max_of_lanes(vec x) noexcept nogil:
    cdef Py_ssize_t half = W // 2
    while half > 0:
        x = maximum(x, swap_pieces(x, half))
        half //= 2
    return x


cdef inline vec fold_maxima(const vec* lanes) noexcept nogil:
    """The largest of a row's lanes: in every lane."""
    cdef vec largest = lanes[0]
    cdef Py_ssize_t k
    for k in range(1, VECTORS):
        largest = maximum(largest, lanes[k])
    return max_of_lanes(largest)


cdef inline void add_wide(wide number, wide* value, wide* lost) noexcept nogil:
    """Add a number to a total in float64, likewise."""
    cdef wide sum = value[0] + number
    cdef wide added = sum - value[0]
    lost[0] = lost[0] + ((value[0] - (sum - added)) + (number - added))
    value[0] = sum


cdef inline void add_number(double number, double* value, double* lost) noexcept nogil:
    """The same of one number."""
    cdef double sum = value[0] + number
    cdef double added = sum - value[0]
    lost[0] += (value[0] - (sum - added)) + (number - added)
    value[0] = sum
