"""What scoring wants of logits, in one pass: log-probabilities of candidates, their ranks, entropy, and the top k."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free

from .batch cimport MOST_ROWS, Batch, Block, block_of, number_at
from .call cimport Call
from .exponentials cimport change_logits, find_limits, sum_exponentials_m1, sum_shifted, take_terms
from .formulas cimport Row_factors
from .labels cimport Labels, bounded, copy_labels, take_labels
from .losses cimport Row_numbers, Scores, compute_lse
from .masks cimport load_chosen, takes_part, void_empty_rows
from .math cimport INFINITY, NAN, log1p, unbiased
from .maxima cimport max_rows
from .ranks cimport RANKED_ALONE, Ordered, allocate, count_above, count_above_many
from .reduce cimport sum_rows
from .selection cimport choose_of_batch
from .simd cimport W, broadcast, load, real, scalar, store, vec
from .terms cimport MOMENTS, SHIFTED, Terms_of_batch
from .values cimport put_values, value_at

cdef extern from * nogil:
    const int64_t NO_RANK "INT64_MAX"


cdef inline void take_candidates(Call* call, Py_ssize_t k, int64_t* id) noexcept nogil:
    """The k-th candidate of each row; -1 where it is not to count."""
    cdef Labels ids = call.scores.ids
    ids.at.origin += k * call.scores.id_stride
    take_labels(&call.batch, &ids, True, id)


cdef inline void take_at_ids(const Batch* batch, Block x, const int64_t* id, real* number) noexcept nogil:
    """The number of each row at its candidate, or its first where that does not count."""
    cdef Py_ssize_t r
    for r in range(batch.rows):
        number[r] = number_at(batch, x, r, max(<int64_t> 0, id[r]))[0]


cdef inline void rank_in_order(Call* call, Block x, Ordered* of) noexcept nogil:
    """The ranks of each row's candidates, all at once."""
    cdef Scores* scores = &call.scores
    cdef int64_t* rank
    cdef Py_ssize_t r, k
    for r in range(call.batch.rows):
        rank = scores.rank + (call.batch.first + r) * scores.candidates
        copy_labels(scores.ids.dtype, value_at(&call.batch, &scores.ids.at, call.batch.first + r), scores.id_stride,
                    of.id, scores.candidates)
        for k in range(scores.candidates):
            of.value[k] = number_at(&call.batch, x, r, bounded(of.id[k], call.batch.classes))[0]
        count_above_many(&call.batch, x, r, scores.candidates, of, rank)
        for k in range(scores.candidates):
            rank[k] += 1


cdef inline void rank_candidates(Call* call, Block x) noexcept nogil:
    """1 + how many logits are larger."""
    cdef int64_t id[MOST_ROWS]
    cdef int64_t larger[MOST_ROWS]
    cdef real number[MOST_ROWS]
    cdef Scores* scores = &call.scores
    cdef Ordered of
    cdef Py_ssize_t k, r
    if scores.rank == NULL:
        return
    if scores.candidates > RANKED_ALONE and allocate(&of, scores.candidates):
        rank_in_order(call, x, &of)
        free(of.value)
        return
    for k in range(scores.candidates):
        take_candidates(call, k, id)
        take_at_ids(&call.batch, x, id, number)
        count_above(&call.batch, x, number, larger)
        for r in range(call.batch.rows):
            scores.rank[(call.batch.first + r) * scores.candidates + k] = 1 + larger[r]


cdef inline void leave_out_hidden_tops(Call* call, Block x) noexcept nogil:
    """Of the largest, none where the mask is not set. Such a class came among those of -inf, which are the last."""
    cdef Scores* scores = &call.scores
    cdef int64_t* top_id
    cdef Py_ssize_t r, k, c
    for r in range(call.batch.rows):
        top_id = scores.top_id + (call.batch.first + r) * scores.top_k
        k = c = 0
        while k < scores.top_k and number_at(&call.batch, x, r, bounded(top_id[k], call.batch.classes))[0] > -INFINITY:
            k += 1
        while k < scores.top_k:
            while c < call.batch.classes and (number_at(&call.batch, x, r, c)[0] > -INFINITY
                                              or not takes_part(call, r, c)):
                c += 1
            top_id[k] = c if c < call.batch.classes else -1
            k, c = k + 1, c + 1


cdef inline void put_logprobs(Call* call, Block x, const real* m, const real* log_sum, real* entropy) noexcept nogil:
    """(x_y - m) - log1p(r), and 0 for candidates that do not count, as the entropy of rows without any that does.

    Where there is no rank, because a candidate does not count or take part, or its row has no probabilities, it is the
    largest of all numbers, which no `<=` takes for a hit.
    """
    cdef int64_t id[MOST_ROWS]
    cdef real number[MOST_ROWS]
    cdef bint counts[MOST_ROWS]
    cdef Scores* scores = &call.scores
    cdef Py_ssize_t k, r, at
    for r in range(call.batch.rows):
        counts[r] = scores.candidates == 0
    for k in range(scores.candidates):
        take_candidates(call, k, id)
        take_at_ids(&call.batch, x, id, number)
        for r in range(call.batch.rows):
            at = (call.batch.first + r) * scores.candidates + k
            scores.logprob[at] = (number[r] - m[r]) - log_sum[r]
            if id[r] < 0:
                scores.logprob[at] = 0
            counts[r] = counts[r] or id[r] >= 0
            if scores.rank != NULL and (id[r] < 0 or scores.logprob[at] != scores.logprob[at]
                                        or not takes_part(call, r, id[r])):
                scores.rank[at] = NO_RANK
    for r in range(call.batch.rows):
        if not counts[r]:
            entropy[r] = 0


