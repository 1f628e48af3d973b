"""Plain arrays, past the checks and views.

The checks and views of a call take 15 microseconds, as long as the arithmetic of 40,000 numbers. These functions are a
shorter way, of one or two, for what most calls bring, plain arrays: in C order, or of two axes in F order, and no
larger than the caches. For all else they return None, and the general way is taken. (Included, since a `.pxd` cannot
hold what they keep of NumPy.)
"""

cdef extern from *:
    """
    /* How a NumPy array begins: PyArrayObject_fields of NumPy's C interface, the same in all versions. (Its buffer
    takes longer to get, small calls have 0.94 of the speed, and an array of bfloat16 has none.) */
    struct cxent_array {
        PyObject_HEAD
        char *data;
        int ndim;
        Py_ssize_t *shape;
        Py_ssize_t *strides;
        PyObject *base;
        PyObject *dtype;
        int flags;
    };
    """
    struct Array "cxent_array":
        char* data
        int ndim
        Py_ssize_t* shape
        int flags

cdef enum:                      # flags, as NumPy numbers them
    C_CONTIGUOUS = 0x1
    F_CONTIGUOUS = 0x2
    WRITEABLE = 0x400

cdef enum:
    PLAIN_BYTES = (1 << 25) - 1     # of larger arrays, the results are written past the caches
    MOST_AXES = 4
    SMALL_SIZE = 256               # are computed before the GIL is let go and taken again

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty
cdef object int64 = numpy.dtype(numpy.int64)
cdef object boolean = numpy.dtype(numpy.bool_)
cdef object real_dtype = numpy.dtype(numpy.float64 if sizeof(real) == 8 else numpy.float32)
cdef object other_real_dtype = numpy.dtype(numpy.float32 if sizeof(real) == 8 else numpy.float64)
cdef object real_type = real_dtype.type
cdef dict half_storages = {} if sizeof(real) == 8 else {numpy.dtype(numpy.float16): FLOAT16}  # and bfloat16

cdef struct Plain:
    char* start
    Storage storage
    Py_ssize_t itemsize
    Py_ssize_t ndim
    Py_ssize_t[MOST_AXES] shape
    Py_ssize_t size
    Py_ssize_t class_axis   # of logits
    bint in_f_order         # and not in C order
    bint read_only


cdef int storage_of(dtype) except -2:
    """The storage of numbers of this dtype; -1 if this module does not compute with them."""
    if dtype is real_dtype:
        return NATIVE
    if dtype is other_real_dtype:  # (sooner said than found)
        return -1
    storage = half_storages.get(dtype)
    if storage is None:
        if sizeof(real) == 8 or dtype.kind != "V" or dtype.name != "bfloat16" or not dtype.isnative:
            return -1
        storage = half_storages[dtype] = BFLOAT16
    return storage


cdef bint is_in_order(array, Py_ssize_t itemsize, Plain* plain) noexcept:
    """Whether an array is in C order, or of two axes in F order; of few axes, aligned, not empty, and not too large."""
    cdef const Array* memory = <const Array*> <void*> array     # (its type is `ndarray`)
    cdef Py_ssize_t a
    plain.start, plain.itemsize, plain.ndim, plain.size = memory.data, itemsize, memory.ndim, 1
    for a in range(min(plain.ndim, <Py_ssize_t> MOST_AXES)):
        plain.shape[a] = memory.shape[a]
        plain.size *= plain.shape[a]
    plain.read_only = not memory.flags & WRITEABLE
    plain.in_f_order = not memory.flags & C_CONTIGUOUS
    return (plain.ndim <= MOST_AXES and 0 < plain.size <= PLAIN_BYTES // itemsize
            and (not plain.in_f_order or (plain.ndim == 2 and memory.flags & F_CONTIGUOUS))
            and <size_t> plain.start % <size_t> itemsize == 0)


cdef object new_array(shape, dtype, Storage storage, Plain* plain):
    """Such an array in C order, and what it is."""
    return described(empty(shape, dtype), storage, plain)


cdef object described(array, Storage storage, Plain* plain):
    plain.storage = storage
    is_in_order(array, size_of(storage), plain)
    return array


cdef bint is_plain(array, Plain* plain) except -1:
    """Whether it is such an array of numbers."""
    cdef int storage
    if type(array) is not ndarray:
        return False
    storage = storage_of(array.dtype)
    if storage < 0:
        return False
    plain.storage = <Storage> storage
    return is_in_order(array, size_of(plain.storage), plain)


cdef bint are_plain_logits(array, axis, Plain* plain) except -1:
    """Whether it is such an array of numbers that has this class axis."""
    if type(axis) is not int or not is_plain(array, plain):
        return False
    if axis == -1:
        plain.class_axis = plain.ndim - 1
    elif 0 <= axis < plain.ndim:
        plain.class_axis = axis
    else:
        return False
    return plain.ndim > 0


