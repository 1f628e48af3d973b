"""Classes that take no part: where the mask of a call is not set, numbers are hidden as they are loaded.

A hidden logit is -inf, and from then on like any other of -inf. What knows more of it are targets there, smoothing, and
rows of which nothing is left.

Tried on AVX2: the mask brought to a tile of its own, and the numbers hidden in theirs, 0.4 to 0.7 of a loss's speed;
four vectors at a time, 0.98 to 1.01; for smoothing, the mask as numbers that the logits are multiplied by, 0.75 to 0.9;
batches of half the size, 0.95 to 1.0. Of long rows: hidden in the loop of the exponentials, 0.95 to 1.02, and 0.9 to
0.96 without a mask; in runs of 1,024 numbers, 0.7 to 0.9.
"""

from libc.string cimport memcpy, memset

from .apply cimport change_block
from .batch cimport (
    NATIVE, Batch, Block, Rows, are_adjacent, are_native_rows, block_of, leave_columns_empty, number_at, row_at,
)
from .call cimport Call
from .conversion cimport copy_lines
from .formulas cimport HIDE, Row_factors
from .losses cimport Loss, Row_numbers
from .math cimport INFINITY, NAN
from .simd cimport (
    VECTORS, W, bits, broadcast, broadcast_bits, count, equal, flattened, lanes_of, load, load_first, load_truths,
    mask as truths, maximum, real, scalar, select, store, store_first, vec, word,
)
from .sums cimport max_of_lanes
from .tiles cimport fill_columns, load_rows
from .transposition cimport turn, whole_lines
from .values cimport fill


cdef inline truths first_truths(const char* mask, Py_ssize_t n) noexcept nogil:
    """Which of n booleans, fewer than a vector has, are set."""
    cdef char left[W]
    memset(left, 0, W)
    memcpy(left, mask, n)
    return load_truths(left)


cdef inline vec hide_numbers(bint counting, const real* x, const char* mask, Py_ssize_t n, real* out,
                             Py_ssize_t* present) noexcept nogil:
    cdef vec lowest = broadcast(-INFINITY)
    cdef vec largest = lowest
    cdef vec number
    cdef bits counted = broadcast_bits(0)
    cdef word counts[W]
    cdef Py_ssize_t whole = n // W
    cdef Py_ssize_t k
    for k in range(whole):
        number = select(load_truths(mask + k * W), load(x + k * W), lowest)
        store(out + k * W, number)
        largest = maximum(number, largest)
        if counting:
            counted = count(counted, load_truths(mask + k * W))
    n, x, out, mask = n % W, x + whole * W, out + whole * W, mask + whole * W
    if n > 0:
        number = select(first_truths(mask, n), load_first(x, n, lowest), lowest)
        store_first(out, number, n)
        largest = maximum(number, largest)
        if counting:
            counted = count(counted, first_truths(mask, n))
    memcpy(counts, &counted, sizeof(counts))
    for k in range(W if counting else 0):
        present[0] += counts[k]
    return largest


cdef inline flattened hide_run(const real* x, const char* mask, Py_ssize_t n, real* out, vec* largest,
                               Py_ssize_t* present) noexcept nogil:
    """out = n neighbours, -inf where the mask is not set; the largest in each lane, NaN left out; and how many the mask
    leaves, which is added to `present` unless that is negative."""
    if present[0] < 0:      # (literals, for loops without a test)
        largest[0] = hide_numbers(False, x, mask, n, out, present)
    else:
        largest[0] = hide_numbers(True, x, mask, n, out, present)


cdef inline bint is_mask_of_lines(const Call* call) noexcept nogil:
    """Whether the mask of a row is a run of bytes."""
    return call.batch.inner == 1 and call.mask.class_stride == 1


cdef inline bint is_mask_of_classes(const Call* call) noexcept nogil:
    """Whether the mask is the same for all rows."""
    return call.mask.outer_stride == 0 and (call.batch.inner == 1 or call.mask.inner_stride == 0)


