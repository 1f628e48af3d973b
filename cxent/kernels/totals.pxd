"""The total of the losses of all rows, in float64."""

from .batch cimport Batch
from .simd cimport HALVES, W, load_wide, store_wide, wide
from .sums cimport add_number, add_wide

cdef enum:
    TOTALS = 64     # totals of every 64th row's losses; added at the end

cdef struct Total:
    double value[TOTALS]
    double lost[TOTALS]         # what rounding has taken from it


cdef inline void add_loss(double loss, Py_ssize_t row, Total* total) noexcept nogil:
    """Add the loss of a row to one of the totals, which its number says: where batches begin depends on the memory."""
    add_number(loss, &total.value[row % TOTALS], &total.lost[row % TOTALS])


cdef inline void add_losses(const Batch* batch, double* loss, Total* total) noexcept nogil:
    """The same of a batch; loss has room for W more rows."""
    cdef Py_ssize_t first = batch.first % TOTALS
    cdef Py_ssize_t at_once = W // HALVES
    cdef Py_ssize_t lane, r, k
    cdef wide value, lost
    for k in range(W):
        loss[batch.rows + k] = 0
    r = 0
    while r < batch.rows:
        lane = (first + r) % TOTALS
        if lane + at_once > TOTALS:
            add_number(loss[r], &total.value[lane], &total.lost[lane])
            r += 1
            continue
        value = load_wide(&total.value[lane])
        lost = load_wide(&total.lost[lane])
        add_wide(load_wide(loss + r), &value, &lost)
        store_wide(&total.value[lane], value)
        store_wide(&total.lost[lane], lost)
        r += at_once


cdef inline double sum_of(const Batch* batch, const Total* total) noexcept nogil:
    cdef double value = 0
    cdef double lost = 0
    cdef Py_ssize_t k
    for k in range(min(<Py_ssize_t> TOTALS, batch.total)):
        add_number(total.value[k], &value, &lost)
        if total.value[k] - total.value[k] == 0:    # beyond the largest number, what is lost is inf - inf
            lost += total.lost[k]
    return value + lost if value - value == 0 else value


cdef inline double sum_of_parts(const double* sums, int parts) noexcept nogil:
    cdef double value = 0
    cdef double lost = 0
    cdef int part
    for part in range(parts):
        add_number(sums[part], &value, &lost)
    return value + lost if value - value == 0 else value
