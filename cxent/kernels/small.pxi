"""Plain small arrays, past the checks and views.

The checks and views of a call take longer than the arithmetic of a few hundred numbers. These functions are a shorter
way for what most small calls bring, plain arrays. For all else they return None, and the general way is taken. (They
are included in `entry.pyx`: a `.pxd` cannot hold what they keep of NumPy.)
"""

import numpy

from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from cxent.kernels.tiles cimport Storage

cdef enum:
    SMALL_BYTES = 1 << 18   # up to so many, plain arrays take the short way

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty
cdef object int16 = numpy.dtype(numpy.int16)
cdef object int64 = numpy.dtype(numpy.int64)
cdef object boolean = numpy.dtype(numpy.bool_)
cdef object real_dtype = numpy.dtype(numpy.float64 if sizeof(real) == 8 else numpy.float32)
cdef object other_real_dtype = numpy.dtype(numpy.float32 if sizeof(real) == 8 else numpy.float64)
cdef dict half_storages = {} if sizeof(real) == 8 else {numpy.dtype(numpy.float16): FLOAT16}  # and bfloat16

cdef struct Plain:
    char* start
    Storage storage
    Py_ssize_t itemsize
    Py_ssize_t ndim
    Py_ssize_t size
    Py_ssize_t classes      # of the last axis
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


cdef bint is_small(array, Plain* plain) except -1:
    """Whether an array is small, of at most two dimensions, in C order, aligned, and not empty."""
    cdef Py_buffer memory
    cdef bint accepted
    PyObject_GetBuffer(array if plain.storage != BFLOAT16 else array.view(int16), &memory, PyBUF_STRIDES)
    plain.start = <char*> memory.buf
    plain.itemsize = memory.itemsize
    plain.ndim = memory.ndim
    plain.size = memory.len // memory.itemsize
    plain.classes = memory.shape[memory.ndim - 1] if memory.ndim > 0 else 1
    plain.read_only = memory.readonly
    accepted = (memory.ndim <= 2 and 0 < memory.len <= SMALL_BYTES and PyBuffer_IsContiguous(&memory, b"C")
                and <size_t> memory.buf % <size_t> memory.itemsize == 0)
    PyBuffer_Release(&memory)  # whoever calls holds the array
    return accepted


cdef bint is_plain(array, Plain* plain) except -1:
    """Whether it is such an array of numbers."""
    cdef int storage
    if type(array) is not ndarray:
        return False
    storage = storage_of(array.dtype)
    if storage < 0:
        return False
    plain.storage = <Storage> storage
    return is_small(array, plain)


cdef bint are_plain_logits(array, axis, Plain* plain) except -1:
    """Whether it is such an array of numbers, with its last axis as the class axis."""
    return (type(axis) is int and is_plain(array, plain) and plain.ndim > 0 and (axis == -1 or axis == plain.ndim - 1))


cdef inline void begin_plain(Call* call, const Plain* x) noexcept nogil:
    begin(call, x.size // x.classes, x.classes, 1)
    call.x = plain_rows(call, x)


cdef inline Rows plain_rows(const Call* call, const Plain* x) noexcept nogil:
    return rows_at(&call.batch, x.start, x.classes * x.itemsize, x.itemsize, x.itemsize, x.storage)


cdef inline bint has_shape_of(const Plain* a, const Plain* b) noexcept nogil:
    return a.ndim == b.ndim and a.size == b.size and a.classes == b.classes


cdef inline bint are_apart(const Plain* a, const Plain* b) noexcept nogil:
    return a.start + a.size * a.itemsize <= b.start or b.start + b.size * b.itemsize <= a.start


cdef object plain_output(out, x, const Plain* plain_x, Plain* plain_out):
    """Memory for a result like x: `out`, if it is that; None if that is not plain or overlaps x in part."""
    if out is None:
        out = empty(x.shape, x.dtype)
        is_plain(out, plain_out)
    elif not (is_plain(out, plain_out) and out.dtype is x.dtype and has_shape_of(plain_out, plain_x)
              and not plain_out.read_only
              and (plain_out.start == plain_x.start or are_apart(plain_out, plain_x))):
        return None
    return out


cdef object plain_softmax(x, axis, where, out, bint of_log):
    cdef Plain plain_x, plain_mask, plain_out
    cdef Call call
    if not are_plain_logits(x, axis, &plain_x):
        return None
    out = plain_output(out, x, &plain_x, &plain_out)
    if out is None:
        return None
    begin_plain(&call, &plain_x)
    call.out = plain_rows(&call, &plain_out)
    if where is not None:
        if type(where) is not ndarray or where.dtype is not boolean:
            return None
        plain_mask.storage = BOOLEAN
        if not (is_small(where, &plain_mask) and has_shape_of(&plain_mask, &plain_x)
                and are_apart(&plain_mask, &plain_out)):
            return None
        call.y = plain_rows(&call, &plain_mask)
        call.x.direct = False
    with nogil:
        if of_log:
            call.spare.origin = call.x.origin
            run(&call, log_softmax_batch)
        else:
            run(&call, softmax_batch)
    return out


def small_softmax(x, axis, where, out):
    """The softmax of a small plain array over its last axis."""
    return plain_softmax(x, axis, where, out, False)


def small_log_softmax(x, axis, where, out):
    """The log-softmax of a small plain array over its last axis."""
    return plain_softmax(x, axis, where, out, True)


def small_logsumexp(x, axis):
    """The logsumexp of a small plain array over its last axis."""
    cdef Plain plain_x, plain_out
    cdef Call call
    if not are_plain_logits(x, axis, &plain_x):
        return None
    out = empty(x.shape[:plain_x.ndim - 1], real_dtype)
    is_plain(out, &plain_out)
    begin_plain(&call, &plain_x)
    call.values = values_at(plain_out.start, plain_out.itemsize, plain_out.itemsize)
    with nogil:
        run(&call, logsumexp_batch)
    return out if plain_x.ndim > 1 else out[()]


def small_cross_entropy(logits, target, axis, out, bint mean, bint with_grad):
    """The sum, or the mean, of the losses of small plain arrays with the classes last, and the gradient or None."""
    cdef Plain plain_x, plain_target, plain_grad
    cdef Call call
    cdef Values labels
    if type(target) is not ndarray or not are_plain_logits(logits, axis, &plain_x):
        return None
    begin_plain(&call, &plain_x)
    call.has_losses = True
    plain_target.storage = NATIVE
    if target.dtype is int64:
        if not (is_small(target, &plain_target) and plain_target.ndim == plain_x.ndim - 1
                and plain_target.size == call.batch.total):
            return None
        labels = values_at(plain_target.start, sizeof(int64_t), sizeof(int64_t))
        if not are_in_range(&labels, call.batch.total, 1, call.batch.classes, False, 0):
            return None
        call.loss.labels = labels
    else:
        if not (target.dtype is logits.dtype and is_plain(target, &plain_target)
                and has_shape_of(&plain_target, &plain_x)):
            return None
        call.y = plain_rows(&call, &plain_target)
    grad = None
    if with_grad:
        grad = plain_output(out, logits, &plain_x, &plain_grad)
        if grad is None or not are_apart(&plain_grad, &plain_target):
            return None
        call.out = plain_rows(&call, &plain_grad)
    call.loss.divisor = call.loss.z_divisor = <double> call.batch.total if mean else 1.0
    with nogil:
        run(&call, cross_entropy_batch)
    return call.sum, grad
