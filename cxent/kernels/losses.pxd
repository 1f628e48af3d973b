"""The formulas of one row: its loss, and the factors of its gradient and Hessian; rows in vectors.

    q'_c  = w_c * ((1 - smoothing) * q_c + smoothing / C),     Q = sum_c q'_c,     q one-hot for a label
    loss  = s / D * (Q * lse - sum_c q'_c x_c) + s / Dz * z * lse^2
    dx    = s / D * (Q * p - q') + s / Dz * 2 * z * lse * p

x are the logits after softcap and temperature, s the row's weight, 0 if it does not count. With r = sumexp_m1, the sum
of the exponentials exp(x - m) less the largest, lse is m + log1p(r), and 1 - p of the largest logit r / (1 + r):
so neither a small loss nor a small gradient is a difference of large numbers. The gradient is a * e - b * t in every
number but the label's, which has its own formula, and, for probabilities, the largest logit's.

With a focal factor the loss l of a label y is u^gamma l, with u = 1 - p_y. Its derivatives follow from those of l,
since du/dx = p_y dl/dx:

    dx   = k (p - q),                           k = u^gamma + gamma u^(gamma-1) p_y l
    dxdx = k p (1 - p) + h (p - q)^2 / u,       h = gamma u^gamma p_y (2 - l + (gamma - 1) p_y l / u)
"""

from libc.stdint cimport int64_t

from .batch cimport Batch
from .formulas cimport Row_factors, exponential_of
from .labels cimport Labels
from .math cimport LARGEST, NAN, exp, expm1, exponential, log, log1p, power, product, unbiased
from .simd cimport (
    FLOAT64, HALVES, W, absolute, broadcast, broadcast_wide, equal, fma, greater, load, mask, maximum, narrow, real,
    select, store, store_wide, vec, wide, widen,
)
from .sums cimport Reciprocal, Sum, divided, reciprocal_of, two_sum
from .terms cimport Scales
from .values cimport Values

cdef struct Loss:
    # What is given; where it is not, the origin is NULL
    Labels labels           # class indices; probabilities are the call's second input
    bint by_label           # whether nothing but its label is a target row; else it is computed
    const real* w           # class weights; with smoothing always there
    double w_sum
    bint w_is_even          # all 1
    Py_ssize_t chosen       # how many a mask leaves that is the same for all rows, once they are counted
    Values row_weights
    double smoothing
    double gamma            # of the focal factor; 0 if there is none
    double z
    double softcap          # 0 if there is none
    double temperature      # 0 if each row has its own
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
    real* moments           # the variance of x under the probabilities, and the sum of their squares; or NULL
    real* state             # m before temperature, r = sumexp_m1, sum(exp(x - m) (x - m)), or NULL

cdef struct Row_numbers:    # what is known of each row of a batch; t is the target row of probabilities, else w
    real* top                       # x_m, the largest
    real* limit                     # the logsumexp, if x_m is infinite; else 0
    Scales scales                   # of the exponentials, and the largest of these
    real* smaller                   # the sum of those that are smaller,
    real* lost                      # what that lacks,
    real* maxima                    # and how many there are of the largest
    real* sumexp_m1                 # r
    real* x_label                   # x_y
    real* distance                  # (x_m - x_y) / 2: the whole may be too large
    real* label_weight
    real* row_weight
    real* weight                    # sum(t)
    real* classes                   # how many share what smoothing takes
    real* shifted                   # c sum(t * (x - m))
    real c                          # 1/2, or less, where sums are too large
    real* lse
    real* focal                     # u^gamma, where there is a focal factor,
    real* focal_slope               # k,
    real* focal_curvature           # and h
    double* loss                # with room for W more


# (The structs of arrays are copied where they are used: their pointers can then stay in registers.)

cdef inline bint is_plain(const Loss* loss) noexcept nogil:
    """Whether the loss is without options."""
    return (loss.w == NULL and loss.row_weights.origin == NULL and not loss.labels.ignoring and loss.smoothing == 0
            and loss.gamma == 0 and loss.z == 0 and loss.softcap == 0 and loss.temperature == 1)


