"""Which rows are computed together, and where they are.

A batch of rows is computed in one of two forms, and every loop over its numbers runs in strips and steps of them:

    form       rows of                       a strip is        a step is              vectors run over
    columns    up to SHORT classes, or up    LANES rows        one class of them      rows
               to MIDDLING side by side
    rows       more                          one row           LANES classes of it    classes

Rows of an array are used where they are if they are rows of this dtype without gaps. Otherwise they are brought to a
tile (`tiles.pxd`). The form depends on the number of classes alone, and on whether rows lie side by side: so do the
bits.

Tried on AVX2: columns for up to 300 classes, 0.9 of the speed at 257; rows from 65 classes on, 0.85 at 100; batches of
at most 64 rows, 0.88 at 3 classes; COLUMNS_BYTES half or twice as large, 0.95 to 1.02. Of many classes whose rows lie
side by side, 16 rows a batch have 0.45 to 0.7 of the speed that 64 have, 128 have 0.8 to 1.0. Kernels with options of
one row at a time, not up to 16: 0.4 to 0.65 at 128 classes, 0.55 to 0.8 at 257, 0.8 to 0.9 at 1,000, for what follows
from a row's sums costs as much as a hundred exponentials. On AVX-512: columns of 128 classes, 0.75 to 0.85, and of 112,
0.85 to 1.0, for rows of whole steps have no tail; from 116 to 127 classes columns have 1.1 of the speed in the caches.
"""

from libc.stdint cimport uint16_t
from libc.string cimport memset

from .simd cimport LANES, W, real

cdef enum:
    MOST_ROWS = 256         # of a batch: a number for each row fits an array of so many
    MOST_IN_ROWS = 16       # of a batch in rows
    SHORT = 127             # up to so many classes, rows are transposed to columns
    MIDDLING = 4096         # up to so many, rows that lie side by side stay columns
    CACHED_BYTES = 1 << 20  # arrays up to this size are in a cache that is near
    COLUMNS_BYTES = 16384   # of the rows that are computed together, if they are not few or long:
    ROWS_BYTES = 12288

cdef enum Storage:
    NATIVE                  # this module's dtype
    FLOAT16
    BFLOAT16
    BOOLEAN

cdef struct Batch:
    Py_ssize_t classes
    Py_ssize_t inner
    Py_ssize_t total        # rows of the array
    bint columns            # the form
    Py_ssize_t capacity     # rows of a full batch
    Py_ssize_t lead         # rows by which the first batch is smaller
    Py_ssize_t end          # of the rows that are computed now
    Py_ssize_t first        # the first row of this batch
    Py_ssize_t rows         # in this batch
    Py_ssize_t strips       # of this batch
    Py_ssize_t steps        # whole ones of a strip
    Py_ssize_t tail         # classes that do not fill the last step

cdef struct Rows:           # the rows of an array
    char* origin            # NULL if there is no such array
    Storage storage
    Py_ssize_t itemsize     # of a number in the array
    Py_ssize_t outer_stride  # in bytes, as all strides here
    Py_ssize_t class_stride
    Py_ssize_t inner_stride
    bint direct             # used where they are; else from a tile
    bint streamed           # written past the caches
    real* tile
    real* spare             # the tile's stand-in while results in it wait to be written

cdef struct Block:          # the numbers of a batch
    real* start
    Py_ssize_t strip        # numbers from one strip to the next
    Py_ssize_t step         # numbers from one step to the next


cdef inline Py_ssize_t size_of(Storage storage) noexcept nogil:
    return 1 if storage == BOOLEAN else sizeof(uint16_t) if storage != NATIVE else sizeof(real)


