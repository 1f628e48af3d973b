"""Memory beyond the caches: the next batch prefetched, results written past the caches.

While the exponentials of a batch are computed, the next batch's lines of 64 bytes are prefetched, one a step, and the
last batch's results are written, a line a step too. Results that wait so lie in a tile. They are written past the
caches, so that what they replace is not read before: a number costs 8 bytes of traffic, not 12. Only results larger
than the caches take this way, and only where rows are contiguous and so long that memory is the limit, or lie side by
side; results in place are in the cache already.

Measured in version 0.1 on a Zen 5, rows of float32 beyond the caches, 10^9 numbers a second: 4.0 through the caches at
32,000 classes, 4.5 written past them in one burst when a row is done, 5.7 during the next row, 6.3 scaled only then.
The writing in pieces of 8 steps was 10 % slower than in every step, prefetching in such pieces 30 %; the maximum of the
next row in the same loop, instead of prefetching, two and a half times slower.

On a Zen 4, rows of 257 classes are faster through the caches (1.9 against 1.3), rows of 512 and 1,000 as fast, rows of
32,000 slower. Plain loops over one row at a time take memory better there than batches do, with or without prefetching.
"""

from libc.string cimport memcpy

from .simd cimport (
    FLOAT64, LANES, VECTORS, W, broadcast, load, load_first, prefetch, prefetch_to_write, real, store_first, stream,
    vec,
)
from .tiles cimport CACHED_BYTES, MIDDLING, MOST_IN_ROWS, NATIVE, Batch, Block, Rows, are_adjacent, block_of, row_at

cdef enum:
    MEMORY_BOUND = 511 + FLOAT64 * (MIDDLING - 511)  # longer rows are computed faster than memory takes them
    DISTANCE = 32   # lines from what is read or written to what is prefetched

cdef struct Ahead:          # where the next batch is
    const char* start       # NULL if nothing is to be prefetched
    Py_ssize_t line         # bytes from one line to the next,
    Py_ssize_t run          # from one run of lines to the next: a row, or a class of the batch's rows

cdef enum Form:
    AS_THEY_ARE
    SCALED                  # a * number
    SHIFTED                 # (number - a) - b

cdef struct Pending:        # results that wait to be written
    char* target
    const real* source
    Py_ssize_t lines        # of 64 bytes, that are left
    Py_ssize_t in_run       # lines that are left of this run
    Py_ssize_t run          # lines that are neighbours in the array
    Py_ssize_t target_gap   # bytes from the end of a run to the next
    Py_ssize_t source_gap   # numbers, likewise
    Form form
    real a
    real b

cdef struct Unshifted:          # rows of the last batch, whose results are computed beside this one's exponentials
    const real* source          # its first row,
    real* target                # and where that goes
    Py_ssize_t source_row       # numbers from one row to the next
    Py_ssize_t target_row
    Py_ssize_t rows             # 0 if there are none
    real a[MOST_IN_ROWS]
    real b[MOST_IN_ROWS]


cdef inline vec in_form(Form form, vec x, vec a, vec b) noexcept nogil:
    """A result, of a number and the factors of its row."""
    if form == SCALED:
        return a * x
    if form == SHIFTED:
        return (x - a) - b
    return x


cdef inline void put_first(Form form, const real* source, vec a, vec b, real* target, Py_ssize_t n) noexcept nogil:
    """The first n results, up to W."""
    store_first(target, in_form(form, load_first(source, n, broadcast(0)), a, b), n)


cdef inline void find_ahead(const Batch* batch, const Rows* rows, Ahead* ahead) noexcept nogil:
    cdef Py_ssize_t first = batch.first + batch.rows
    ahead.start = NULL
    ahead.line = ahead.run = 0
    if rows.origin == NULL or first >= batch.total or batch.total * batch.classes * rows.itemsize <= CACHED_BYTES:
        return  # what lies behind the array would drive from the cache what is needed
    ahead.start = row_at(batch, rows, first)
    ahead.line = LANES * rows.itemsize
    if rows.direct:     # (x is read beside the exponentials already, for the maxima)
        ahead.start += DISTANCE * ahead.line
    if batch.inner > 1:
        ahead.run = rows.class_stride
    else:
        ahead.run = batch.strips * ahead.line if batch.columns else rows.outer_stride


cdef inline void stream_past_caches(Batch* batch, const Rows* x, Rows* out) noexcept nogil:
    """Have results written past the caches, if their memory has a form in which this is fast, and is not that of x."""
    cdef bint in_rows = x.direct and out.direct and are_adjacent(batch, out) and batch.classes > MEMORY_BOUND
    cdef bint in_columns = (batch.columns and batch.inner > 1 and out.storage == NATIVE
                            and out.inner_stride == sizeof(real))
    if out.origin == x.origin or not (in_rows or in_columns):
        return
    out.streamed = True
    out.direct = False
    if in_columns:  # then all batches but the first start with a cache line
        batch.lead = <Py_ssize_t> (<size_t> out.origin % 64) // <Py_ssize_t> sizeof(real) % batch.capacity


