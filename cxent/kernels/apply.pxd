"""One formula on every number of a batch: in a block, or on the way to the array.

There is one mechanism, `apply`: a literal chooses the formula, and the C compiler keeps that alone. Where rows are
columns of a tile, and lie one after the other in the array, results are transposed in registers as they are computed,
so that no number is written twice.

Tried on AVX2: results stored 16 bytes at a time even where a row has W more classes, 0.93 of the speed at 33 and 100.
"""

from libc.string cimport memcpy

from .batch cimport NATIVE, Batch, Block, Rows, are_adjacent, are_lines, block_of, leave_columns_empty, row_at
from .formulas cimport (
    CAP, CAP_SLOPE, COUNTED, DIVIDE, EXPONENTIAL, GRADIENT, GRADIENT_CLASSES, GRADIENT_LABELS,
    GRADIENT_TARGETS, HESSIAN, HESSIAN_FOCAL, HESSIAN_PRODUCT, HIDE, KEEP, LOGARITHM, LOG_RATIO, LOG_SHARE,
    LOG_SOFTMAX_BACKWARD, LOSS_OF_PROBS, MULTIPLY, PROBABILITY, SHIFT, SMOOTH, SMOOTH_CHOSEN, SOFTMAX_BACKWARD,
    WEIGHTED, Factors, Formula, Row_factors, evaluate, factors_of, uses_w, uses_y,
)
from .simd cimport (
    BLOCK, LANES, VECTORS, W, broadcast, flattened, load, load_first, real, store, store_block, store_first,
    store_square, vec,
)
from .terms cimport for_step
from .tiles cimport store_rows
from .traffic cimport Pending, write_later
from .transposition cimport whole_lines


cdef inline void apply_to_strip(Formula formula, const Batch* batch, Block x, Block y, const real* w, const Factors* f,
                                Block out) noexcept nogil:
    """The formula's results of the first strip: of a row, or of LANES columns, also where these have no row."""
    cdef vec zero = broadcast(0)
    cdef vec y_part = zero, w_part = zero
    cdef Py_ssize_t step, v, n
    for step in range(batch.steps):
        for v in range(VECTORS):
            if uses_y(formula):
                y_part = load(y.start + step * y.step + v * W)
            if uses_w(formula):
                w_part = for_step(w, batch.columns, step, v)
            store(out.start + step * out.step + v * W,
                  evaluate(formula, load(x.start + step * x.step + v * W), y_part, w_part, f[v]))
    step = batch.steps
    for v in range(VECTORS):
        n = batch.tail - v * W
        if n > 0:
            if uses_y(formula):
                y_part = load_first(y.start + step * y.step + v * W, n, zero)
            if uses_w(formula):
                w_part = load_first(w + step * LANES + v * W, n, zero)
            store_first(out.start + step * out.step + v * W,
                        evaluate(formula, load_first(x.start + step * x.step + v * W, n, zero), y_part, w_part, f[v]),
                        n)


cdef inline Block strip_of(Block block, Py_ssize_t strip) noexcept nogil:
    return Block(block.start + strip * block.strip, block.strip, block.step)


cdef inline void apply(Formula formula, const Batch* batch, Block x, Block y, const real* w, const Row_factors* factors,
                       Block out) noexcept nogil:
    """out = formula(x, y, w), which may be x or y."""
    cdef Row_factors of = factors[0]
    cdef Factors f[VECTORS]
    cdef Py_ssize_t strip, v
    for strip in range(batch.strips):
        for v in range(VECTORS):
            f[v] = factors_of(of, batch, strip, v)
        apply_to_strip(formula, batch, strip_of(x, strip), strip_of(y, strip), w, f, strip_of(out, strip))


cdef inline void apply_to_row(Formula formula, const Batch* batch, const real* x, vec a, vec b,
                              real* out) noexcept nogil:
    """The same of a row by itself, and a formula of no more than a and b."""
    cdef Factors f[VECTORS]
    cdef Py_ssize_t v
    for v in range(VECTORS):
        f[v].a, f[v].b = a, b
    apply_to_strip(formula, batch, Block(<real*> x, 0, LANES), Block(NULL, 0, 0), NULL, f, Block(out, 0, LANES))


cdef struct Lines:          # W rows of the array, from a class on
    char* start
    Py_ssize_t stride
    Py_ssize_t classes      # of a whole row
    Py_ssize_t rows         # from the first of them to the end of the batch
    bint are_whole          # W numbers may be written of each


cdef inline Block block_from(Block block, Py_ssize_t row, Py_ssize_t c) noexcept nogil:
    """The columns from a row and a class on."""
    return Block(block.start + row + c * block.step, block.strip, block.step)


