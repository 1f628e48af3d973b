"""Divergences of two softmaxes, p of x and q of y, and their gradients with respect to y.

With d = log(p / q), the relative entropy sum(p d) is a small difference of large terms where p and q are alike. But p
and q sum to 1, so that sum(q - p) = 0 may be added, and then no term is negative:

    sum(p d) = sum(p f(d)),     f(d) = d + exp(-d) - 1

An error that all d have in common changes this in second order alone. The Jensen-Shannon divergence is two such sums,
of p and of q against their mixture. Each d comes from the logits, d = (x - y) - (m_x - m_y) - c, to which the rounding
of both differences is added, and c from a sum of differences, not from a difference of logarithms:

    c = log(sum(e_x) / sum(e_y)) = log1p(sum(e_x - e_y) / sum(e_y)),    e_x = exp(x - m_x),   e_y = exp(y - m_y)

In the gradients of the other two, q (l - sum(q l)) with l = log(q / p) or log(q / m), what all l have in common
cancels, and it is nearly all of l where q has the ratios of p but lacks a class. So l is taken less that of the largest
q, the reference r. This needs nothing but D, log(p / q) less that of r, which is a difference of logits as d is:

    l - l_r = -D,   or   -log(1 - w + w exp(D)) = -log1p(w expm1(D)),   w = beta p_r / m_r,   w exp(D) = b e_x / e_y

Tried: differences by an expm1 of their own, and vectors loaded in part where a row ends, 0.8 to 0.95 of the speed; the
comparison chosen in the loop, 0.93; exp(D) instead of e_x / e_y, 0.95 of the gradient's. The sum of p f(d - c) from
sums over d alone would save a pass, and cancel where d is much the same for all classes.
"""

from libc.string cimport memcpy, memset

from .apply cimport apply_to_array, change_block
from .batch cimport MOST_ROWS, Batch, Block, Rows, block_of, padded_rows
from .call cimport Call, next_block
from .exponentials cimport find_at_maxima, take_terms
from .formulas cimport DIVIDE, HESSIAN_PRODUCT, LOG_RATIO, WEIGHTED, Row_factors
from .losses cimport Row_numbers, complete_sumexp_m1, narrow_losses, reciprocal
from .masks cimport level_empty_rows, load_chosen
from .math cimport BIAS, Scaled, exp, exp_any, expm1, log1p, log1p_or_log, product, quotient, scaled, unbiased
from .maxima cimport find_maxima
from .reduce cimport clear, sum_rows
from .simd cimport (
    FLOAT64, LANES, VECTORS, W, absolute, at_least, broadcast, equal, flattened, fma, greater, load, mask, real, scalar,
    select, store, vec,
)
from .sums cimport Sum, add, fold_sums, two_sum, value_of
from .terms cimport SUMEXP_M1, Terms_of_batch, find_largest, find_scales, for_strip
from .totals cimport add_losses
from .traffic cimport find_prefetch
from .values cimport fill, put_values, take_values

cdef enum Comparison:       # of p and q: what is summed
    DIFFERENCES_OF_SUMS     # e_x - e_y
    FORWARD                 # the relative entropy, p log(p / q); and d becomes q - p
    REVERSE                 # q log(q / p)
    JENSEN_SHANNON          # both to the mixture, m = beta p + (1 - beta) q
    REVERSE_MEAN            # q (l - l_r), l = log(q / p); and d, which is D, becomes l - l_r
    JENSEN_SHANNON_MEAN     # likewise, l = log(q / m)

cdef struct Row_shares:     # arrays of a number for each row
    real* p                 # 1 / sum(e_x)
    real* q
    real* c
    real* at                # (x_r - m_x) / temperature
    real* w                 # the share of p in the mixture at r: beta p_r / m_r
    real* w_of_q              # that of q
    real* b                 # w exp(D) is b e_x / e_y

cdef struct Shares:         # for a vector
    vec p
    vec q
    vec c
    vec w
    vec w_of_q
    vec b
    vec beta
    vec beta_of_q