cdef inline double reciprocal(double divisor) noexcept nogil:
    """1 / divisor, and 0 of 0: a mean over nothing has no slope."""
    return 1 / divisor if divisor != 0 else 0


cdef inline vec shared_by(vec classes, double smoothing, double rest) noexcept nogil:
    """rest + smoothing / classes, rounded once."""
    cdef wide halves[HALVES]
    cdef int k
    for k in range(HALVES):
        halves[k] = broadcast_wide(rest) + broadcast_wide(smoothing) / widen(classes, k)
    return narrow(halves)


cdef inline double limited(double x) noexcept nogil:
    return max(-LARGEST, min(x, LARGEST))


cdef struct Exponentials:   # what is known of a row's
    vec largest
    vec maxima              # how many there are of the largest
    vec smaller             # the sum of those that are smaller,
    vec lost                # and what that lacks


cdef inline Exponentials exponentials_at(Row_numbers n, Py_ssize_t r) noexcept nogil:
    return Exponentials(load(n.scales.largest + r), load(n.maxima + r), load(n.smaller + r), load(n.lost + r))


cdef inline vec sumexp_m1_of(Exponentials e, vec m) noexcept nogil:
    """r; NaN where the largest number is infinite."""
    return (e.smaller / e.largest + (e.maxima - broadcast(1))) + (m - m)


cdef inline Reciprocal share_of(Exponentials e, vec divisor) noexcept nogil:
    """1 / (divisor sum(e)): what makes exponentials gradients."""
    cdef vec largest = unbiased(e.largest) * e.maxima
    cdef Sum sum = two_sum(largest, unbiased(e.smaller))
    cdef vec lost = unbiased(e.lost) + sum.lost
    cdef vec whole = divisor * sum.total
    return reciprocal_of(whole, fma(divisor, sum.total, -whole) + divisor * lost)


cdef inline vec total_share_of(Exponentials e) noexcept nogil:
    """1 / sum(e), in one number."""
    cdef Reciprocal share = share_of(e, broadcast(1))
    return share.value + share.correction


cdef inline vec sum_but_largest(Exponentials e) noexcept nogil:
    """sum(e) without one of the largest."""
    return fma(e.maxima - broadcast(1), unbiased(e.largest), unbiased(e.smaller))


cdef inline vec sum_but_label(Exponentials e, vec at_label, vec distance) noexcept nogil:
    """sum(e) - e_y, without cancellation; distance is 0 where the label is the largest."""
    cdef vec but_largest = sum_but_largest(e)
    return select(equal(distance, broadcast(0)), but_largest, unbiased(e.largest) + (but_largest - at_label))


cdef inline vec exponential_at_label(Row_numbers n, Py_ssize_t r) noexcept nogil:
    """e_y, which is sooner computed again than fetched from its place in each row."""
    return exponential_of(exponential(load(n.x_label + r) - load(n.scales.shift + r), load(n.scales.lowest + r),
                                      load(n.scales.magic + r)))


cdef inline void complete_sumexp_m1(const Batch* batch, const real* m, Row_numbers* numbers) noexcept nogil:
    cdef Row_numbers n = numbers[0]
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        store(n.sumexp_m1 + r, sumexp_m1_of(exponentials_at(n, r), load(m + r)))


cdef inline void compute_lse(const Batch* batch, Row_numbers* numbers) noexcept nogil:
    """lse = m + log1p(r); the limit, where there is one."""
    cdef Row_numbers n = numbers[0]
    cdef vec limit
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        limit = load(n.limit + r)
        store(n.lse + r, select(equal(limit, broadcast(0)), load(n.top + r) + log1p(load(n.sumexp_m1 + r)), limit))