cdef inline void put_top(Call* call, Block x, const real* m, const real* log_sum) noexcept nogil:
    """The log-probabilities of the largest; of rows that have none, NaN, and no ids."""
    cdef Scores* scores = &call.scores
    cdef Py_ssize_t r, k, at
    cdef real top
    for r in range(call.batch.rows):
        for k in range(scores.top_k):
            at = (call.batch.first + r) * scores.top_k + k
            if log_sum[r] != log_sum[r]:
                scores.top_logprob[at], scores.top_id[at] = NAN, -1
            elif scores.top_id[at] < 0:
                scores.top_logprob[at] = -INFINITY
            else:
                top = number_at(&call.batch, x, r, bounded(scores.top_id[at], call.batch.classes))[0]
                scores.top_logprob[at] = (top - m[r]) - log_sum[r]


cdef inline void put_moments(Call* call, Block x, Block e, const real* m) noexcept nogil:
    """The variance sum(p (x - mean)^2), so that no digits cancel, and sum(p^2)."""
    cdef Row_numbers* n = &call.n
    cdef Terms_of_batch of
    cdef real mean[MOST_ROWS]
    cdef real squares[MOST_ROWS]
    cdef real collisions[MOST_ROWS]
    cdef real total, largest
    cdef real* moments
    cdef Py_ssize_t r
    for r in range(call.batch.rows):
        mean[r] = m[r] + n.shifted[r] / (n.c * (1 + n.sumexp_m1[r]))
    take_terms(call, x, e, mean, &of)
    of.pending = NULL
    sum_rows(MOMENTS, &call.batch, &of, squares, collisions, NULL)
    for r in range(call.batch.rows):
        moments = call.scores.moments + 2 * (call.batch.first + r)
        total = 1 + n.sumexp_m1[r]
        largest = scalar(unbiased(broadcast(n.scales.largest[r])))
        moments[0] = squares[r] / n.scales.largest[r] / total
        moments[1] = collisions[r] / n.scales.largest[r] / total / (largest * total)


cdef inline void put_state(Call* call, int number, const real* x, real scale) noexcept nogil:
    """One of the numbers that a part of the classes knows of a row."""
    cdef Py_ssize_t r
    for r in range(call.batch.rows if call.scores.state != NULL else 0):
        call.scores.state[3 * (call.batch.first + r) + number] = scale * x[r]


cdef inline void token_logprobs_batch(Call* call) noexcept nogil:
    """With r = sumexp_m1 and p = exp(x - m) / (1 + r): the entropy -sum(p log(p)) is log1p(r) - sum(p (x - m)).

    What is not wanted is not computed.
    """
    cdef Batch* batch = &call.batch
    cdef Scores* scores = &call.scores
    cdef real m[MOST_ROWS]
    cdef real entropy[MOST_ROWS]
    cdef real log_sum[MOST_ROWS]
    cdef Row_numbers* n = &call.n
    cdef Row_factors* factors = &call.factors
    cdef Terms_of_batch of
    cdef Block x = load_chosen(call, &call.x)
    cdef bint with_entropy = call.values.origin != NULL or scores.moments != NULL or scores.state != NULL
    cdef vec sumexp_m1
    cdef Py_ssize_t group, r
    max_rows(batch, &call.x, x, &call.next, m)
    for r in range(batch.rows):
        n.top[r] = m[r]
        n.limit[r] = 0
    if call.loss.softcap == 0:
        find_limits(batch, x, m, n.limit)
    if call.mask.origin != NULL:
        void_empty_rows(call, x, m, n.limit)
    rank_candidates(call, x)
    choose_of_batch(batch, x, scores.top_k, scores.top_logprob + batch.first * scores.top_k,
                    scores.top_id + batch.first * scores.top_k)
    if call.mask.origin != NULL:
        leave_out_hidden_tops(call, x)
    put_state(call, 0, m, 1)
    if call.loss.softcap != 0 or call.loss.temperature != 1:
        change_logits(call, x, m, n, factors)
    take_terms(call, x, x, m, &of)
    of.kept = block_of(batch, &call.spare) if with_entropy or batch.columns else Block(NULL, 0, 0)
    sum_exponentials_m1(call, &of, m, n)
    compute_lse(batch, n)
    if with_entropy:
        sum_shifted(call, SHIFTED, x, of.kept, NULL, m, n, n.shifted, NULL)
    for group in range((batch.rows + W - 1) // W):
        r = group * W
        sumexp_m1 = load(n.sumexp_m1 + r)
        store(log_sum + r, log1p(sumexp_m1))
        if with_entropy:
            store(n.shifted + r, load(n.shifted + r) / load(n.scales.largest + r))
            store(entropy + r, log1p(sumexp_m1) - load(n.shifted + r) / (broadcast(n.c) * (broadcast(1) + sumexp_m1)))
    if scores.moments != NULL:
        put_moments(call, x, of.kept, m)
    put_logprobs(call, x, m, log_sum, entropy)
    put_top(call, x, m, log_sum)
    if call.values.origin != NULL:
        put_values(batch, &call.values, entropy)
    put_values(batch, &call.loss.lse, n.lse)
    put_state(call, 1, n.sumexp_m1, 1)
    put_state(call, 2, n.shifted, 1 / n.c)
