"""The softmax family, forward and backward: each kernel is what it does with one batch."""

from .apply cimport apply_to_array, apply_to_row, change_block
from .batch cimport MOST_ROWS, Batch, Block, block_of, number_at
from .call cimport Call
from .exponentials cimport (
    change_logits, find_limits, limit_of, put_shares, sum_exponentials, sum_exponentials_m1, take_terms,
    take_terms_keeping_x,
)
from .formulas cimport HIDE, KEEP, LOG_SOFTMAX_BACKWARD, PROBABILITY, SHIFT, SOFTMAX_BACKWARD, Formula, Row_factors
from .losses cimport Exponentials, Row_numbers, compute_lse, sumexp_m1_of
from .masks cimport level_empty_rows, load_chosen, load_mask
from .math cimport INFINITY, NAN, log, log1p, unbiased
from .maxima cimport max_rows
from .one_row cimport Row, are_alone, begin_rows, next_row, sum_m1_of_row, sum_of_row
from .reduce cimport sum_rows
from .simd cimport W, absolute, broadcast, equal, flattened, greater, load, real, scalar, select, store, vec
from .sums cimport Reciprocal, reciprocal_of
from .terms cimport EXPONENTIALS, FACTORS, NUMBERS, PRODUCTS, Terms, Terms_of_batch, find_largest
from .tiles cimport load_rows
from .values cimport fill, put_values, value_at


cdef inline flattened softmax_rows(Call* call) noexcept nogil:
    """The same of rows one at a time."""
    cdef Exponentials e
    cdef Reciprocal share
    cdef Row row
    begin_rows(call, &row)
    while next_row(call, &row):
        e = sum_of_row(EXPONENTIALS, True, call, &row)
        share = reciprocal_of(e.smaller, e.lost)
        apply_to_row(PROBABILITY, &row.form, row.out, share.value, share.correction, row.out)


cdef inline void softmax_batch(Call* call) noexcept nogil:
    """out = e / sum(e), e the exponentials of x."""
    cdef real m[MOST_ROWS]
    cdef real total[MOST_ROWS]
    cdef real lost[MOST_ROWS]
    cdef Row_factors* factors = &call.factors
    cdef Terms_of_batch of
    cdef Block x
    if are_alone(call):
        softmax_rows(call)
        return
    x = load_chosen(call, &call.x)
    take_terms(call, x, x, m, &of)
    max_rows(&call.batch, &call.x, x, &call.next, m)
    if call.mask.origin != NULL:
        level_empty_rows(call, m)
    if call.loss.temperature != 1:
        change_logits(call, x, m, &call.n, factors)
    sum_exponentials(call, &of, m, total, lost)
    put_shares(&call.batch, total, lost, factors)
    apply_to_array(PROBABILITY, &call.batch, of.kept, of.kept, NULL, factors, &call.out, &call.pending)


cdef inline flattened log_softmax_rows(Call* call) noexcept nogil:
    cdef Exponentials e
    cdef vec log_sum
    cdef Row row
    begin_rows(call, &row)
    while next_row(call, &row):
        sum_m1_of_row(call, &row, &e)
        log_sum = broadcast(0) if row.is_empty else log1p(sumexp_m1_of(e, row.m))
        apply_to_row(SHIFT, &row.form, row.x, row.m, log_sum, row.out)


