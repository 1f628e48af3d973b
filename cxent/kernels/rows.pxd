"""One number a row: labels, weights, results, and their totals over all rows."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .math cimport exponent_to_one
from .simd cimport (
    FLOAT64, HALVES, LANES, VECTORS, W, absolute, broadcast, broadcast_wide, equal, flattened, load, load_first,
    load_labels, load_wide, maximum, real, select, store, store_wide, vec, wide, widen,
)
from .tiles cimport MOST_ROWS, NATIVE, Batch, Block, Rows, number_at, padded_rows, row_at, store_as

cdef enum:
    TOTALS = 64     # totals of every 64th row's losses; added at the end
    FEW = 16        # up to so many classes, a label is found by comparing it with each
    LARGEST_EXPONENT = 126 + 896 * FLOAT64    # of numbers that can be doubled

cdef struct Values:             # an array of one number for each row
    char* origin                # NULL if there is none
    Py_ssize_t outer_stride     # in bytes
    Py_ssize_t inner_stride

cdef enum Integer:
    INT8
    INT16
    INT32
    INT64
    UINT8
    UINT16
    UINT32
    UINT64          # read as int64: labels from 2^63 on are then negative, and no classes either

cdef struct Labels:
    Values at
    Integer dtype
    bint ignoring
    int64_t ignored             # the label of rows that do not count

cdef struct Total:
    double value[TOTALS]
    double lost[TOTALS]         # what rounding has taken from it


cdef inline Values values_at(const void* origin, Py_ssize_t outer_stride, Py_ssize_t inner_stride) noexcept nogil:
    return Values(<char*> origin, outer_stride, inner_stride)


cdef inline char* value_at(const Batch* batch, const Values* values, Py_ssize_t row) noexcept nogil:
    """Where the value for a row of the array is."""
    if batch.inner == 1:
        return values.origin + row * values.outer_stride
    return values.origin + row // batch.inner * values.outer_stride + row % batch.inner * values.inner_stride


cdef inline Py_ssize_t distance_of(const Batch* batch, const Values* values) noexcept nogil:
    """Bytes from the value for one row of the batch to that for the next; 0 if it is not the same everywhere."""
    if batch.inner == 1:
        return values.outer_stride
    return values.inner_stride if batch.first % batch.inner + batch.rows <= batch.inner else 0


cdef inline int64_t label_at(Integer dtype, const char* p) noexcept nogil:
    if dtype == INT64 or dtype == UINT64:
        return (<const int64_t*> p)[0]
    if dtype == INT32:
        return (<const int32_t*> p)[0]
    if dtype == INT16:
        return (<const int16_t*> p)[0]
    if dtype == INT8:
        return (<const int8_t*> p)[0]
    if dtype == UINT32:
        return (<const uint32_t*> p)[0]
    return (<const uint16_t*> p)[0] if dtype == UINT16 else (<const uint8_t*> p)[0]


cdef inline void widen_labels(Integer dtype, const char* p, Py_ssize_t distance, int64_t* label,
                              Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(n):
        label[r] = label_at(dtype, p + r * distance)


cdef inline flattened copy_labels(Integer dtype, const char* p, Py_ssize_t distance, int64_t* label,
                                  Py_ssize_t n) noexcept nogil:
    """label = n labels that are `distance` bytes apart."""
    if dtype == INT64 or dtype == UINT64:
        if distance == sizeof(int64_t):
            memcpy(label, p, n * sizeof(int64_t))
        else:
            widen_labels(INT64, p, distance, label, n)
    elif dtype == INT32:
        widen_labels(INT32, p, distance, label, n)
    elif dtype == INT16:
        widen_labels(INT16, p, distance, label, n)
    elif dtype == INT8:
        widen_labels(INT8, p, distance, label, n)
    elif dtype == UINT32:
        widen_labels(UINT32, p, distance, label, n)
    elif dtype == UINT16:
        widen_labels(UINT16, p, distance, label, n)
    else:
        widen_labels(UINT8, p, distance, label, n)


cdef inline bint are_few(const Batch* batch) noexcept nogil:
    """Whether a vector of rows finds its labels sooner by comparing them with every class than one by one."""
    return batch.columns and batch.classes <= FEW


cdef inline int64_t bounded(int64_t label, Py_ssize_t classes) noexcept nogil:
    """The label, or the last class in place of one that is none.

    Labels were checked, but somebody may have changed them since: what is read again must not lead out of an array.
    """
    return <int64_t> min(<uint64_t> label, <uint64_t> (classes - 1))


cdef inline void take_labels(const Batch* batch, const Labels* labels, bint as_indices, int64_t* label) noexcept nogil:
    """The label of each row of a batch; if they are to be indices, bounded, and -1 where it is ignored."""
    cdef Py_ssize_t distance = distance_of(batch, &labels.at)
    cdef Py_ssize_t classes = batch.classes     # (a compiler cannot know that labels are not stored there)
    cdef Py_ssize_t rows = batch.rows
    cdef int64_t ignored = labels.ignored
    cdef Py_ssize_t r
    if distance != 0:
        copy_labels(labels.dtype, value_at(batch, &labels.at, batch.first), distance, label, batch.rows)
    else:
        for r in range(rows):
            label[r] = label_at(labels.dtype, value_at(batch, &labels.at, batch.first + r))
    if labels.ignoring:
        for r in range(rows):
            label[r] = -1 if label[r] == ignored else bounded(label[r], classes)
    elif as_indices:
        for r in range(rows):
            label[r] = bounded(label[r], classes)


cdef inline void take_values(const Batch* batch, const Values* values, real* x) noexcept nogil:
    cdef Py_ssize_t distance = distance_of(batch, values)
    cdef const char* start = value_at(batch, values, batch.first)
    cdef Py_ssize_t r
    for r in range(batch.rows):
        x[r] = (<const real*> (start + r * distance if distance != 0
                               else value_at(batch, values, batch.first + r)))[0]


cdef inline void put_values(const Batch* batch, const Values* values, const real* x) noexcept nogil:
    cdef Py_ssize_t distance = distance_of(batch, values)
    cdef char* start = value_at(batch, values, batch.first)
    cdef Py_ssize_t r
    for r in range(batch.rows):
        (<real*> (start + r * distance if distance != 0 else value_at(batch, values, batch.first + r)))[0] = x[r]


cdef inline void take_at_labels(const Batch* batch, Block block, const int64_t* label, real* x) noexcept nogil:
    """x = the number of each row at its label."""
    cdef Py_ssize_t group, r, c
    cdef vec here, number
    if are_few(batch):
        for group in range((batch.rows + W - 1) // W):
            r = group * W
            here = load_labels(label + r)
            number = load(block.start + r)
            for c in range(1, batch.classes):
                number = select(equal(here, broadcast(<real> c)), load(block.start + r + c * block.step), number)
            store(x + r, number)
        return
    for r in range(batch.rows):
        x[r] = number_at(batch, block, r, label[r])[0]


cdef inline void put_in_block(const Batch* batch, Block block, const int64_t* label, const real* x) noexcept nogil:
    """The inverse: the number at each label = x."""
    cdef Py_ssize_t r
    for r in range(batch.rows):
        number_at(batch, block, r, label[r])[0] = x[r]


cdef inline void put_in_array(const Batch* batch, const Rows* rows, const int64_t* label, const real* x) noexcept nogil:
    """The same in the array itself, in its dtype."""
    cdef char* start = row_at(batch, rows, batch.first)
    cdef char* p
    cdef Py_ssize_t r
    for r in range(batch.rows):
        p = start + r * rows.outer_stride if batch.inner == 1 else row_at(batch, rows, batch.first + r)
        p += label[r] * rows.class_stride
        if rows.storage == NATIVE:
            (<real*> p)[0] = x[r]
        else:
            store_as(rows.storage, p, broadcast(x[r]), 1)


cdef inline void fill(const Batch* batch, real number, real* x) noexcept nogil:
    """The same number for each row."""
    cdef Py_ssize_t r
    for r in range(padded_rows(batch)):
        x[r] = number


# --- totals over all rows ----------------------------------------------------------------------------------------

cdef inline void add_number(double number, double* value, double* lost) noexcept nogil:
    """Knuth's two-sum."""
    cdef double sum = value[0] + number
    cdef double added = sum - value[0]
    lost[0] += (value[0] - (sum - added)) + (number - added)
    value[0] = sum


