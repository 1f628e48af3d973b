"""The entry points: arrays in, one loop over batches each.

Every function takes its arrays as 3-D views ``(outer, classes, inner)`` and treats each of the ``outer * inner`` rows
of ``classes`` numbers by itself. Labels, of any integer dtype, and row results are ``(outer, inner)``. Arrays hold this
module's dtype; logits and what has their shape may also be half precision, given as its bits: uint16 for float16, int16
for bfloat16. Nothing here knows of options' defaults or of errors: whoever calls has checked everything.
"""

import numpy

from cpython.buffer cimport (
    PyBUF_STRIDED_RO, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from cxent.kernels cimport math
from cxent.kernels.batch cimport BFLOAT16, BOOLEAN, FLOAT16, NATIVE, Batch, Rows, batch_of, no_rows, rows_at
from cxent.kernels.call cimport Call, Compute, run
from cxent.kernels.cross_entropy cimport cross_entropy_batch, from_probs_batch, hessian_product_batch
from cxent.kernels.labels cimport INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, Labels
from cxent.kernels.math cimport expm1, log, log1p
from cxent.kernels.simd cimport W, broadcast, load_first, real, store_first, vec
from cxent.kernels.softmax cimport (
    log_softmax_backward_batch, log_softmax_batch, logsumexp_batch, logsumexp_factors_batch, softmax_backward_batch,
    softmax_batch,
)
from cxent.kernels.traffic cimport stream_past_caches
from cxent.kernels.values cimport Values, values_at
from cxent.kernels.weights cimport sum_of_numbers


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


cdef void set_temperature(Call* call, temperature) except *:
    """One for all rows, or an array of one for each."""
    if type(temperature) is not float:
        call.temperatures = values_of(temperature)
        call.loss.temperature = 0
    else:
        call.loss.temperature = temperature
    if call.loss.temperature != 1:
        call.x.direct = False  # logits are changed in a tile


def softmax(
    x,                  # IN   (outer, classes, inner)
    mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
    temperature,        # IN   what x is divided by: a float, or (outer, inner), a number for each row
    out,                # OUT  (outer, classes, inner), may be x
    bint past_caches,   # IN   whether `out` is to be written past the caches
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = exp(x - m) / sum(exp(x - m)), m the maximum of the row, of x over the temperature."""
    cdef Call call
    begin_with(&call, x)
    set_mask(&call, mask)
    set_temperature(&call, temperature)
    call.out = rows_of(&call.batch, out)
    call.threads = threads
    with nogil:
        if past_caches:
            stream_past_caches(&call.batch, &call.x, &call.out)
        run(&call, softmax_batch)


def log_softmax(
    x,                  # IN   (outer, classes, inner)
    mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
    temperature,        # IN   what x is divided by: a float, or (outer, inner), a number for each row
    out,                # OUT  (outer, classes, inner), may be x
    bint past_caches,   # IN   whether `out` is to be written past the caches
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = (x - m) - log(sum(exp(x - m))), of x over the temperature."""
    cdef Call call
    begin_with(&call, x)
    set_mask(&call, mask)
    set_temperature(&call, temperature)
    call.out = rows_of(&call.batch, out)
    if call.batch.columns:
        call.spare.origin = call.x.origin  # (a tile alone)
    call.threads = threads
    with nogil:
        if past_caches:
            stream_past_caches(&call.batch, &call.x, &call.out)
        run(&call, log_softmax_batch)


def logsumexp(
    x,                  # IN   (outer, classes, inner)
    mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
    real[:, :] out,     # OUT  (outer, inner)
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = m + log(sum(exp(x - m))); the maximum itself where it is infinite and no class is NaN."""
    cdef Call call
    begin_with(&call, x)
    set_mask(&call, mask)
    call.values = values_of(out)
    call.threads = threads
    with nogil:
        run(&call, logsumexp_batch)


def logsumexp_factors(
    x,                  # IN   (outer, classes, inner), -inf where b is 0
    b,                  # IN   (outer, classes, inner), factors of either sign
    real[:, :] out,     # OUT  (outer, inner)
    real[:, :] sign,    # OUT  (outer, inner), 1, -1 or 0; NaN where `out` is
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = log(abs(sum(b * exp(x))))."""
    cdef Call call
    begin_with(&call, x)
    call.y = rows_of(&call.batch, b)
    call.values = values_of(out)
    call.signs = values_of(sign)
    call.spare.origin = call.x.origin  # (a tile alone)
    call.threads = threads
    with nogil:
        run(&call, logsumexp_factors_batch)


def softmax_backward(
    grad_output,        # IN   (outer, classes, inner)
    output,             # IN   (outer, classes, inner), the probabilities
    mask,               # IN   (outer, classes, inner) of uint8, 1 for what took part; or None
    out,                # OUT  (outer, classes, inner), may be either input
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = p * (g - sum(g * p))."""
    cdef Call call
    begin_with(&call, grad_output)
    call.y = rows_of(&call.batch, output)
    set_mask(&call, mask)
    call.y.direct = call.y.direct and mask is None
    call.out = rows_of(&call.batch, out)
    call.threads = threads
    with nogil:
        run(&call, softmax_backward_batch)


def log_softmax_backward(
    grad_output,        # IN   (outer, classes, inner)
    output,             # IN   (outer, classes, inner), the log-probabilities
    mask,               # IN   (outer, classes, inner) of uint8, 1 for what took part; or None
    out,                # OUT  (outer, classes, inner), may be either input
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = g - exp(output) * sum(g)."""
    cdef Call call
    begin_with(&call, grad_output)
    call.y = rows_of(&call.batch, output)
    set_mask(&call, mask)
    call.y.direct = call.y.direct and mask is None
    call.out = rows_of(&call.batch, out)
    call.threads = threads
    with nogil:
        run(&call, log_softmax_backward_batch)


cdef void complete_loss(Call* call) noexcept nogil:
    """What follows from the target, its weights and the options."""
    call.has_losses = True
    call.loss.by_label = (call.loss.labels.at.origin != NULL
                          and (call.mask.origin == NULL or call.loss.smoothing == 0))
    if call.loss.labels.at.origin != NULL and not call.loss.by_label:
        call.y.origin = call.x.origin  # (a tile alone)
    if call.loss.w != NULL or call.mask.origin != NULL:
        call.y.direct = False  # targets are changed in a tile
    if call.loss.w != NULL:
        if call.loss.smoothing != 0:
            call.loss.w_sum = sum_of_numbers(call.loss.w, call.batch.classes)
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


def cross_entropy(
    x,                  # IN   (outer, classes, inner)
    mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
    target,             # IN   (outer, inner) of integers, each in 0..classes-1 or `ignored`: class indices; or
                        #      (outer, classes, inner): the class probabilities q
    class_weights,      # IN   (classes,), or None; with smoothing always there
    row_weights,        # IN   (outer, inner), or None
    options,            # IN   (ignored, smoothing, gamma, z, softcap, temperature, divisor, z_divisor), where `ignored`
                        #      is the label of rows that do not count, or None; gamma and softcap are 0 if there is none
    losses,             # OUT  (outer, inner), or None
    lse,                # OUT  (outer, inner), or None
    grad,               # OUT  (outer, classes, inner), may be x but not target; or None
    hess,               # OUT  (outer, classes, inner), or None; wants grad too
    bint past_caches,   # IN   whether `grad` is to be written past the caches
    int threads,        # IN   that may compute, at least 1
    /,
):
    """Returns sum(losses), which are s / divisor * (Q * lse - sum(q' * x)) + s / z_divisor * z * lse^2.

    q' = w * ((1 - smoothing) * q + smoothing / classes), q is one-hot for class indices, Q = sum(q'), and s is the
    row's weight: 0 if its label is ignored. With gamma, only of class indices, the first term is multiplied by
    (1 - p_y)^gamma.
    """
    cdef Call call
    begin_with(&call, x)
    set_mask(&call, mask)
    set_target(&call, target, class_weights, row_weights, options)
    call.loss.losses = values_of(losses)
    call.loss.lse = values_of(lse)
    call.out = rows_of(&call.batch, grad)
    call.hess = rows_of(&call.batch, hess)
    call.threads = threads
    complete_loss(&call)
    with nogil:
        if past_caches and grad is not None:
            stream_past_caches(&call.batch, &call.x, &call.out)
        run(&call, cross_entropy_batch)
    return call.sum


def hessian_product(
    x,                  # IN   (outer, classes, inner)
    mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
    v,                  # IN   (outer, classes, inner), the vectors
    target,             # IN   as in `cross_entropy`
    class_weights,      # IN   (classes,), or None
    row_weights,        # IN   (outer, inner), or None
    options,            # IN   as in `cross_entropy`
    out,                # OUT  (outer, classes, inner), may be x
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = s / divisor * Q * p * (v - sum(p * v)), divided by the squared temperature."""
    cdef Call call
    begin_with(&call, x)
    set_mask(&call, mask)
    set_target(&call, target, class_weights, row_weights, options)
    call.v = rows_of(&call.batch, v)
    call.v.direct = False
    call.out = rows_of(&call.batch, out)
    call.threads = threads
    complete_loss(&call)
    with nogil:
        run(&call, hessian_product_batch)


def from_probs(
    probs,              # IN   (outer, classes, inner)
    target,             # IN   as in `cross_entropy`
    class_weights,      # IN   (classes,), or None
    row_weights,        # IN   (outer, inner), or None
    options,            # IN   as in `cross_entropy`, of which `ignored` and `divisor` count
    losses,             # OUT  (outer, inner), or None
    grad,               # OUT  (outer, classes, inner), may be an input; or None
    int threads,        # IN   that may compute, at least 1
    /,
):
    """Returns sum(losses), which are -s / divisor * sum(q' * log(p)); grad = -s / divisor * q' / p.

    q' = w * q, q is one-hot for class indices, and s is the row's weight: 0 if its label is ignored.
    """
    cdef Call call
    begin_with(&call, probs)
    set_target(&call, target, class_weights, row_weights, options)
    call.loss.losses = values_of(losses)
    call.out = rows_of(&call.batch, grad)
    call.threads = threads
    complete_loss(&call)
    call.spare.origin = call.y.origin  # (a tile alone)
    with nogil:
        run(&call, from_probs_batch)
    return call.sum


def evaluate(
    str function,           # IN   exp (of x <= 0), expm1 (likewise), log, log1p, exp_any, or exponential (of x <= 0)
    const real[::1] x,      # IN
    real[::1] out,          # OUT
    /,
):
    """The functions of vectors that all kernels use, of every number."""
    cdef Py_ssize_t n = x.shape[0]
    cdef int number = ("exp", "expm1", "log", "log1p", "exp_any", "exponential").index(function)
    cdef vec value
    cdef Py_ssize_t k
    with nogil:
        for k in range((n + W - 1) // W):
            value = load_first(&x[k * W], n - k * W, broadcast(0))
            value = (math.exp(value, 0) if number == 0 else expm1(value) if number == 1 else log(value)
                     if number == 2 else log1p(value) if number == 3 else math.exp_any(value) if number == 4
                     else math.exponential_below_zero(value))
            store_first(&out[k * W], value, n - k * W)


include "checks.pxi"
include "conversion.pxi"
include "divergences.pxi"
include "plain.pxi"
include "scores.pxi"
include "binary.pxi"
