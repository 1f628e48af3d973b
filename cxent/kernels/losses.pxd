"""The formulas of one row: its loss, and the factors of its gradient and Hessian; rows in vectors.

    q'_c  = w_c * ((1 - smoothing) * q_c + smoothing / C),     Q = sum_c q'_c,     q one-hot for a label
    loss  = s / D * (Q * lse - sum_c q'_c x_c) + s / Dz * z * lse^2
    dx    = s / D * (Q * p - q') + s / Dz * 2 * z * lse * p

x are the logits after softcap and temperature, s the row's weight, 0 if it does not count. With r = sumexp_m1, the sum
of the exponentials exp(x - m) less the largest, lse is m + log1p(r), and 1 - p of the largest logit r / (1 + r):
so neither a small loss nor a small gradient is a difference of large numbers. The gradient is a * e - b * t in every
number but the label's, which has its own formula, and, for probabilities, the largest logit's.
"""

from libc.stdint cimport int64_t

from .elementwise cimport Row_factors, factor_of, unlifted
from .math cimport LARGEST, LIFT, NAN, Scaled, exp, expm1, lifted_one, log1p, product, scaled
from .rows cimport Labels, Values
from .simd cimport (
    HALVES, W, absolute, broadcast, broadcast_wide, equal, fma, greater, load, real, select, store, store_wide,
    vec, wide, widen,
)
from .tiles cimport Batch, Rows

cdef struct Loss:
    # What is given; where it is not, the origin is NULL
    Labels labels           # class indices; probabilities are the call's second input
    const real* w           # class weights; with smoothing always there
    double w_sum
    Values row_weights
    double smoothing
    double z
    double softcap          # 0 if there is none
    double temperature
    double divisor          # D
    double z_divisor        # Dz
    # What is wanted, beside the sum
    Values losses
    Values lse

cdef struct Scores:         # what scoring is given and what it wants, beside a loss's; a row's results lie side by side
    Labels ids
    Py_ssize_t id_stride    # in bytes
    Py_ssize_t candidates   # of each row
    Py_ssize_t top_k
    real* logprob
    int64_t* rank
    int64_t* top_id
    real* top_logprob
    real* state             # m before temperature, r = sumexp_m1, sum(exp(x - m) (x - m)), or NULL

cdef struct Row_numbers:    # what is known of each row of a batch; t is the target row of probabilities, else w
    real* top                       # x_m, the largest
    real* limit                     # the logsumexp, if x_m is infinite; else 0
    real* sumexp_m1                 # r
    real* maxima                    # how many
    real* distance                  # (x_m - x_y) / 2: the whole may be too large
    real* label_weight
    real* row_weight
    real* weight                    # sum(t)
    real* shifted                   # c sum(t * (x - m))
    real c                          # 1/2, or less, where sums are too large
    real* lse
    double* loss                # with room for W more


# (The structs of arrays are copied where they are used: their pointers can then stay in registers.)

cdef inline bint is_plain(const Loss* loss) noexcept nogil:
    """Whether the loss is without options."""
    return (loss.w == NULL and loss.row_weights.origin == NULL and not loss.labels.ignoring and loss.smoothing == 0
            and loss.z == 0 and loss.softcap == 0 and loss.temperature == 1)


cdef inline double reciprocal(double divisor) noexcept nogil:
    """1 / divisor, and 0 of 0: a mean over nothing has no slope."""
    return 1 / divisor if divisor != 0 else 0


cdef inline void complete_sumexp_m1(const Batch* batch, const real* m, Row_numbers* numbers) noexcept nogil:
    """r from the exponentials below the maximum, times 2^LIFT, and the number of maxima; NaN for an infinite one."""
    cdef Row_numbers n = numbers[0]
    cdef vec top
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        top = load(m + r)
        store(n.sumexp_m1 + r,
              (unlifted(load(n.sumexp_m1 + r)) + (load(n.maxima + r) - broadcast(1))) + (top - top))


cdef inline void compute_lse(const Batch* batch, Row_numbers* numbers) noexcept nogil:
    """lse = m + log1p(r); the limit, where there is one."""
    cdef Row_numbers n = numbers[0]
    cdef vec limit
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        limit = load(n.limit + r)
        store(n.lse + r, select(equal(limit, broadcast(0)), load(n.top + r) + log1p(load(n.sumexp_m1 + r)), limit))


