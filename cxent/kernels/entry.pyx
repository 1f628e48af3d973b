"""The entry points: arrays in, one loop over batches each.

Every function takes its arrays as 3-D views ``(outer, classes, inner)`` and treats each of the ``outer * inner`` rows
of ``classes`` numbers by itself. Labels, of any integer dtype, and row results are ``(outer, inner)``. Arrays hold this
module's dtype; logits and what has their shape may also be half precision, given as its bits: uint16 for float16, int16
for bfloat16. Nothing here knows of options' defaults or of errors: whoever calls has checked everything.

This is compiled once for each dtype. The kernels of each level are modules of their own (`level.pxi`), whose functions
an `EntryPoints` is given.
"""

import numpy

from cpython.buffer cimport PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from cxent.kernels.batch cimport (
    BFLOAT16, BOOLEAN, FLOAT16, NATIVE, Batch, Rows, Storage, batch_of, no_rows, rows_at, size_of,
)
from cxent.kernels.binary cimport LOG_SIGMOID, LOSSES, SIGMOID, Binary, Logistic
from cxent.kernels.call cimport Call, Compute
from cxent.kernels.divergence cimport FORWARD, JENSEN_SHANNON, REVERSE
from cxent.kernels.labels cimport INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, Integer, Labels
from cxent.kernels.level cimport EXP, EXP_ANY, EXPM1, EXPONENTIAL, LOG, LOG1P, Function, Level
from cxent.kernels.math cimport exponent_to_one, power_of_two
from cxent.kernels.simd cimport real
from cxent.kernels.traffic cimport stream_past_caches
from cxent.kernels.values cimport Values, values_at
from cxent.kernels.weights cimport LARGEST_EXPONENT, Weights, can_divide

include "arrays.pxi"
include "plain_arrays.pxi"
include "plain.pxi"


cdef class Logits(AtLevel):
    """The entry points of softmax, of losses, and of what is computed of logits alone."""

    def softmax(
        self,
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
            self.level.run(&call, self.level.softmax)

    def log_softmax(
        self,
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
            self.level.run(&call, self.level.log_softmax)

    def logsumexp(
        self,
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
            self.level.run(&call, self.level.logsumexp)

    def logsumexp_factors(
        self,
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
            self.level.run(&call, self.level.logsumexp_factors)

    def softmax_backward(
        self,
        grad_output,        # IN   (outer, classes, inner)
        output,             # IN   (outer, classes, inner), the probabilities
        mask,               # IN   (outer, classes, inner) of uint8, 1 for what took part; or None
        out,                # OUT  (outer, classes, inner), may be either input
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """out = p * (g - sum(g * p))."""
        cdef Call call
        begin_backward(&call, grad_output, output, mask, out, threads)
        with nogil:
            self.level.run(&call, self.level.softmax_backward)

    def log_softmax_backward(
        self,
        grad_output,        # IN   (outer, classes, inner)
        output,             # IN   (outer, classes, inner), the log-probabilities
        mask,               # IN   (outer, classes, inner) of uint8, 1 for what took part; or None
        out,                # OUT  (outer, classes, inner), may be either input
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """out = g - exp(output) * sum(g)."""
        cdef Call call
        begin_backward(&call, grad_output, output, mask, out, threads)
        with nogil:
            self.level.run(&call, self.level.log_softmax_backward)

    def cross_entropy(
        self,
        x,                  # IN   (outer, classes, inner)
        mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
        target,             # IN   (outer, inner) of integers, each in 0..classes-1 or `ignored`: class indices; or
                            #      (outer, classes, inner): the class probabilities q
        class_weights,      # IN   (classes,), or None; with smoothing always there
        row_weights,        # IN   (outer, inner), or None
        options,            # IN   (ignored, smoothing, gamma, z, softcap, temperature, divisor, z_divisor), where
                            #      `ignored` is the label of rows that do not count, or None; gamma and softcap are 0
                            #      if there is none
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
        complete_loss(self.level, &call)
        with nogil:
            if past_caches and grad is not None:
                stream_past_caches(&call.batch, &call.x, &call.out)
            self.level.run(&call, self.level.cross_entropy)
        return call.sum

    def hessian_product(
        self,
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
        complete_loss(self.level, &call)
        with nogil:
            self.level.run(&call, self.level.hessian_product)

    def from_probs(
        self,
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
        complete_loss(self.level, &call)
        call.spare.origin = call.y.origin  # (a tile alone)
        with nogil:
            self.level.run(&call, self.level.from_probs)
        return call.sum

    def evaluate(
        self,
        str function,       # IN   exp (of x <= 0), expm1 (likewise), log, log1p, exp_any, or exponential (of x <= 0)
        const real[::1] x,  # IN
        real[::1] out,      # OUT
        /,
    ):
        """A function that all kernels use, of every number."""
        cdef int number = {"exp": EXP, "expm1": EXPM1, "log": LOG, "log1p": LOG1P, "exp_any": EXP_ANY,
                           "exponential": EXPONENTIAL}[function]
        with nogil:
            self.level.evaluate(<Function> number, &x[0], x.shape[0], &out[0])


include "checks.pxi"
include "conversion.pxi"
include "divergences.pxi"
include "scores.pxi"
include "binary.pxi"
include "plain_calls.pxi"


class EntryPoints(Logits, Checks, Conversions, Divergences, Scores, TwoClasses, PlainCalls):
    """All of them."""

    __slots__ = ()