cdef inline const real* choose_classes(Call* call, Row_numbers* n) noexcept nogil:
    """The weights of classes, all 1, where the mask is the same for all rows: 0 for those that it hides."""
    cdef real* w = call.mask.tile
    cdef Loss* loss = &call.loss
    cdef Py_ssize_t c
    if loss.chosen == 0 or loss.softcap != 0:   # (else they are there from an earlier batch)
        loss.chosen = 0
        for c in range(call.batch.classes):
            w[c] = 1 if call.mask.origin[c * call.mask.class_stride] != 0 else 0
            loss.chosen += <Py_ssize_t> w[c]
    fill(&call.batch, <real> loss.chosen, n.weight)
    fill(&call.batch, <real> max(loss.chosen, 1), n.classes)
    return w


cdef inline void hide_columns(const Call* call, Block x) noexcept nogil:
    cdef Py_ssize_t c, r
    for c in range(call.batch.classes):
        if call.mask.origin[c * call.mask.class_stride] == 0:
            for r in range(call.batch.strips * VECTORS):
                store(x.start + r * W + c * x.step, broadcast(-INFINITY))


cdef inline void hide_lines(Call* call, const Rows* rows, real* lines) noexcept nogil:
    """The rows of a batch one after the other, hidden; their maxima are found beside, unless they become columns."""
    cdef const Batch* batch = &call.batch
    cdef char* start = row_at(batch, rows, batch.first)
    cdef const char* mask = row_at(batch, &call.mask, batch.first)
    cdef Py_ssize_t stride = rows.outer_stride
    cdef Py_ssize_t r
    cdef vec largest
    if rows.storage != NATIVE:
        copy_lines(rows.storage, start, stride, batch.rows, batch.classes, lines, True)
        start, stride = <char*> lines, batch.classes * <Py_ssize_t> sizeof(real)
    if (batch.columns and stride == batch.classes * <Py_ssize_t> sizeof(real)
            and call.mask.outer_stride == batch.classes):
        hide_run(<const real*> start, mask, batch.rows * batch.classes, lines, &largest, &call.present)
        return
    for r in range(batch.rows):
        hide_run(<const real*> (start + r * stride), mask + r * call.mask.outer_stride, batch.classes,
                 lines + r * batch.classes, &largest, &call.present)
        if not batch.columns:
            call.next.largest[r] = scalar(max_of_lanes(largest))
    call.next.first, call.next.found = batch.first, 0 if batch.columns else batch.rows


cdef inline Block load_mask(Call* call) noexcept nogil:
    """The mask, of numbers 0 and 1."""
    return load_rows(&call.batch, &call.mask)


