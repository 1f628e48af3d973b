"""Memory beyond the caches, for columns: the next batch prefetched, results written past the caches.

While the exponentials of a batch are computed, the next batch's lines of 64 bytes are prefetched, one a step, and the
last batch's results are written, a line a step too. Results that wait so lie in a tile. They are written
past the caches, so that what they replace is not read before: a number costs 8 bytes of traffic, not 12. Only results
larger than the caches take this way; those in place are in the cache already.

Tried: the same in rows. On a Zen 3 softmax then has 0.80 to 0.88 of the speed at 16,384 x 1,000 and 512 x 32,000, 0.99
to 1.05 at 777 x 5,003, 1,024 x 1,000 and 128 x 128,256, and 0.24 for one row of 2^25, whose tile is as large; on a
Zen 5 0.8 to 0.97 up to 32,000 classes, 1.0 to 1.2 at 128,256. The results of log_softmax beside the next batch's
exponentials: 1.0 to 1.06 in the caches of a Zen 3, 0.96 to 1.08 on a Zen 5. Prefetching in pieces of 8 steps, 0.7.
Targets, which are prefetched before they are summed up, prefetched beside the exponentials: 0.95 to 0.98 of softmax.
"""

from libc.string cimport memcpy

from .batch cimport NATIVE, Batch, Block, Rows, is_far, row_at
from .simd cimport LANES, VECTORS, W, load, prefetch, prefetch_to_write, real, stream

cdef enum:
    DISTANCE = 32   # lines from what is read or written to what is prefetched

cdef struct Prefetch:          # where the next batch is
    const char* start       # NULL if nothing is to be prefetched
    Py_ssize_t line         # bytes from one line to the next,
    Py_ssize_t run          # from one run of lines, a class of the batch's rows, to the next

cdef struct Pending:        # results that wait to be written
    char* target
    const real* source
    Py_ssize_t lines        # of 64 bytes, that are left
    Py_ssize_t in_run       # lines that are left of this run
    Py_ssize_t run          # lines that are neighbours in the array
    Py_ssize_t target_gap   # bytes from the end of a run to the next
    Py_ssize_t source_gap   # numbers, likewise


cdef inline void find_prefetch(const Batch* batch, const Rows* rows, Prefetch* of) noexcept nogil:
    cdef Py_ssize_t first = batch.first + batch.rows
    if rows.origin == NULL or first >= batch.total or not is_far(batch, rows):
        return  # what lies behind the array would drive from the cache what is needed
    of.start = row_at(batch, rows, first)
    of.line = LANES * rows.itemsize
    of.run = rows.class_stride if batch.inner > 1 else batch.strips * of.line


cdef inline void stream_past_caches(Batch* batch, const Rows* x, Rows* out) noexcept nogil:
    """Have results written past the caches, if they lie side by side, and their memory is not that of x."""
    if (out.origin == x.origin or not batch.columns or batch.inner == 1 or out.storage != NATIVE
            or out.inner_stride != sizeof(real)):
        return
    out.streamed = True
    out.direct = False
    # Then all batches but the first start with a cache line.
    batch.lead = <Py_ssize_t> (<size_t> out.origin % 64) // <Py_ssize_t> sizeof(real) % batch.capacity


cdef inline void stream_line(Pending* pending) noexcept nogil:
    cdef Py_ssize_t v
    for v in range(VECTORS):
        stream(<real*> pending.target + v * W, load(pending.source + v * W))
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
    cdef Py_ssize_t whole = batch.rows // LANES if <size_t> target % 64 == 0 and out.class_stride % 64 == 0 else 0
    cdef Py_ssize_t c
    cdef real* tile
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


# --- beside a loop over a batch ----------------------------------------------------------------------------------

cdef struct Traffic:         # what of memory is moved beside it
    Prefetch x
    Prefetch kept
    Pending pending
    const char* x_at
    const char* kept_at


cdef inline bint is_busy(const Traffic* traffic) noexcept nogil:
    return traffic.pending.lines > 0 or traffic.x.start != NULL or traffic.kept.start != NULL


cdef inline const char* start_of_run(const Traffic* traffic, const Prefetch* of, Py_ssize_t run) noexcept nogil:
    """(Where nothing is to be prefetched, that is what is here already: a loop needs no test.)"""
    return of.start + run * of.run if of.start != NULL else <const char*> traffic


cdef inline void begin_run(Traffic* traffic, Py_ssize_t run) noexcept nogil:
    traffic.x_at = start_of_run(traffic, &traffic.x, run)
    traffic.kept_at = start_of_run(traffic, &traffic.kept, run)


cdef inline void move_line(Traffic* traffic) noexcept nogil:
    """A line of the last results written, a line of what the next batch reads and writes prefetched."""
    if traffic.pending.lines > 0:
        stream_line(&traffic.pending)
    prefetch(traffic.x_at)
    traffic.x_at += traffic.x.line
    prefetch_to_write(traffic.kept_at)
    traffic.kept_at += traffic.kept.line
