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

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from .batch cimport Storage, size_of
from .conversion cimport load_as, store_as
from .labels cimport Integer, copy_labels
from .losses cimport reciprocal
from .math cimport INFINITY, exp, log1p, power, product
from .simd cimport (
    HALVES, LANES, VECTORS, W, absolute, broadcast, broadcast_wide, equal, flattened, fma, greater, load, load_labels,
    mask, maximum, narrow, real, select, store, store_first, store_wide, vec, wide, widen,
)
from .sums cimport add_number, add_wide
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
    double sums[MOST_PARTS]  # of the losses

cdef struct Inputs:         # of a block
    real x[BLOCK_SIZE]
    real e[BLOCK_SIZE]      # exp(-|x|),
    real log_sum[BLOCK_SIZE]    # and log1p(e)
    real q[BLOCK_SIZE]
    real a[BLOCK_SIZE]
    real w[BLOCK_SIZE]
    int64_t label[BLOCK_SIZE]

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


cdef inline void take_targets(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """Targets and weights of a block; what does not count, and what is beyond its numbers, has weight 0."""
    cdef Py_ssize_t k
    if of.positive != NULL or of.weights.origin != NULL or of.ignoring:
        load_weights(of, start, n, inputs)
    for k in range(n, BLOCK_SIZE):
        inputs.w[k] = 0
    if of.labels == NULL:
        memcpy(inputs.q, of.q + start, n * sizeof(real))
        return
    copy_labels(of.labels_dtype, of.labels + start * of.label_size, of.label_size, inputs.label, n)
    for k in range(n if of.ignoring else 0):
        if inputs.label[k] == of.ignored:
            inputs.label[k] = 0
            inputs.w[k] = 0
    for k in range((n + W - 1) // W):
        store(inputs.q + k * W, load_labels(inputs.label + k * W))


cdef inline void load_x(const Binary* of, Py_ssize_t start, Py_ssize_t n, Inputs* inputs) noexcept nogil:
    """x, e and its logarithm, each in a loop of its own: what is long waits for itself, and a CPU looks only some tens
    of operations ahead.
    """
    cdef Py_ssize_t itemsize = size_of(of.storage)
    cdef Py_ssize_t vectors = (n + W - 1) // W
    cdef vec x
    cdef Py_ssize_t k
    for k in range(vectors):
        x = load_as(of.storage, of.x + (start + k * W) * itemsize, min(<Py_ssize_t> W, n - k * W))
        store(inputs.x + k * W, x)
        store(inputs.e + k * W, exp(-absolute(x), 0))
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
    return Outputs(product(of_one, below) + product(of_zero, above), fma(of_zero, p, -(of_one * not_p)),
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
    is_infinite = equal(loss, broadcast(INFINITY))      # (then p is 0)
    slope = select(is_infinite, one, slope)
    curvature = select(is_infinite, zero, curvature)
    return Outputs(product(factor, loss), select(is_one, -factor, factor) * slope, product(factor, curvature))


cdef inline void take_weighted(vec x, vec w, double scale, wide* halves) noexcept nogil:
    """x w scale, and 0 where w is; in double, for float32 may lack a part of it where it has the whole."""
    cdef int k
    x = select(equal(w, broadcast(0)), broadcast(0), x)
    for k in range(HALVES):
        halves[k] = (widen(x, k) * widen(w, k)) * broadcast_wide(scale)


cdef inline void put_losses(bint alone, const Binary* of, Py_ssize_t start, Py_ssize_t n, const Inputs* inputs,
                            wide* total, wide* lost) noexcept nogil:
    """The losses of a block, and what is wanted beside them, unless they are alone."""
    cdef Py_ssize_t itemsize = size_of(of.storage)
    cdef double scale = reciprocal(of.divisor)
    cdef vec smoothing = broadcast(<real> of.smoothing)
    cdef vec x, e, log_sum, q, a, w
    cdef wide halves[HALVES]
    cdef Outputs outputs
    cdef Py_ssize_t step, v, k, half, left
    for step in range((n + LANES - 1) // LANES):
        for v in range(VECTORS):
            k = step * LANES + v * W
            left = min(<Py_ssize_t> W, n - k)
            if left <= 0:
                break
            x, e, log_sum = load(inputs.x + k), load(inputs.e + k), load(inputs.log_sum + k)
            q, a, w = load(inputs.q + k), load(inputs.a + k), load(inputs.w + k)
            if of.gamma != 0:
                outputs = focal_loss(x, e, log_sum, q, a, <real> of.gamma)
            else:
                outputs = loss_of_target(x, e, log_sum, q, a, smoothing)
            take_weighted(outputs.loss, w, scale, halves)
            for half in range(HALVES):
                add_wide(halves[half], &total[v * HALVES + half], &lost[v * HALVES + half])
            if of.losses != NULL:
                store_first(of.losses + start + k, narrow(halves), left)
            if not alone and of.out != NULL:
                take_weighted(outputs.grad, w, scale, halves)
                store_as(of.storage, of.out + (start + k) * itemsize, narrow(halves), left)
            if not alone and of.hess != NULL:
                take_weighted(outputs.hess, w, scale, halves)
                store_as(of.storage, of.hess + (start + k) * itemsize, narrow(halves), left)


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


cdef inline flattened compute_binary(Binary* of, Py_ssize_t first, Py_ssize_t last, double* sum) noexcept nogil:
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
            if of.out == NULL and of.hess == NULL:  # (literals, for a loop without what follows)
                put_losses(True, of, first, n, &inputs, total, lost)
            else:
                put_losses(False, of, first, n, &inputs, total, lost)
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
        sum[0] = value + lost_of_value if value - value == 0 else value


cdef inline void compute_part_of_binary(void* job, int seat, int part) noexcept nogil:
    cdef Binary* of = <Binary*> job
    cdef Py_ssize_t blocks = (of.size + BLOCK_SIZE - 1) // BLOCK_SIZE
    compute_binary(of, blocks * part // of.parts * BLOCK_SIZE,
                   min(of.size, blocks * (part + 1) // of.parts * BLOCK_SIZE), &of.sums[part])


cdef inline int run_binary(Binary* of, int threads) except -1 nogil:
    """The function of all numbers, on as many threads as it may have; the losses' sum is sums[0]."""
    cdef Py_ssize_t blocks = (of.size + BLOCK_SIZE - 1) // BLOCK_SIZE
    of.parts = parts_of(blocks, BLOCK_SIZE)
    share(compute_part_of_binary, of, of.parts, threads_for(of.size, min(threads, of.parts)))
    if of.function == LOSSES:
        of.sums[0] = sum_of_parts(of.sums, of.parts)
    return 0