cdef inline Block load_chosen(Call* call, const Rows* rows) noexcept nogil:
    """The numbers of an array, -inf where the mask, if there is one, is not set."""
    cdef Batch* batch = &call.batch
    cdef Block block = block_of(batch, rows)
    cdef Row_factors* factors = &call.factors
    call.present = -1
    if call.mask.origin == NULL:
        return load_rows(batch, rows)
    call.next.found = 0     # (the maxima of rows before they are hidden are of no use; but that they were read is)
    if batch.columns and is_mask_of_classes(call):
        load_rows(batch, rows)
        hide_columns(call, block)
    elif not is_mask_of_lines(call) or rows.class_stride != rows.itemsize or leave_columns_empty(batch, rows):
        load_rows(batch, rows)
        change_block(HIDE, batch, block, load_mask(call), NULL, factors, block)
    elif batch.columns:
        call.present = 0 if call.loss.smoothing != 0 else -1
        hide_lines(call, rows, call.mask.tile)
        turn(NATIVE, <const char*> call.mask.tile, batch.classes * sizeof(real), batch.rows,
             whole_lines(batch.rows, batch.classes, True), batch.classes, block.start, block.step)
        fill_columns(batch, block, (batch.rows + W - 1) // W * W)
    else:
        call.present = 0 if call.loss.smoothing != 0 else -1
        hide_lines(call, rows, block.start)
    return block


cdef inline vec cleared(truths present, vec x) noexcept nogil:
    """0 where the mask is not set, but NaN if x is not finite."""
    return select(present, x, x - x)


cdef inline flattened clear_run(const char* mask, Py_ssize_t n, real* out) noexcept nogil:
    cdef Py_ssize_t whole = n // W
    cdef Py_ssize_t k
    for k in range(whole):
        store(out + k * W, cleared(load_truths(mask + k * W), load(out + k * W)))
    n, out, mask = n % W, out + whole * W, mask + whole * W
    if n > 0:
        store_first(out, cleared(first_truths(mask, n), load_first(out, n, broadcast(0))), n)


cdef inline bint can_clear_results(const Call* call) noexcept nogil:
    return is_mask_of_lines(call) and are_native_rows(&call.batch, &call.out) and not call.out.streamed


cdef inline void clear_results(Call* call) noexcept nogil:
    """0 in the results of a batch where the mask is not set; NaN in rows that are NaN."""
    cdef Batch* batch = &call.batch
    cdef char* out = row_at(batch, &call.out, batch.first)
    cdef const char* mask = row_at(batch, &call.mask, batch.first)
    cdef Py_ssize_t r
    if are_adjacent(batch, &call.out) and are_adjacent(batch, &call.mask):
        clear_run(mask, batch.rows * batch.classes, <real*> out)
        return
    for r in range(batch.rows):
        clear_run(mask + r * call.mask.outer_stride, batch.classes, <real*> (out + r * call.out.outer_stride))


cdef inline bint takes_part(const Call* call, Py_ssize_t r, Py_ssize_t c) noexcept nogil:
    """Whether class c of a row of the batch does."""
    return (call.mask.origin == NULL
            or row_at(&call.batch, &call.mask, call.batch.first + r)[c * call.mask.class_stride] != 0)


cdef inline bint is_empty(const Call* call, Py_ssize_t r) noexcept nogil:
    """Whether the mask leaves nothing of a row."""
    cdef Py_ssize_t c
    for c in range(call.batch.classes):
        if takes_part(call, r, c):
            return False
    return True


cdef inline bint some_are_lowest(const Batch* batch, const real* x) noexcept nogil:
    """Whether the number of some row may be -inf. (Also where vectors have no row.)"""
    cdef unsigned int lanes = 0
    cdef Py_ssize_t group
    for group in range((batch.rows + W - 1) // W):
        lanes |= lanes_of(equal(load(x + group * W), broadcast(-INFINITY)))
    return lanes != 0


cdef inline void level_empty_rows(const Call* call, real* m) noexcept nogil:
    """m = 0 for empty rows, so that their exponentials, and the sum of these, are 0."""
    cdef Py_ssize_t r
    for r in range(call.batch.rows if some_are_lowest(&call.batch, m) else 0):
        if m[r] == -INFINITY and is_empty(call, r):
            m[r] = 0


cdef inline void void_row(const Batch* batch, Block x, Py_ssize_t r) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(batch.classes):
        number_at(batch, x, r, c)[0] = NAN


cdef inline void void_empty_rows(const Call* call, Block x, real* m, real* limit) noexcept nogil:
    """NaN for empty rows: they have no loss. Their logsumexp is -inf."""
    cdef Py_ssize_t r
    for r in range(call.batch.rows if some_are_lowest(&call.batch, m) else 0):
        if m[r] == -INFINITY and is_empty(call, r):
            void_row(&call.batch, x, r)
            m[r], limit[r] = NAN, -INFINITY


cdef inline void hide_again(Call* call, Block x, const real* top) noexcept nogil:
    """After a softcap, which makes a finite number of -inf; `top` are the largest numbers."""
    cdef Row_factors* factors = &call.factors
    cdef Py_ssize_t r
    change_block(HIDE, &call.batch, x, load_mask(call), NULL, factors, x)
    for r in range(call.batch.rows):
        if top[r] != top[r]:
            void_row(&call.batch, x, r)
