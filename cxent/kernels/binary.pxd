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

Tried on a Zen 3: results of 5 to 30 million numbers written past the caches, 0.88 to 0.99 of the speed.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

from .batch cimport CACHED_BYTES, NATIVE, Storage, size_of
from .conversion cimport copy_run
from .labels cimport Integer, copy_labels, find_outside
from .losses cimport reciprocal
from .math cimport INFINITY, exp, log1p, power, product
from .simd cimport (
    FLOAT64, HALVES, LANES, VECTORS, W, absolute, broadcast, broadcast_wide, equal, flattened, fma, greater, load,
    load_first, load_labels, mask, maximum, narrow, prefetch, real, select, store, store_first, store_wide, vec, wide,
    widen,
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
    bint outside[MOST_PARTS]    # whether a label was neither 0, 1 nor ignored

cdef struct Inputs:         # of a block; what is computed takes the place of what is no longer needed
    real x[BLOCK_SIZE]      # then the Hessian
    real e[BLOCK_SIZE]      # exp(-|x|), then the gradient
    real log_sum[BLOCK_SIZE]    # log1p(e), then the loss
    real q[BLOCK_SIZE]
    real a[BLOCK_SIZE]
    real w[BLOCK_SIZE]
    int64_t label[BLOCK_SIZE]
    uint64_t outside        # with the sign bit, if a label was neither 0, 1 nor ignored

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


cdef struct Run:            # where the numbers of a block are: in the arrays, or in its inputs
    const real* x
    const real* q
    real* grad              # NULL if it is not wanted
    real* hess


cdef inline const int64_t* take_labels_of_block(const Binary* of, Py_ssize_t start, Py_ssize_t n,
                                                Inputs* inputs) noexcept nogil:
    """The labels as int64; what does not count has label 0 and weight 0."""
    cdef const char* p = of.labels + start * of.label_size
    cdef Py_ssize_t k
    if n == BLOCK_SIZE and not of.ignoring and of.label_size == sizeof(int64_t) and <size_t> p % sizeof(int64_t) == 0:
        return <const int64_t*> p
    copy_labels(of.labels_dtype, p, of.label_size, inputs.label, n)
    for k in range(n if of.ignoring else 0):
        if inputs.label[k] == of.ignored:
            inputs.label[k] = 0
            inputs.w[k] = 0
    return inputs.label


cdef inline const real* take_targets(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """The targets of a block, and their weights."""
    cdef const int64_t* label
    cdef Py_ssize_t k
    if is_weighted(of):
        load_weights(of, start, n, inputs)
    if of.labels == NULL:
        if n == BLOCK_SIZE:
            return of.q + start
        memcpy(inputs.q, of.q + start, n * sizeof(real))
        return inputs.q
    label = take_labels_of_block(of, start, n, inputs)
    find_outside(label, n, 1, &inputs.outside)
    for k in range((n + W - 1) // W):
        store(inputs.q + k * W, load_labels(label + k * W))
    return inputs.q


cdef inline Run run_of_block(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """Whole blocks of this dtype are read and written where they are. The next block of large arrays is prefetched."""
    cdef Run run = Run(&inputs.x[0], take_targets(of, start, n, inputs), NULL, NULL)
    cdef bint direct = of.storage == NATIVE and n == BLOCK_SIZE
    cdef Py_ssize_t itemsize = size_of(of.storage)
    cdef const char* next_x = of.x + (start + n) * itemsize
    cdef const char* next_labels = of.labels + (start + n) * of.label_size
    cdef Py_ssize_t k
    if of.size * itemsize > CACHED_BYTES:   # (GCC takes a function of prefetches alone for one without effects)
        for k in range(BLOCK_SIZE * itemsize // 64):
            prefetch(next_x + 64 * k)
        for k in range(BLOCK_SIZE * of.label_size // 64):
            prefetch(next_labels + 64 * k)
    if direct:
        run.x = <const real*> of.x + start
    else:
        copy_run(of.storage, <char*> of.x + start * itemsize, inputs.x, n, True)
    if of.out != NULL:
        run.grad = <real*> of.out + start if direct else &inputs.e[0]
    if of.hess != NULL:
        run.hess = <real*> of.hess + start if direct else &inputs.x[0]
    return run


cdef inline void compute_logarithms(const real* x, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """e and log1p(e), each in a loop of its own: what is long waits for itself, and a CPU looks only some tens of
    operations ahead.
    """
    cdef Py_ssize_t vectors = (n + W - 1) // W
    cdef Py_ssize_t k
    for k in range(vectors):
        store(inputs.e + k * W, exp(-absolute(load(x + k * W)), 0))
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


cdef inline vec weighed(bint weighted, double scale, vec x, vec w) noexcept nogil:
    """x times its weight and the scale."""
    cdef vec value = broadcast(<real> scale)
    cdef vec correction = broadcast(<real> (scale - <double> <real> scale))
    cdef wide halves[HALVES]
    if weighted:
        take_weighted(x, w, scale, halves)
        return narrow(halves)
    return divided(x, value, correction) if scale != 1 else x


cdef inline void compute_losses_of_run(bint focal, bint derivatives, bint weighted, const Binary* of, Run run,
                                       Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """The losses, without weights, and their derivatives, with them."""
    cdef vec smoothing = broadcast(<real> of.smoothing)
    cdef double scale = reciprocal(of.divisor)
    cdef vec x, e, log_sum, q, a, w
    cdef Outputs outputs
    cdef Py_ssize_t k
    for k in range((n + W - 1) // W):
        x, e, log_sum = load(run.x + k * W), load(inputs.e + k * W), load(inputs.log_sum + k * W)
        q, a, w = load(run.q + k * W), load(inputs.a + k * W), load(inputs.w + k * W)
        if focal:
            outputs = focal_loss(x, e, log_sum, q, a, <real> of.gamma)
        else:
            outputs = loss_of_target(x, e, log_sum, q, a, smoothing)
        store(inputs.log_sum + k * W, outputs.loss)
        if derivatives:
            store(run.grad + k * W, weighed(weighted, scale, outputs.grad, w))
            if run.hess != NULL:
                store(run.hess + k * W, weighed(weighted, scale, outputs.hess, w))


cdef inline void compute_losses_of_block(bint weighted, const Binary* of, Run run, Py_ssize_t n,
                                         Inputs* inputs) noexcept nogil:
    if of.gamma != 0:           # (literals, for loops with fewer tests)
        compute_losses_of_run(True, run.grad != NULL, weighted, of, run, n, inputs)
    elif run.grad != NULL:
        compute_losses_of_run(False, True, weighted, of, run, n, inputs)
    else:
        compute_losses_of_run(False, False, False, of, run, n, inputs)


cdef inline void weigh(bint weighted, const Binary* of, const real* w, Py_ssize_t n, real* x) noexcept nogil:
    """x times the weights, divided by the divisor."""
    cdef double scale = reciprocal(of.divisor)
    cdef Py_ssize_t k
    for k in range((n + W - 1) // W):
        store(x + k * W, weighed(weighted, scale, load(x + k * W), load(w + k * W)))


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


cdef inline void compute_block(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs, wide* total,
                               wide* lost) noexcept nogil:
    """What is wanted of a block: its losses, and their derivatives."""
    cdef Py_ssize_t at = start * size_of(of.storage)
    cdef bint weighted = is_weighted(of)
    cdef Run run = run_of_block(of, start, n, inputs)
    compute_logarithms(run.x, n, inputs)
    compute_losses_of_block(weighted, of, run, n, inputs)
    add_losses_of_block(weighted, of, n, inputs, total, lost)
    if of.losses != NULL:
        weigh(weighted, of, inputs.w, n, inputs.log_sum)
        memcpy(of.losses + start, inputs.log_sum, n * sizeof(real))
    if run.grad == &inputs.e[0]:
        copy_run(of.storage, of.out + at, inputs.e, n, False)
    if run.hess == &inputs.x[0]:
        copy_run(of.storage, of.hess + at, inputs.x, n, False)


cdef inline vec logistic_of(Logistic function, vec x) noexcept nogil:
    """p, or log(p) = min(x, 0) - log1p(e)."""
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec e = exp(-absolute(x), 0)
    if function == SIGMOID:
        return select(greater(zero, x), e, one) / (one + e)
    return -(maximum(zero, -x) + log1p(e))


cdef inline void put_logistic_of_run(Logistic function, const real* x, Py_ssize_t n, real* out) noexcept nogil:
    cdef vec value
    cdef Py_ssize_t k, left
    for k in range((n + W - 1) // W):
        left = n - k * W
        value = load(x + k * W) if left >= W else load_first(x + k * W, left, broadcast(0))
        value = logistic_of(function, value)
        if left >= W:
            store(out + k * W, value)
        else:
            store_first(out + k * W, value, left)


cdef inline void put_logistic(Logistic function, const Binary* of, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The function of the numbers from one to another; half precision goes through a block."""
    cdef real block[BLOCK_SIZE]
    cdef Py_ssize_t itemsize = size_of(of.storage)
    cdef Py_ssize_t n
    if of.storage == NATIVE:
        put_logistic_of_run(function, <const real*> of.x + first, last - first, <real*> of.out + first)
        return
    while first < last:
        n = min(<Py_ssize_t> BLOCK_SIZE, last - first)
        copy_run(of.storage, <char*> of.x + first * itemsize, block, n, True)
        put_logistic_of_run(function, block, n, block)
        copy_run(of.storage, of.out + first * itemsize, block, n, False)
        first += n


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
    if of.function == SIGMOID:  # (literals)
        put_logistic(SIGMOID, of, first, last)
        return
    if of.function == LOG_SIGMOID:
        put_logistic(LOG_SIGMOID, of, first, last)
        return
    memset(&inputs, 0, sizeof(Inputs))
    for k in range(BLOCK_SIZE):
        inputs.a[k] = inputs.w[k] = 1
    for k in range(VECTORS * HALVES):
        total[k] = lost[k] = broadcast_wide(0)
    while first < last:
        n = min(<Py_ssize_t> BLOCK_SIZE, last - first)
        compute_block(of, first, n, &inputs, total, lost)
        first += n
    for k in range(VECTORS * HALVES):
        store_wide(totals + k * (W // HALVES), total[k])
        store_wide(lost_of_lane + k * (W // HALVES), lost[k])
    for k in range(LANES):
        add_number(totals[k], &value, &lost_of_value)
        lost_of_value += lost_of_lane[k]
    of.sums[part] = value + lost_of_value if value - value == 0 else value
    of.outside[part] = inputs.outside >> 63 != 0


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
            of.outside[0] = of.outside[0] or of.outside[part]
    return 0
