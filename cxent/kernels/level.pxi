"""All kernels of one dtype and level, and where the entry points find them: `level`."""

from cpython.pycapsule cimport PyCapsule_New

from cxent.kernels cimport math
from cxent.kernels.batch cimport block_of
from cxent.kernels.binary cimport run_binary
from cxent.kernels.call cimport Call, run
from cxent.kernels.cross_entropy cimport cross_entropy_batch, from_probs_batch, hessian_product_batch
from cxent.kernels.divergence cimport divergence_batch
from cxent.kernels.labels cimport are_in_range
from cxent.kernels.level cimport EXP, EXP_ANY, EXPM1, LOG, LOG1P, Function, Level
from cxent.kernels.scoring cimport token_logprobs_batch
from cxent.kernels.sharded cimport merge_rows, part_of_log_softmax_batch, part_of_softmax_batch
from cxent.kernels.simd cimport W, broadcast, load_first, real, store_first, vec
from cxent.kernels.softmax cimport (
    log_softmax_backward_batch, log_softmax_batch, logsumexp_batch, logsumexp_factors_batch, softmax_backward_batch,
    softmax_batch,
)
from cxent.kernels.tiles cimport copy_rows, load_rows, store_rows
from cxent.kernels.weights cimport (
    are_finite, exponent_for_products, find_largest_weights, sum_of_numbers, sum_weights,
)


cdef void convert_batch(Call* call) noexcept nogil:
    """Half precision to this dtype, or back."""
    if call.out.direct:     # (then x, being half precision, is not)
        copy_rows(&call.batch, &call.x, block_of(&call.batch, &call.out), True)
    else:
        store_rows(&call.batch, &call.out, load_rows(&call.batch, &call.x))


cdef void evaluate(Function function, const real* x, Py_ssize_t n, real* out) noexcept nogil:
    """The functions of vectors that all kernels use, of every number."""
    cdef vec value
    cdef Py_ssize_t k
    for k in range((n + W - 1) // W):
        value = load_first(x + k * W, n - k * W, broadcast(0))
        value = (math.exp(value, 0) if function == EXP else math.expm1(value) if function == EXPM1
                 else math.log(value) if function == LOG else math.log1p(value) if function == LOG1P
                 else math.exp_any(value) if function == EXP_ANY else math.exponential_below_zero(value))
        store_first(out + k * W, value, n - k * W)


cdef Level functions
functions.run = run
functions.softmax = softmax_batch
functions.log_softmax = log_softmax_batch
functions.logsumexp = logsumexp_batch
functions.logsumexp_factors = logsumexp_factors_batch
functions.softmax_backward = softmax_backward_batch
functions.log_softmax_backward = log_softmax_backward_batch
functions.cross_entropy = cross_entropy_batch
functions.hessian_product = hessian_product_batch
functions.from_probs = from_probs_batch
functions.divergence = divergence_batch
functions.token_logprobs = token_logprobs_batch
functions.part_of_softmax = part_of_softmax_batch
functions.part_of_log_softmax = part_of_log_softmax_batch
functions.convert = convert_batch
functions.run_binary = run_binary
functions.merge_rows = merge_rows
functions.evaluate = evaluate
functions.are_in_range = are_in_range
functions.are_finite = are_finite
functions.sum_of_numbers = sum_of_numbers
functions.exponent_for_products = exponent_for_products
functions.sum_weights = sum_weights
functions.find_largest_weights = find_largest_weights

level = PyCapsule_New(&functions, b"cxent.kernels.level", NULL)
