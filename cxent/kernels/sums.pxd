"""The order of every sum: lanes, totals with compensation, and the tree in which the lanes of a row are folded.

A row's numbers are added in LANES lanes, as many as 64 bytes hold, whatever a vector holds; lane k takes the numbers
k, k + LANES, and so on. Four numbers of a lane make a pair of pairs, (a + b) + (c + d), and that is added to the lane's
total with compensation. Lanes are folded pairwise: k and k + LANES / 2, then the quarters, to one. A row that is a
column of a tile has one lane, and nothing to fold. The error of a sum of terms of one sign is below 1.5 ulp of it plus
2 of its largest four terms', however long the row.

Tried: twice as many lanes, 0.95 to 1.1 of the speed; eight numbers between two additions to a total, 2 % faster, and
more roundings beside a probability just below 1; totals in float64 for float32, another mechanism; lanes folded without
compensation, 5.7 ulp off where a probability is just below 1.
"""

from .simd cimport BLOCK, W, equal, load_block, maximum, real, select, store, vec

cdef enum:
    FOLDED = 16     # rows whose lanes may be folded in one call


cdef struct Sum:
    vec total
    vec lost        # what rounding has taken from it


cdef inline void add(Sum* sum, vec term) noexcept nogil:
    """Add a term (Dekker's two-sum, exact if the total is larger than the term, which soon it is)."""
    cdef vec total = sum.total + term
    sum.lost = sum.lost + (term - (total - sum.total))
    sum.total = total


cdef inline void add_sum(Sum* a, Sum b) noexcept nogil:
    """Add a sum to a (Knuth's two-sum, exact whichever is larger)."""
    cdef vec total = a.total + b.total
    cdef vec added = total - a.total
    a.lost = (a.lost + b.lost) + ((a.total - (total - added)) + (b.total - added))
    a.total = total


cdef inline vec value_of(Sum sum) noexcept nogil:
    """The sum as one number. Where it is infinite, what is lost is NaN."""
    cdef vec difference = sum.total - sum.total
    return select(equal(difference, difference), sum.total + sum.lost, sum.total)


cdef inline void fold_halves(Sum* lanes, Py_ssize_t count) noexcept nogil:
    """Fold the second half of the lanes to the first, until one is left."""
    cdef Py_ssize_t half = count // 2
    cdef Py_ssize_t k
    while half > 0:
        for k in range(half):
            add_sum(&lanes[k], lanes[k + half])
        half //= 2


cdef inline void take_lanes(const real* lanes, vec* lane) noexcept nogil:
    """W lanes of each of W rows, as W vectors over these rows."""
    cdef Py_ssize_t k
    for k in range(W // BLOCK):
        load_block(lanes + k * BLOCK, W * sizeof(real), lane + k * BLOCK)


cdef inline void fold_sums(const real* total, const real* lost, Py_ssize_t rows, real* folded) noexcept nogil:
    """folded[r] = the sum of W lanes of row r, for up to FOLDED rows; W rows at once."""
    cdef vec totals[W]
    cdef vec losts[W]
    cdef Sum lanes[W]
    cdef Py_ssize_t group, k
    for group in range((rows + W - 1) // W):
        take_lanes(total + group * W * W, totals)
        take_lanes(lost + group * W * W, losts)
        for k in range(W):
            lanes[k] = Sum(totals[k], losts[k])
        fold_halves(lanes, W)
        store(folded + group * W, value_of(lanes[0]))


cdef inline void fold_maxima(const real* lanes, Py_ssize_t rows, real* folded) noexcept nogil:
    """folded[r] = the largest of W lanes of row r."""
    cdef vec lane[W]
    cdef Py_ssize_t group, k
    for group in range((rows + W - 1) // W):
        take_lanes(lanes + group * W * W, lane)
        for k in range(1, W):
            lane[0] = maximum(lane[0], lane[k])
        store(folded + group * W, lane[0])