cdef inline void begin_plain(Call* call, const Plain* x, int threads) noexcept nogil:
    """The rows of x. (Two axes in F order are those of its transpose.)"""
    cdef Py_ssize_t a, classes = x.shape[x.class_axis], inner = 1
    if x.in_f_order:
        inner = x.shape[0] if x.class_axis == 1 else 1
    else:
        for a in range(x.class_axis + 1, x.ndim):
            inner *= x.shape[a]
    begin(call, x.size // (classes * inner), classes, inner)
    call.x = plain_rows(call, x)
    call.threads = threads


cdef int run_plain(const Level* level, Call* call, Compute compute) except -1:
    """Compute all batches: without the GIL, unless they are sooner computed than it is let go."""
    if call.threads == 1 and call.batch.total * call.batch.classes < SMALL_SIZE:
        level.run(call, compute)
    else:
        with nogil:
            level.run(call, compute)
    return 0


cdef inline Rows plain_rows(const Call* call, const Plain* x) noexcept nogil:
    cdef Py_ssize_t class_stride = call.batch.inner * x.itemsize
    return rows_at(&call.batch, x.start, call.batch.classes * class_stride, class_stride, x.itemsize, x.storage)


cdef inline Values plain_values(const Call* call, const Plain* values) noexcept nogil:
    """Numbers of the rows."""
    return values_at(values.start, call.batch.inner * values.itemsize, values.itemsize)


cdef inline bint has_shape_of(const Plain* a, const Plain* b) noexcept nogil:
    """Whether `a` has the shape and the order of `b`."""
    cdef Py_ssize_t k
    for k in range(min(a.ndim, b.ndim)):
        if a.shape[k] != b.shape[k]:
            return False
    return a.ndim == b.ndim and a.in_f_order == b.in_f_order


cdef inline bint has_row_shape_of(const Plain* a, const Plain* b) noexcept nogil:
    """Whether `a` has a number for each row of `b`, in C order."""
    cdef Py_ssize_t k
    for k in range(min(a.ndim, b.ndim - 1)):
        if a.shape[k] != b.shape[k if k < b.class_axis else k + 1]:
            return False
    return a.ndim == b.ndim - 1 and not a.in_f_order


cdef inline bint are_distant(const Plain* a, const Plain* b) noexcept nogil:
    return a.start + a.size * a.itemsize <= b.start or b.start + b.size * b.itemsize <= a.start


cdef object plain_output(out, x, const Plain* plain_x, Plain* plain_out):
    """Memory for a result like x: `out`, if it is that; None if that is not plain or overlaps x in part."""
    if out is None:
        out = described(empty(x.shape, x.dtype, "F" if plain_x.in_f_order else "C"), plain_x.storage, plain_out)
    elif not (is_plain(out, plain_out) and out.dtype is x.dtype and has_shape_of(plain_out, plain_x)
              and not plain_out.read_only
              and (plain_out.start == plain_x.start or are_distant(plain_out, plain_x))):
        return None
    return out


cdef bint set_plain_mask(Call* call, where, const Plain* plain_x, Plain* plain_mask) except -1:
    """Whether there is no mask, or it is a plain array of the shape of x, or of its classes."""
    if where is None:
        return True
    if type(where) is not ndarray or where.dtype is not boolean:
        return False
    plain_mask.storage = BOOLEAN
    if not is_in_order(where, 1, plain_mask):
        return False
    if has_shape_of(plain_mask, plain_x):
        call.mask = plain_rows(call, plain_mask)
    elif (plain_mask.ndim == 1 and plain_mask.size == call.batch.classes
            and plain_x.class_axis == plain_x.ndim - 1):
        call.mask = rows_at(&call.batch, plain_mask.start, 0, 1, 0, BOOLEAN)
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
    elif (type(temperature) is ndarray and temperature.dtype is real_dtype and is_plain(temperature, plain_t)
            and has_row_shape_of(plain_t, plain_x)):
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
    call.out = plain_rows(&call, &plain_out)
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
    if (type(output) is not ndarray or output.dtype is not real_dtype or not is_plain(output, &plain_y)
            or not are_plain_logits(grad_output, axis, &plain_g) or grad_output.dtype is not real_dtype
            or not has_shape_of(&plain_g, &plain_y)):
        return None
    out = plain_output(out, grad_output, &plain_g, &plain_out)
    if out is None or (plain_out.start != plain_y.start and not are_distant(&plain_out, &plain_y)):
        return None
    begin_plain(&call, &plain_g, threads)
    call.y = plain_rows(&call, &plain_y)
    call.out = plain_rows(&call, &plain_out)
    if where is not None:
        if not set_plain_mask(&call, where, &plain_g, &plain_mask) or not are_distant(&plain_mask, &plain_out):
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
    dtype = target.dtype
    if dtype is x.dtype:
        if not is_plain(target, plain_target) or not has_shape_of(plain_target, plain_x):
            return False
        if options.ignore_index is not None:
            return False
        call.y = plain_rows(call, plain_target)
        return True
    integer = INT64 if dtype is int64 else integer_dtypes.get(dtype)
    if integer is None:
        return False
    plain_target.storage = NATIVE
    if not is_in_order(target, size_of_integer(integer), plain_target) or not has_row_shape_of(plain_target, plain_x):
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
    return (type(weight) is ndarray and weight.dtype is real_dtype and is_plain(weight, plain)
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
        call.out = plain_rows(&call, &plain_grad)
    if with_hess:
        hess = plain_output(None, x, &plain_x, &plain_hess)
        call.hess = plain_rows(&call, &plain_hess)
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
