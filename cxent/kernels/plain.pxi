"""Plain arrays, past the checks and views.

The checks and views of a call take 15 microseconds, as long as the arithmetic of 40,000 numbers. These functions are a
shorter way, of one or two, for what most calls bring: plain arrays. For all else they return None, and the general way
is taken.
"""

cdef enum:
    SMALL_SIZE = 256               # are computed before the GIL is let go and taken again


cdef int run_plain(const Level* level, Call* call, Compute compute) except -1:
    """Compute all batches: without the GIL, unless they are sooner computed than it is let go."""
    if call.threads == 1 and call.batch.total * call.batch.classes < SMALL_SIZE:
        level.run(call, compute)
    else:
        with nogil:
            level.run(call, compute)
    return 0


cdef bint set_plain_mask(Call* call, where, const Plain* plain_x, Plain* plain_mask) except -1:
    """Whether there is no mask, or it is a plain array of the shape of x, or of its classes."""
    if where is None:
        return True
    if type(where) is not ndarray or dtype_of(where) is not boolean:
        return False
    plain_mask.storage = BOOLEAN
    if not describe(where, 1, plain_mask):
        return False
    if has_shape_of(plain_mask, plain_x):
        call.mask = plain_rows(call, plain_x, plain_mask)
    elif (plain_mask.ndim == 1 and plain_mask.size == call.batch.classes
            and plain_x.class_axis == plain_x.ndim - 1):
        call.mask = rows_at(&call.batch, plain_mask.start, 0, plain_mask.strides[0], 0, BOOLEAN)
    else:
        return False
    call.x.direct = False
    return True


cdef bint set_plain_temperature(Call* call, temperature, const Plain* plain_x, Plain* plain_t) except -1:
    """Whether it is one number, which is checked, or a plain array of one in range for each row."""
    cdef Py_ssize_t r
    cdef real t
    if type(temperature) is float:
        call.loss.temperature = temperature
    elif (type(temperature) is ndarray and dtype_of(temperature) is real_dtype and is_plain(temperature, plain_t)
            and has_row_shape_of(plain_t, plain_x) and plain_t.in_c_order):
        for r in range(plain_t.size):
            t = (<const real*> plain_t.start)[r]
            if not <real> 1e-30 <= t <= <real> 1e30:
                return False
        call.loss.temperature = 0
        call.temperatures = plain_values(call, plain_t)
    else:
        return False
    if call.loss.temperature != 1:
        call.x.direct = False   # logits are changed in a tile
    return True


cdef object softmax_of_plain(const Level* level, x, axis, temperature, where, out, int threads, bint of_log):
    cdef Plain plain_x, plain_t, plain_mask, plain_out
    cdef Call call
    if not are_plain_logits(x, axis, &plain_x):
        return None
    out = plain_output(out, x, &plain_x, &plain_out)
    if out is None:
        return None
    begin_plain(&call, &plain_x, threads)
    call.out = plain_rows(&call, &plain_x, &plain_out)
    if (not set_plain_mask(&call, where, &plain_x, &plain_mask)
            or (where is not None and not are_distant(&plain_mask, &plain_out))
            or not set_plain_temperature(&call, temperature, &plain_x, &plain_t)
            or (call.temperatures.origin != NULL and not are_distant(&plain_t, &plain_out))):
        return None
    if of_log:
        if call.batch.columns:
            call.spare.origin = call.x.origin   # (a tile alone)
        run_plain(level, &call, level.log_softmax)
    else:
        run_plain(level, &call, level.softmax)
    return out


cdef object backward_of_plain(const Level* level, Compute compute, grad_output, output, axis, where, out, int threads):
    cdef Plain plain_g, plain_y, plain_mask, plain_out
    cdef Call call
    if (type(grad_output) is not ndarray or dtype_of(grad_output) is not real_dtype
            or not is_plain(grad_output, &plain_g) or not are_plain_logits(output, axis, &plain_y)
            or dtype_of(output) is not real_dtype or not has_shape_of(&plain_g, &plain_y)):
        return None
    out = plain_output(out, output, &plain_y, &plain_out)
    if out is None or not can_replace(&plain_out, &plain_g):
        return None
    begin_plain(&call, &plain_y, threads)
    call.x, call.y = plain_rows(&call, &plain_y, &plain_g), call.x
    call.out = plain_rows(&call, &plain_y, &plain_out)
    if where is not None:
        if not set_plain_mask(&call, where, &plain_y, &plain_mask) or not are_distant(&plain_mask, &plain_out):
            return None
        call.y.direct = False
    run_plain(level, &call, compute)
    return out


