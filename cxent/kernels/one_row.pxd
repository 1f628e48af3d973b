"""Rows one at a time, where they are: what the kernels of such rows share.

A kernel reads as maximum, sums, factors, results. The maximum of a row is found beside the exponentials of the one
before, which keep the CPU's arithmetic busy and its memory idle.

A few short rows are computed so too, where they would fill a vector of columns in part. Their sums are added in the
order of columns: the bits of a row are the same in any batch.

Tried on a Zen 3, 128 to 2,000 classes: results of log_softmax, softmax and gradients written a row later, so that
nothing waits for what follows from a sum, 0.95 to 1.02 of the speed; the scale of the next row and the largest of its
exponentials found before what follows from this one's sum, 0.92 to 1.05; one copy of the loop for all kernels, 0.83 to
0.95 for gradients and softmax at 128 classes, and a twentieth of the wheel.
"""

from .batch cimport SHORT, Batch, are_native_rows, is_far, row_at
from .call cimport Call
from .losses cimport Exponentials
from .masks cimport hide_run, is_empty, is_mask_of_lines
from .math cimport INFINITY, Scale, exponential, number_of, scale_of, shift_of
from .maxima cimport max_of_row
from .reduce cimport Lanes, Numbers, fold_counts, sum_in_order_of_columns, sum_row
from .simd cimport (
    LANES, W, bits, broadcast, broadcast_bits, flattened, load_first, maximum, real, scalar, store, store_first, vec,
)
from .sums cimport Sum, fold_maxima, fold_sums, max_of_lanes, sum_of_lanes, value_of
from .terms cimport SUMEXP_M1, Terms, compute_terms

cdef enum:
    MOST_SHORT_ROWS = W // 2       # so many short ones are sooner computed one by one
    LEAST_CLASSES = 16      # of a row

cdef struct Row:
    const real* x
    real* out               # NULL, if no result has its shape
    Py_ssize_t number       # in the array
    vec m                   # its largest number,
    Scale scale             # the scale of its exponentials,
    vec next_m              # and the largest number of the next
    bint is_empty           # the mask leaves nothing of it
    bint is_far             # the array is larger than a cache that is near
    bint is_short           # in a batch of this many classes rows are columns
    Batch form              # of a row


cdef inline bint are_short_rows_alone(const Batch* batch) noexcept nogil:
    return batch.columns and batch.total <= MOST_SHORT_ROWS and batch.classes >= LEAST_CLASSES


cdef inline bint are_alone(const Call* call) noexcept nogil:
    """Whether rows are to be computed one at a time: they are long, or few, and used where they are, or hidden so."""
    return ((not call.batch.columns or are_short_rows_alone(&call.batch)) and call.loss.temperature == 1
            and (call.mask.origin == NULL or is_mask_of_lines(call)) and are_native_rows(&call.batch, &call.x)
            and (call.out.origin == NULL or are_native_rows(&call.batch, &call.out)))


cdef inline flattened begin_rows(Call* call, Row* row) noexcept nogil:
    """Take all rows that are left of this part."""
    call.batch.rows = call.batch.end - call.batch.first
    row.form = call.batch
    row.form.columns = False
    row.form.steps, row.form.tail = call.batch.classes // LANES, call.batch.classes % LANES
    row.is_short = call.batch.columns
    row.is_far = is_far(&call.batch, &call.x)
    row.out = NULL
    row.is_empty = False
    call.present = -1
    row.next_m = broadcast(0)
    row.number = call.batch.first - 1
    if call.next.found > 0 and call.next.first == call.batch.first:
        row.next_m = broadcast(call.next.largest[0])
    elif call.mask.origin == NULL:
        row.next_m = max_of_row(&row.form, <const real*> row_at(&call.batch, &call.x, call.batch.first))


