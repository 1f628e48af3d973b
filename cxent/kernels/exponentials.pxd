"""The exponentials of a batch, their sums, and what is done to logits before: what several kernels share."""

from .apply cimport change_block
from .batch cimport Batch, Block, block_of, is_far, number_at, padded_rows
from .call cimport Call, find_traffic, next_block
from .formulas cimport CAP, CAP_SLOPE, DIVIDE, WEIGHTED, Row_factors
from .losses cimport Row_numbers, cap_factors, complete_sumexp_m1
from .masks cimport hide_again
from .math cimport NAN, Scaled, scaled
from .reduce cimport sum_rows
from .simd cimport W, broadcast, equal, lanes_of, load, real, select, store, vec
from .sums cimport Reciprocal, reciprocal_of
from .terms cimport EXPONENTIALS, SUMEXP_M1, Terms, Terms_of_batch, find_largest, find_scales
from .values cimport fill, take_values


cdef inline void take_terms(Call* call, Block x, Block y, const real* n, Terms_of_batch* of) noexcept nogil:
    """What a sum reads, and where its exponentials go: to the place of the results.

    (Set in its place, as is all that a batch passes on: what is copied soon after waits for it, some 15 cycles a time.)
    """
    of.x, of.y, of.w, of.n, of.c = x, y, NULL, n, 1
    of.scales = &call.n.scales
    of.next = &call.next
    of.far = is_far(&call.batch, &call.x)
    of.next_out = next_block(&call.batch, &call.out)
    if call.out.origin != NULL:
        of.kept = block_of(&call.batch, &call.out)
    else:  # nothing needs x then, which is in a tile if it is in columns
        of.kept = x if call.batch.columns else Block(NULL, 0, 0)
    of.pending = &call.pending
    find_traffic(call, &of.traffic)


cdef inline void sum_exponentials(Call* call, Terms_of_batch* of, const real* m, real* total,
                                  real* lost) noexcept nogil:
    find_scales(&call.batch, m, False, &call.n.scales)
    sum_rows(EXPONENTIALS, &call.batch, of, total, NULL, lost)


cdef inline void put_shares(const Batch* batch, const real* total, const real* lost,
                            Row_factors* factors) noexcept nogil:
    cdef Row_factors f = factors[0]
    cdef Reciprocal share
    cdef Py_ssize_t group, r
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        share = reciprocal_of(load(total + r), load(lost + r))
        store(f.a + r, share.value)
        store(f.b + r, share.correction)


cdef inline void take_terms_keeping_x(Call* call, Block x, Block y, const real* n, Terms_of_batch* of) noexcept nogil:
    """The same, but the exponentials do not take the place of x."""
    take_terms(call, x, y, n, of)
    of.kept = block_of(&call.batch, &call.spare) if call.batch.columns else Block(NULL, 0, 0)


cdef inline void change_logits(Call* call, Block x, real* m, Row_numbers* n, Row_factors* factors) noexcept nogil:
    """Softcap and temperature: in the tile x - x_m in place of u, so that m = 0; and the slope dx/du of a cap."""
    cdef Scaled rate
    cdef Py_ssize_t r
    if call.loss.softcap != 0:
        rate = scaled(-2 / (call.loss.temperature * call.loss.softcap))
        if rate.power != 1:
            fill(&call.batch, rate.power, factors.a)
            fill(&call.batch, 1, factors.counts)
            change_block(WEIGHTED, &call.batch, x, x, NULL, factors, x)
            for r in range(call.batch.rows):
                m[r] *= rate.power
        cap_factors(&call.batch, &call.loss, rate.factor, m, factors, n.top)
        if call.spare.origin != NULL:
            change_block(CAP_SLOPE, &call.batch, x, x, NULL, factors, block_of(&call.batch, &call.spare))
        change_block(CAP, &call.batch, x, x, NULL, factors, x)
        if call.mask.origin != NULL:
            hide_again(call, x, n.top)
    else:
        fill(&call.batch, 1 if call.loss.temperature == 0 else <real> call.loss.temperature, factors.a)
        if call.loss.temperature == 0:
            take_values(&call.batch, &call.temperatures, factors.a)
        for r in range(padded_rows(&call.batch)):
            factors.b[r] = m[r] if r < call.batch.rows else 0
            n.top[r] = factors.b[r] / factors.a[r]
            factors.a[r] *= <real> 0.5
        change_block(DIVIDE, &call.batch, x, x, NULL, factors, x)
    fill(&call.batch, 0, m)


cdef inline void sum_exponentials_m1(Call* call, Terms_of_batch* of, const real* m, Row_numbers* n) noexcept nogil:
    """r, the sum of exp(x - m) less the largest: that of the other exponentials, divided by the largest."""
    find_scales(&call.batch, m, False, &n.scales)
    find_largest(&call.batch, m, &n.scales)
    of.n = n.scales.largest
    sum_rows(SUMEXP_M1, &call.batch, of, n.smaller, n.maxima, n.lost)
    complete_sumexp_m1(&call.batch, m, n)


cdef inline real limit_of(const real* x, Py_ssize_t step, Py_ssize_t classes, real m) noexcept nogil:
    """The logsumexp of a row whose maximum is infinite: that, or NaN if a class is NaN; else 0."""
    cdef Py_ssize_t c
    if m - m == 0:
        return 0
    for c in range(classes):
        if x[c * step] != x[c * step]:
            return NAN
    return m


cdef inline void find_limits(const Batch* batch, Block x, const real* m, real* limit) noexcept nogil:
    """The same of all rows of a batch."""
    cdef Py_ssize_t r
    for r in range(batch.rows):
        limit[r] = limit_of(number_at(batch, x, r, 0), x.step if batch.columns else 1, batch.classes, m[r])


cdef inline void sum_shifted(Call* call, Terms terms, Block x, Block y, const real* w, const real* m, Row_numbers* n,
                             real* first, real* second) noexcept nogil:
    """Sums of terms with c, which is 2^-32 where they are too large otherwise."""
    cdef Terms_of_batch of
    cdef Py_ssize_t r
    take_terms(call, x, y, m, &of)
    of.w, of.pending = w, NULL
    of.c = n.c = 0.5
    sum_rows(terms, &call.batch, &of, first, second, NULL)
    for r in range(call.batch.rows):
        if n.shifted[r] - n.shifted[r] != 0 and n.c == 0.5:
            of.c = n.c = <real> 2.3283064365386963e-10    # 2^-32
            sum_rows(terms, &call.batch, &of, first, second, NULL)


cdef inline void find_at_maxima(const Batch* batch, Block x, const real* m, Block v, real* at_maximum) noexcept nogil:
    """The number of v where the first of the row's largest logits is."""
    cdef Py_ssize_t group, r, c
    cdef vec number
    for group in range((batch.rows + W - 1) // W if batch.columns else 0):
        r = group * W
        number = load(v.start + r + (batch.classes - 1) * v.step)
        for c in range(batch.classes - 2, -1, -1):
            number = select(equal(load(x.start + r + c * x.step), load(m + r)), load(v.start + r + c * v.step), number)
        store(at_maximum + r, number)
    for r in range(0 if batch.columns else batch.rows):
        c = 0
        while c + W < batch.classes and lanes_of(equal(load(number_at(batch, x, r, c)), broadcast(m[r]))) == 0:
            c += W
        while c < batch.classes - 1 and number_at(batch, x, r, c)[0] != m[r]:
            c += 1
        at_maximum[r] = number_at(batch, v, r, c)[0]