cdef object shape_of_rows(x, const Plain* plain_x):
    cdef Py_ssize_t axis = plain_x.class_axis
    shape = x.shape
    return shape[:axis] if axis == plain_x.ndim - 1 else shape[:axis] + shape[axis + 1:]


cdef object plain_row_results(const Call* call, x, const Plain* plain_x, Values* values):
    """Memory for a number of each row."""
    cdef Plain plain_out
    out = new_array(shape_of_rows(x, plain_x), real_dtype, NATIVE, &plain_out)
    values[0] = plain_values(call, &plain_out)
    return out


cdef object row_results(out):
    """What the caller gets of it: a scalar for a single row."""
    return out if out is None or out.ndim > 0 else out[()]


cdef bint set_plain_target(const Level* level, Call* call, target, options, x, const Plain* plain_x,
                           Plain* plain_target) except -1:
    """Whether it is a plain array of probabilities in the dtype of x, or of labels that are classes or ignored."""
    cdef Labels labels
    if type(target) is not ndarray:
        return False
    dtype = dtype_of(target)
    if dtype is dtype_of(x):
        if not is_plain(target, plain_target) or not has_shape_of(plain_target, plain_x):
            return False
        if options.ignore_index is not None:
            return False
        call.y = plain_rows(call, plain_x, plain_target)
        return True
    integer = INT64 if dtype is int64 else integer_dtypes.get(dtype)
    if integer is None:
        return False
    plain_target.storage = NATIVE
    if not describe(target, size_of_integer(integer), plain_target) or not has_row_shape_of(plain_target, plain_x):
        return False
    labels.at = plain_values(call, plain_target)
    labels.dtype = integer
    set_ignored(&labels, options.ignore_index)
    if not level.are_in_range(&labels, call.batch.total // call.batch.inner, call.batch.inner, call.batch.classes):
        return False
    call.loss.labels = labels
    return True


cdef void set_plain_options(Call* call, options) except *:
    """The options of a loss, which are checked, but its weights, its reduction and the label that is ignored."""
    if options.is_plain:
        return
    call.loss.smoothing = options.label_smoothing
    call.loss.gamma = options.focal_gamma
    call.loss.z = options.z_loss
    call.loss.softcap = options.softcap
    call.loss.temperature = options.temperature


cdef bint are_plain_weights(const Level* level, weight, Plain* plain) except -1:
    """Whether it is a plain array of finite numbers in this module's dtype."""
    return (type(weight) is ndarray and dtype_of(weight) is real_dtype and is_plain(weight, plain) and plain.in_c_order
            and level.are_finite(<const real*> plain.start, plain.size))


cdef bint set_plain_row_weights(const Level* level, Call* call, weight, const Plain* plain_x, Plain* plain) except -1:
    """Whether there are none, or one for each row of x."""
    if weight is None:
        return True
    if not are_plain_weights(level, weight, plain) or not has_row_shape_of(plain, plain_x):
        return False
    call.loss.row_weights = plain_values(call, plain)
    return True


cdef bint set_divisors(const Level* level, Call* call) noexcept nogil:
    """What a mean is divided by; returns whether it can be."""
    cdef Weights weights
    cdef double sums[2]
    memset(&weights, 0, sizeof(Weights))
    weights.labels, weights.row_weights = call.loss.labels, call.loss.row_weights
    weights.w = call.loss.w if call.loss.labels.at.origin != NULL else NULL
    weights.classes, weights.inner = call.batch.classes, call.batch.inner
    weights.outer = call.batch.total // call.batch.inner
    if weights.w == NULL and weights.row_weights.origin == NULL and not weights.labels.ignoring:
        call.loss.divisor = call.loss.z_divisor = <double> call.batch.total
        return True
    level.sum_weights(&weights, 1, 1, sums)
    call.loss.divisor, call.loss.z_divisor = sums[0], sums[1]
    return can_divide(sums[0]) and can_divide(sums[1])


cdef object loss_of_plain(const Level* level, Compute compute, x, target, where, weight, row_weight, options, out,
                          int threads, bint with_lse, bint with_grad, bint with_hess):
    """The loss of plain arrays; the gradient, the Hessian and the logsumexp, or None."""
    cdef Plain plain_x, plain_target, plain_mask, plain_w, plain_s, plain_grad, plain_hess
    cdef Call call
    cdef Py_ssize_t c
    if not are_plain_logits(x, options.axis, &plain_x):
        return None
    begin_plain(&call, &plain_x, threads)
    set_plain_options(&call, options)
    if (not set_plain_target(level, &call, target, options, x, &plain_x, &plain_target)
            or not set_plain_mask(&call, where, &plain_x, &plain_mask)
            or (call.loss.gamma != 0 and call.y.origin != NULL)):
        return None
    if weight is not None:
        if not are_plain_weights(level, weight, &plain_w) or plain_w.ndim != 1 or plain_w.size != call.batch.classes:
            return None
        call.loss.w = <const real*> plain_w.start
        if ((call.loss.smoothing != 0 or call.loss.labels.at.origin == NULL)
                and level.exponent_for_products(call.loss.w, plain_w.size) != 0):
            return None
    reduction = options.reduction
    if (not set_plain_row_weights(level, &call, row_weight, &plain_x, &plain_s)
            or (reduction == "mean" and not set_divisors(level, &call))):
        return None
    if weight is None and call.loss.smoothing != 0:
        weight = new_array(call.batch.classes, real_dtype, NATIVE, &plain_w)
        for c in range(call.batch.classes):
            (<real*> plain_w.start)[c] = 1
        call.loss.w = <const real*> plain_w.start
    grad = hess = losses = lse = None
    if with_grad:
        grad = plain_output(out, x, &plain_x, &plain_grad)
        if (grad is None or not are_distant(&plain_grad, &plain_target)
                or (where is not None and not are_distant(&plain_grad, &plain_mask))
                or (weight is not None and not are_distant(&plain_grad, &plain_w))
                or (row_weight is not None and not are_distant(&plain_grad, &plain_s))):
            return None
        call.out = plain_rows(&call, &plain_x, &plain_grad)
    if with_hess:
        hess = plain_output(None, x, &plain_x, &plain_hess)
        call.hess = plain_rows(&call, &plain_x, &plain_hess)
    if reduction == "none":
        losses = plain_row_results(&call, x, &plain_x, &call.loss.losses)
    if with_lse:
        lse = plain_row_results(&call, x, &plain_x, &call.loss.lse)
    complete_loss(level, &call)
    if compute == level.from_probs:
        call.spare.origin = call.y.origin   # (a tile alone)
    run_plain(level, &call, compute)
    loss = real_type(<real> call.sum) if losses is None else row_results(losses)
    return loss, grad, hess, row_results(lse)


cdef object nll_of_plain(const Level* level, x, ids, where, options, int threads):
    """The sum of the losses of plain arrays with class indices, in float64."""
    cdef Plain plain_x, plain_ids, plain_mask
    cdef Call call
    if not are_plain_logits(x, options.axis, &plain_x):
        return None
    begin_plain(&call, &plain_x, threads)
    set_plain_options(&call, options)
    if (not set_plain_target(level, &call, ids, options, x, &plain_x, &plain_ids) or call.y.origin != NULL
            or not set_plain_mask(&call, where, &plain_x, &plain_mask)):
        return None
    complete_loss(level, &call)
    run_plain(level, &call, level.cross_entropy)
    return call.sum


cdef object plain_row_array(x, const Plain* plain_x, dtype, Py_ssize_t count, void** start):
    """Memory for `count` numbers of each row; for one, if it is 0."""
    cdef Plain plain_out
    shape = shape_of_rows(x, plain_x)
    out = new_array(shape if count == 0 else (*shape, count), dtype, NATIVE, &plain_out)
    start[0] = plain_out.start
    return out


cdef void begin_binary(Logistic function, const Plain* x, Binary* of) noexcept nogil:
    memset(of, 0, sizeof(Binary))
    of.function, of.storage, of.x = function, x.storage, x.start
    of.size = of.columns = x.size
    of.divisor = 1


cdef int run_plain_binary(const Level* level, Binary* of, int threads) except -1:
    if threads == 1 and of.size < SMALL_SIZE:
        level.run_binary(of, 1)
    else:
        with nogil:
            level.run_binary(of, threads)
    return 0