cdef inline Batch batch_of(Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner) noexcept nogil:
    cdef Batch batch
    cdef Py_ssize_t row_bytes = max(classes, 1) * <Py_ssize_t> sizeof(real)
    batch.classes = classes
    batch.inner = inner
    batch.total = batch.end = outer * inner
    batch.columns = classes <= SHORT or (inner > 1 and classes <= MIDDLING)
    if batch.columns:
        # (Of rows side by side, four cache lines of a class at least: memory likes no shorter runs.)
        batch.capacity = max(4 * LANES if inner > 1 else LANES,
                             min(MOST_ROWS, COLUMNS_BYTES // row_bytes // LANES * LANES))
        batch.capacity = min(batch.capacity, (max(batch.total, 1) + LANES - 1) // LANES * LANES)
        batch.steps, batch.tail = classes, 0
    else:
        batch.capacity = MOST_IN_ROWS if inner > 1 else max(1, min(MOST_IN_ROWS, ROWS_BYTES // row_bytes))
        batch.capacity = min(batch.capacity, max(batch.total, 1))
        batch.steps, batch.tail = classes // LANES, classes % LANES
    batch.lead = batch.first = batch.rows = batch.strips = 0
    return batch


cdef inline bint next_batch(Batch* batch) noexcept nogil:
    batch.first += batch.rows
    batch.rows = min(batch.capacity - batch.lead, batch.end - batch.first)
    batch.strips = (batch.rows + LANES - 1) // LANES if batch.columns else batch.rows
    batch.lead = 0
    return batch.rows > 0


cdef inline Py_ssize_t padded_rows(const Batch* batch) noexcept nogil:
    """How many numbers an array of one for each row of a batch holds: whole vectors of any width."""
    return (batch.capacity + LANES - 1) // LANES * LANES


cdef inline char* address(const Batch* batch, const char* origin, Py_ssize_t outer_stride, Py_ssize_t inner_stride,
                          Py_ssize_t row) noexcept nogil:
    """Where a row starts, or a number that belongs to it."""
    if batch.inner == 1:
        return <char*> origin + row * outer_stride
    return <char*> origin + row // batch.inner * outer_stride + row % batch.inner * inner_stride


cdef inline Rows no_rows() noexcept nogil:
    cdef Rows rows
    memset(&rows, 0, sizeof(Rows))
    return rows


cdef inline bint are_native_rows(const Batch* batch, const Rows* rows) noexcept nogil:
    """Whether all are rows of this dtype without gaps."""
    return (batch.inner == 1 and rows.storage == NATIVE and rows.class_stride == rows.itemsize
            and rows.outer_stride % rows.itemsize == 0)


cdef inline Rows rows_at(const Batch* batch, const void* origin, Py_ssize_t outer_stride, Py_ssize_t class_stride,
                         Py_ssize_t inner_stride, Storage storage) noexcept nogil:
    cdef Rows rows = no_rows()
    rows.origin = <char*> origin
    rows.storage = storage
    rows.itemsize = size_of(storage)
    rows.outer_stride = outer_stride
    rows.class_stride = class_stride
    rows.inner_stride = inner_stride
    rows.direct = not batch.columns and are_native_rows(batch, &rows)
    return rows


cdef inline bint are_adjacent(const Batch* batch, const Rows* rows) noexcept nogil:
    """Whether all rows are one block of memory, row by row."""
    return (batch.inner == 1 and rows.class_stride == rows.itemsize
            and rows.outer_stride == batch.classes * rows.itemsize)


cdef inline bint are_lines(const Batch* batch, const Rows* rows) noexcept nogil:
    """Whether the columns of this batch are rows without gaps in the array."""
    return batch.columns and batch.inner == 1 and rows.class_stride == rows.itemsize


cdef inline bint leave_columns_empty(const Batch* batch, const Rows* rows) noexcept nogil:
    """Whether an array of this dtype has so few rows that most columns have none."""
    return are_lines(batch, rows) and rows.storage == NATIVE and batch.total <= W // 4


cdef inline char* row_at(const Batch* batch, const Rows* rows, Py_ssize_t row) noexcept nogil:
    """Where a row of the array starts."""
    return address(batch, rows.origin, rows.outer_stride, rows.inner_stride, row)


cdef inline bint is_far(const Batch* batch, const Rows* rows) noexcept nogil:
    """Whether the array is larger than a cache that is near."""
    return batch.total * batch.classes * rows.itemsize > CACHED_BYTES


cdef inline Block block_at(const Batch* batch, real* start, Py_ssize_t pitch) noexcept nogil:
    """A block whose rows (in the form of columns: classes) are `pitch` numbers apart."""
    if batch.columns:
        return Block(start, LANES, pitch)
    return Block(start, pitch, LANES)


cdef inline Block block_of(const Batch* batch, const Rows* rows) noexcept nogil:
    """Where the numbers of this batch are, or come to be: in the array, or in the tile."""
    if rows.direct:
        return block_at(batch, <real*> (rows.origin + batch.first * rows.outer_stride),
                        rows.outer_stride // <Py_ssize_t> sizeof(real))
    return block_at(batch, rows.tile, batch.capacity if batch.columns else batch.classes)


cdef inline real* number_at(const Batch* batch, Block block, Py_ssize_t row, Py_ssize_t c) noexcept nogil:
    """Class c of a row of the batch."""
    return block.start + (row + c * block.step if batch.columns else row * block.strip + c)