cdef inline void compute_focal_factors(const Batch* batch, const Loss* loss, Row_numbers* numbers) noexcept nogil:
    cdef Row_numbers n = numbers[0]
    cdef vec gamma = broadcast(<real> loss.gamma)
    cdef vec one = broadcast(1), two = broadcast(2), zero = broadcast(0)
    cdef vec e_label, p_label, u, label_loss, factor, ratio
    cdef Reciprocal share
    cdef Exponentials e
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        e = exponentials_at(n, r)
        share = share_of(e, one)    # (in two parts: the error of u counts gamma times)
        e_label = exponential_at_label(n, r)
        p_label = e_label * share.value
        u = divided(sum_but_label(e, e_label, load(n.distance + r)), share.value, share.correction)
        label_loss = two * load(n.distance + r) + log1p(load(n.sumexp_m1 + r))
        factor = power(u, -log(u), <real> loss.gamma)
        ratio = product(gamma * p_label, select(equal(u, zero), one, label_loss / u))
        store(n.focal + r, factor)
        store(n.focal_slope + r, factor * (one + ratio))
        store(n.focal_curvature + r, product(gamma * p_label, factor * ((two - label_loss) + (ratio - ratio / gamma))))


cdef inline void compute_losses(const Batch* batch, const Loss* loss, bint plain, Row_numbers* numbers) noexcept nogil:
    """(Computed by halves, since a difference of two numbers may be too large where the loss is not.)"""
    cdef Row_numbers n = numbers[0]
    cdef double scale = reciprocal(loss.divisor)
    cdef double z_scale = limited(loss.z * reciprocal(loss.z_divisor))
    cdef bint with_z = not plain and loss.z != 0
    cdef wide kept = broadcast_wide(1 - loss.smoothing)
    cdef wide smoothing = broadcast_wide(0.5 / n.c * loss.smoothing)
    cdef vec half = broadcast(0.5), zero = broadcast(0)
    cdef vec c = broadcast(n.c)
    cdef vec half_of_c = broadcast(0.5 / n.c)
    cdef vec log_sum, part
    cdef vec q = zero           # the label's weight
    cdef vec all_classes = zero
    cdef vec s = zero, lse = zero
    cdef wide term, square
    cdef Py_ssize_t group, r
    cdef int number
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        log_sum = log1p(load(n.sumexp_m1 + r))
        part = load(n.distance + r) + half * log_sum
        if not loss.by_label or (not plain and loss.smoothing != 0):
            all_classes = (c * load(n.weight + r)) * log_sum - load(n.shifted + r)
            if not loss.by_label:
                part = half_of_c * all_classes
        if not plain:
            if loss.gamma != 0:
                part = part * load(n.focal + r)
            s = load(n.row_weight + r)
            lse = select(equal(s, zero), zero, load(n.lse + r))
            if loss.by_label:
                q = select(equal(s, zero), zero, load(n.label_weight + r)) if loss.smoothing != 1 else zero
                part = select(equal(q, zero), zero, part) + zero * log_sum  # (NaN, if the row has one)
            part = select(equal(s, zero), zero, part)
            all_classes = select(equal(s, zero), zero, all_classes)
        for number in range(HALVES):
            term = widen(part, number)
            if not plain and loss.by_label:
                term = (kept * widen(q, number)) * term
                if loss.smoothing != 0:
                    term = term + smoothing / widen(load(n.classes + r), number) * widen(all_classes, number)
            term = term * broadcast_wide(2 * scale)
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


# A gradient is a * e - b * t, with these exceptions: the number at the label, and b * ((d - t) + g) where e is
# the largest.