cdef inline vec excess(vec d) noexcept nogil:
    """(d + exp(-d) - 1) / d^2 for |d| <= 1: a polynomial, fitted for the least relative error (2^-28 and 2^-56)."""
    cdef vec g
    if FLOAT64:
        g = fma(broadcast(-7.6797230715397916e-13), d, broadcast(1.163848154194278e-11))
        g = fma(g, d, broadcast(-1.6059833948861098e-10))
        g = fma(g, d, broadcast(2.0874456918548828e-9))
        g = fma(g, d, broadcast(-2.5052090848850015e-8))
        g = fma(g, d, broadcast(2.7557334829306238e-7))
        g = fma(g, d, broadcast(-2.755731935186447e-6))
        g = fma(g, d, broadcast(2.4801587247336238e-5))
        g = fma(g, d, broadcast(-0.00019841269840858302))
        g = fma(g, d, broadcast(0.0013888888888978509))
        g = fma(g, d, broadcast(-0.0083333333333338782))
        g = fma(g, d, broadcast(0.041666666666666113))
        g = fma(g, d, broadcast(-0.16666666666666665))
        return fma(g, d, broadcast(0.5))
    g = fma(broadcast(-2.772283406e-6), d, broadcast(2.535482931e-5))
    g = fma(g, d, broadcast(-0.0001984402362))
    g = fma(g, d, broadcast(0.001388545198))
    g = fma(g, d, broadcast(-0.008333310275))
    g = fma(g, d, broadcast(0.04166673454))
    g = fma(g, d, broadcast(-0.1666666701))
    return fma(g, d, broadcast(0.4999999979))


cdef inline mask are_distant(vec d) noexcept nogil:
    """Where a and b, with d = log(a / b), are so far from each other that their difference has its digits."""
    return greater(absolute(d), broadcast(1))


cdef inline vec entropy_term(vec a, vec b, vec d, vec g) noexcept nogil:
    """a f(d) for d = log(a / b) and its excess g, which is not negative; also where a or b is 0 and d infinite."""
    return select(are_distant(d), (b - a) + product(a, d), (a * (d * d)) * g)


cdef inline vec difference(vec a, vec b, vec d, vec g) noexcept nogil:
    """a - b = -a (exp(-d) - 1), likewise, with the digits that d has."""
    return select(are_distant(d), a - b, a * fma(-(d * d), g, d))


cdef inline void take_logs_of_mixture(vec d, vec beta, vec beta_of_q, vec* log_p, vec* log_q) noexcept nogil:
    """log(p / m) and log(q / m) for m = beta p + beta_of_q q: by a log1p, each, if m is near to it."""
    cdef mask p_is_larger = greater(d, broadcast(0))
    cdef vec distance = absolute(d)
    cdef vec ratio = exp(-distance, 0)      # of the smaller to the larger
    cdef vec less = expm1(-distance)
    cdef vec of_smaller = select(p_is_larger, beta_of_q, beta)
    cdef vec of_larger = select(p_is_larger, beta, beta_of_q)
    cdef vec fall = of_smaller * less
    cdef vec rise = product(of_larger, -less / ratio)   # (beta may be 0 in float32)
    cdef vec log_of_larger = -log1p_or_log(greater(fall, broadcast(-0.5)), fall, fma(of_smaller, ratio, of_larger))
    cdef vec log_of_smaller = select(greater(broadcast(1), rise), -log1p(rise), log_of_larger - distance)
    log_p[0] = select(p_is_larger, log_of_larger, log_of_smaller)
    log_q[0] = select(p_is_larger, log_of_smaller, log_of_larger)


cdef inline vec log_from_reference(vec p, vec q, vec d, Shares of) noexcept nogil:
    """l - l_r = -log(w_of_q + w exp(D)), w_of_q being 1 - w, for the distance D; p and q are the exponentials."""
    cdef vec top = broadcast(4.4942328371557898e307 if FLOAT64 else 8.5070591730234616e37)
    cdef vec power = of.b * (p / q)
    cdef vec rise
    power = select(greater(top, power), power, top)
    # (D is NaN where neither this class nor that of the reference has anything of p.)
    rise = select(at_least(broadcast(1), absolute(d)), of.w * fma(d * d, excess(-d), d), power - of.w)
    return -log1p_or_log(greater(rise, broadcast(-0.5)), rise, power + of.w_of_q)


cdef inline vec compare(Comparison comparison, vec p, vec q, vec* d, Shares of) noexcept nogil:
    """The term, and what takes the place of d; p and q are exponentials."""
    cdef vec zero = broadcast(0)
    cdef vec ratio, g, m, log_p, log_q
    if comparison == DIFFERENCES_OF_SUMS:
        return difference(p, q, d[0], excess(d[0]))
    if comparison == REVERSE_MEAN or comparison == JENSEN_SHANNON_MEAN:
        d[0] = -d[0] if comparison == REVERSE_MEAN else log_from_reference(p, q, d[0], of)
        q = unbiased(of.q * q)
        d[0] = select(equal(q, zero), zero, d[0])
        return q * d[0]
    p, q, ratio = of.p * p, of.q * q, d[0] - of.c
    if comparison == FORWARD:
        g = excess(ratio)
        d[0] = unbiased(-difference(p, q, ratio, g))
        return entropy_term(unbiased(p), unbiased(q), ratio, g)
    p, q = unbiased(p), unbiased(q)
    if comparison == REVERSE:
        return entropy_term(q, p, -ratio, excess(-ratio))
    take_logs_of_mixture(ratio, of.beta, of.beta_of_q, &log_p, &log_q)
    m = fma(of.beta, p, of.beta_of_q * q)
    # (log_p may be infinite then.)
    return product(of.beta, entropy_term(p, m, log_p, excess(log_p))) + of.beta_of_q * entropy_term(
        q, m, log_q, excess(log_q))


