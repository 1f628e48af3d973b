"""The one loop over the batches of an array: memory for the tiles, the loop, and what is left to be written.

A kernel is a function that computes one batch of a `Call`. `run` makes the tiles, hands it batch after batch, and
cleans up. A large call has parts, runs of its rows, which threads may compute side by side.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.string cimport memset

from .batch cimport Batch, Block, Rows, are_native_rows, is_far, next_batch, padded_rows, row_at
from .formulas cimport Row_factors
from .losses cimport Loss, Row_numbers, Scores
from .maxima cimport Next_maxima
from .simd cimport W, fence, real
from .threads cimport MOST_PARTS, parts_of, share, threads_for
from .totals cimport Total, sum_of, sum_of_parts
from .traffic cimport Pending, Traffic, find_prefetch, stream_all
from .values cimport Values

cdef enum:
    STACK_BYTES = 16384     # the memory of a small call is on the stack
    ROW_ARRAYS = 30         # of reals, in `Row_numbers` and `Row_factors`

cdef struct Call:
    Batch batch
    Rows x              # the first input
    Rows y              # the second: a target, the logits of q; or none
    Rows mask           # what takes part, or none
    Py_ssize_t present  # how many numbers of this batch it leaves, or -1 if they were not counted
    Rows v              # the third: a vector; or none
    Rows out            # the result that has x's shape, or none
    Rows hess           # the second such result, or none
    Rows spare          # a tile alone: for dx/du of a softcap, or exponentials beside x; or none
    Loss loss
    Scores scores
    Row_numbers n
    Row_factors factors
    int comparison      # which divergence
    double beta         # of a mixture
    Values temperatures     # of the rows, or none
    Values values       # one result for each row, or none
    Values signs        # likewise
    Values shifts       # numbers of each row, given where its classes are in several places
    Values shares
    Next_maxima next
    Pending pending
    Total total
    int threads         # that may compute it, at least 1
    bint has_losses
    double sum          # of the losses

ctypedef void (*Compute)(Call* call) noexcept nogil


cdef inline Block next_block(const Batch* batch, const Rows* rows) noexcept nogil:
    """Where the next batch's rows are, if they are to be prefetched: those of an array larger than the caches."""
    cdef Block block = Block(NULL, 0, 0)
    if (rows.origin != NULL and not batch.columns and are_native_rows(batch, rows) and is_far(batch, rows)
            and batch.first + 2 * batch.rows <= batch.total):
        block.start = <real*> row_at(batch, rows, batch.first + batch.rows)
        block.strip = rows.outer_stride // <Py_ssize_t> sizeof(real)
    return block


cdef inline void find_traffic(Call* call, Traffic* traffic) noexcept nogil:
    """What of x and of the results is to be prefetched beside a batch in columns."""
    traffic.x.start = traffic.kept.start = NULL
    traffic.x.line = traffic.x.run = traffic.kept.line = traffic.kept.run = traffic.pending.lines = 0
    if call.batch.columns:
        find_prefetch(&call.batch, &call.x, &traffic.x)
        if not call.out.streamed and call.out.origin != call.x.origin:  # (else there is nothing to wait for)
            find_prefetch(&call.batch, &call.out, &traffic.kept)


cdef inline int needs_tile(const Rows* rows) noexcept nogil:
    return rows.origin != NULL and not rows.direct


cdef inline void give_tile(Rows* rows, char* memory, Py_ssize_t tile_bytes, Py_ssize_t* given) noexcept nogil:
    if needs_tile(rows):
        rows.tile = <real*> (memory + given[0] * tile_bytes)
        given[0] += 1


cdef inline Py_ssize_t give_tiles(Call* call, char* memory, Py_ssize_t tile_bytes) noexcept nogil:
    """A tile to every array that needs one; returns how many. Results take the place of x, if that is in a tile."""
    cdef Py_ssize_t given = 0
    give_tile(&call.x, memory, tile_bytes, &given)
    give_tile(&call.y, memory, tile_bytes, &given)
    give_tile(&call.mask, memory, tile_bytes, &given)
    give_tile(&call.v, memory, tile_bytes, &given)
    give_tile(&call.hess, memory, tile_bytes, &given)
    give_tile(&call.spare, memory, tile_bytes, &given)
    if needs_tile(&call.x):
        call.out.tile = call.x.tile
    else:
        give_tile(&call.out, memory, tile_bytes, &given)
    if call.out.streamed and call.batch.columns:
        call.out.spare = <real*> (memory + given * tile_bytes)
        given += 1
    return given


cdef inline Py_ssize_t row_array_bytes(const Batch* batch) noexcept nogil:
    cdef Py_ssize_t rows = padded_rows(batch)
    return ROW_ARRAYS * rows * <Py_ssize_t> sizeof(real) + (rows + W) * <Py_ssize_t> sizeof(double)


cdef inline real* next_array(real** memory, Py_ssize_t rows) noexcept nogil:
    cdef real* array = memory[0]
    memory[0] += rows
    return array


