"""One formula on every number of a batch, with numbers of its row: in a block, or on the way to the array.

There is one mechanism, `apply`: a literal chooses the formula, and the C compiler keeps that alone. Where rows are
columns of a tile, and lie one after the other in the array, results are transposed in registers as they are computed,
so that no number is written twice.

Tried on AVX2: results stored 16 bytes at a time even where a row has W more classes, 0.93 of the speed at 33 and 100.
"""

from libc.string cimport memcpy

from .math cimport INFINITY, exp, exp_any, exp_less, flush, log, product, unlifted
from .simd cimport (
    BLOCK, LANES, VECTORS, W, absolute, broadcast, equal, flattened, fma, greater, load, load_first, real, select,
    store, store_block, store_first, store_square, vec,
)
from .stores cimport Pending, write_later
from .sums cimport divided
from .terms cimport for_step, for_strip
from .tiles cimport (
    NATIVE, Batch, Block, Rows, are_adjacent, are_few_lines, are_lines, block_of, row_at, store_rows, whole_lines,
)

cdef enum Formula:          # of x and y, blocks; w, the class weights; a, b, c, numbers of the row
    SCALE                   # a x
    PROBABILITY             # (a + b) e,     e the exponentials x, and 0 for the smallest
    SHIFT                   # (x - a) - b
    GRADIENT                # (a + b) e,     e the exponentials x 2^-LIFT, likewise
    GRADIENT_LABELS         # (a + b) e,     and at_label in the class w, its number, that is the label
    GRADIENT_CLASSES        # a e - b w,     and 0 in rows that do not count
    GRADIENT_TARGETS        # a e - b y,     likewise; where e is the largest: b ((near - y) + others)
    COUNTED                 # a e,           likewise
    WEIGHTED                # a x,           likewise
    HESSIAN                 # b p (1 - p) power,   p = a e; where e is the largest 1 - p is c
    MULTIPLY                # x y,           and 0 where x is, or where y is and x infinite
    SMOOTH                  # w (a x + b)
    HIDE                    # x where y is not 0, else -inf
    DIVIDE                  # (x / 2 - b / 2) / a: the whole difference may be too large
    CAP                     # (the difference from the row's largest of softcap * tanh, see `capped`)
    CAP_SLOPE               # (its derivative, see `slope_of_cap`)
    DIFFERENCE              # x - a, and 0 in rows that do not count
    SOFTMAX_BACKWARD        # y (b x - a) c, c being 1 / b: the difference may be too large, but for that
    LOG_SOFTMAX_BACKWARD    # (b x - exp(y) a) c
    LOSS_OF_PROBS           # -b x / (y a), and 0 where b x is
    HESSIAN_PRODUCT         # b p (y - c) power,   p = a x, and 0 in rows that do not count
    ZERO                    # 0
    EXPONENTIAL             # b exp((x / 2 - a / 2) c),    and 0 where b is
    LOG_SHARE               # (x / 2 - a / 2) c - b
    LOGARITHM               # log(x),        and 0 where y is
    LOG_RATIO               # (the difference of x and y, less that of their largest, see `log_ratio`)

cdef struct Row_factors:    # arrays of a number for each row of a batch
    real* a
    real* b
    real* c
    real* near
    real* others
    real* label
    real* at_label
    real* counts  # 0 if it does not count
    real* power             # of 2: what a product is multiplied by whose factor b would be too large or too small

cdef struct Factors:        # for a vector
    vec a
    vec b
    vec c
    vec near
    vec others
    vec label
    vec at_label
    vec counts
    vec power


cdef inline Factors factors_of(Row_factors of, const Batch* batch, Py_ssize_t strip,
                               Py_ssize_t v) noexcept nogil:
    return Factors(for_strip(of.a, batch, strip, v), for_strip(of.b, batch, strip, v), for_strip(of.c, batch, strip, v),
                   for_strip(of.near, batch, strip, v), for_strip(of.others, batch, strip, v),
                   for_strip(of.label, batch, strip, v), for_strip(of.at_label, batch, strip, v),
                   for_strip(of.counts, batch, strip, v), for_strip(of.power, batch, strip, v))


