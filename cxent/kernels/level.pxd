"""The functions of a level: what the entry points call.

Kernels are compiled once for each dtype and level, the entry points once for each dtype: a wheel with entry points for
every level is a fifth larger. What only says where things are (`batch`, `call`, `values`) does not depend on the level,
and is used directly.
"""

from .binary cimport Binary
from .call cimport Call, Compute
from .labels cimport Labels
from .simd cimport real
from .weights cimport Weights

cdef enum Function:         # of every number
    EXP                     # (of x <= 0)
    EXPM1                   # (likewise)
    LOG
    LOG1P
    EXP_ANY
    EXPONENTIAL             # (of x <= 0)

cdef struct Level:
    int (*run)(Call* call, Compute compute) except -1 nogil
    Compute softmax
    Compute log_softmax
    Compute logsumexp
    Compute logsumexp_factors
    Compute softmax_backward
    Compute log_softmax_backward
    Compute cross_entropy
    Compute hessian_product
    Compute from_probs
    Compute divergence
    Compute token_logprobs
    Compute part_of_softmax
    Compute part_of_log_softmax
    Compute convert
    int (*run_binary)(Binary* of, int threads) except -1 nogil
    void (*merge_rows)(const real* a, const real* b, Py_ssize_t rows, real temperature, real* out) noexcept nogil
    void (*evaluate)(Function function, const real* x, Py_ssize_t n, real* out) noexcept nogil
    bint (*are_in_range)(const Labels* labels, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t classes) noexcept nogil
    bint (*are_finite)(const real* x, Py_ssize_t n) noexcept nogil
    double (*sum_of_numbers)(const real* x, Py_ssize_t n) noexcept nogil
    int (*exponent_for_products)(const real* w, Py_ssize_t n) noexcept nogil
    void (*sum_weights)(const Weights* of, double row_scale, double class_scale, double* sums) noexcept nogil
    void (*find_largest_weights)(const Weights* of, double* largest) noexcept nogil