cdef inline void hide_row(Call* call, Row* row) noexcept nogil:
    """The row in the tile, -inf where the mask is not set. Of an empty one m is 0: so its exponentials are 0."""
    cdef vec largest
    hide_run(row.x, row_at(&call.batch, &call.mask, row.number), call.batch.classes, call.x.tile, &largest,
             &call.present)
    row.m = max_of_lanes(largest)
    row.x = call.x.tile
    row.is_empty = scalar(row.m) == -INFINITY and is_empty(call, row.number - call.batch.first)
    if row.is_empty:
        row.m = broadcast(0)


cdef inline bint next_row(Call* call, Row* row) noexcept nogil:
    cdef vec shift
    row.number += 1
    if row.number == call.batch.end:    # (the next part may have that row)
        call.next.first, call.next.largest[0] = row.number, scalar(row.next_m)
        call.next.found = row.number < call.next.end
        return False
    row.x = <const real*> row_at(&call.batch, &call.x, row.number)
    if call.out.origin != NULL:
        row.out = <real*> row_at(&call.batch, &call.out, row.number)
    row.m = row.next_m
    if call.mask.origin != NULL:
        hide_row(call, row)
    shift = shift_of(row.m)
    row.scale = scale_of(row.m, shift)
    return True


cdef inline vec exponential_in(const Row* row, vec x) noexcept nogil:
    return exponential(x - row.scale.shift, row.scale.lowest, row.scale.magic)


cdef inline Exponentials exponentials_of(Terms terms, vec largest, Sum sum, vec maxima) noexcept nogil:
    cdef vec total = value_of(sum)
    return Exponentials(largest, maxima, total, sum.lost - (total - sum.total))


cdef inline Exponentials sum_of_short_row(Terms terms, bint kept, Row* row, const real* next,
                                          vec largest) noexcept nogil:
    cdef real numbers[SHORT + 1]
    cdef vec lowest = broadcast(-INFINITY)
    cdef vec next_m = lowest
    cdef bits maxima = broadcast_bits(0)
    cdef vec e
    cdef vec t[2]
    cdef Py_ssize_t classes = row.form.classes
    cdef Py_ssize_t group, k
    for group in range((classes + W - 1) // W):
        k = group * W
        next_m = maximum(load_first(next + k, classes - k, lowest), next_m)
        e = exponential_in(row, load_first(row.x + k, classes - k, lowest))
        if kept:
            store_first(row.out + k, e, classes - k)
        compute_terms(terms, e, lowest, lowest, largest, lowest, t, &maxima)
        store(numbers + k, t[0])
    row.next_m = max_of_lanes(next_m)
    return exponentials_of(terms, largest, sum_in_order_of_columns(numbers, classes), sum_of_lanes(number_of(maxima)))


cdef inline Exponentials sum_of_row(Terms terms, bint kept, const Call* call, Row* row) noexcept nogil:
    """The sum of a row's exponentials, or of all but the largest; they go to `out`, if they are kept."""
    cdef Lanes lanes
    cdef Numbers numbers
    cdef const real* next = row.x
    cdef vec largest = exponential_in(row, row.m)
    if row.number + 1 < call.next.end:
        next = <const real*> row_at(&call.batch, &call.x, row.number + 1)
    if row.is_short:
        return sum_of_short_row(terms, kept, row, next, largest)
    numbers = Numbers(row.x, NULL, NULL, LANES, 0, 1, row.scale.lowest, row.scale.magic, row.out,
                      LANES if kept else 0, next, row.is_far, NULL)
    if row.is_far and row.out != NULL:  # (the results of the next row, or where this one's come to be)
        numbers.next_out = row.out + (call.batch.classes if kept else 0)
    sum_row(terms, &row.form, numbers, row.scale.shift, largest, &lanes)
    row.next_m = fold_maxima(&lanes.largest[0])
    return exponentials_of(terms, largest, fold_sums(&lanes.sums[0]),
                           fold_counts(&row.form, &lanes) if terms == SUMEXP_M1 else largest)


cdef inline flattened sum_m1_of_row(const Call* call, Row* row, Exponentials* e) noexcept nogil:
    """That of all exponentials but the largest, which are not kept. (Called by several kernels, and compiled once.)"""
    e[0] = sum_of_row(SUMEXP_M1, False, call, row)