cdef inline vec exponential_of(vec x) noexcept nogil:
    """Without the lift, and 0 for the smallest."""
    return unlifted(flush(x))


cdef inline vec capped(vec u, Factors f) noexcept nogil:
    """x - x_m for x = softcap * tanh(u / (temperature * softcap)), with v = u / (temperature * softcap).

    tanh(v_m) - tanh(v) = sinh(v_m - v) / (cosh(v_m) cosh(v)), in exponentials of what is negative: the difference of
    two large logits is not lost to the rounding of their tanh. a = u_m, b = -2 / (temperature * softcap),
    c = 2 softcap / (1 + exp(-2 |v_m|)), near = 1 if u_m > 0, else exp(-2 |v_m|).
    """
    cdef vec e = exp_less(f.b * absolute(u), 0, 0)
    cdef vec difference = exp_less(f.b * (f.a - u), 0, 1)
    cdef vec share = broadcast(1) / (broadcast(1) + e)
    cdef vec result = f.c * difference * (select(greater(u, broadcast(0)), e, f.near) * share)
    return select(equal(u, f.a), broadcast(0), result)


cdef inline vec slope_of_cap(vec u, Factors f) noexcept nogil:
    """dx/du = (1 - tanh(v)^2) / temperature. others = 4 / temperature, b as above."""
    cdef vec e = exp_less(f.b * absolute(u), 0, 0)
    cdef vec share = broadcast(1) / (broadcast(1) + e)
    return f.others * (e * (share * share))


cdef inline vec log_ratio(vec x, vec y, Factors f) noexcept nogil:
    """((x - y) / 2 - a - b) c; a + b is the same of the largest. The rounding of the difference is added (Knuth's
    two-sum), and that of two equal numbers is 0, also where these are infinite.
    """
    cdef vec half = broadcast(0.5), zero = broadcast(0)
    cdef vec above = half * x
    cdef vec below = -(half * y)
    cdef vec sum = select(equal(x, y), zero, above + below)
    cdef vec added = sum - above
    cdef vec lost = (above - (sum - added)) + (below - added)
    return ((sum - f.a) + (select(equal(lost, lost), lost, zero) - f.b)) * f.c


cdef inline vec limited_product(vec a, vec b) noexcept nogil:
    """a * b, and 0 where b is and a is infinite, since it was too large for this dtype."""
    return select(equal(absolute(a), broadcast(INFINITY)), product(b, a), a * b)


cdef inline vec factor_of(vec e, vec a) noexcept nogil:
    """a, and 0 where e is, since a is infinite if a z_loss is too large. (A NaN stays one.)"""
    cdef vec at_zero = select(equal(a, a), broadcast(0), a)
    return select(equal(e, broadcast(0)), at_zero, a)