cdef inline void give_row_arrays(Call* call, char* memory) noexcept nogil:
    """Memory for what is known of the rows of a batch. (On the stack it would be 40 kB.)

    Where vectors have no row they are computed too, and what is there by chance may be numbers that slow a CPU down.
    """
    cdef Py_ssize_t rows = padded_rows(&call.batch)
    cdef real* at
    if min(call.batch.total, call.batch.capacity) < rows:
        memset(memory, 0, row_array_bytes(&call.batch))
    call.n.loss = <double*> memory
    at = <real*> (call.n.loss + rows + W)
    call.n.top = next_array(&at, rows)
    call.n.limit = next_array(&at, rows)
    call.n.sumexp_m1 = next_array(&at, rows)
    call.n.maxima = next_array(&at, rows)
    call.n.smaller = next_array(&at, rows)
    call.n.lost = next_array(&at, rows)
    call.n.x_label = next_array(&at, rows)
    call.n.scales.shift = next_array(&at, rows)
    call.n.scales.lowest = next_array(&at, rows)
    call.n.scales.magic = next_array(&at, rows)
    call.n.scales.largest = next_array(&at, rows)
    call.n.distance = next_array(&at, rows)
    call.n.label_weight = next_array(&at, rows)
    call.n.row_weight = next_array(&at, rows)
    call.n.weight = next_array(&at, rows)
    call.n.classes = next_array(&at, rows)
    call.n.shifted = next_array(&at, rows)
    call.n.lse = next_array(&at, rows)
    call.n.focal = next_array(&at, rows)
    call.n.focal_slope = next_array(&at, rows)
    call.n.focal_curvature = next_array(&at, rows)
    call.factors.a = next_array(&at, rows)
    call.factors.b = next_array(&at, rows)
    call.factors.c = next_array(&at, rows)
    call.factors.d = next_array(&at, rows)
    call.factors.g = next_array(&at, rows)
    call.factors.label = next_array(&at, rows)
    call.factors.at_label = next_array(&at, rows)
    call.factors.counts = next_array(&at, rows)
    call.factors.power = next_array(&at, rows)


cdef inline void compute_all(Call* call, Compute compute) noexcept nogil:
    while next_batch(&call.batch):
        if call.out.streamed and call.batch.columns:
            call.x.tile = call.out.tile     # the other is waiting to be written
        compute(call)


cdef struct Shared_call:        # a call whose parts may be computed side by side
    Call* call                  # that of the first seat,
    Call* copies                # and copies for the others: results of a part are written during the seat's next
    Compute compute
    int parts
    int threads
    Py_ssize_t lead
    double sums[MOST_PARTS]     # of the losses of each part


cdef inline Py_ssize_t first_row(const Batch* batch, int part, int parts) noexcept nogil:
    """Where a part starts: where a batch does, or at any row if batches are made of long rows that lie side by side."""
    cdef Py_ssize_t row = batch.total // parts * part + batch.total % parts * part // parts
    cdef Py_ssize_t unit = batch.capacity if batch.columns or batch.inner == 1 else 1
    return row // unit * unit if part < parts else row


cdef inline Call* call_of(Shared_call* shared, int seat) noexcept nogil:
    return shared.call if seat == 0 else &shared.copies[seat - 1]


cdef inline void compute_part(void* job, int seat, int part) noexcept nogil:
    cdef Shared_call* shared = <Shared_call*> job
    cdef Call* call = call_of(shared, seat)
    call.batch.first, call.batch.rows = first_row(&call.batch, part, shared.parts), 0
    call.batch.end = first_row(&call.batch, part + 1, shared.parts)
    call.batch.lead = shared.lead
    # (What others write where x was is not to be read.)
    call.next.end = call.batch.end if shared.threads > 1 and call.out.origin == call.x.origin else call.batch.total
    if call.has_losses and shared.parts > 1:
        memset(&call.total, 0, sizeof(Total))
    compute_all(call, shared.compute)
    if call.has_losses:
        shared.sums[part] = sum_of(&call.batch, &call.total)
    if call.out.streamed:
        fence()


cdef inline int run(Call* call, Compute compute) except -1 nogil:
    """Compute all batches of a call, on as many threads as it may have."""
    cdef char on_stack[STACK_BYTES + 64]
    cdef Shared_call shared
    cdef char* memory = on_stack
    cdef char* tiles
    cdef Py_ssize_t tile_bytes, seat_tiles, seat_bytes, size
    cdef int threads, seat
    shared.call, shared.compute, shared.lead = call, compute, call.batch.lead
    shared.parts = parts_of(call.batch.total, call.batch.classes)
    threads = threads_for(call.batch.total * call.batch.classes, min(call.threads, shared.parts))
    shared.threads = threads
    tile_bytes = (call.batch.capacity * call.batch.classes * <Py_ssize_t> sizeof(real) + 63) // 64 * 64
    seat_tiles = give_tiles(call, NULL, tile_bytes) * tile_bytes
    seat_bytes = seat_tiles + (row_array_bytes(&call.batch) + 63) // 64 * 64
    size = threads * seat_bytes + (threads - 1) * <Py_ssize_t> sizeof(Call)
    if size > STACK_BYTES:
        memory = <char*> PyMem_RawMalloc(size + 64)
        if memory == NULL:
            with gil:
                raise MemoryError(f"no memory for {size} bytes to gather rows of {call.batch.classes} classes")
    tiles = <char*> ((<size_t> memory + 63) // 64 * 64)
    shared.copies = <Call*> (tiles + threads * seat_bytes)
    for seat in range(threads):
        if seat > 0:
            shared.copies[seat - 1] = call[0]
        give_tiles(call_of(&shared, seat), tiles + seat * seat_bytes, tile_bytes)
        give_row_arrays(call_of(&shared, seat), tiles + seat * seat_bytes + seat_tiles)
    share(compute_part, &shared, shared.parts, threads)
    for seat in range(threads):
        stream_all(&call_of(&shared, seat).pending)
    if call.out.streamed:
        fence()
    if call.has_losses:
        call.sum = sum_of_parts(shared.sums, shared.parts)
    if memory != on_stack:
        PyMem_RawFree(memory)
    return 0