cdef inline bint changes_d(Comparison comparison) noexcept nogil:
    return comparison == FORWARD or comparison == REVERSE_MEAN or comparison == JENSEN_SHANNON_MEAN


cdef inline Row_shares shares_in(const Row_numbers* n) noexcept nogil:
    """In the memory of numbers that only a loss has."""
    return Row_shares(n.top, n.limit, n.distance, n.label_weight, n.weight, n.shifted, n.lse)


cdef inline Shares shares_of(const Row_shares* of, const Batch* batch, Py_ssize_t strip, Py_ssize_t v,
                             double beta) noexcept nogil:
    return Shares(for_strip(of.p, batch, strip, v), for_strip(of.q, batch, strip, v), for_strip(of.c, batch, strip, v),
                  for_strip(of.w, batch, strip, v), for_strip(of.w_of_q, batch, strip, v),
                  for_strip(of.b, batch, strip, v), broadcast(<real> beta), broadcast(<real> (1 - beta)))


cdef inline void compare_in_strips(Comparison comparison, const Batch* batch, Block p, Block q, Block d,
                                   const Row_shares* of, double beta, real* result) noexcept nogil:
    """The sums of the terms of each row; the three blocks are tiles."""
    cdef real tails[3][LANES]
    cdef Sum sums[VECTORS]
    cdef Shares shares[VECTORS]
    cdef real* p_at
    cdef real* q_at
    cdef real* d_at
    cdef vec number
    cdef Py_ssize_t strip, step, v, at
    for strip in range(batch.strips):
        clear(sums, VECTORS)
        for v in range(VECTORS):
            shares[v] = shares_of(of, batch, strip, v, beta)
        for step in range(batch.steps + (batch.tail > 0)):
            at = strip * p.strip + step * p.step
            p_at, q_at, d_at = p.start + at, q.start + at, d.start + at
            if step == batch.steps:
                memset(tails, 0, sizeof(tails))
                memcpy(tails[0], p_at, batch.tail * sizeof(real))
                memcpy(tails[1], q_at, batch.tail * sizeof(real))
                memcpy(tails[2], d_at, batch.tail * sizeof(real))
                p_at, q_at, d_at = tails[0], tails[1], tails[2]
            for v in range(VECTORS):
                number = load(d_at + v * W)
                add(&sums[v], compare(comparison, load(p_at + v * W), load(q_at + v * W), &number, shares[v]))
                if changes_d(comparison):
                    store(d_at + v * W, number)
        if changes_d(comparison) and batch.tail > 0:
            memcpy(d.start + strip * d.strip + batch.steps * d.step, tails[2], batch.tail * sizeof(real))
        for v in range(VECTORS if batch.columns else 0):
            store(result + strip * LANES + v * W, value_of(sums[v]))
        if not batch.columns:
            result[strip] = scalar(value_of(fold_sums(sums)))


cdef inline flattened compare_rows(Comparison comparison, const Batch* batch, Block p, Block q, Block d,
                                   const Row_shares* of, double beta, real* result) noexcept nogil:
    if comparison == DIFFERENCES_OF_SUMS:
        compare_in_strips(DIFFERENCES_OF_SUMS, batch, p, q, d, of, beta, result)
    elif comparison == FORWARD:
        compare_in_strips(FORWARD, batch, p, q, d, of, beta, result)
    elif comparison == REVERSE:
        compare_in_strips(REVERSE, batch, p, q, d, of, beta, result)
    elif comparison == JENSEN_SHANNON:
        compare_in_strips(JENSEN_SHANNON, batch, p, q, d, of, beta, result)
    elif comparison == REVERSE_MEAN:
        compare_in_strips(REVERSE_MEAN, batch, p, q, d, of, beta, result)
    else:
        compare_in_strips(JENSEN_SHANNON_MEAN, batch, p, q, d, of, beta, result)


