"""Two-class problems, one for each number: the logistic function, its logarithm, and the losses of labels 0 and 1.

    p = 1 / (1 + exp(-x)),     q' = (1 - smoothing) q + smoothing / 2
    loss = w (q' a softplus(-x) + (1 - q') softplus(x)),     softplus(x) = max(x, 0) + log1p(exp(-|x|))
    grad = w ((1 - q') p - q' a (1 - p)),     hess = w ((1 - q') + q' a) p (1 - p)

a is the weight of the positive class. p and 1 - p each come from e = exp(-|x|), as 1 / (1 + e) or e / (1 + e): neither
is a difference, so neither tail loses digits. With a focal factor the loss l of a label becomes u^gamma l, u being
1 - p for label 1 and p for label 0. As a function of z, x or -x, its derivatives are, with p_t = 1 - u,

    -u^gamma (gamma p_t l + u)   and   u^gamma p_t (gamma^2 p_t l + u (2 gamma + 1 - gamma l))

Numbers are taken as they lie in memory, a block at a time: what is given in another dtype, or for whole rows or
columns, is brought to a block first.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from .batch cimport Storage, size_of
from .conversion cimport copy_run, load_as, store_as
from .labels cimport Integer, copy_labels
from .losses cimport reciprocal
from .math cimport INFINITY, exp, log1p, power, product
from .simd cimport (
    FLOAT64, HALVES, LANES, VECTORS, W, absolute, broadcast, broadcast_wide, equal, flattened, fma, greater, load,
    load_labels, mask, maximum, narrow, real, select, store, store_wide, vec, wide, widen,
)
from .sums cimport add_number, add_wide, divided
from .threads cimport MOST_PARTS, parts_of, share, threads_for
from .totals cimport sum_of_parts
from .values cimport Values

cdef enum:
    BLOCK_SIZE = 512        # numbers; a multiple of LANES (of float64 they take 28 kB of stack)

cdef enum Logistic:
    SIGMOID
    LOG_SIGMOID
    LOSSES

cdef struct Binary:
    Logistic function
    Storage storage         # of x, and of results that have its shape
    const char* x           # size numbers side by side,
    Py_ssize_t size
    Py_ssize_t columns      # of which so many are a row
    const char* labels      # as many integers, or NULL
    Integer labels_dtype
    Py_ssize_t label_size   # bytes of one
    bint ignoring
    int64_t ignored
    const real* q           # probabilities, where there are no labels
    const real* positive    # a of each column, or NULL
    Values weights          # of rows and columns, or none
    double smoothing
    double gamma
    double divisor
    real* losses            # of each number, or NULL
    char* out               # the function's results, or the gradient; or NULL
    char* hess              # or NULL
    int parts
    double sums[MOST_PARTS]     # of the losses
    uint64_t outside[MOST_PARTS]    # not 0 if a label was neither 0, 1 nor ignored

cdef struct Inputs:         # of a block; what is computed takes the place of what is no longer needed
    real x[BLOCK_SIZE]      # then the Hessian
    real e[BLOCK_SIZE]      # exp(-|x|), then the gradient
    real log_sum[BLOCK_SIZE]    # log1p(e), then the loss
    real q[BLOCK_SIZE]
    real a[BLOCK_SIZE]
    real w[BLOCK_SIZE]
    int64_t label[BLOCK_SIZE]
    uint64_t outside        # not 0 if a label was neither 0, 1 nor ignored

cdef struct Outputs:        # for a vector
    vec loss
    vec grad
    vec hess


cdef inline void load_weights(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    cdef Py_ssize_t row = start // of.columns
    cdef Py_ssize_t column = start % of.columns
    cdef Py_ssize_t k
    for k in range(n):
        inputs.a[k] = of.positive[column] if of.positive != NULL else 1
        inputs.w[k] = 1
        if of.weights.origin != NULL:
            inputs.w[k] = (<const real*> (of.weights.origin + row * of.weights.outer_stride
                                          + column * of.weights.inner_stride))[0]
        column += 1
        if column == of.columns:
            row, column = row + 1, 0


cdef inline bint is_weighted(const Binary* of) noexcept nogil:
    return of.positive != NULL or of.weights.origin != NULL or of.ignoring


cdef inline void take_targets(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """Targets and weights of a block; what does not count has weight 0."""
    cdef Py_ssize_t k
    if is_weighted(of):
        load_weights(of, start, n, inputs)
    if of.labels == NULL:
        memcpy(inputs.q, of.q + start, n * sizeof(real))
        return
    copy_labels(of.labels_dtype, of.labels + start * of.label_size, of.label_size, inputs.label, n)
    for k in range(n if of.ignoring else 0):
        if inputs.label[k] == of.ignored:
            inputs.label[k] = 0
            inputs.w[k] = 0
    for k in range(n):
        inputs.outside |= <uint64_t> inputs.label[k] & ~<uint64_t> 1
    for k in range((n + W - 1) // W):
        store(inputs.q + k * W, load_labels(inputs.label + k * W))


cdef inline void load_x(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """x, e and its logarithm, each in a loop of its own: what is long waits for itself, and a CPU looks only some tens
    of operations ahead.
    """
    cdef Py_ssize_t vectors = (n + W - 1) // W
    cdef Py_ssize_t k
    copy_run(of.storage, <char*> of.x + start * size_of(of.storage), inputs.x, n, True)
    for k in range(vectors):
        store(inputs.e + k * W, exp(-absolute(load(inputs.x + k * W)), 0))
    for k in range(vectors):
        store(inputs.log_sum + k * W, log1p(load(inputs.e + k * W)))


cdef inline vec smoothed(vec q, vec smoothing) noexcept nogil:
    """(1 - smoothing) q + smoothing / 2."""
    return fma(-smoothing, q, fma(broadcast(0.5), smoothing, q))


cdef inline Outputs loss_of_target(vec x, vec e, vec log_sum, vec q, vec a, vec smoothing) noexcept nogil:
    """The loss of a target from 0 to 1 and its derivatives, without their weight."""
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec of_larger = one / (one + e)
    cdef vec of_smaller = e * of_larger
    cdef mask positive = greater(x, zero)
    cdef vec p = select(positive, of_larger, of_smaller)
    cdef vec not_p = select(positive, of_smaller, of_larger)
    cdef vec above = maximum(zero, x) + log_sum         # softplus(x)
    cdef vec below = maximum(zero, -x) + log_sum        # softplus(-x)
    cdef vec of_one = smoothed(q, smoothing) * a
    cdef vec of_zero = smoothed(one - q, smoothing)
    return Outputs((product(of_one, below) + product(of_zero, above)) + zero * log_sum,     # (NaN where x is)
                   fma(of_zero, p, -(of_one * not_p)),
                   (of_zero + of_one) * (p * not_p))


cdef inline Outputs focal_loss(vec x, vec e, vec log_sum, vec q, vec a, real exponent) noexcept nogil:
    """The same of a label with the focal factor."""
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef mask is_one = greater(q, broadcast(0.5))
    cdef vec z = select(is_one, x, -x)
    cdef vec weight = select(is_one, a, one)
    cdef vec of_larger = one / (one + e)
    cdef vec of_smaller = e * of_larger
    cdef mask positive = greater(z, zero)
    cdef mask is_infinite
    cdef vec p = select(positive, of_larger, of_smaller)
    cdef vec u = select(positive, of_smaller, of_larger)
    cdef vec loss = maximum(zero, -z) + log_sum
    cdef vec gamma = broadcast(exponent)
    cdef vec factor = weight * power(u, maximum(zero, z) + log_sum, exponent)
    cdef vec slope = fma(gamma * p, loss, u)
    cdef vec curvature = p * fma(gamma * gamma * p, loss, u * fma(-gamma, loss, gamma + gamma + one))
    is_infinite = equal(maximum(one, gamma * gamma) * loss, broadcast(INFINITY))    # (then p is 0)
    slope = select(is_infinite, one, slope)
    curvature = select(is_infinite, zero, curvature)
    return Outputs(product(factor, loss) + zero * log_sum, select(is_one, -factor, factor) * slope,
                   product(factor, curvature))


cdef inline void take_weighted(vec x, vec w, double scale, wide* halves) noexcept nogil:
    """x w scale, and 0 where w is; in double, for float32 may lack a part of it where it has the whole."""
    cdef int k
    x = select(equal(w, broadcast(0)), broadcast(0), x)
    for k in range(HALVES):
        halves[k] = (widen(x, k) * widen(w, k)) * broadcast_wide(scale)


cdef inline void compute_losses_of_block(bint focal, const Binary* of, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """The losses and their derivatives, without weights."""
    cdef vec smoothing = broadcast(<real> of.smoothing)
    cdef vec x, e, log_sum, q, a
    cdef Outputs outputs
    cdef Py_ssize_t k
    for k in range((n + W - 1) // W):
        x, e, log_sum = load(inputs.x + k * W), load(inputs.e + k * W), load(inputs.log_sum + k * W)
        q, a = load(inputs.q + k * W), load(inputs.a + k * W)
        if focal:
            outputs = focal_loss(x, e, log_sum, q, a, <real> of.gamma)
        else:
            outputs = loss_of_target(x, e, log_sum, q, a, smoothing)
        store(inputs.log_sum + k * W, outputs.loss)
        if of.out != NULL:
            store(inputs.e + k * W, outputs.grad)
        if of.hess != NULL:
            store(inputs.x + k * W, outputs.hess)


cdef inline void weigh(bint weighted, const Binary* of, const real* w, Py_ssize_t n, real* x) noexcept nogil:
    """x times the weights, divided by the divisor."""
    cdef double scale = reciprocal(of.divisor)
    cdef vec value = broadcast(<real> scale)
    cdef vec correction = broadcast(<real> (scale - <double> <real> scale))
    cdef wide halves[HALVES]
    cdef Py_ssize_t k
    if not weighted and scale == 1:
        return
    for k in range((n + W - 1) // W):
        if weighted:
            take_weighted(load(x + k * W), load(w + k * W), scale, halves)
            store(x + k * W, narrow(halves))
        else:
            store(x + k * W, divided(load(x + k * W), value, correction))


cdef inline void add_losses_of_block(bint weighted, const Binary* of, Py_ssize_t n, Inputs* inputs, wide* total,
                                     wide* lost) noexcept nogil:
    """The sums of the losses, of float32 in double, to the totals. (What that lacks in a block is far below an ulp.)"""
    cdef double scale = reciprocal(of.divisor)
    cdef wide sum[VECTORS * HALVES]
    cdef wide halves[HALVES]
    cdef vec loss
    cdef Py_ssize_t steps = (n + LANES - 1) // LANES
    cdef Py_ssize_t step, v, k, i
    for i in range(VECTORS * HALVES):
        sum[i] = broadcast_wide(0)
    for k in range(n, steps * LANES):
        inputs.log_sum[k] = 0
    for step in range(steps):
        for v in range(VECTORS):
            k = step * LANES + v * W
            loss = load(inputs.log_sum + k)
            if weighted:
                take_weighted(loss, load(inputs.w + k), scale, halves)
            for i in range(HALVES):
                if not weighted:
                    halves[i] = widen(loss, i) * broadcast_wide(scale)
                if FLOAT64:
                    add_wide(halves[i], &total[v * HALVES + i], &lost[v * HALVES + i])
                else:
                    sum[v * HALVES + i] = sum[v * HALVES + i] + halves[i]
    for i in range((1 - FLOAT64) * VECTORS * HALVES):
        add_wide(sum[i], &total[i], &lost[i])


cdef inline void put_block(bint weighted, const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs,
                           wide* total, wide* lost) noexcept nogil:
    """What is wanted of a block: its losses, and their derivatives."""
    cdef Py_ssize_t at = start * size_of(of.storage)
    add_losses_of_block(weighted, of, n, inputs, total, lost)
    if of.losses != NULL:
        weigh(weighted, of, inputs.w, n, inputs.log_sum)
        memcpy(of.losses + start, inputs.log_sum, n * sizeof(real))
    if of.out != NULL:
        weigh(weighted, of, inputs.w, n, inputs.e)
        copy_run(of.storage, of.out + at, inputs.e, n, False)
    if of.hess != NULL:
        weigh(weighted, of, inputs.w, n, inputs.x)
        copy_run(of.storage, of.hess + at, inputs.x, n, False)


cdef inline void put_logistic(const Binary* of, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """p, or log(p) = min(x, 0) - log1p(e)."""
    cdef Py_ssize_t itemsize = size_of(of.storage)
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec x, e, result
    cdef Py_ssize_t k, at, left
    for k in range((n + W - 1) // W):
        at = start + k * W
        left = min(<Py_ssize_t> W, start + n - at)
        x = load_as(of.storage, of.x + at * itemsize, left)
        e = exp(-absolute(x), 0)
        if of.function == SIGMOID:
            result = select(greater(zero, x), e, one) / (one + e)
        else:
            result = -(maximum(zero, -x) + log1p(e))
        store_as(of.storage, of.out + at * itemsize, result, left)


cdef inline flattened compute_binary(Binary* of, Py_ssize_t first, Py_ssize_t last, int part) noexcept nogil:
    """The numbers from one to another, of which the first is that of a block; and the sum of their losses."""
    cdef Inputs inputs
    cdef wide total[VECTORS * HALVES]
    cdef wide lost[VECTORS * HALVES]
    cdef double totals[LANES]
    cdef double lost_of_lane[LANES]
    cdef double value = 0
    cdef double lost_of_value = 0
    cdef Py_ssize_t n, k
    if of.function == LOSSES:
        memset(&inputs, 0, sizeof(Inputs))
        for k in range(BLOCK_SIZE):
            inputs.a[k] = inputs.w[k] = 1
        for k in range(VECTORS * HALVES):
            total[k] = lost[k] = broadcast_wide(0)
    while first < last:
        n = min(<Py_ssize_t> BLOCK_SIZE, last - first)
        if of.function == LOSSES:
            load_x(of, first, n, &inputs)
            take_targets(of, first, n, &inputs)
            if of.gamma != 0:   # (literals, for loops without tests)
                compute_losses_of_block(True, of, n, &inputs)
            else:
                compute_losses_of_block(False, of, n, &inputs)
            if is_weighted(of):
                put_block(True, of, first, n, &inputs, total, lost)
            else:
                put_block(False, of, first, n, &inputs, total, lost)
        else:
            put_logistic(of, first, n)
        first += n
    if of.function == LOSSES:
        for k in range(VECTORS * HALVES):
            store_wide(totals + k * (W // HALVES), total[k])
            store_wide(lost_of_lane + k * (W // HALVES), lost[k])
        for k in range(LANES):
            add_number(totals[k], &value, &lost_of_value)
            lost_of_value += lost_of_lane[k]
        of.sums[part] = value + lost_of_value if value - value == 0 else value
        of.outside[part] = inputs.outside


cdef inline void compute_part_of_binary(void* job, int seat, int part) noexcept nogil:
    cdef Binary* of = <Binary*> job
    cdef Py_ssize_t blocks = (of.size + BLOCK_SIZE - 1) // BLOCK_SIZE
    compute_binary(of, blocks * part // of.parts * BLOCK_SIZE,
                   min(of.size, blocks * (part + 1) // of.parts * BLOCK_SIZE), part)


cdef inline int run_binary(Binary* of, int threads) except -1 nogil:
    """The function of all numbers, on as many threads as it may have; the losses' sum is sums[0]."""
    cdef int part
    cdef Py_ssize_t blocks = (of.size + BLOCK_SIZE - 1) // BLOCK_SIZE
    of.parts = parts_of(blocks, BLOCK_SIZE)
    share(compute_part_of_binary, of, of.parts, threads_for(of.size, min(threads, of.parts)))
    if of.function == LOSSES:
        of.sums[0] = sum_of_parts(of.sums, of.parts)
        for part in range(1, of.parts):
            of.outside[0] |= of.outside[part]
    return 0
