"""The loss kernels: what each does with one batch.

One kernel, `cross_entropy_batch`, has all options; those that are off cost a comparison a batch.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from .apply cimport apply_to_array, apply_to_row, change_block, store_results
from .batch cimport MOST_ROWS, Batch, Block, block_of, padded_rows
from .call cimport Call
from .exponentials cimport (
    change_logits, find_at_maxima, find_limits, put_shares, sum_exponentials, sum_exponentials_m1, sum_shifted,
    take_terms,
)
from .formulas cimport (
    COUNTED, GRADIENT, GRADIENT_CLASSES, GRADIENT_LABELS, GRADIENT_TARGETS, HESSIAN, HESSIAN_FOCAL, HESSIAN_PRODUCT,
    KEEP, LOGARITHM, LOSS_OF_PROBS, MULTIPLY, PROBABILITY, SHIFT, SMOOTH, SMOOTH_CHOSEN, WEIGHTED, Formula, Row_factors,
    exponential_of,
)
from .labels cimport (
    MOST_COMPARED, Labels, are_compared, bounded, label_at, put_in_array, put_in_block, take_at_labels, take_labels,
)
from .losses cimport (
    Exponentials, Loss, Row_numbers, compute_focal_factors, compute_losses, compute_lse, hessian_factors, is_plain,
    narrow_losses, plain_factors, reciprocal, share_of, sum_but_label, sumexp_m1_of, weighted_factors,
)
from .masks cimport (
    can_clear_results, choose_classes, clear_results, is_mask_of_classes, load_chosen, load_mask, some_are_lowest,
    takes_part, void_empty_rows, void_row,
)
from .math cimport NAN, log, log1p
from .maxima cimport max_rows
from .one_row cimport Row, are_alone, begin_rows, exponential_in, next_row, sum_m1_of_row, sum_of_row
from .reduce cimport sum_rows
from .simd cimport (
    HALVES, LANES, W, broadcast, equal, flattened, load, load_labels, narrow, prefetch, real, scalar, select, store,
    vec, wide, widen,
)
from .sums cimport Reciprocal, divided
from .terms cimport DIFFERENCES, NUMBERS, PRESENT, PRODUCTS, SUMEXP_M1, TARGETS, Terms_of_batch
from .tiles cimport load_rows
from .totals cimport add_loss, add_losses
from .traffic cimport Prefetch, find_prefetch
from .values cimport fill, put_values, take_values, value_at


cdef inline void take_rows(Call* call, bint plain, int64_t* label, Row_numbers* n) noexcept nogil:
    """Labels and weights. The weight of ignored rows is 0; in place of their label stands one that can be an index."""
    cdef Loss* loss = &call.loss
    cdef Py_ssize_t r
    if loss.labels.at.origin != NULL:
        take_labels(&call.batch, &loss.labels, not (plain and are_compared(&call.batch)), label)
    if plain:
        return
    if loss.row_weights.origin != NULL:
        take_values(&call.batch, &loss.row_weights, n.row_weight)
    else:
        fill(&call.batch, 1, n.row_weight)
    for r in range(call.batch.rows if loss.labels.ignoring else 0):
        if label[r] < 0:
            n.row_weight[r] = 0
            label[r] = 0
    if loss.w == NULL:
        fill(&call.batch, 1, n.label_weight)
    elif loss.labels.at.origin != NULL:
        for r in range(call.batch.rows):
            n.label_weight[r] = loss.w[label[r]]


cdef inline bint is_mask_of_weights(const Call* call) noexcept nogil:
    """Whether classes are hidden by weights of 0. (The loss of rows alone is sooner summed without weights.)"""
    return (call.loss.w_is_even and is_mask_of_classes(call)
            and (call.batch.columns or call.out.origin != NULL))


cdef inline void sum_chosen_classes(Call* call, Block x, Block chosen, const real* m, Row_numbers* n,
                                    Row_factors* factors) noexcept nogil:
    """sum(t) and c sum(t * (x - m)), where t, which comes to be in `chosen`, are the weights of the classes that the
    mask leaves of each row, and how many these are."""
    cdef Batch* batch = &call.batch
    cdef Py_ssize_t weighing, r
    load_mask(call)
    for weighing in range(1 if call.loss.w_is_even else 2):
        if weighing:
            fill(batch, 1, factors.a)
            fill(batch, 0, factors.b)
            change_block(SMOOTH, batch, chosen, chosen, call.loss.w, factors, chosen)
        sum_shifted(call, TARGETS, x, chosen, NULL, m, n, n.weight, n.shifted)
        for r in range(0 if weighing else batch.rows):
            n.classes[r] = max(n.weight[r], 1)      # (1 for empty rows: nothing is shared there)


cdef inline bint sum_present_classes(Call* call, Block x, const real* m, Row_numbers* n) noexcept nogil:
    """The same, of weights that are all 1, from the logits alone; False if some are -inf or NaN that are not hidden,
    or if a row is empty."""
    cdef Py_ssize_t present = 0
    cdef Py_ssize_t r
    if (call.present < 0 or not call.loss.w_is_even or call.batch.classes > 1 << 24     # (then counts are rounded)
            or (call.out.origin != NULL and not can_clear_results(call))):
        return False
    sum_shifted(call, PRESENT, x, x, NULL, m, n, n.shifted, n.weight)
    for r in range(call.batch.rows):
        if n.weight[r] == 0:
            return False
        present += <Py_ssize_t> n.weight[r]
        n.classes[r] = n.weight[r]
    return present == call.present


cdef inline void divide_smoothing(Call* call, Block chosen, Row_factors* factors) noexcept nogil:
    """b = what smoothing gives to each class that the mask leaves of a row."""
    cdef Terms_of_batch of
    cdef Py_ssize_t r
    fill(&call.batch, 1, factors.c)
    take_terms(call, chosen, chosen, factors.c, &of)
    of.pending = NULL
    sum_rows(NUMBERS, &call.batch, &of, factors.b, NULL, NULL)
    for r in range(call.batch.rows):
        factors.b[r] = <real> (call.loss.smoothing / factors.b[r])


cdef inline Block load_targets(Call* call, Row_factors* factors) noexcept nogil:
    """The target rows, smoothed and weighted. In columns, those of the next batch are prefetched: all at once, since
    the exponentials have company enough."""
    cdef Batch* batch = &call.batch
    cdef Loss* loss = &call.loss
    cdef Block target = block_of(batch, &call.y)
    cdef Block chosen
    cdef Prefetch following
    cdef Py_ssize_t c, strip
    load_rows(batch, &call.y)
    following.start = NULL
    if batch.columns:
        find_prefetch(batch, &call.y, &following)
    for c in range(batch.classes if following.start != NULL else 0):
        for strip in range(batch.strips):
            prefetch(following.start + c * following.run + strip * following.line)
    if loss.w != NULL:
        fill(batch, 1 - loss.smoothing, factors.a)
        if call.mask.origin != NULL and loss.smoothing != 0:
            chosen = load_mask(call)
            divide_smoothing(call, chosen, factors)
            change_block(SMOOTH_CHOSEN, batch, target, chosen, loss.w, factors, target)
        else:
            fill(batch, loss.smoothing / batch.classes, factors.b)
            change_block(SMOOTH, batch, target, target, loss.w, factors, target)
    return target


cdef inline Block leave_out_hidden(Call* call, Block target, const int64_t* label, const Row_numbers* n,
                                   Row_factors* factors) noexcept nogil:
    """No gradient where the mask is not set: not even at a label or a target there, whose loss is infinite. Returns the
    targets."""
    cdef Block chosen
    cdef bint has_hidden_targets = False
    cdef Py_ssize_t r
    if call.loss.by_label and not some_are_lowest(&call.batch, n.x_label):
        return target
    for r in range(call.batch.rows):
        if not call.loss.by_label:
            has_hidden_targets = has_hidden_targets or n.shifted[r] - n.shifted[r] != 0
        elif factors.at_label[r] == factors.at_label[r]:
            if not takes_part(call, r, bounded(label[r], call.batch.classes)):
                factors.at_label[r] = 0
    if has_hidden_targets:
        chosen = load_mask(call)
        change_block(MULTIPLY, &call.batch, target, chosen, NULL, factors, chosen)
        return chosen
    return target


cdef inline void put_gradient(Call* call, Block e, Block target, const real* w, bint plain, const int64_t* label,
                              const Row_numbers* n, Row_factors* factors) noexcept nogil:
    """w are the class weights, or NULL if `target` has them."""
    cdef bint by_label = call.loss.by_label
    cdef real classes[MOST_COMPARED]
    cdef Py_ssize_t group, c
    cdef Formula formula = GRADIENT_TARGETS
    if plain:
        plain_factors(&call.batch, &call.loss, n, factors)
    else:
        weighted_factors(&call.batch, &call.loss, n, factors)
    if call.mask.origin != NULL:
        target = leave_out_hidden(call, target, label, n, factors)
    if by_label:
        formula = GRADIENT if plain else GRADIENT_CLASSES if call.loss.smoothing != 0 else COUNTED
        if formula == GRADIENT_CLASSES and w == NULL:
            fill(&call.batch, NAN, factors.c)   # (no number has a formula of its own)
            formula = GRADIENT_TARGETS
    if by_label and plain and are_compared(&call.batch):
        for c in range(MOST_COMPARED):
            classes[c] = <real> c
        for group in range(padded_rows(&call.batch) // W):
            store(factors.label + group * W, load_labels(label + group * W))
        apply_to_array(GRADIENT_LABELS, &call.batch, e, target, classes, factors, &call.out, &call.pending)
        return
    if call.spare.origin != NULL:
        change_block(formula, &call.batch, e, target, w, factors, e)
        if by_label:
            put_in_block(&call.batch, e, label, factors.at_label)
        target = block_of(&call.batch, &call.spare)
        by_label = False
        formula = MULTIPLY
    elif by_label and call.out.streamed:
        change_block(formula, &call.batch, e, target, w, factors, e)
        put_in_block(&call.batch, e, label, factors.at_label)
        store_results(&call.batch, e, &call.out, &call.pending)
        return
    apply_to_array(formula, &call.batch, e, target, w, factors, &call.out, &call.pending)
    if by_label:
        put_in_array(&call.batch, &call.out, label, factors.at_label)


cdef inline void loss_of_row(Call* call, const Row* row, Exponentials e, vec half_distance) noexcept nogil:
    cdef Loss* loss = &call.loss
    cdef vec half_loss = half_distance + broadcast(0.5) * log1p(sumexp_m1_of(e, row.m))
    cdef double value = <double> scalar(half_loss) * (2 * reciprocal(loss.divisor))
    add_loss(value, row.number, &call.total)
    if loss.losses.origin != NULL:
        (<real*> value_at(&call.batch, &loss.losses, row.number))[0] = <real> value


cdef inline void gradient_of_row(Call* call, const Row* row, Exponentials e, int64_t label, vec x_label,
                                 vec half_distance) noexcept nogil:
    cdef Reciprocal share = share_of(e, broadcast(call.loss.divisor))
    cdef vec but_label = sum_but_label(e, exponential_of(exponential_in(row, x_label)), half_distance)
    apply_to_row(GRADIENT, &row.form, row.out, share.value, share.correction, row.out)
    if takes_part(call, row.number - call.batch.first, label):      # (else it is 0 or NaN already)
        row.out[label] = scalar(-divided(but_label, share.value, share.correction))


cdef inline flattened cross_entropy_rows(Call* call) noexcept nogil:
    """The plain losses of rows one at a time, and their gradients."""
    cdef Labels* labels = &call.loss.labels
    cdef bint with_grad = call.out.origin != NULL
    cdef Exponentials e
    cdef int64_t label
    cdef vec x_label, half_distance
    cdef Row row
    begin_rows(call, &row)
    while next_row(call, &row):
        if row.is_empty:
            void_row(&row.form, Block(call.x.tile, 0, LANES), 0)
        label = label_at(labels.dtype, value_at(&call.batch, &labels.at, row.number))
        label = bounded(label, call.batch.classes)
        x_label = broadcast(row.x[label])
        half_distance = broadcast(0.5) * row.m - broadcast(0.5) * x_label
        if with_grad:   # (literals, for loops without a test)
            e = sum_of_row(SUMEXP_M1, True, call, &row)
            gradient_of_row(call, &row, e, label, x_label, half_distance)
        else:
            sum_m1_of_row(call, &row, &e)
        loss_of_row(call, &row, e, half_distance)


cdef inline void cross_entropy_batch(Call* call) noexcept nogil:
    """The losses, and what is wanted beside them of gradient, Hessian and logsumexp."""
    cdef Batch* batch = &call.batch
    cdef Loss* loss = &call.loss
    cdef bint plain = is_plain(loss) and call.hess.origin == NULL
    cdef bint by_label = loss.by_label
    cdef bint with_grad = call.out.origin != NULL
    cdef bint with_lse = loss.lse.origin != NULL or loss.z != 0
    cdef bint weighted = by_label and loss.smoothing != 0
    cdef bint leaves_hidden = False     # the gradient has numbers where the mask is not set
    cdef int64_t label[MOST_ROWS]
    cdef real m[MOST_ROWS]
    cdef Row_numbers* n = &call.n
    cdef Row_factors* factors = &call.factors
    cdef Terms_of_batch of
    cdef const real* w = loss.w
    cdef Block target, x
    cdef Py_ssize_t group, r
    if plain and by_label and not with_lse and are_alone(call):
        cross_entropy_rows(call)
        return
    x = load_chosen(call, &call.x)
    n.c = 0.5
    max_rows(batch, &call.x, x, &call.next, m)
    take_rows(call, plain, label, n)
    if with_lse:
        for r in range(batch.rows):
            n.top[r] = m[r]
            n.limit[r] = 0
        if loss.softcap == 0:
            find_limits(batch, x, m, n.limit)
    if call.mask.origin != NULL:
        void_empty_rows(call, x, m, n.limit)
    if loss.softcap != 0 or loss.temperature != 1:
        change_logits(call, x, m, n, factors)
    target = x
    if by_label:
        take_at_labels(batch, x, label, n.x_label)
        for group in range((batch.rows + W - 1) // W):
            r = group * W
            store(n.distance + r, broadcast(0.5) * load(m + r) - broadcast(0.5) * load(n.x_label + r))
    else:
        target = load_targets(call, factors)
        sum_shifted(call, TARGETS, x, target, NULL, m, n, n.weight, n.shifted)
    if weighted and call.mask.origin != NULL and not is_mask_of_weights(call):
        leaves_hidden = sum_present_classes(call, x, m, n)
        if not leaves_hidden:
            target, w = block_of(batch, &call.mask), NULL
            sum_chosen_classes(call, x, target, m, n, factors)
    elif weighted:
        if call.mask.origin != NULL:
            w = choose_classes(call, n)
        else:
            fill(batch, loss.w_sum, n.weight)
            fill(batch, batch.classes, n.classes)
        sum_shifted(call, DIFFERENCES, x, x, w, m, n, n.shifted, NULL)
    elif by_label and not plain:
        fill(batch, 0, n.weight)
    take_terms(call, x, x, m, &of)
    sum_exponentials_m1(call, &of, m, n)
    if with_lse:
        compute_lse(batch, n)
    if loss.gamma != 0:
        compute_focal_factors(batch, loss, n)
    if plain:   # (literals, for loops without tests)
        compute_losses(batch, loss, True, n)
    else:
        compute_losses(batch, loss, False, n)
    if loss.losses.origin != NULL:
        narrow_losses(batch, n, m)
        put_values(batch, &loss.losses, m)
    add_losses(batch, n.loss, &call.total)
    if loss.lse.origin != NULL:
        put_values(batch, &loss.lse, n.lse)
    if with_grad:
        if call.hess.origin != NULL:
            hessian_factors(batch, loss, n, factors)
            apply_to_array(HESSIAN if loss.gamma == 0 else HESSIAN_FOCAL, batch, of.kept, of.kept, NULL, factors,
                           &call.hess, &call.pending)
            if loss.gamma != 0:
                put_in_array(batch, &call.hess, label, factors.at_label)
        put_gradient(call, of.kept, target, w, plain, label, n, factors)
        if leaves_hidden:
            clear_results(call)


cdef inline void hessian_product_batch(Call* call) noexcept nogil:
    """out = s / D * Q * p * (v - sum(p * v)), divided by the squared temperature, v being 0 where the mask is not set.

    H v is that of v less any number: less that at the maximum, it keeps its digits where p is near 1.
    """
    cdef Batch* batch = &call.batch
    cdef Loss* loss = &call.loss
    cdef int64_t label[MOST_ROWS]
    cdef real m[MOST_ROWS]
    cdef real sums[MOST_ROWS]
    cdef real products[MOST_ROWS]
    cdef Row_numbers* n = &call.n
    cdef Row_factors* factors = &call.factors
    cdef Terms_of_batch of
    cdef Block x = load_chosen(call, &call.x)
    cdef Block v = load_rows(batch, &call.v)
    cdef Block p
    max_rows(batch, &call.x, x, &call.next, m)
    if call.mask.origin != NULL:
        void_empty_rows(call, x, m, n.limit)
        change_block(KEEP, batch, v, load_mask(call), NULL, factors, v)
    take_rows(call, False, label, n)
    if loss.by_label and call.mask.origin != NULL and loss.smoothing != 0:
        sum_chosen_classes(call, x, block_of(batch, &call.mask), m, n, factors)
    elif loss.by_label:
        fill(batch, loss.w_sum, n.weight)
        fill(batch, batch.classes, n.classes)
    else:
        sum_shifted(call, TARGETS, x, load_targets(call, factors), NULL, m, n, n.weight, n.shifted)
    find_at_maxima(batch, x, m, v, factors.a)
    fill(batch, 0, factors.b)
    change_block(SHIFT, batch, v, v, NULL, factors, v)
    if loss.temperature != 1:
        change_logits(call, x, m, n, factors)
    take_terms(call, x, v, m, &of)
    sum_exponentials(call, &of, m, sums, n.lost)
    p = of.kept
    put_shares(batch, sums, n.lost, factors)
    change_block(PROBABILITY, batch, p, p, NULL, factors, p)
    fill(batch, 1, sums)
    take_terms(call, p, v, sums, &of)
    sum_rows(PRODUCTS, batch, &of, products, NULL, NULL)
    hessian_factors(batch, loss, n, factors)      # for b, and which rows count
    fill(batch, 1, factors.a)
    memcpy(factors.c, products, batch.rows * sizeof(real))
    apply_to_array(HESSIAN_PRODUCT, batch, p, v, NULL, factors, &call.out, &call.pending)


cdef inline vec weighted_quotient(vec w, vec s, vec x) noexcept nogil:
    """w s / x, and 0 where the weights are; in double, for float32 may lack w s where it has the whole."""
    cdef wide halves[HALVES]
    cdef int k
    for k in range(HALVES):
        halves[k] = (widen(w, k) * widen(s, k)) / widen(x, k)
    return select(equal(w, broadcast(0)), broadcast(0), select(equal(s, broadcast(0)), broadcast(0), narrow(halves)))


cdef inline void from_probs_batch(Call* call) noexcept nogil:
    """The losses -s sum(w q log(p)) of predictions p, and the gradient -s w q / p, both 0 where s w q is; p is x."""
    cdef Batch* batch = &call.batch
    cdef Loss* loss = &call.loss
    cdef bint by_label = loss.labels.at.origin != NULL
    cdef int64_t label[MOST_ROWS]
    cdef real sums[MOST_ROWS]
    cdef real ones[MOST_ROWS]
    cdef Row_numbers* n = &call.n
    cdef Row_factors* factors = &call.factors
    cdef Terms_of_batch of
    cdef Block p = load_rows(batch, &call.x)
    cdef Block q = p
    cdef Block log_p
    cdef double scale = reciprocal(loss.divisor)
    cdef vec zero = broadcast(0)
    cdef Py_ssize_t group, r
    fill(batch, 1, ones)
    take_rows(call, False, label, n)
    if by_label:
        take_at_labels(batch, p, label, sums)
        for group in range((batch.rows + W - 1) // W):
            r = group * W
            store(factors.b + r, -weighted_quotient(load(n.label_weight + r), load(n.row_weight + r),
                                                    load(sums + r) * broadcast(loss.divisor)))
            store(sums + r, select(equal(load(n.label_weight + r), zero), zero, log(load(sums + r))))
    else:
        q = load_targets(call, factors)
        log_p = block_of(batch, &call.spare)
        change_block(LOGARITHM, batch, p, q, NULL, factors, log_p)
        take_terms(call, log_p, q, ones, &of)
        sum_rows(PRODUCTS, batch, &of, sums, NULL, NULL)
        for group in range((batch.rows + W - 1) // W):
            r = group * W
            store(factors.b + r, load(n.row_weight + r))
            store(n.label_weight + r, broadcast(1))     # (those of the classes are in the targets)
    for r in range(batch.rows):
        n.loss[r] = -scale * (<double> n.row_weight[r] * n.label_weight[r] * sums[r]) if n.row_weight[r] != 0 else 0
    if loss.losses.origin != NULL:
        narrow_losses(batch, n, sums)
        put_values(batch, &loss.losses, sums)
    add_losses(batch, n.loss, &call.total)
    if call.out.origin == NULL:
        return
    fill(batch, loss.divisor, factors.a)
    fill(batch, 0, factors.counts)
    apply_to_array(WEIGHTED if by_label else LOSS_OF_PROBS, batch, q, p, NULL, factors, &call.out, &call.pending)
    if by_label:
        put_in_array(batch, &call.out, label, factors.b)
