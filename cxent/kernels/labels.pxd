"""Class indices: one label a row, of any integer dtype, and the numbers of a batch at them."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .batch cimport MOST_ROWS, NATIVE, Batch, Block, Rows, number_at, row_at
from .conversion cimport store_as
from .simd cimport (
    HALVES, W, any_of, broadcast, broadcast_longs, equal, flattened, load, load_labels, load_longs, longs, real, select,
    store, vec,
)
from .values cimport Values, distance_of, value_at

cdef enum:
    MOST_COMPARED = 16        # up to so many classes, a label is found by comparing it with each

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


cdef inline bint are_compared(const Batch* batch) noexcept nogil:
    """Whether a vector of rows finds its labels sooner by comparing them with every class than one by one."""
    return batch.columns and batch.classes <= MOST_COMPARED


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


cdef inline void take_at_labels(const Batch* batch, Block block, const int64_t* label, real* x) noexcept nogil:
    """x = the number of each row at its label."""
    cdef Py_ssize_t group, r, c
    cdef vec here, number
    if are_compared(batch):
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


cdef inline flattened find_outside(const int64_t* label, Py_ssize_t n, uint64_t last, uint64_t* outside) noexcept nogil:
    """Set the sign bit of `outside` if one of the labels is not in 0..last."""
    cdef longs limit = broadcast_longs(last)
    cdef longs seen = broadcast_longs(0)
    cdef Py_ssize_t vectors = n // (W // HALVES)
    cdef Py_ssize_t k
    for k in range(vectors):    # one of the two has the sign bit
        seen |= load_longs(label + k * (W // HALVES)) | (limit - load_longs(label + k * (W // HALVES)))
    for k in range(vectors * (W // HALVES), n):
        outside[0] |= <uint64_t> label[k] | (last - <uint64_t> label[k])
    outside[0] |= any_of(seen)


cdef inline bint are_in_range(const Labels* labels, Py_ssize_t outer, Py_ssize_t inner,
                              Py_ssize_t classes) noexcept nogil:
    """Whether every label but the ignored is in 0..classes-1."""
    cdef int64_t copy[MOST_ROWS]
    cdef const int64_t* label = copy
    cdef const char* start
    cdef uint64_t outside = 0
    cdef Py_ssize_t run_stride = labels.at.outer_stride
    cdef Py_ssize_t stride = labels.at.inner_stride
    cdef Py_ssize_t i, k, r, n
    cdef bint is_direct
    if outer > inner:   # the longer ones are the runs
        outer, inner, run_stride, stride = inner, outer, stride, run_stride
    is_direct = (labels.dtype == INT64 and stride == sizeof(int64_t) and not labels.ignoring
                 and (<size_t> labels.at.origin | <size_t> run_stride) % sizeof(int64_t) == 0)
    for i in range(outer):
        for k in range(0, inner, 256):  # MOST_ROWS
            n = min(inner - k, <Py_ssize_t> MOST_ROWS)
            start = labels.at.origin + i * run_stride + k * stride
            if is_direct:
                label = <const int64_t*> start
            else:
                copy_labels(labels.dtype, start, stride, copy, n)
            for r in range(n if labels.ignoring else 0):
                copy[r] = 0 if copy[r] == labels.ignored else copy[r]
            find_outside(label, n, classes - 1, &outside)
    return outside >> 63 == 0