cdef inline void add_loss(double loss, Py_ssize_t row, Total* total) noexcept nogil:
    """Add the loss of a row to one of the totals, which its number says: where batches begin depends on the memory."""
    add_number(loss, &total.value[row % TOTALS], &total.lost[row % TOTALS])


cdef inline void add_losses(const Batch* batch, double* loss, Total* total) noexcept nogil:
    """The same of a batch; loss has room for W more rows."""
    cdef Py_ssize_t first = batch.first % TOTALS
    cdef Py_ssize_t at_once = W // HALVES
    cdef Py_ssize_t lane, r, k
    cdef wide value, sum, added, number
    for k in range(W):
        loss[batch.rows + k] = 0
    r = 0
    while r < batch.rows:
        lane = (first + r) % TOTALS
        if lane + at_once > TOTALS:
            add_number(loss[r], &total.value[lane], &total.lost[lane])
            r += 1
            continue
        number = load_wide(loss + r)
        value = load_wide(&total.value[lane])
        sum = value + number
        added = sum - value
        store_wide(&total.lost[lane], load_wide(&total.lost[lane]) + ((value - (sum - added)) + (number - added)))
        store_wide(&total.value[lane], sum)
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


# --- whole arrays ------------------------------------------------------------------------------------------------

cdef inline bint are_in_range(const Labels* labels, Py_ssize_t outer, Py_ssize_t inner,
                              Py_ssize_t classes) noexcept nogil:
    """Whether every label but the ignored is in 0..classes-1."""
    cdef int64_t label[MOST_ROWS]
    cdef uint64_t last = classes - 1
    cdef uint64_t outside = 0
    cdef Py_ssize_t run_stride = labels.at.outer_stride
    cdef Py_ssize_t stride = labels.at.inner_stride
    cdef Py_ssize_t i, k, r, n
    if outer > inner:   # the longer ones are the runs
        outer, inner, run_stride, stride = inner, outer, stride, run_stride
    for i in range(outer):
        for k in range(0, inner, 256):  # MOST_ROWS
            n = min(inner - k, <Py_ssize_t> MOST_ROWS)
            copy_labels(labels.dtype, labels.at.origin + i * run_stride + k * stride, stride, label, n)
            for r in range(n if labels.ignoring else 0):
                label[r] = 0 if label[r] == labels.ignored else label[r]
            for r in range(n):  # one of the two has the sign bit
                outside |= <uint64_t> label[r] | (last - <uint64_t> label[r])
    return outside >> 63 == 0