cdef inline flattened store_in_part(const Lines* lines, vec* block, Py_ssize_t present) noexcept nogil:
    """The first classes of rows, fewer than W of them or shorter than a block."""
    cdef real copy[W * BLOCK]
    cdef Py_ssize_t k
    store_block(copy, BLOCK * sizeof(real), block)
    for k in range(min(<Py_ssize_t> W, lines.rows)):
        if present == BLOCK:    # (a size that compilers know is a move, any other a call)
            memcpy(lines.start + k * lines.stride, copy + k * BLOCK, BLOCK * sizeof(real))
        else:
            memcpy(lines.start + k * lines.stride, copy + k * BLOCK, present * sizeof(real))


cdef inline void apply_to_lines(Py_ssize_t width, Formula formula, Block x, Block y, const real* w, Factors f,
                                const Lines* lines) noexcept nogil:
    """The same of W rows and `width` classes, from columns to the array, transposed in registers."""
    cdef Py_ssize_t present = min(width, lines.classes)
    cdef vec block[W]
    cdef vec kept[W]
    cdef vec y_part = broadcast(0), w_part = broadcast(0)
    cdef Py_ssize_t k
    for k in range(width):
        block[k] = broadcast(0)
        if width == W or k < present:
            if uses_y(formula):
                y_part = load(y.start)
            if uses_w(formula):
                w_part = broadcast(w[k])
            block[k] = evaluate(formula, load(x.start), y_part, w_part, f)
        x.start += x.step
        y.start += y.step
    if width == W and lines.are_whole:
        store_square(lines.start, lines.stride, block)
    elif lines.are_whole:   # what goes beyond a short row is written again with the next
        store_block(lines.start, lines.stride, block)
    else:
        for k in range(width):  # (lest the block itself be in memory)
            kept[k] = block[k]
        store_in_part(lines, kept, present)