cdef inline void plain_factors(const Batch* batch, const Loss* loss, const Row_numbers* numbers,
                               Row_factors* factors) noexcept nogil:
    cdef Row_numbers n = numbers[0]
    cdef Row_factors f = factors[0]
    cdef vec divisor = broadcast(loss.divisor)
    cdef vec one = broadcast(1)
    cdef vec but_label, sumexp_m1, weight
    cdef Reciprocal share
    cdef Exponentials e
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        e = exponentials_at(n, r)
        share = share_of(e, divisor)
        if loss.by_label:
            but_label = sum_but_label(e, exponential_at_label(n, r), load(n.distance + r))
            store(f.a + r, share.value)
            store(f.b + r, share.correction)
            store(f.at_label + r, -divided(but_label, share.value, share.correction))
        else:
            sumexp_m1 = load(n.sumexp_m1 + r)
            weight = load(n.weight + r)
            store(f.a + r, weight * (share.value + share.correction))
            store(f.b + r, one / divisor)
            store(f.c + r, top_of(n, r))
            store(f.d + r, weight)
            store(f.g + r, -weight * (sumexp_m1 / (one + sumexp_m1)))
            store(f.counts + r, one)


cdef inline vec top_of(Row_numbers n, Py_ssize_t r) noexcept nogil:
    """The largest exponential, if its p is near 1: there Q * p - q = (Q - q) - Q * r / (1 + r) keeps the digits."""
    return select(greater(broadcast(1), load(n.sumexp_m1 + r)), load(n.scales.largest + r), broadcast(NAN))


cdef inline vec times_weights(vec x, vec y, vec s, double scale, vec other, double other_scale) noexcept nogil:
    """x y s scale + other s other_scale, in double: float32 may lack a part of it where it has the whole."""
    cdef vec weight = select(equal(x, broadcast(0)), broadcast(0), s)   # (for in float64 s * scale may be infinite)
    cdef wide halves[HALVES]
    cdef int k
    for k in range(HALVES):
        halves[k] = ((widen(weight, k) * broadcast_wide(scale)) * widen(y, k)) * widen(x, k)
        if other_scale != 0:
            halves[k] = halves[k] + (widen(other, k) * broadcast_wide(other_scale)) * widen(s, k)
    return narrow(halves)


cdef inline void weighted_factors(const Batch* batch, const Loss* loss, const Row_numbers* numbers,
                                  Row_factors* factors) noexcept nogil:
    cdef Row_numbers n = numbers[0]
    cdef Row_factors f = factors[0]
    cdef double slope = 1 / loss.temperature if loss.softcap == 0 else 1    # (that of a cap is another factor)
    cdef double scale = limited(slope * reciprocal(loss.divisor))
    cdef double z_scale = limited(2 * loss.z * slope * reciprocal(loss.z_divisor))
    cdef vec kept = broadcast(1 - loss.smoothing)
    cdef vec one = broadcast(1), zero = broadcast(0)
    cdef vec even = zero, kept_and_even = kept
    cdef vec s, z, sumexp_m1, p_but_largest, share, focal, q, label_weight, part, e_label, p_label, at_largest
    cdef Exponentials e
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        sumexp_m1 = load(n.sumexp_m1 + r)
        e = exponentials_at(n, r)
        share = total_share_of(e)
        p_but_largest = sum_but_largest(e) * share
        s = load(n.row_weight + r)
        z = load(n.lse + r) if loss.z != 0 else zero
        if loss.by_label:
            if loss.smoothing != 0:
                even = shared_by(load(n.classes + r), loss.smoothing, 0)
                kept_and_even = shared_by(load(n.classes + r), loss.smoothing, 1 - loss.smoothing)
            label_weight = load(n.label_weight + r)
            q = fma(kept, label_weight, even * load(n.weight + r))
            focal = load(n.focal_slope + r) if loss.gamma != 0 else one
            e_label = exponential_at_label(n, r)
            p_label = e_label * share
            # Where p is at_largest 1, Q * p - q' is (Q - q') - Q * (1 - p)
            if loss.smoothing == 0:     # then it is so at any label
                part = -sum_but_label(e, e_label, load(n.distance + r)) * share * focal
                part = times_weights(part, q, s, scale, p_label * z, z_scale)
            else:
                at_largest = even * (load(n.weight + r) - label_weight) - q * p_but_largest
                part = select(greater(one, sumexp_m1), at_largest, fma(q, p_label, -(kept_and_even * label_weight)))
                part = select(equal(load(n.distance + r), zero), part,
                              fma(q, p_label, -(kept_and_even * label_weight)))
                part = times_weights(part, one, s, scale, p_label * z, z_scale)
            store(f.at_label + r, select(equal(s, zero), zero, part))
            store(f.a + r, times_weights(share * focal, q, s, scale, share * z, z_scale))
            store(f.b + r, times_weights(even, one, s, scale, zero, 0))
        else:
            q = load(n.weight + r)
            at_largest = -q * p_but_largest
            if loss.z != 0:     # (there p is largest * share)
                at_largest = at_largest + times_weights(unbiased(e.largest) * share * z, one, one, z_scale / scale,
                                                        zero, 0)
            s = times_weights(s, one, one, scale, zero, 0)
            store(f.a + r, times_weights(share, q, load(n.row_weight + r), scale, share * z, z_scale))
            store(f.b + r, s)
            store(f.c + r, select(equal(s, zero), broadcast(NAN), top_of(n, r)))
            store(f.d + r, q)
            store(f.g + r, at_largest)
        store(f.counts + r, load(n.row_weight + r))