cdef inline void compute_log_ratios(Call* call, Block x, Block y, const real* at_x, const real* at_y,
                                    Block d) noexcept nogil:
    """d = ((x - y) - (at_x - at_y)) / temperature, by halves, since a difference may be too large."""
    cdef Row_factors* factors = &call.factors
    cdef vec half = broadcast(0.5)
    cdef Sum sum
    cdef Py_ssize_t group, r
    fill(&call.batch, <real> (2 / call.loss.temperature), factors.c)
    for group in range((call.batch.rows + W - 1) // W):
        r = group * W
        sum = two_sum(half * load(at_x + r), -(half * load(at_y + r)))
        store(factors.a + r, sum.total)
        store(factors.b + r, select(equal(sum.lost, sum.lost), sum.lost, broadcast(0)))
    change_block(LOG_RATIO, &call.batch, x, y, NULL, factors, d)


cdef inline void take_exponentials_of(Call* call, const Rows* rows, Block x, real* m, Row_numbers* n) noexcept nogil:
    """The exponentials of (x - m) / temperature in the place of x, and r."""
    cdef Terms_of_batch of
    cdef Row_factors* factors = &call.factors
    cdef Py_ssize_t r
    if call.loss.temperature != 1:
        fill(&call.batch, <real> (call.loss.temperature / 2), factors.a)
        for r in range(call.batch.rows):
            factors.b[r] = m[r]
        change_block(DIVIDE, &call.batch, x, x, NULL, factors, x)
        fill(&call.batch, 0, m)
    take_terms(call, x, x, m, &of)
    if call.batch.columns:
        find_prefetch(&call.batch, rows, &of.traffic.x)
    of.kept = x
    of.next_out = next_block(&call.batch, rows)
    find_scales(&call.batch, m, True, &n.scales)
    find_largest(&call.batch, m, &n.scales)
    of.n = n.scales.largest
    sum_rows(SUMEXP_M1, &call.batch, &of, n.smaller, n.maxima, NULL)
    complete_sumexp_m1(&call.batch, m, n)


cdef inline void complete_shares(const Batch* batch, const real* sumexp_m1_x, const real* sumexp_m1_y,
                                 const real* differences, const real* largest, Row_shares* of) noexcept nogil:
    """The shares and c; of rows that the mask leaves empty 0."""
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec m1_x, m1_y, top, ratio, c
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        m1_x, m1_y = load(sumexp_m1_x + r), load(sumexp_m1_y + r)
        top = unbiased(load(largest + r))
        ratio = unbiased(load(differences + r)) / (top * (one + m1_y))
        c = select(greater(broadcast(0.5), absolute(ratio)), log1p(ratio), log1p(m1_x) - log1p(m1_y))
        store(of.p + r, quotient(one, top * (one + m1_x)))
        store(of.q + r, quotient(one, top * (one + m1_y)))
        store(of.c + r, select(equal(one + m1_x, zero), zero, c))


cdef inline bint has_reference(const Call* call) noexcept nogil:
    """Whether a gradient is wanted that is that of a mean."""
    return call.out.origin != NULL and call.comparison != FORWARD


cdef inline void compute_from_reference(Call* call, Block x, Block y, const real* m_x, const real* m_y,
                                        Row_shares* of) noexcept nogil:
    """D, and where the reference is: the first of the largest logits of q."""
    cdef real x_r[MOST_ROWS]
    cdef vec half_temperature = broadcast(<real> (call.loss.temperature / 2))
    cdef vec half = broadcast(0.5)
    cdef Py_ssize_t group, r
    find_at_maxima(&call.batch, y, m_y, x, x_r)
    compute_log_ratios(call, x, y, x_r, m_y, block_of(&call.batch, &call.v))
    for group in range((call.batch.rows + W - 1) // W):
        r = group * W
        store(of.at + r, (half * load(x_r + r) - half * load(m_x + r)) / half_temperature)


cdef inline void complete_reference(const Batch* batch, double beta, Row_shares* of) noexcept nogil:
    """w, 1 - w and b, from p_r / q_r."""
    cdef vec b = broadcast(<real> beta)
    cdef vec b_of_q = broadcast(<real> (1 - beta))
    cdef vec at, log_ratio, shares, ratio, m
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        at = load(of.at + r)
        log_ratio = at - load(of.c + r)
        shares = quotient(load(of.p + r), load(of.q + r))
        ratio = select(greater(log_ratio, broadcast(-1)), exp_any(log_ratio), unbiased(exp(at, BIAS) * shares))
        m = fma(b, ratio, b_of_q)
        store(of.w + r, b * ratio / m)
        store(of.w_of_q + r, b_of_q / m)
        store(of.b + r, b * shares / m)


cdef inline void take_means(Call* call, Block p, Block q, Block d, Row_shares* of, Row_factors* factors) noexcept nogil:
    """For a q (l - c), c = sum(a q l): l less that at the reference, in the place of D."""
    cdef Py_ssize_t group, r
    if call.comparison == REVERSE:
        compare_rows(REVERSE_MEAN, &call.batch, p, q, d, of, 0, factors.c)
    else:
        complete_reference(&call.batch, call.beta, of)
        compare_rows(JENSEN_SHANNON_MEAN, &call.batch, p, q, d, of, 0, factors.c)
    for group in range((call.batch.rows + W - 1) // W):
        r = group * W
        store(factors.a + r, unbiased(load(of.q + r)))
        # (NaN also where it is in a class that q lacks)
        store(factors.c + r, load(factors.c + r) + (load(of.c + r) - load(of.c + r)))


cdef inline void put_divergence_gradient(Call* call, Block p, Block q, Block d, const Row_numbers* n,
                                         Row_shares* of) noexcept nogil:
    """s / (D temperature) times d, which is q - p, or weight q (l - sum(q l)), l being a logarithm and d still D."""
    cdef double weight = 1 - call.beta if call.comparison == JENSEN_SHANNON else 1
    cdef Scaled scale = scaled(weight * reciprocal(call.loss.divisor) / call.loss.temperature)
    cdef Row_factors* factors = &call.factors
    cdef vec s
    cdef Py_ssize_t group, r
    if call.comparison != FORWARD:
        take_means(call, p, q, d, of, factors)
    for group in range((call.batch.rows + W - 1) // W):
        r = group * W
        s = load(n.row_weight + r)
        store(factors.counts + r, s)
        store(factors.b + r, (broadcast(scale.factor) * s) * broadcast(scale.power))
        store(factors.power + r, broadcast(1))
    if call.comparison == FORWARD:
        memcpy(factors.a, factors.b, padded_rows(&call.batch) * sizeof(real))
        apply_to_array(WEIGHTED, &call.batch, d, d, NULL, factors, &call.out, &call.pending)
    else:
        apply_to_array(HESSIAN_PRODUCT, &call.batch, q, d, NULL, factors, &call.out, &call.pending)


cdef inline void divergence_batch(Call* call) noexcept nogil:
    """The divergences of each row, and the gradients of their sum."""
    cdef Batch* batch = &call.batch
    cdef real m_x[MOST_ROWS]
    cdef real m_y[MOST_ROWS]
    cdef real sumexp_m1_x[MOST_ROWS]
    cdef real sums[MOST_ROWS]
    cdef Row_shares shares = shares_in(&call.n)
    cdef Row_numbers* n = &call.n
    cdef Block x = load_chosen(call, &call.x)
    cdef Block y = load_chosen(call, &call.y)
    cdef Block d = block_of(batch, &call.spare)
    cdef Py_ssize_t r
    find_maxima(batch, x, 0, m_x)
    find_maxima(batch, y, 0, m_y)
    if call.mask.origin != NULL:
        level_empty_rows(call, m_x)
        level_empty_rows(call, m_y)
    compute_log_ratios(call, x, y, m_x, m_y, d)
    if has_reference(call):
        compute_from_reference(call, x, y, m_x, m_y, &shares)
    take_exponentials_of(call, &call.x, x, m_x, n)
    for r in range(batch.rows):
        sumexp_m1_x[r] = n.sumexp_m1[r]
    take_exponentials_of(call, &call.y, y, m_y, n)
    compare_rows(DIFFERENCES_OF_SUMS, batch, x, y, d, &shares, 0, sums)
    complete_shares(batch, sumexp_m1_x, n.sumexp_m1, sums, n.scales.largest, &shares)
    compare_rows(<Comparison> call.comparison, batch, x, y, d, &shares, call.beta, sums)
    fill(batch, 1, n.row_weight)
    if call.loss.row_weights.origin != NULL:
        take_values(batch, &call.loss.row_weights, n.row_weight)
    for r in range(batch.rows):
        n.loss[r] = 0
        if n.row_weight[r] != 0:
            n.loss[r] = reciprocal(call.loss.divisor) * (<double> n.row_weight[r] * sums[r])
    if call.loss.losses.origin != NULL:
        narrow_losses(batch, n, m_x)
        put_values(batch, &call.loss.losses, m_x)
    add_losses(batch, n.loss, &call.total)
    if call.out.origin != NULL:
        put_divergence_gradient(call, x, y, block_of(batch, &call.v) if has_reference(call) else d, n, &shares)