cdef struct Weights:            # of the rows of an array
    Labels labels               # the origin is NULL if there are none
    Values row_weights          # likewise: then s is 1
    const real* w               # NULL if there are none: then w_y is 1
    Py_ssize_t classes
    Py_ssize_t outer
    Py_ssize_t inner


cdef inline bint take_weights(const Weights* of, Py_ssize_t i, Py_ssize_t k, double* s,
                              double* label_weight) noexcept nogil:
    """The weights s and w_y of a row; returns whether it counts."""
    cdef int64_t label = 0
    s[0] = label_weight[0] = 1
    if of.labels.at.origin != NULL:
        label = label_at(of.labels.dtype,
                         of.labels.at.origin + i * of.labels.at.outer_stride + k * of.labels.at.inner_stride)
        if of.labels.ignoring and label == of.labels.ignored:
            return False
        if of.w != NULL:
            label_weight[0] = of.w[bounded(label, of.classes)]
    if of.row_weights.origin != NULL:
        s[0] = (<const real*> (of.row_weights.origin + i * of.row_weights.outer_stride
                               + k * of.row_weights.inner_stride))[0]
    return True


cdef inline void sum_weights(const Weights* of, double row_scale, double class_scale, double* sums) noexcept nogil:
    """sums = the sums of s w_y and of s over the rows that count, in multiples of the scales, powers of 2."""
    cdef double value[16]
    cdef double lost[16]
    cdef double s, label_weight
    cdef Py_ssize_t lane = 0
    cdef Py_ssize_t i, k
    for k in range(16):
        value[k] = lost[k] = 0
    for i in range(of.outer):
        for k in range(of.inner):
            if take_weights(of, i, k, &s, &label_weight):
                s *= row_scale
                add_number(s * (label_weight * class_scale), &value[lane], &lost[lane])
                add_number(s, &value[8 + lane], &lost[8 + lane])
                lane = (lane + 1) & 7
    for k in range(1, 8):
        add_number(value[k], &value[0], &lost[0])
        add_number(value[8 + k], &value[8], &lost[8])
        lost[0] += lost[k]
        lost[8] += lost[8 + k]
    sums[0] = value[0] + lost[0] if value[0] - value[0] == 0 else value[0]
    sums[1] = value[8] + lost[8] if value[8] - value[8] == 0 else value[8]