cdef inline void hessian_factors(const Batch* batch, const Loss* loss, const Row_numbers* numbers,
                                 Row_factors* factors) noexcept nogil:
    """s / D * Q * p * (1 - p), divided by the squared temperature. What is before p is b, times a power of 2.

    With a focal factor, g is h in the same units, label 1 / u, and the label has a number of its own.
    """
    cdef Row_numbers n = numbers[0]
    cdef Row_factors f = factors[0]
    cdef double scale = limited(reciprocal(loss.divisor) / loss.temperature / loss.temperature)
    cdef double smallest = 1e-300 if FLOAT64 else 1e-37     # of u: what is multiplied by 1 / u is no larger
    cdef double step = 1.0 if FLOAT64 else 1.2676506002282294e30     # 2^100
    cdef vec kept = broadcast(1 - loss.smoothing)
    cdef vec one = broadcast(1)
    cdef vec even = broadcast(0)
    cdef vec share, focal, q, s, b, e_label, u, curvature
    cdef Exponentials e
    cdef mask large, small
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        e = exponentials_at(n, r)
        share = total_share_of(e)
        s = load(n.row_weight + r)
        q = load(n.weight + r)
        if loss.by_label:
            if loss.smoothing != 0:
                even = shared_by(load(n.classes + r), loss.smoothing, 0)
            q = fma(kept, load(n.label_weight + r), even * q)
        focal = load(n.focal_slope + r) if loss.gamma != 0 else one
        store(f.a + r, share)
        b = times_weights(focal, q, s, scale, one, 0)
        large = greater(absolute(b), broadcast(step))
        small = greater(broadcast(1 / step), absolute(b))
        b = select(large, times_weights(focal, q, s, scale / step, one, 0), b)
        store(f.b + r, select(small, times_weights(focal, q, s, scale * step, one, 0), b))
        store(f.power + r, select(large, broadcast(step), select(small, broadcast(1 / step), one)))
        store(f.c + r, sum_but_largest(e) * share)
        store(f.d + r, load(n.scales.largest + r))
        store(f.counts + r, load(n.row_weight + r))
        if loss.gamma == 0:
            continue
        curvature = load(n.focal_curvature + r)
        e_label = exponential_at_label(n, r)
        u = sum_but_label(e, e_label, load(n.distance + r)) * share
        store(f.label + r, one / maximum(broadcast(smallest), u))
        store(f.g + r, times_weights(curvature / load(f.power + r), q, s, scale, one, 0))
        curvature = fma(focal, e_label * share, curvature) * u
        curvature = select(equal(s, broadcast(0)), s, curvature)
        store(f.at_label + r, times_weights(curvature, q, s, scale, one, 0))


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
        store(f.d + r, select(greater(u, zero), one, e))
        store(f.g + r, broadcast(4 / loss.temperature))