cdef inline void compute_losses(const Batch* batch, const Loss* loss, bint plain, Row_numbers* numbers) noexcept nogil:
    """(Computed by halves, since a difference of two numbers may be too large where the loss is not.)"""
    cdef Row_numbers n = numbers[0]
    cdef double scale = reciprocal(loss.divisor)
    cdef double z_scale = max(-LARGEST, min(loss.z * reciprocal(loss.z_divisor), LARGEST))
    cdef bint with_z = not plain and loss.z != 0
    cdef vec kept = broadcast(1 - loss.smoothing)
    cdef vec even = broadcast(loss.smoothing / batch.classes)
    cdef vec half = broadcast(0.5), zero = broadcast(0)
    cdef vec c = broadcast(n.c)
    cdef vec half_of_c = broadcast(0.5 / n.c)
    cdef vec log_sum, part, s, all_classes
    cdef vec lse = zero
    cdef wide term, square
    cdef Py_ssize_t group, r
    cdef int number
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        log_sum = log1p(load(n.sumexp_m1 + r))
        part = load(n.distance + r) + half * log_sum
        if not plain or loss.labels.at.origin == NULL:
            all_classes = (c * load(n.weight + r)) * log_sum - load(n.shifted + r)
            if loss.labels.at.origin == NULL:
                part = half_of_c * all_classes
            else:
                part = product(kept * load(n.label_weight + r), part) + zero * log_sum  # (NaN, if the row has one)
                if loss.smoothing != 0:
                    part = part + (half_of_c * even) * all_classes
        if not plain:
            s = load(n.row_weight + r)
            part = select(equal(s, zero), zero, part)
            lse = select(equal(s, zero), zero, load(n.lse + r))
        for number in range(HALVES):
            term = widen(part, number) * broadcast_wide(2 * scale)
            if with_z:
                square = widen(lse, number) * widen(lse, number)
                term = term + square * broadcast_wide(z_scale)
            if not plain:
                term = widen(s, number) * term
            store_wide(n.loss + r + number * (W // HALVES), term)


cdef inline void narrow_losses(const Batch* batch, const Row_numbers* n, real* losses) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(batch.rows):
        losses[r] = <real> n.loss[r]


# A gradient is a * e - b * t, with these exceptions: the number at the label, and b * ((near - t) + others) where e is
# the largest.

cdef inline vec exponential_at_label(Row_numbers n, Py_ssize_t r) noexcept nogil:
    """exp(x_y - x_m) as the sum had it, which is sooner computed again than fetched from its place in each row."""
    return unlifted(exp(broadcast(-2) * load(n.distance + r), LIFT))


cdef inline void plain_factors(const Batch* batch, const Loss* loss, const Row_numbers* numbers,
                               Row_factors* factors) noexcept nogil:
    cdef Row_numbers n = numbers[0]
    cdef Row_factors f = factors[0]
    cdef vec divisor = broadcast(loss.divisor)
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec rest, share, weight
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        rest = load(n.sumexp_m1 + r)
        share = one / fma(divisor, rest, divisor)
        if loss.labels.at.origin != NULL:
            store(f.a + r, share)
            # 1 - p_y without cancellation: the share of the other classes
            rest = select(equal(load(n.distance + r), zero), rest, one + (rest - exponential_at_label(n, r)))
            store(f.at_label + r, -rest * share)
        else:
            weight = load(n.weight + r)
            store(f.a + r, weight * share)
            store(f.b + r, one / divisor)
            store(f.c + r, top_of(rest))
            store(f.near + r, weight)
            store(f.others + r, -weight * (rest / (one + rest)))
            store(f.counts + r, one)


cdef inline vec top_of(vec sumexp_m1) noexcept nogil:
    """The largest exponential, if its p is near 1: there Q * p - q = (Q - q) - Q * r / (1 + r) keeps the digits."""
    return select(greater(broadcast(1), sumexp_m1), lifted_one(), broadcast(NAN))


cdef inline void weighted_factors(const Batch* batch, const Loss* loss, const Row_numbers* numbers,
                                  Row_factors* factors) noexcept nogil:
    cdef Row_numbers n = numbers[0]
    cdef Row_factors f = factors[0]
    cdef double slope = 1 / loss.temperature if loss.softcap == 0 else 1    # (that of a cap is another factor)
    cdef Scaled scale = scaled(slope * reciprocal(loss.divisor))
    cdef Scaled z_scale = scaled(2 * loss.z * slope * reciprocal(loss.z_divisor))
    cdef vec kept = broadcast(1 - loss.smoothing)
    cdef vec even = broadcast(loss.smoothing / batch.classes)
    cdef vec kept_and_even = broadcast((1 - loss.smoothing) + loss.smoothing / batch.classes)
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec s, z, rest, share, q, label_weight, part, p_label, others
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        rest = load(n.sumexp_m1 + r)
        share = one / (one + rest)
        s = (broadcast(scale.factor) * load(n.row_weight + r)) * broadcast(scale.power)
        z = zero
        if loss.z != 0:
            z = broadcast(z_scale.factor) * (load(n.row_weight + r) * load(n.lse + r)) * broadcast(z_scale.power)
        if loss.labels.at.origin != NULL:
            label_weight = load(n.label_weight + r)
            q = fma(kept, label_weight, even * load(n.weight + r))
            p_label = exponential_at_label(n, r) * share
            # Where p is near 1, Q * p - q' is (Q - q') - Q * (1 - p)
            others = even * (load(n.weight + r) - label_weight) - q * (rest * share)
            if loss.smoothing == 0:     # then it is so at any label
                others = -q * (select(equal(load(n.distance + r), zero), rest,
                                      one + (rest - exponential_at_label(n, r))) * share)
                part = others
            else:
                part = select(greater(one, rest), others, fma(q, p_label, -(kept_and_even * label_weight)))
                part = select(equal(load(n.distance + r), zero), part,
                              fma(q, p_label, -(kept_and_even * label_weight)))
            store(f.at_label + r, select(equal(load(n.row_weight + r), zero), zero,
                                         fma(factor_of(part, s), part, product(p_label, z))))
            store(f.a + r, fma(s, q, z) * share)
            store(f.b + r, even * s)
        else:
            q = load(n.weight + r)
            others = -q * (rest * share)
            if loss.z != 0:
                others = others + z * share / s
            store(f.a + r, fma(s, q, z) * share)
            store(f.b + r, s)
            store(f.c + r, select(equal(s, zero), broadcast(NAN), top_of(rest)))
            store(f.near + r, q)
            store(f.others + r, others)
        store(f.counts + r, load(n.row_weight + r))


cdef inline void hessian_factors(const Batch* batch, const Loss* loss, const Row_numbers* numbers,
                                 Row_factors* factors) noexcept nogil:
    """s / D * Q * p * (1 - p), divided by the squared temperature."""
    cdef Row_numbers n = numbers[0]
    cdef Row_factors f = factors[0]
    cdef Scaled scale = scaled(reciprocal(loss.divisor) / loss.temperature / loss.temperature)
    cdef vec kept = broadcast(1 - loss.smoothing)
    cdef vec even = broadcast(loss.smoothing / batch.classes)
    cdef vec one = broadcast(1)
    cdef vec rest, share, q
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        rest = load(n.sumexp_m1 + r)
        share = one / (one + rest)
        q = load(n.weight + r)
        if loss.labels.at.origin != NULL:
            q = fma(kept, load(n.label_weight + r), even * q)
        store(f.a + r, share)
        store(f.b + r, (broadcast(scale.factor) * load(n.row_weight + r)) * q)
        store(f.c + r, rest * share)
        store(f.near + r, lifted_one())
        store(f.counts + r, load(n.row_weight + r))
    factors.power = scale.power


cdef inline void cap_factors(const Batch* batch, const Loss* loss, real rate, const real* u_top, Row_factors* factors,
                             real* top) noexcept nogil:
    """The factors of `capped` and `slope_of_cap`, from u_m; top = x_m. The rate is -2 / (temperature * softcap)."""
    cdef Row_factors f = factors[0]
    cdef vec softcap = broadcast(loss.softcap)
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec u, v, e, less
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        u = load(u_top + r)
        v = broadcast(rate) * absolute(u)
        e = exp(v, 0)
        less = expm1(v)
        less = softcap * (less / (broadcast(2) + less))     # -tanh(|v|) softcap
        store(top + r, select(greater(zero, u), less, -less))
        store(f.a + r, u)
        store(f.b + r, broadcast(rate))
        store(f.c + r, (softcap + softcap) / (one + e))
        store(f.near + r, select(greater(u, zero), one, e))
        store(f.others + r, broadcast(4 / loss.temperature))