cdef inline void write_line(Pending* pending, real* target, Py_ssize_t n) noexcept nogil:
    """The next n numbers, up to LANES: past the caches if these are a line, else as any other."""
    cdef vec a = broadcast(pending.a)
    cdef vec b = broadcast(pending.b)
    cdef Py_ssize_t v
    for v in range(VECTORS):
        if n >= LANES:
            stream(target + v * W, in_form(pending.form, load(pending.source + v * W), a, b))
        else:
            put_first(pending.form, pending.source + v * W, a, b, target + v * W, n - v * W)


cdef inline void stream_line(Pending* pending) noexcept nogil:
    write_line(pending, <real*> pending.target, LANES)
    pending.target += 64
    pending.source += LANES
    pending.lines -= 1
    pending.in_run -= 1
    if pending.in_run == 0:
        pending.in_run = pending.run
        pending.target += pending.target_gap
        pending.source += pending.source_gap


cdef inline void stream_all(Pending* pending) noexcept nogil:
    while pending.lines > 0:
        stream_line(pending)


cdef inline void write_later(const Batch* batch, Rows* out, Block results, Pending* pending) noexcept nogil:
    """Have the results written while the next batch is computed; those that do not fill a line are written now."""
    cdef real* target = <real*> row_at(batch, out, batch.first)
    cdef Py_ssize_t size = batch.rows * batch.classes
    cdef Py_ssize_t head, c, whole
    cdef real* tile
    pending.source = results.start
    if batch.columns:
        whole = batch.rows // LANES if <size_t> target % 64 == 0 and out.class_stride % 64 == 0 else 0
        for c in range(batch.classes):
            memcpy(<char*> target + c * out.class_stride + whole * 64, results.start + c * results.step + whole * LANES,
                   (batch.rows - whole * LANES) * sizeof(real))
        pending.source = results.start
        pending.target = <char*> target
        pending.run = pending.in_run = whole
        pending.lines = whole * batch.classes
        pending.target_gap = out.class_stride - whole * 64
        pending.source_gap = results.step - whole * LANES
        tile = out.tile
        out.tile = out.spare
        out.spare = tile
        return
    head = min(size, (-<Py_ssize_t> target & 63) // <Py_ssize_t> sizeof(real))
    write_line(pending, target, head)
    pending.lines = pending.run = pending.in_run = (size - head) // LANES
    pending.target_gap = pending.source_gap = 0
    pending.source = results.start + head + pending.lines * LANES
    write_line(pending, target + head + pending.lines * LANES, (size - head) % LANES)
    pending.target = <char*> (target + head)
    pending.source = results.start + head


cdef inline void shift_later(const Batch* batch, Block x, Block out, const real* a, const real* b,
                             Unshifted* rows) noexcept nogil:
    """Have out = (x - a) - b computed beside the next batch."""
    cdef Py_ssize_t r
    rows.rows = batch.rows
    rows.source, rows.source_row = x.start, x.strip
    rows.target, rows.target_row = out.start, out.strip
    for r in range(batch.rows):
        rows.a[r], rows.b[r] = a[r], b[r]


cdef inline void shift_from(Unshifted* rows, Py_ssize_t first, Py_ssize_t classes) noexcept nogil:
    """The same for the rows from the `first` on, with nothing beside them."""
    cdef Py_ssize_t r, k
    for r in range(first, rows.rows):
        for k in range((classes + W - 1) // W):
            put_first(SHIFTED, rows.source + r * rows.source_row + k * W, broadcast(rows.a[r]), broadcast(rows.b[r]),
                      rows.target + r * rows.target_row + k * W, classes - k * W)
    rows.rows = 0


# --- beside a loop over a batch ----------------------------------------------------------------------------------

cdef struct Beside:         # what of memory is moved beside it
    Ahead x
    Ahead kept
    Pending pending
    const char* x_at
    const char* kept_at


cdef inline bint is_busy(const Beside* beside) noexcept nogil:
    return beside.pending.lines > 0 or beside.x.start != NULL or beside.kept.start != NULL


cdef inline const char* start_of_run(const Beside* beside, const Ahead* ahead, Py_ssize_t run) noexcept nogil:
    """(Where nothing is to be prefetched, that is what is here already: a loop needs no test.)"""
    return ahead.start + run * ahead.run if ahead.start != NULL else <const char*> beside


cdef inline void begin_run(Beside* beside, Py_ssize_t run) noexcept nogil:
    beside.x_at = start_of_run(beside, &beside.x, run)
    beside.kept_at = start_of_run(beside, &beside.kept, run)


cdef inline void move_line(Beside* beside) noexcept nogil:
    """A line of the last results written, a line of what the next batch reads and writes prefetched."""
    if beside.pending.lines > 0:
        stream_line(&beside.pending)
    prefetch(beside.x_at)
    beside.x_at += beside.x.line
    prefetch_to_write(beside.kept_at)
    beside.kept_at += beside.kept.line
