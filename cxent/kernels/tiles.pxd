"""The rows of an array in batches: where they are, or brought to a tile and back.

A batch of rows is computed in one of two forms, and every loop over its numbers runs in strips and steps of them:

    form       rows of                       a strip is        a step is              vectors run over
    columns    up to SHORT classes, or up    LANES rows        one class of them      rows
               to MIDDLING side by side
    rows       more                          one row           LANES classes of it    classes

Rows of an array are used where they are if they are rows of this dtype without gaps. Otherwise they are brought to a
tile: transposed in registers, 16 bytes of W rows at a time; copied, where rows lie side by side; number by number where
strides leave nothing better. Half precision and booleans are widened on the way, and results narrowed on the way back.
The form depends on the number of classes alone, and on whether rows lie side by side: so do the bits.

Tried on AVX2: transposing by three perfect shuffles over a whole block, half the speed; W x W numbers at a time, 0.8 of
the speed at 3 classes and 0.93 at 10; columns for up to 300 classes, 0.9 at 257; rows from 65 classes on, 0.85 at 100;
batches of at most 64 rows, 0.88 at 3 classes; COLUMNS_BYTES half or twice as large, 0.95 to 1.02. Of many classes whose
rows lie side by side, 16 rows a batch have 0.45 to 0.7 of the speed that 64 have, 128 have 0.8 to 1.0. On AVX-512:
columns of 128 classes, 0.75 to 0.85, and of 112, 0.85 to 1.0, for rows of whole steps have no tail; from 116 to 127
classes columns have 1.1 of the speed in the caches.
"""

from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

