"""What Cython is told of the vectors in ``simd.h``: it takes each for a number.

So ``a * b - c`` over vectors is that expression in C. Comparisons and conditionals have functions (`greater`,
`select`), numbers become vectors by name (`broadcast`), and a mask can only be passed on.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "simd.h" nogil:
    ctypedef float real "cxent_real"            # the dtype of this module: float or double
    ctypedef float vec "cxent_vec"              # W of them
    ctypedef double wide "cxent_wide"           # as many numbers of float64 as fit a vector
    ctypedef uint64_t longs "cxent_longs"       # as many labels as fit a vector
    ctypedef uint32_t word "cxent_word"         # the bits of one number
    ctypedef uint32_t bits "cxent_bits"         # those of a vector
    ctypedef int mask "cxent_mask"
    ctypedef void flattened "cxent_flattened"   # void, of a function into which all that it calls is inlined

    enum:
        FLOAT64 "CXENT_FLOAT64"                 # 1 if this is the module of float64, else 0
        FUSED "CXENT_FUSED"                     # 1 if `fma` rounds once
        MANTISSA_BITS "CXENT_MANTISSA_BITS"
        W "CXENT_W"                             # numbers in a vector
        BLOCK "CXENT_BLOCK"                     # numbers in 16 bytes, of which W lines are transposed at once
        LANES "CXENT_LANES"                     # lanes of a sum, on every machine
        VECTORS "CXENT_VECTORS"                 # vectors that hold the lanes
        WRITTEN_OUT "CXENT_WRITTEN_OUT"         # of these in a loop that is written out where code may be large
        HALVES "CXENT_HALVES"                   # vectors of float64 that hold a vector

    vec broadcast "cxent_broadcast"(real x) noexcept
    bits broadcast_bits "cxent_broadcast_bits"(word x) noexcept
    bits bits_of "cxent_bits_of"(vec x) noexcept
    vec from_bits "cxent_from_bits"(bits b) noexcept
    vec scale_bits "cxent_scale_bits"(vec t) noexcept
    vec absolute "cxent_absolute"(vec x) noexcept
    vec fma "cxent_fma"(vec a, vec b, vec c) noexcept
    vec maximum "cxent_maximum"(vec a, vec b) noexcept
    mask greater "cxent_greater"(vec a, vec b) noexcept
    mask at_least "cxent_at_least"(vec a, vec b) noexcept
    mask equal "cxent_equal"(vec a, vec b) noexcept
    vec select "cxent_select"(mask chosen, vec a, vec b) noexcept
    vec unless "cxent_unless"(mask chosen, vec a) noexcept

    bits count "cxent_count"(bits n, mask chosen) noexcept
    unsigned int lanes_of "cxent_lanes_of"(mask chosen) noexcept
    int lowest "cxent_lowest"(unsigned int lanes) noexcept

    vec load "cxent_load"(const real* p) noexcept
    void store "cxent_store"(real* p, vec x) noexcept
    real scalar "cxent_first"(vec x) noexcept
    vec gather "cxent_gather"(const real* p, bits at) noexcept
    vec load_first "cxent_load_first"(const real* p, Py_ssize_t n, vec fill) noexcept
    void store_first "cxent_store_first"(real* p, vec x, Py_ssize_t n) noexcept
    void stream "cxent_stream"(real* p, vec x) noexcept
    void fence "cxent_fence"() noexcept
    void prefetch "cxent_prefetch"(const void* p) noexcept
    void prefetch_to_write "cxent_prefetch_to_write"(const void* p) noexcept
    bits look_up "cxent_look_up"(const word* table, bits t) noexcept
    vec swap_pieces "cxent_swap_pieces"(vec x, int n) noexcept
    void load_block "cxent_load_block"(const void* lines, Py_ssize_t stride, vec* v) noexcept
    void store_block "cxent_store_block"(void* lines, Py_ssize_t stride, vec* v) noexcept
    void store_square "cxent_store_square"(void* lines, Py_ssize_t stride, vec* v) noexcept

    wide widen "cxent_widen"(vec x, int half) noexcept
    vec narrow "cxent_narrow"(const wide* halves) noexcept
    wide broadcast_wide "cxent_broadcast_wide"(double x) noexcept
    wide load_wide "cxent_load_wide"(const double* p) noexcept
    void store_wide "cxent_store_wide"(double* p, wide x) noexcept
    vec load_booleans "cxent_load_booleans"(const void* p) noexcept
    mask load_truths "cxent_load_truths"(const void* p) noexcept
    vec load_labels "cxent_load_labels"(const int64_t* p) noexcept
    longs load_longs "cxent_load_longs"(const int64_t* p) noexcept
    longs broadcast_longs "cxent_broadcast_longs"(uint64_t x) noexcept
    uint64_t any_of "cxent_any_of"(longs labels) noexcept
    vec load_float16 "cxent_load_float16"(const void* p) noexcept
    vec load_bfloat16 "cxent_load_bfloat16"(const void* p) noexcept
    void store_float16 "cxent_store_float16"(void* p, vec x) noexcept
    void store_bfloat16 "cxent_store_bfloat16"(void* p, vec x) noexcept