cdef inline void apply_transposed(Formula formula, const Batch* batch, Block x, Block y, const real* w,
                                  const Row_factors* factors, const Rows* out) noexcept nogil:
    """The same from columns to rows of the array: W x W numbers at a time, and BLOCK classes where that is enough."""
    cdef Row_factors of = factors[0]
    cdef Py_ssize_t length = batch.classes
    cdef Py_ssize_t whole = whole_lines(batch.rows, length, are_adjacent(batch, out))
    cdef Py_ssize_t squares = (length + W - BLOCK - 1) // W if length >= W else 0
    cdef Lines lines = Lines(NULL, out.outer_stride, length, 0, False)
    cdef Py_ssize_t group, row, c, start
    cdef char* line
    cdef Factors f
    for group in range((batch.rows + W - 1) // W):
        row = group * W
        f = factors_of(of, batch, row // LANES, row % LANES // W)
        lines.rows, lines.are_whole = batch.rows - row, row + W <= whole
        line = row_at(batch, out, batch.first + row)
        c = 0
        if lines.are_whole:
            for c in range(squares):
                start = min(c * W, length - W)
                lines.start = line + start * <Py_ssize_t> sizeof(real)
                apply_to_lines(W, formula, block_from(x, row, start), block_from(y, row, start),
                               w + start if uses_w(formula) else w, f, &lines)
            c = squares * W
        while c < length:
            start = max(<Py_ssize_t> 0, min(c, length - BLOCK))
            lines.start = line + start * <Py_ssize_t> sizeof(real)
            apply_to_lines(BLOCK, formula, block_from(x, row, start), block_from(y, row, start),
                           w + start if uses_w(formula) else w, f, &lines)
            c += BLOCK


cdef inline flattened change_transposed(Formula formula, const Batch* batch, Block x, Block y, const real* w,
                                        const Row_factors* of, const Rows* out) noexcept nogil:
    if formula == PROBABILITY:
        apply_transposed(PROBABILITY, batch, x, y, w, of, out)
    elif formula == SHIFT:
        apply_transposed(SHIFT, batch, x, y, w, of, out)
    elif formula == GRADIENT:
        apply_transposed(GRADIENT, batch, x, y, w, of, out)
    elif formula == GRADIENT_LABELS:
        apply_transposed(GRADIENT_LABELS, batch, x, y, w, of, out)
    elif formula == COUNTED:
        apply_transposed(COUNTED, batch, x, y, w, of, out)
    elif formula == WEIGHTED:
        apply_transposed(WEIGHTED, batch, x, y, w, of, out)
    elif formula == GRADIENT_CLASSES:
        apply_transposed(GRADIENT_CLASSES, batch, x, y, w, of, out)
    elif formula == GRADIENT_TARGETS:
        apply_transposed(GRADIENT_TARGETS, batch, x, y, w, of, out)
    elif formula == HESSIAN:
        apply_transposed(HESSIAN, batch, x, y, w, of, out)
    elif formula == SOFTMAX_BACKWARD:
        apply_transposed(SOFTMAX_BACKWARD, batch, x, y, w, of, out)
    elif formula == LOG_SOFTMAX_BACKWARD:
        apply_transposed(LOG_SOFTMAX_BACKWARD, batch, x, y, w, of, out)


cdef inline flattened change_block(Formula formula, const Batch* batch, Block x, Block y, const real* w,
                                   const Row_factors* of, Block out) noexcept nogil:
    """The formula's results to a block: of a tile, or of the array."""
    if formula == PROBABILITY:
        apply(PROBABILITY, batch, x, y, w, of, out)
    elif formula == SHIFT:
        apply(SHIFT, batch, x, y, w, of, out)
    elif formula == GRADIENT:
        apply(GRADIENT, batch, x, y, w, of, out)
    elif formula == GRADIENT_LABELS:
        apply(GRADIENT_LABELS, batch, x, y, w, of, out)
    elif formula == GRADIENT_CLASSES:
        apply(GRADIENT_CLASSES, batch, x, y, w, of, out)
    elif formula == GRADIENT_TARGETS:
        apply(GRADIENT_TARGETS, batch, x, y, w, of, out)
    elif formula == COUNTED:
        apply(COUNTED, batch, x, y, w, of, out)
    elif formula == WEIGHTED:
        apply(WEIGHTED, batch, x, y, w, of, out)
    elif formula == HESSIAN:
        apply(HESSIAN, batch, x, y, w, of, out)
    elif formula == HESSIAN_FOCAL:
        apply(HESSIAN_FOCAL, batch, x, y, w, of, out)
    elif formula == MULTIPLY:
        apply(MULTIPLY, batch, x, y, w, of, out)
    elif formula == SMOOTH:
        apply(SMOOTH, batch, x, y, w, of, out)
    elif formula == SMOOTH_CHOSEN:
        apply(SMOOTH_CHOSEN, batch, x, y, w, of, out)
    elif formula == HIDE:
        apply(HIDE, batch, x, y, w, of, out)
    elif formula == KEEP:
        apply(KEEP, batch, x, y, w, of, out)
    elif formula == DIVIDE:
        apply(DIVIDE, batch, x, y, w, of, out)
    elif formula == CAP:
        apply(CAP, batch, x, y, w, of, out)
    elif formula == CAP_SLOPE:
        apply(CAP_SLOPE, batch, x, y, w, of, out)
    elif formula == SOFTMAX_BACKWARD:
        apply(SOFTMAX_BACKWARD, batch, x, y, w, of, out)
    elif formula == LOG_SOFTMAX_BACKWARD:
        apply(LOG_SOFTMAX_BACKWARD, batch, x, y, w, of, out)
    elif formula == LOSS_OF_PROBS:
        apply(LOSS_OF_PROBS, batch, x, y, w, of, out)
    elif formula == HESSIAN_PRODUCT:
        apply(HESSIAN_PRODUCT, batch, x, y, w, of, out)
    elif formula == EXPONENTIAL:
        apply(EXPONENTIAL, batch, x, y, w, of, out)
    elif formula == LOG_SHARE:
        apply(LOG_SHARE, batch, x, y, w, of, out)
    elif formula == LOGARITHM:
        apply(LOGARITHM, batch, x, y, w, of, out)
    elif formula == LOG_RATIO:
        apply(LOG_RATIO, batch, x, y, w, of, out)


cdef inline bint is_rare(Formula formula) noexcept nogil:
    """Whether results are transposed after they are computed: then the formula is not compiled once more."""
    return (formula == MULTIPLY or formula == LOSS_OF_PROBS or formula == HESSIAN_PRODUCT
            or formula == HESSIAN_FOCAL)


cdef inline void store_results(const Batch* batch, Block results, Rows* out, Pending* pending) noexcept nogil:
    """Results that are where `block_of` says to the array, if that is elsewhere: at once, or during the next batch."""
    if out.streamed and batch.first % batch.inner + batch.rows <= batch.inner:
        write_later(batch, out, results, pending)
    else:
        store_rows(batch, out, results)


cdef inline void apply_to_array(Formula formula, const Batch* batch, Block x, Block y, const real* w,
                                const Row_factors* of, Rows* out, Pending* pending) noexcept nogil:
    """The formula's results to the array: at once, or while the next batch is computed."""
    if (are_lines(batch, out) and out.storage == NATIVE and not leave_columns_empty(batch, out)
            and not is_rare(formula)):
        change_transposed(formula, batch, x, y, w, of, out)
    else:
        change_block(formula, batch, x, y, w, of, block_of(batch, out))
        store_results(batch, block_of(batch, out), out, pending)