from .simd cimport (
    BLOCK, LANES, W, broadcast, flattened, load, load_bfloat16, load_block, load_booleans, load_first, load_float16,
    real, store, store_bfloat16, store_block, store_first, store_float16, vec,
)

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
        batch.steps, batch.tail = classes, 0
    else:
        batch.capacity = MOST_IN_ROWS if inner > 1 else max(1, min(MOST_IN_ROWS, ROWS_BYTES // row_bytes))
        batch.steps, batch.tail = classes // LANES, classes % LANES
    batch.capacity = min(batch.capacity, (max(batch.total, 1) + LANES - 1) // LANES * LANES)
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


cdef inline bint are_few_lines(const Batch* batch, const Rows* rows) noexcept nogil:
    """Whether an array of this dtype has so few rows that most columns have none."""
    return are_lines(batch, rows) and rows.storage == NATIVE and batch.total <= W // 4


cdef inline char* row_at(const Batch* batch, const Rows* rows, Py_ssize_t row) noexcept nogil:
    """Where a row of the array starts."""
    if batch.inner == 1:
        return rows.origin + row * rows.outer_stride
    return rows.origin + row // batch.inner * rows.outer_stride + row % batch.inner * rows.inner_stride


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


# --- numbers that are neighbours in memory, of any dtype ---------------------------------------------------------

cdef inline vec load_as(Storage storage, const char* p, Py_ssize_t n) noexcept nogil:
    """The first n numbers at p as a vector, and 0 in the place of others."""
    cdef char copy[64]
    if storage == NATIVE:
        return load_first(<const real*> p, n, broadcast(0))
    if n < W:
        memset(copy, 0, sizeof(copy))
        memcpy(copy, p, n * size_of(storage))
        p = copy
    if storage == BOOLEAN:
        return load_booleans(p)
    return load_float16(p) if storage == FLOAT16 else load_bfloat16(p)


cdef inline void store_as(Storage storage, char* p, vec x, Py_ssize_t n) noexcept nogil:
    """The first n numbers of x to p, rounded to the nearest."""
    cdef char copy[64]
    cdef char* target = p if n >= W else copy
    if storage == NATIVE:
        store_first(<real*> p, x, n)
        return
    if storage == FLOAT16:
        store_float16(target, x)
    else:
        store_bfloat16(target, x)
    if n < W:
        memcpy(p, copy, n * sizeof(uint16_t))


cdef inline void convert(Storage storage, char* p, real* x, Py_ssize_t n, bint to_tile) noexcept nogil:
    """n neighbours in the array to x, or back; `storage` is a literal."""
    cdef Py_ssize_t whole = n // W
    cdef Py_ssize_t k
    for k in range(whole):
        if to_tile:
            store(x + k * W, load_as(storage, p + k * W * size_of(storage), W))
        else:
            store_as(storage, p + k * W * size_of(storage), load(x + k * W), W)
    if n % W > 0:
        p, x, n = p + whole * W * size_of(storage), x + whole * W, n % W
        if to_tile:
            store_first(x, load_as(storage, p, n), n)
        else:
            store_as(storage, p, load_first(x, n, broadcast(0)), n)


cdef inline flattened convert_chosen(Storage storage, char* p, real* x, Py_ssize_t n, bint to_tile) noexcept nogil:
    if storage == NATIVE:
        if to_tile:
            convert(NATIVE, p, x, n, True)
        else:
            convert(NATIVE, p, x, n, False)
    elif storage == BOOLEAN:
        convert(BOOLEAN, p, x, n, True)
    elif storage == FLOAT16:
        if to_tile:
            convert(FLOAT16, p, x, n, True)
        else:
            convert(FLOAT16, p, x, n, False)
    else:
        if to_tile:
            convert(BFLOAT16, p, x, n, True)
        else:
            convert(BFLOAT16, p, x, n, False)


cdef inline void copy_run(Storage storage, char* p, real* x, Py_ssize_t n, bint to_tile) noexcept nogil:
    """n neighbours in the array to x, or back."""
    if n > 1 or storage != NATIVE:
        convert_chosen(storage, p, x, n, to_tile)
    elif to_tile:
        x[0] = (<real*> p)[0]
    else:
        (<real*> p)[0] = x[0]


cdef inline void copy_lines(Storage storage, char* lines, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t length,
                            real* x, bint to_tile) noexcept nogil:
    """Lines of the array, `stride` bytes apart, to lines without gaps, or back."""
    cdef Py_ssize_t k
    if stride == length * size_of(storage):
        copy_run(storage, lines, x, count * length, to_tile)
        return
    for k in range(count):
        copy_run(storage, lines + k * stride, x + k * length, length, to_tile)


# --- lines of numbers to columns, and back -----------------------------------------------------------------------

cdef inline Py_ssize_t whole_lines(Py_ssize_t lines, Py_ssize_t length, bint adjacent) noexcept nogil:
    """Of lines of `length` numbers, how many have BLOCK numbers from their start to the end of all."""
    if length >= BLOCK:
        return lines
    return (lines * length - BLOCK) // length + 1 if adjacent and lines * length >= BLOCK else 0


cdef inline Py_ssize_t block_start(Py_ssize_t number, Py_ssize_t length) noexcept nogil:
    """Where a block starts. The last block of a line overlaps the one before."""
    return max(<Py_ssize_t> 0, min(number * BLOCK, length - BLOCK))


cdef inline void turn_group(const char* lines, Py_ssize_t stride, Py_ssize_t length, real* columns,
                            Py_ssize_t pitch) noexcept nogil:
    """W lines, `stride` bytes apart, to columns, `pitch` numbers apart; BLOCK numbers can be read in any case."""
    cdef vec block[BLOCK]
    cdef Py_ssize_t number, c, k
    for number in range((length + BLOCK - 1) // BLOCK):
        c = block_start(number, length)
        load_block(lines + c * <Py_ssize_t> sizeof(real), stride, block)
        for k in range(BLOCK):
            if k < length:
                store(columns + (c + k) * pitch, block[k])


cdef inline void copy_few_lines(const Batch* batch, const Rows* rows, Block block, bint to_tile) noexcept nogil:
    """All lines of such an array to columns, number by number, or back. Columns without a line are like the first."""
    cdef real* line
    cdef Py_ssize_t r, c
    for r in range(batch.rows):
        line = <real*> row_at(batch, rows, r)
        for c in range(batch.classes):
            if not to_tile:
                line[c] = block.start[r + c * block.step]
            elif r == 0:
                store(block.start + c * block.step, broadcast(line[c]))
            else:
                block.start[r + c * block.step] = line[c]


cdef inline flattened turn(Storage storage, const char* lines, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t whole,
                           Py_ssize_t length, real* columns, Py_ssize_t pitch) noexcept nogil:
    """Lines to columns. The `whole` first are read where they are, if of this dtype; others are copied before."""
    cdef real copy[W * SHORT + BLOCK]
    cdef const char* start
    cdef Py_ssize_t group, present
    for group in range((count + W - 1) // W):
        start = lines + group * W * stride
        if storage == NATIVE and (group + 1) * W <= whole:
            turn_group(start, stride, length, columns + group * W, pitch)
            continue
        present = min(<Py_ssize_t> W, count - group * W)
        if present < W:
            memset(copy + present * length, 0, (W - present) * length * sizeof(real))
        copy_lines(storage, <char*> start, stride, present, length, copy, True)
        turn_group(<const char*> copy, length * sizeof(real), length, columns + group * W, pitch)


cdef inline void turn_back(Storage storage, const real* columns, Py_ssize_t pitch, char* lines, Py_ssize_t stride,
                           Py_ssize_t count, Py_ssize_t length) noexcept nogil:
    """Columns to lines of any dtype."""
    cdef real copy[W * SHORT + BLOCK]
    cdef vec block[BLOCK]
    cdef Py_ssize_t group, number, c, k
    for group in range((count + W - 1) // W):
        for number in range((length + BLOCK - 1) // BLOCK):
            c = block_start(number, length)
            for k in range(BLOCK):
                block[k] = load(columns + group * W + min(c + k, length - 1) * pitch)
            store_block(copy + c, length * sizeof(real), block)     # what goes beyond a short line is written again
        copy_lines(storage, lines + group * W * stride, stride, min(<Py_ssize_t> W, count - group * W), length, copy,
                   False)


# --- batches -----------------------------------------------------------------------------------------------------

cdef inline void copy_rows(const Batch* batch, const Rows* rows, Block block, bint to_tile) noexcept nogil:
    """The numbers of the batch from the array to a block, or back."""
    cdef Py_ssize_t itemsize = rows.itemsize
    cdef Py_ssize_t t = 0
    cdef Py_ssize_t run, whole, group, c, j
    cdef char* start
    while t < batch.rows:
        run = min(batch.rows - t, batch.inner - (batch.first + t) % batch.inner)  # (1, if rows do not lie side by side)
        start = row_at(batch, rows, batch.first + t)
        if batch.columns and rows.inner_stride == itemsize and batch.inner > 1:
            for c in range(batch.classes):
                copy_run(rows.storage, start + c * rows.class_stride, number_at(batch, block, t, c), run, to_tile)
        elif not batch.columns and batch.inner == 1 and rows.class_stride == itemsize:
            copy_run(rows.storage, start, number_at(batch, block, t, 0), batch.classes, to_tile)
        else:
            whole = 0
            if not batch.columns and rows.inner_stride == itemsize and rows.storage == NATIVE:
                whole = run // W * W  # rows that can be transposed, W at a time
            for group in range(whole // W):
                if to_tile:
                    turn_classes(batch, rows, start + group * W * itemsize, number_at(batch, block, t + group * W, 0),
                                 block.strip)
                else:
                    turn_group(<const char*> number_at(batch, block, t + group * W, 0), block.strip * itemsize,
                               batch.classes, <real*> (start + group * W * itemsize), rows.class_stride // itemsize)
            for j in range(whole, run):
                for c in range(batch.classes):
                    copy_run(rows.storage, start + c * rows.class_stride + j * rows.inner_stride,
                             number_at(batch, block, t + j, c), 1, to_tile)
        t += run


cdef inline void turn_classes(const Batch* batch, const Rows* rows, const char* start, real* tile,
                              Py_ssize_t pitch) noexcept nogil:
    """W rows that lie side by side, and have W classes at least, to W rows of a tile."""
    cdef Py_ssize_t number, c
    for number in range((batch.classes + W - 1) // W):
        c = min(number * W, batch.classes - W)
        turn_group(start + c * rows.class_stride, rows.class_stride, W, tile + c, pitch)


cdef inline Block load_rows(const Batch* batch, const Rows* rows) noexcept nogil:
    """The numbers of the batch: where they are, or brought to the tile. Columns without a row hold numbers too."""
    cdef Block block = block_of(batch, rows)
    cdef Py_ssize_t present = batch.rows
    cdef Py_ssize_t c
    if rows.direct:
        return block
    if are_few_lines(batch, rows):
        copy_few_lines(batch, rows, block, True)
        present = W
    elif are_lines(batch, rows):
        turn(rows.storage, row_at(batch, rows, batch.first), rows.outer_stride, batch.rows,
             whole_lines(batch.end - batch.first, batch.classes, are_adjacent(batch, rows)), batch.classes,
             block.start, block.step)
        present = (batch.rows + W - 1) // W * W  # (the last strip may have more vectors)
    else:
        copy_rows(batch, rows, block, True)
    if batch.columns and present < batch.strips * LANES:
        for c in range(batch.classes):
            memset(block.start + c * block.step + present, 0, (batch.strips * LANES - present) * sizeof(real))
    return block


cdef inline void store_rows(const Batch* batch, const Rows* rows, Block block) noexcept nogil:
    """The numbers of a block to the array, if they are not there already."""
    if rows.direct:
        return
    if are_few_lines(batch, rows):
        copy_few_lines(batch, rows, block, False)
    elif are_lines(batch, rows):
        turn_back(rows.storage, block.start, block.step, row_at(batch, rows, batch.first), rows.outer_stride,
                  batch.rows, batch.classes)
    else:
        copy_rows(batch, rows, block, False)