cdef inline void log_softmax_batch(Call* call) noexcept nogil:
    """out = (x - m) - log1p(sumexp_m1)."""
    cdef real m[MOST_ROWS]
    cdef Row_numbers* n = &call.n
    cdef Row_factors* factors = &call.factors
    cdef Terms_of_batch of
    cdef Block x
    cdef vec sumexp_m1
    cdef Py_ssize_t group
    if are_alone(call):
        log_softmax_rows(call)
        return
    x = load_chosen(call, &call.x)
    take_terms_keeping_x(call, x, x, m, &of)
    max_rows(&call.batch, &call.x, x, &call.next, m)
    if call.mask.origin != NULL:
        level_empty_rows(call, m)
    if call.loss.temperature != 1:
        change_logits(call, x, m, n, factors)
    sum_exponentials_m1(call, &of, m, n)
    for group in range((call.batch.rows + W - 1) // W):
        sumexp_m1 = load(n.sumexp_m1 + group * W)
        sumexp_m1 = select(equal(sumexp_m1, broadcast(-1)), broadcast(0), sumexp_m1)  # (of an empty row)
        store(factors.a + group * W, load(m + group * W))
        store(factors.b + group * W, log1p(sumexp_m1))
    apply_to_array(SHIFT, &call.batch, x, x, NULL, factors, &call.out, &call.pending)


cdef inline flattened logsumexp_rows(Call* call) noexcept nogil:
    """The same of rows one at a time."""
    cdef Exponentials e
    cdef Row row
    cdef real limit
    begin_rows(call, &row)
    while next_row(call, &row):
        sum_m1_of_row(call, &row, &e)
        limit = -INFINITY if row.is_empty else limit_of(row.x, 1, call.batch.classes, scalar(row.m))
        if limit == 0:
            limit = scalar(row.m + log1p(sumexp_m1_of(e, row.m)))
        (<real*> value_at(&call.batch, &call.values, row.number))[0] = limit


cdef inline void logsumexp_batch(Call* call) noexcept nogil:
    """values = m + log1p(sumexp_m1); the maximum itself where it is infinite and no class is NaN."""
    cdef Row_numbers* n = &call.n
    cdef Terms_of_batch of
    cdef Block x
    if are_alone(call):
        logsumexp_rows(call)
        return
    x = load_chosen(call, &call.x)
    take_terms(call, x, x, n.top, &of)
    max_rows(&call.batch, &call.x, x, &call.next, n.top)
    find_limits(&call.batch, x, n.top, n.limit)
    sum_exponentials_m1(call, &of, n.top, n)
    compute_lse(&call.batch, n)
    put_values(&call.batch, &call.values, n.lse)


cdef inline void sum_infinite(const Batch* batch, Block x, Block y, Py_ssize_t row, real* lse,
                              real* sign) noexcept nogil:
    """The logarithm and the sign of a sum with infinite terms: NaN, if they are of both signs, or one is NaN."""
    cdef real total = 0
    cdef Py_ssize_t c
    for c in range(batch.classes):
        if not number_at(batch, x, row, c)[0] < INFINITY:
            total += number_at(batch, y, row, c)[0] * number_at(batch, x, row, c)[0]
    lse[0] = INFINITY if total == total else NAN
    sign[0] = 1 if total > 0 else -1 if total < 0 else NAN


cdef inline void logsumexp_factors_batch(Call* call) noexcept nogil:
    """values = log(abs(sum(y exp(x)))), and the signs of the sums: terms at the maximum, and all others beside them.

    x must be -inf where y is 0.
    """
    cdef real m[MOST_ROWS]
    cdef real at_top[MOST_ROWS]
    cdef real results[MOST_ROWS]
    cdef real sign[MOST_ROWS]
    cdef Block x = load_rows(&call.batch, &call.x)
    cdef Block y = load_rows(&call.batch, &call.y)
    cdef Terms_of_batch of
    cdef vec zero = broadcast(0)
    cdef vec top, smaller, total, ratio, log_total
    cdef Py_ssize_t group, r
    take_terms(call, x, x, m, &of)
    of.kept = block_of(&call.batch, &call.spare)
    max_rows(&call.batch, &call.x, x, &call.next, m)
    for r in range(call.batch.rows):
        if m[r] == -INFINITY:
            m[r] = 0
    sum_exponentials(call, &of, m, results, NULL)
    find_largest(&call.batch, m, &call.n.scales)
    take_terms(call, of.kept, y, call.n.scales.largest, &of)
    sum_rows(FACTORS, &call.batch, &of, at_top, results, NULL)
    for group in range((call.batch.rows + W - 1) // W):
        r = group * W
        top = load(at_top + r)
        smaller = load(results + r) / unbiased(load(call.n.scales.largest + r))
        total = top + smaller
        ratio = smaller / top
        log_total = select(greater(broadcast(0.5), absolute(ratio)), log(absolute(top)) + log1p(ratio),
                           log(absolute(total)))
        store(sign + r, select(greater(total, zero), broadcast(1), select(greater(zero, total), broadcast(-1), total)))
        store(results + r, load(m + r) + log_total)
    for r in range(call.batch.rows):
        if m[r] == INFINITY:
            sum_infinite(&call.batch, x, y, r, &results[r], &sign[r])
    put_values(&call.batch, &call.values, results)
    put_values(&call.batch, &call.signs, sign)


cdef inline void sum_backward(Call* call, Terms terms, Block g, Block y, Row_factors* factors) noexcept nogil:
    """a = the sums of terms, times b; b is 1/2, or less where the sum would be too large; c = 1 / b."""
    cdef Terms_of_batch of
    cdef bint too_large = False
    cdef Py_ssize_t r
    take_terms(call, g, y, factors.b, &of)
    fill(&call.batch, 0.5, factors.b)
    fill(&call.batch, 2, factors.c)
    sum_rows(terms, &call.batch, &of, factors.a, NULL, NULL)
    for r in range(call.batch.rows):
        if factors.a[r] - factors.a[r] != 0:
            too_large = True
            factors.b[r] = <real> 2.3283064365386963e-10    # 2^-32
            factors.c[r] = <real> 4294967296.0
    if too_large:
        sum_rows(terms, &call.batch, &of, factors.a, NULL, NULL)


cdef inline void load_backward(Call* call, Formula where_hidden, Block* g, Block* y) noexcept nogil:
    """The gradient g, 0 where the mask, if there is one, is not set, and the results y, likewise by a formula."""
    cdef Row_factors* factors = &call.factors
    cdef Block chosen
    g[0], y[0] = load_rows(&call.batch, &call.x), load_rows(&call.batch, &call.y)
    if call.mask.origin != NULL:
        chosen = load_mask(call)
        change_block(KEEP, &call.batch, g[0], chosen, NULL, factors, g[0])
        change_block(where_hidden, &call.batch, y[0], chosen, NULL, factors, y[0])


cdef inline void softmax_backward_batch(Call* call) noexcept nogil:
    """out = p * (g - sum(g * p)), x being g and y p."""
    cdef Row_factors* factors = &call.factors
    cdef Block g, p
    load_backward(call, KEEP, &g, &p)
    sum_backward(call, PRODUCTS, g, p, factors)
    apply_to_array(SOFTMAX_BACKWARD, &call.batch, g, p, NULL, factors, &call.out, &call.pending)


cdef inline void log_softmax_backward_batch(Call* call) noexcept nogil:
    """out = g - exp(log_p) * sum(g), x being g and y log_p."""
    cdef Row_factors* factors = &call.factors
    cdef Block g, log_p
    load_backward(call, HIDE, &g, &log_p)
    sum_backward(call, NUMBERS, g, log_p, factors)
    apply_to_array(LOG_SOFTMAX_BACKWARD, &call.batch, g, log_p, NULL, factors, &call.out, &call.pending)
