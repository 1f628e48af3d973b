"""Arrays as kernels take them, and a call of theirs with its options."""


cdef Rows rows_of(const Batch* batch, array) except *:
    """The rows of an array (of none, if it is None), whose dtype its memoryview checks."""
    cdef const real[:, :, :] x
    cdef const uint16_t[:, :, :] float16
    cdef const int16_t[:, :, :] bfloat16
    cdef const uint8_t[:, :, :] booleans
    if array is None:
        return no_rows()
    dtype = array.dtype.char
    if dtype == "H":
        float16 = array
        return rows_at(batch, &float16[0, 0, 0], float16.strides[0], float16.strides[1], float16.strides[2], FLOAT16)
    if dtype == "h":
        bfloat16 = array
        return rows_at(batch, &bfloat16[0, 0, 0], bfloat16.strides[0], bfloat16.strides[1], bfloat16.strides[2],
                       BFLOAT16)
    if dtype == "B":
        booleans = array
        return rows_at(batch, &booleans[0, 0, 0], booleans.strides[0], booleans.strides[1], booleans.strides[2],
                       BOOLEAN)
    x = array
    return rows_at(batch, &x[0, 0, 0], x.strides[0], x.strides[1], x.strides[2], NATIVE)


cdef Values values_of(const real[:, :] values):
    if values is None:
        return values_at(NULL, 0, 0)
    return values_at(&values[0, 0], values.strides[0], values.strides[1])


cdef dict integer_dtypes = {
    numpy.dtype(numpy.int8): INT8, numpy.dtype(numpy.int16): INT16, numpy.dtype(numpy.int32): INT32,
    numpy.dtype(numpy.int64): INT64, numpy.dtype(numpy.uint8): UINT8, numpy.dtype(numpy.uint16): UINT16,
    numpy.dtype(numpy.uint32): UINT32, numpy.dtype(numpy.uint64): UINT64,
}


cdef inline Py_ssize_t size_of_integer(Integer dtype) noexcept nogil:
    return 1 << <int> dtype % 4     # (four are signed, and four unsigned)


cdef list integer_ranges = [numpy.iinfo(dtype) for dtype in integer_dtypes]
cdef list lowest_integers = [int(of.min) for of in integer_ranges]      # in the order of `Integer`
cdef list largest_integers = [int(of.max) for of in integer_ranges]


cdef int set_ignored(Labels* labels, ignored) except -1:
    """Have a label ignored, if labels of their dtype can be that number."""
    cdef uint64_t bits
    labels.ignoring = (ignored is not None
                       and lowest_integers[<int> labels.dtype] <= ignored <= largest_integers[<int> labels.dtype])
    if labels.ignoring and labels.dtype == UINT64:
        bits = ignored
        labels.ignored = <int64_t> bits
    elif labels.ignoring:
        labels.ignored = ignored
    return 0


cdef Labels labels_of(labels, ignored) except *:
    """The labels in an array, or none."""
    cdef Py_buffer memory
    cdef Labels found
    memset(&found, 0, sizeof(Labels))
    if labels is not None:
        found.dtype = integer_dtypes[labels.dtype]
        PyObject_GetBuffer(labels, &memory, PyBUF_STRIDED_RO)
        found.at = values_at(memory.buf, memory.strides[0], memory.strides[1])
        PyBuffer_Release(&memory)   # whoever calls holds the array
        set_ignored(&found, ignored)
    return found


cdef void begin(Call* call, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner) noexcept nogil:
    """A call without arrays and options."""
    memset(call, 0, sizeof(Call))
    call.batch = batch_of(outer, classes, inner)
    call.threads = 1
    call.loss.temperature = call.loss.divisor = call.loss.z_divisor = 1


cdef void begin_with(Call* call, x) except *:
    outer, classes, inner = x.shape
    begin(call, outer, classes, inner)
    call.x = rows_of(&call.batch, x)


cdef void set_mask(Call* call, mask) except *:
    if mask is not None:
        call.mask = rows_of(&call.batch, mask)
        call.x.direct = False  # what takes no part is replaced in a tile


cdef void begin_backward(Call* call, grad_output, output, mask, out, int threads) except *:
    begin_with(call, grad_output)
    call.y = rows_of(&call.batch, output)
    set_mask(call, mask)
    call.y.direct = call.y.direct and mask is None
    call.out = rows_of(&call.batch, out)
    call.threads = threads


cdef void set_temperature(Call* call, temperature) except *:
    """One for all rows, or an array of one for each."""
    if type(temperature) is not float:
        call.temperatures = values_of(temperature)
        call.loss.temperature = 0
    else:
        call.loss.temperature = temperature
    if call.loss.temperature != 1:
        call.x.direct = False  # logits are changed in a tile


cdef void complete_loss(const Level* level, Call* call) noexcept nogil:
    """What follows from the target, its weights and the options."""
    cdef Py_ssize_t c
    call.has_losses = True
    call.loss.by_label = call.loss.labels.at.origin != NULL
    if call.loss.w != NULL:
        call.y.direct = False  # targets are changed in a tile
        if call.loss.smoothing != 0:
            call.loss.w_sum = level.sum_of_numbers(call.loss.w, call.batch.classes)
            call.loss.w_is_even = True
            for c in range(call.batch.classes):
                call.loss.w_is_even = call.loss.w_is_even and call.loss.w[c] == 1
    if call.loss.softcap != 0 or call.loss.temperature != 1:
        call.x.direct = False  # and logits changed in one
    if call.loss.softcap != 0 and call.out.origin != NULL:
        call.spare.origin = call.x.origin  # (a tile alone)


cdef void set_target(Call* call, target, const real[:] class_weights, row_weights, options) except *:
    """The target, told apart by its dimensions, its weights, and the options, in the order of `cross_entropy`."""
    ignored, smoothing, gamma, z, softcap, temperature, divisor, z_divisor = options
    if target.ndim == 2:
        call.loss.labels = labels_of(target, ignored)
    else:
        call.y = rows_of(&call.batch, target)
    if class_weights is not None:
        call.loss.w = &class_weights[0]
    call.loss.row_weights = values_of(row_weights)
    call.loss.smoothing = smoothing
    call.loss.gamma = gamma
    call.loss.z = z
    call.loss.softcap = softcap
    call.loss.temperature = temperature
    call.loss.divisor = divisor
    call.loss.z_divisor = z_divisor


cdef void* start_of(array) except? NULL:
    """Where an array begins."""
    cdef Py_buffer memory
    PyObject_GetBuffer(array, &memory, PyBUF_STRIDED_RO)
    PyBuffer_Release(&memory)   # whoever calls holds the array
    return memory.buf


cdef Binary binary_of(Logistic function, x) except *:
    """The function of x, which is not empty."""
    cdef Binary of
    memset(&of, 0, sizeof(Binary))
    of.function = function
    of.storage = {"H": FLOAT16, "h": BFLOAT16}.get(x.dtype.char, NATIVE)
    of.x = <const char*> start_of(x)
    of.size = of.columns = x.size
    of.divisor = 1
    return of


cdef class AtLevel:
    """What all entry points have: the kernels of a level, whose module has them as `level`."""

    cdef const Level* level

    def __init__(self, level):
        self.level = <const Level*> PyCapsule_GetPointer(level, b"cxent.kernels.level")