cdef inline vec evaluate(Formula formula, vec x, vec y, vec w, Factors f) noexcept nogil:
    cdef vec zero = broadcast(0)
    cdef vec p, result
    cdef vec e = exponential_of(x)
    if formula == SCALE:
        return f.a * x
    if formula == PROBABILITY:
        return divided(flush(x), f.a, f.b)
    if formula == SHIFT:
        return (x - f.a) - f.b
    if formula == GRADIENT:
        return divided(e, f.a, f.b)
    if formula == GRADIENT_LABELS:
        return select(equal(w, f.label), f.at_label, divided(e, f.a, f.b))
    if formula == COUNTED:
        return select(equal(f.counts, zero), zero, factor_of(e, f.a) * e)
    if formula == WEIGHTED:
        return select(equal(f.counts, zero), zero, f.a * x)
    if formula == GRADIENT_CLASSES:
        return select(equal(f.counts, zero), zero, fma(factor_of(e, f.a), e, -(f.b * w)))
    if formula == GRADIENT_TARGETS:
        result = select(equal(x, f.c), f.b * ((f.near - y) + f.others), fma(factor_of(e, f.a), e, -(f.b * y)))
        return select(equal(f.counts, zero), zero, result)
    if formula == HESSIAN:
        p = f.a * e
        result = limited_product(f.b, p * select(equal(x, f.near), f.c, broadcast(1) - p)) * f.power
        return select(equal(f.counts, zero), zero, result)
    if formula == MULTIPLY:
        return select(equal(x, zero), x, limited_product(x, y))
    if formula == SMOOTH:
        return w * fma(f.a, x, f.b)
    if formula == HIDE:
        return select(equal(y, zero), broadcast(-INFINITY), x)
    if formula == DIVIDE:
        return (broadcast(0.5) * x - broadcast(0.5) * f.b) / f.a
    if formula == CAP:
        return capped(x, f)
    if formula == CAP_SLOPE:
        return slope_of_cap(x, f)
    if formula == DIFFERENCE:
        return select(equal(f.counts, zero), zero, x - f.a)
    if formula == SOFTMAX_BACKWARD:
        return (y * fma(f.b, x, -f.a)) * f.c
    if formula == LOG_SOFTMAX_BACKWARD:
        return fma(-exp_any(y), f.a, f.b * x) * f.c
    if formula == LOSS_OF_PROBS:
        result = product(f.b, x)
        return select(equal(result, zero), zero, -result / (y * f.a))
    if formula == ZERO:
        return zero
    if formula == EXPONENTIAL:
        p = exp((broadcast(0.5) * x - broadcast(0.5) * f.a) * f.c, 0)
        return select(equal(f.b, zero), zero, limited_product(f.b, p))
    if formula == LOG_SHARE:
        return (broadcast(0.5) * x - broadcast(0.5) * f.a) * f.c - f.b
    if formula == LOGARITHM:
        return select(equal(y, zero), zero, log(x))
    if formula == LOG_RATIO:
        return log_ratio(x, y, f)
    p = f.a * x
    return select(equal(f.counts, zero), zero, limited_product(f.b, p * (y - f.c)) * f.power)


cdef inline bint uses_y(Formula formula) noexcept nogil:
    return (formula == GRADIENT_TARGETS or formula == MULTIPLY or formula == HIDE or formula == SOFTMAX_BACKWARD
            or formula == LOG_SOFTMAX_BACKWARD or formula == LOSS_OF_PROBS or formula == HESSIAN_PRODUCT
            or formula == LOG_RATIO or formula == LOGARITHM)


cdef inline bint uses_w(Formula formula) noexcept nogil:
    return formula == GRADIENT_LABELS or formula == GRADIENT_CLASSES or formula == SMOOTH


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
                w_part = for_step(w, batch, step, v)
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


cdef inline void apply_to_lines(Py_ssize_t width, Formula formula, const Batch* batch, Block x, Block y, const real* w,
                                Factors f, Py_ssize_t row, Py_ssize_t c, const Rows* out, bint whole) noexcept nogil:
    """The same of W rows and `width` classes, from columns to the array, transposed in registers."""
    cdef Py_ssize_t stride = out.outer_stride
    cdef Py_ssize_t present = min(width, batch.classes)
    cdef real copy[W * BLOCK]
    cdef vec block[W]
    cdef vec y_part = broadcast(0), w_part = broadcast(0)
    cdef char* line = row_at(batch, out, batch.first + row) + c * <Py_ssize_t> sizeof(real)
    cdef const real* x_at = x.start + row + c * x.step
    cdef const real* y_at = y.start + row + c * y.step
    cdef Py_ssize_t k
    for k in range(width):
        block[k] = broadcast(0)
        if width == W or k < present:
            if uses_y(formula):
                y_part = load(y_at)
            if uses_w(formula):
                w_part = broadcast(w[c + k])
            block[k] = evaluate(formula, load(x_at), y_part, w_part, f)
        x_at += x.step
        y_at += y.step
    if width == W and whole:
        store_square(line, stride, block)
    elif whole:    # what goes beyond a short row is written again with the next
        store_block(line, stride, block)
    else:
        store_block(copy, BLOCK * sizeof(real), block)
        for k in range(min(<Py_ssize_t> W, batch.rows - row)):
            if present == BLOCK:    # (a size that compilers know is a move, any other a call)
                memcpy(line + k * stride, copy + k * BLOCK, BLOCK * sizeof(real))
            else:
                memcpy(line + k * stride, copy + k * BLOCK, present * sizeof(real))