cdef inline void find_largest_weights(const Weights* of, double* largest) noexcept nogil:
    """The largest magnitudes of s and of w_y over the rows that count."""
    cdef double s, label_weight
    cdef Py_ssize_t i, k
    largest[0] = largest[1] = 0
    for i in range(of.outer):
        for k in range(of.inner):
            if take_weights(of, i, k, &s, &label_weight):
                largest[0] = max(largest[0], s, -s)
                largest[1] = max(largest[1], label_weight, -label_weight)


cdef inline bint can_divide(double sum) noexcept nogil:
    """Whether neither its reciprocal nor that over a temperature is too large for this dtype, nor the sum for any."""
    return 9.5367431640625e-07 <= abs(sum) <= 1152921504606846976.0    # 2^-20, 2^60


cdef inline int exponent_for_products(const real* w, Py_ssize_t n) noexcept nogil:
    """k, so that the largest of w * 2^k is about 1, where it is so large or small that float32 may not have products
    with it; else 0."""
    cdef vec most = broadcast(0)
    cdef real lanes[W]
    cdef real largest = 0
    cdef Py_ssize_t k
    if FLOAT64:
        return 0
    for k in range((n + W - 1) // W):
        most = maximum(most, absolute(load_first(w + k * W, n - k * W, broadcast(0))))
    store(lanes, most)
    for k in range(W):
        largest = max(largest, lanes[k])
    return 0 if 8.673617379884035e-19 <= largest <= 1152921504606846976.0 else exponent_to_one(largest)   # 2^-60, 2^60


cdef inline bint are_finite(const real* x, Py_ssize_t n) noexcept nogil:
    cdef real zeros[W]
    cdef vec number
    cdef vec zero = broadcast(0)
    cdef Py_ssize_t k
    for k in range((n + W - 1) // W):
        number = load_first(x + k * W, n - k * W, broadcast(0))
        zero = zero + (number - number)     # NaN for what is not finite
    store(zeros, zero)
    for k in range(W):
        if zeros[k] != 0:
            return False
    return True


cdef inline double sum_of_numbers(const real* x, Py_ssize_t n) noexcept nogil:
    """In as many lanes as 64 bytes hold numbers, each with Knuth's two-sum in float64."""
    cdef double value[LANES]
    cdef double lost[LANES]
    cdef wide total[VECTORS * HALVES]
    cdef wide rest[VECTORS * HALVES]
    cdef wide number, sum, added
    cdef vec numbers
    cdef Py_ssize_t k, v, half, i
    for i in range(VECTORS * HALVES):
        total[i] = rest[i] = broadcast_wide(0)
    for k in range((n + LANES - 1) // LANES):
        for v in range(VECTORS):
            numbers = load_first(x + k * LANES + v * W, n - k * LANES - v * W, broadcast(0))
            for half in range(HALVES):
                i = v * HALVES + half
                number = widen(numbers, half)
                sum = total[i] + number
                added = sum - total[i]
                rest[i] = rest[i] + ((total[i] - (sum - added)) + (number - added))
                total[i] = sum
    for i in range(VECTORS * HALVES):
        store_wide(value + i * (W // HALVES), total[i])
        store_wide(lost + i * (W // HALVES), rest[i])
    for k in range(1, LANES):
        add_number(value[k], &value[0], &lost[0])
        lost[0] += lost[k]
    return value[0] + lost[0] if value[0] - value[0] == 0 else value[0]