cdef inline void apply_transposed(Formula formula, const Batch* batch, Block x, Block y, const real* w,
                                  const Row_factors* factors, const Rows* out) noexcept nogil:
    """The same from columns to rows of the array: W x W numbers at a time, and BLOCK classes where that is enough."""
    cdef Row_factors of = factors[0]
    cdef Py_ssize_t length = batch.classes
    cdef Py_ssize_t whole = whole_lines(batch.rows, length, are_adjacent(batch, out))
    cdef Py_ssize_t squares = (length + W - BLOCK - 1) // W if length >= W else 0
    cdef Py_ssize_t group, row, c
    cdef Factors f
    for group in range((batch.rows + W - 1) // W):
        row = group * W
        f = factors_of(of, batch, row // LANES, row % LANES // W)
        c = 0
        if row + W <= whole:
            for c in range(squares):
                apply_to_lines(W, formula, batch, x, y, w, f, row, min(c * W, length - W), out, True)
            c = squares * W
        while c < length:
            apply_to_lines(BLOCK, formula, batch, x, y, w, f, row, max(<Py_ssize_t> 0, min(c, length - BLOCK)), out,
                           row + W <= whole)
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
    if formula == SCALE:
        apply(SCALE, batch, x, y, w, of, out)
    elif formula == PROBABILITY:
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
    elif formula == MULTIPLY:
        apply(MULTIPLY, batch, x, y, w, of, out)
    elif formula == SMOOTH:
        apply(SMOOTH, batch, x, y, w, of, out)
    elif formula == HIDE:
        apply(HIDE, batch, x, y, w, of, out)
    elif formula == DIVIDE:
        apply(DIVIDE, batch, x, y, w, of, out)
    elif formula == CAP:
        apply(CAP, batch, x, y, w, of, out)
    elif formula == CAP_SLOPE:
        apply(CAP_SLOPE, batch, x, y, w, of, out)
    elif formula == DIFFERENCE:
        apply(DIFFERENCE, batch, x, y, w, of, out)
    elif formula == SOFTMAX_BACKWARD:
        apply(SOFTMAX_BACKWARD, batch, x, y, w, of, out)
    elif formula == LOG_SOFTMAX_BACKWARD:
        apply(LOG_SOFTMAX_BACKWARD, batch, x, y, w, of, out)
    elif formula == LOSS_OF_PROBS:
        apply(LOSS_OF_PROBS, batch, x, y, w, of, out)
    elif formula == HESSIAN_PRODUCT:
        apply(HESSIAN_PRODUCT, batch, x, y, w, of, out)
    elif formula == ZERO:
        apply(ZERO, batch, x, y, w, of, out)
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
    return formula == MULTIPLY or formula == LOSS_OF_PROBS or formula == HESSIAN_PRODUCT or formula == ZERO


cdef inline void leave(const Batch* batch, Block results, Rows* out, Pending* pending) noexcept nogil:
    """Results that are where `block_of` says to the array, if that is elsewhere: at once, or during the next batch."""
    if out.streamed and batch.first % batch.inner + batch.rows <= batch.inner:
        write_later(batch, out, results, pending)
    else:
        store_rows(batch, out, results)


cdef inline void finish_rows(Formula formula, const Batch* batch, Block x, Block y, const real* w,
                             const Row_factors* of, Rows* out, Pending* pending) noexcept nogil:
    """The formula's results to the array: at once, or while the next batch is computed."""
    if (are_lines(batch, out) and out.storage == NATIVE and not are_few_lines(batch, out)
            and not is_rare(formula)):
        change_transposed(formula, batch, x, y, w, of, out)
    else:
        change_block(formula, batch, x, y, w, of, block_of(batch, out))
        leave(batch, block_of(batch, out), out, pending)
