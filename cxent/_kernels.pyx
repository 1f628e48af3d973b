"""The C loops: softmax, cross-entropy and their gradients over the rows of an array.

Design
------
Every function takes its arrays as 3-D views ``(outer, classes, inner)`` and treats each of the
``outer * inner`` rows of ``classes`` logits by itself. Labels and row results are ``(outer, inner)``.
Nothing here knows of options, defaults or errors: ``_arrays`` has checked everything before.

*One row.* With ``m = max(x)`` and ``rest = sum(exp(x_j - m)) - 1``,

    softmax_j = exp(x_j - m) / (1 + rest)         lse = m + log(1 + rest)

``rest`` is kept apart from the 1 because a confident row has ``rest`` far below the rounding of 1: the
loss of logits [17, 0, 0] is ``log(1 + 8.3e-8)``, and in float32 that is 0. So the exponentials below the maximum are
summed, and the maxima counted. (A softmax needs no ``rest``.) Exponentials are kept times 2^64 or 2^128 (``lift_of``),
out of reach of the smallest normal number: thousands that are too small each still make a sum. Differences from ``m``
are taken before anything else is added, so that no digit is lost to a large ``m``.

*One gradient.* Every cross-entropy gradient is ``a * exp(x_j - m) - b * t_j`` with two numbers per row, where t is the
target row, the class weights (for smoothed labels), or nothing, and the number at a label is put in its place. One
kernel, ``cross_entropy``, has all options; those that are off cost a comparison per pack.

*Softcap and temperature.* The logits of a pack are replaced, in a tile, by their differences from the largest, so that
all that follows is as without them. The gradient is multiplied by the slope, kept in another tile.

*Masks.* Logits that take no part are replaced by -inf in a tile; the mask comes to another, as numbers, the way that
logits do. A row of which nothing is left gets 0 as its maximum: its exponentials and their sum are then 0, not NaN.

*Half precision.* float16 and bfloat16 are widened on their way to a tile, and results narrowed on their way back; what
is between computes float32.

*One inner loop.* Rows go together in packs, and a pack is computed in steps of 64 numbers, which are brought to local
memory, computed there, and stored. Which numbers make a step depends on the number of classes alone, so that a row has
the same bits in any batch. (Exponentials and weighted sums of float64 take steps of 32: half the rows, or half the
classes of a long one.)

    classes                          a step is                       a pack has
    up to 48 (SHORT)                 one class of 64 rows            64 rows, transposed in a tile
    up to 4,096 (MIDDLING)           16 classes of each of 4 rows    4 to 16 rows
    more                             64 classes of one row           1 row
    up to 4,096, rows side by side   one class of 64 rows            64 rows, copied to a tile

Rows that lie side by side (inner > 1) and have more classes are gathered, 16 at a time, and treated as long ones. A
call on so few rows that 16 lanes hold them (16 short ones, or up to 3 middling ones, one after the other) takes 16
numbers a step. The number of lanes that a row has (1, 16 or 64: its *width*) is a literal where these loops are called,
so that the compiler sees constant bounds; inline functions are therefore really inlined.

*Vectors.* No ``-ffast-math``: the order of every sum is written here, and the compiler makes vectors of it
because each sum runs in independent lanes. A lane takes 8 numbers of float32, or 2 of float64, before it is
added to a total in float64 (with compensation, for float64), and the totals of a row are folded pairwise: the error of
a sum does not grow with the number of classes. Where classes do not fill the last step, it takes the last 16 or 64
classes, and those that another step has too are padded with -inf. That step is computed first, and puts back what it
has padded, so that results may be written over the logits.

*Transposition.* 64 rows become columns in three passes over the block, each of which takes numbers from four quarters
in turn (``interleave``): perfect shuffles, for any number of classes, and all of it vectors.

*Memory.* A row is read for its maximum (which brings it into the cache), read again for its exponentials, which
go to the output, and these are scaled in place. While exponentials are computed, the next pack is prefetched.

Results that the caches would not hold (`past_cache`) take another way. They are computed in a tile, and written from
there past the caches, step by step, while the exponentials of the next pack are computed (`Behind`); long rows get
their factor, or their shift, only then. What they replace is not read before, so that a number costs 8 bytes of
traffic and not 12, and the memory works while the arithmetic does. Rows of float64 up to 4,096 classes, and those of
float32 up to 255, are limited by arithmetic, and go the first way.

Measured: softmax in 10^9 elements a second, one core of an AMD EPYC (Zen 5, AVX-512), GCC 12.2, November 2026,
float32 arrays of 96 MB; the last column has 4 x 21 x 512 x 512 numbers and their second axis as classes:

    rows of                              3     10     48    100  1,000  32,000  128,256   21, side by side
    np.copyto                          4.4    4.6    4.3    4.4    4.7     4.2      4.5     4.6
    as written here                    1.5    2.1    1.6    2.7    3.6     5.2      4.5     3.1
    results through the cache          1.5    2.1    1.6    2.7    3.0     3.5      3.0     1.7
    without prefetching                0.8    1.2    1.4    1.6    2.6     3.6      3.5     2.0

Options, in times of the loss and gradient without them, class indices, float32 (float64): label smoothing with class
weights 1.4 (1.4) at 3 classes, 1.3 (1.2) at 10, 1.2 to 1.65 (1.2 to 1.4) from 100 on; softcap 1.6 to 3.2, temperature
1.1 to 1.45. A softmax with a mask of its own size takes 1.3 to 2.3 times that without.

What was tried, in the cache where nothing else is said:

- exp in Horner's order, and the power of 2 multiplied instead of fused: 7 % slower each.
- Counting the maxima costs 20 % of the exponentials' time. To look for the place of one maximum instead, and put -inf
  there, costs a second pass, and 15 ns a row.
- Long rows side by side gathered number by number: 0.2 times the speed of blocks of 16 rows, transposed.
- A transposition number by number: 0.27 ns a number, and 0.19 to 0.47 in other loop orders; three shuffles 0.10.
- Four rows of 16 lanes whose packs were 4 rows instead of 16: 1.4 times slower at 100 classes, since the folds of one
  pack wait for its sums, and the next pack for both. Folding 16 rows at once costs less than 4 times 4.
- Rows side by side with 1,500 to 4,000 classes gathered, as those with more are: 0.3 to 0.5 times the speed.
- 64 lanes instead of 16 at 600 classes: 0.75 times the speed; at 1,000, 0.87.
- The cut step last, or a test for it in the loop: 0.75 times the speed at 1,000 classes. Without the test the compiler
  keeps the lanes in registers.
- A copy of 16 numbers that stands alone, as in the cut step, GCC makes of single numbers, and of vectors in a loop.
  With memcpy in the cut step (and only there: in the loops it costs 10 %) a softmax of 100 classes went from 2.8 to
  3.6.
- The results of long rows written past the caches in one burst when the row is done: 4.5 instead of 4.0 at 32,000
  classes; during the next row 5.7; scaled only then 6.3; one tile instead of two 6.5 (all in a loop in C, without
  rest).
- The next row's maximum in the same loop, instead of prefetching: 2.3. The row is read from memory once, as it is.
- The writing in pieces of 8 steps: 10 % slower than in every step. Prefetching in such pieces: 30 %.
- Soft labels summed in float64 lanes: 1.3 times slower at 100 classes, where float32 lanes of 8 numbers lose nothing
  that is promised. The place of the maximum looked for, for the gradient there: 1.3 times slower at 10 classes than
  to compare every number with it.
- The sum of weighted differences in a pass of its own: 1.4 times the time of a loss at 1,000 classes, in the loop of
  the exponentials 1.2. Without the test for weights of 0, or compensated a quarter as often: 0 to 5 % less.
- Steps of 64 numbers of float64: sums, counts and constants do not fit the registers, which costs 10 to 25 %, and 50 %
  with weighted differences. Steps of 32 of float32 save nothing, with AVX2 neither.
- What is left to be written past the caches read from its struct in every step, not from a local copy: 30 % slower in
  float64.
- Softcap of float32 in float64: conversions and constant branches kept the loop from being vectors, 10 times slower.
- float16 converted by integer arithmetic in vectors: a softmax of 1,000 classes has 0.8 times the speed of that with
  the CPU's instructions; number by number, 0.1.
- Loops over the rows of a pack that end in single numbers: the compiler fused other products there, so that a row's
  last bit depended on its batch. They run over whole vectors.
- Scatter instructions, which GCC makes of ``g[label[r]] = ...``: slower than to compare all classes in a tile.
- A clamp of the argument of exp before the polynomial keeps GCC from making vectors: it threads the constant
  branch. The select comes last.
- Eight additions to a float64 lane, as in float32, left gradients for smoothed labels wrong by up to
  6.7 units in the last place, two by up to 5.2: equal terms all round the same way.
"""

import numpy

from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport INFINITY, NAN, ldexp, log
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    // GCC makes calls and string instructions of small loops that set or copy, which costs more than the loops.
    #if defined(__GNUC__) && !defined(__clang__)
    #pragma GCC optimize ("no-tree-loop-distribute-patterns")
    #endif

    static inline uint32_t float_bits(float x) { uint32_t b; memcpy(&b, &x, sizeof b); return b; }
    static inline uint64_t double_bits(double x) { uint64_t b; memcpy(&b, &x, sizeof b); return b; }
    static inline float float_from_bits(uint32_t b) { float x; memcpy(&x, &b, sizeof x); return x; }
    static inline double double_from_bits(uint64_t b) { double x; memcpy(&x, &b, sizeof x); return x; }

    // What is declared inline here is called with literals that choose the code: it must be inlined, whatever its size.
    #undef CYTHON_INLINE
    #ifdef __GNUC__
    #define CYTHON_INLINE inline __attribute__((always_inline))
    #define prefetch_to_read(address) __builtin_prefetch((address), 0)
    #define prefetch_to_write(address) __builtin_prefetch((address), 1)
    #else
    #define CYTHON_INLINE __forceinline
    #define prefetch_to_read(address) ((void) (address))
    #define prefetch_to_write(address) ((void) (address))
    #endif

    // Write 64 bytes past the caches, so that what they replace is not read before.
    #if defined(__x86_64__) || defined(_M_X64)
    #include <immintrin.h>
    static inline void write_line(char* target, const char* source) {
    #ifdef __AVX512F__
        _mm512_stream_si512((void*) target, _mm512_loadu_si512(source));
    #else
        for (int k = 0; k < 64; k += 16)
            _mm_stream_si128((__m128i*) (target + k), _mm_loadu_si128((const __m128i*) (source + k)));
    #endif
    }
    #define finish_writing() _mm_sfence()
    #else
    static inline void write_line(char* target, const char* source) { memcpy(target, source, 64); }
    #define finish_writing() ((void) 0)
    #endif

    // So many numbers are converted from and to float16 by an instruction, which no compiler makes of a loop.
    #if defined(__AVX512F__)
    #define AT_ONCE 16
    static inline void widen_at_once(const uint16_t* bits, float* x) {
        _mm512_storeu_ps(x, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*) bits)));
    }
    static inline void narrow_at_once(const float* x, uint16_t* bits) {
        _mm256_storeu_si256((__m256i*) bits, _mm512_cvtps_ph(_mm512_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
    }
    #elif defined(__F16C__)
    #define AT_ONCE 8
    static inline void widen_at_once(const uint16_t* bits, float* x) {
        _mm256_storeu_ps(x, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*) bits)));
    }
    static inline void narrow_at_once(const float* x, uint16_t* bits) {
        _mm_storeu_si128((__m128i*) bits, _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
    }
    #else
    #define AT_ONCE 0
    #define widen_at_once(bits, x) ((void) 0)
    #define narrow_at_once(x, bits) ((void) 0)
    #endif
    """
    uint32_t float_bits(float x) noexcept nogil
    uint64_t double_bits(double x) noexcept nogil
    float float_from_bits(uint32_t bits) noexcept nogil
    double double_from_bits(uint64_t bits) noexcept nogil
    void prefetch_to_read(const void* address) noexcept nogil
    void prefetch_to_write(const void* address) noexcept nogil
    void write_line(char* target, const char* source) noexcept nogil
    void finish_writing() noexcept nogil
    const Py_ssize_t AT_ONCE
    void widen_at_once(const uint16_t* bits, float* x) noexcept nogil
    void narrow_at_once(const float* x, uint16_t* bits) noexcept nogil

ctypedef fused floating:    # what is computed
    float
    double

ctypedef fused stored:      # what arrays hold: these, or the bits of
    float
    double
    uint16_t                # float16
    int16_t                 # bfloat16

ctypedef enum Storage:
    NATIVE
    FLOAT16
    BFLOAT16
    BOOLEAN

cdef enum:
    LANES = 64          # rows of one lane each that go together; the most lanes of a step
    STEP_BYTES = 256    # of a step: LANES numbers of float32, or half as many of float64
    NARROW = 16         # lanes of a row of middling length; four such rows go together, or two of float64
    SHORT = 48          # up to so many classes, a row has one lane, and 64 rows go together
    MIDDLING = 4096     # up to so many, NARROW lanes, or one if rows lie side by side; beyond, all of them
    BUS_BOUND = 255     # beyond, rows of float32 are computed faster than the memory takes them
    PACK_BYTES = 16384  # of rows of middling length that are treated together
    SMALL_BYTES = 1 << 18   # up to so many, plain arrays take the short way


# --- exp and log -------------------------------------------------------------------------------------------

cdef inline floating exp_less(floating x, int lift, floating less) noexcept nogil:
    """exp(x) * 2^lift - less for x <= 0, to about 1 ulp; exp counts as 0 below the smallest normal number. NaN for NaN.

    exp(x) = 2^k * exp(r) with k = round(x / ln 2) and |r| <= ln(2)/2. Adding 1.5 * 2^(mantissa bits) rounds to
    an integer, which then stands in the lowest bits. ln 2 is subtracted in two parts, the first exact.
    exp(r) = 1 + r + r^2 q(r), q fitted for the least relative error (2^-28 and 2^-58) and summed in pairs, so that few
    terms wait for one another.
    """
    cdef floating shifted, k, r, r2, r4, q, power
    if floating is float:
        shifted = x * <float> 1.4426950408889634 + <float> 12582912.0
        k = shifted - <float> 12582912.0
        r = x - k * <float> 0.693115234375
        r = r - k * <float> 3.19461833e-05
        r2 = r * r
        q = (<float> 0.49999994 + <float> 0.166665211 * r) + r2 * (
            (<float> 0.0416683927 + <float> 0.00836874545 * r) + r2 * <float> 0.00138145348)
        power = float_from_bits((float_bits(shifted) + <uint32_t> (127 + lift)) << 23)
        q = (power - less) + power * (r + r2 * q)
        return 0 - less if x < <float> (-0.6931471 * (126 + lift)) else q
    else:
        shifted = x * 1.4426950408889634 + 6755399441055744.0
        k = shifted - 6755399441055744.0
        r = x - k * 0.69314718036912382
        r = r - k * 1.9082149292705877e-10
        r2 = r * r
        r4 = r2 * r2
        q = (((0.50000000000000111 + 0.16666666666666413 * r)
              + r2 * (0.041666666666529704 + 0.0083333333334945636 * r))
             + r4 * (((0.001388888894376444 + 0.00019841269506712362 * r)
                      + r2 * (2.4801492945913477e-05 + 2.75575859360685e-06 * r))
                     + r4 * (2.7630307297545969e-07 + 2.5000301260848814e-08 * r)))
        power = double_from_bits((double_bits(shifted) + <uint64_t> (1023 + lift)) << 52)
        q = (power - less) + power * (r + r2 * q)
        return 0 - less if x < -0.69314718055994529 * (1022 + lift) else q


cdef inline floating exp_lifted(floating x, int lift) noexcept nogil:
    """exp(x) * 2^lift for x <= 0."""
    return exp_less(x, lift, <floating> 0)


cdef inline floating exp_any(floating x) noexcept nogil:
    """exp(x) for any x: as above, and inf from 2^127.5 (float32) or 2^1023.5 (float64) on."""
    if floating is float:
        return <float> INFINITY if x > <float> 88.3762626 else exp_lifted(x, 0)
    else:
        return INFINITY if x > 709.43613930310391 else exp_lifted(x, 0)


cdef inline double log_of_product(double k, double f) noexcept nogil:
    """log(2^k (1 + f)) for 1 + f from sqrt(1/2) to sqrt(2), to about 1 ulp.

    log(1 + f) = 2 artanh(s) with s = f / (2 + f); its series in s^2 is fitted for the least relative error (2^-59).
    """
    cdef double s = f / (2 + f)
    cdef double z = s * s
    cdef double z2 = z * z
    cdef double series = z * ((0.6666666666666734 + z * 0.39999999999415659)
                              + z2 * ((0.2857142874218907 + z * 0.2222219859148781)
                                      + z2 * ((0.18183563480903744 + z * 0.15314069535395727)
                                              + z2 * 0.14795785353616853)))
    return k * 0.69314718036912382 + (f - (s * (f - series) - k * 1.9082149292705877e-10))


cdef inline uint64_t exponent_of(double x) noexcept nogil:
    """1024 + k, for x = 2^k (1 + f) as above."""
    return (double_bits(x) + <uint64_t> (0x4000000000000000 - 0x3FE6A09E667F3BCD)) >> 52


cdef inline double number_of(uint64_t n) noexcept nogil:
    """A small integer as a number: it stands in the lowest bits of 2^52. (Not all CPUs can convert vectors of it.)"""
    return double_from_bits(n + <uint64_t> 0x4330000000000000) - 4503599627370496.0


cdef inline double log_of_sum(double rest) noexcept nogil:
    """log(1 + rest) for rest >= 0, NaN for NaN: f comes from rest itself, so that a small one keeps its digits."""
    cdef uint64_t exponent = exponent_of(1 + rest)
    cdef double scale = double_from_bits((2047 - exponent) << 52)  # 2^-k
    return log_of_product(number_of(exponent) - 1024, rest * scale + (scale - 1))


cdef inline double log_of(double x) noexcept nogil:
    """log(x): -inf for 0, NaN for what is below."""
    cdef bint tiny = x < 2.2250738585072014e-308  # below the smallest normal number
    cdef double normal = x * 18014398509481984.0 if tiny else x  # 2^54
    cdef uint64_t exponent = exponent_of(normal)
    cdef double f = double_from_bits(double_bits(normal) - ((exponent - 1024) << 52)) - 1
    cdef double result = log_of_product(number_of(exponent) - (1078 if tiny else 1024), f)
    result = result if x < INFINITY else x
    return result if x > 0 else (-INFINITY if x == 0 else x - x + NAN)


# --- sums --------------------------------------------------------------------------------------------------

cdef struct Sum:
    double value
    double error        # what rounding has taken from value so far


cdef inline void add(Sum* total, double term) noexcept nogil:
    """Compensated addition (Knuth's two-sum)."""
    cdef double value = total.value + term
    cdef double added = value - total.value
    total.error += (total.value - (value - added)) + (term - added)
    total.value = value


cdef inline double value_of(Sum total) noexcept nogil:
    # Beyond the largest number the error is inf - inf; the value alone is right.
    return total.value + total.error if total.value - total.value == 0 else total.value


cdef inline Py_ssize_t steps_of(const floating* lane) noexcept nogil:
    """How many numbers a lane takes before it is added to a total: float64 has no digits to spare for rounding."""
    if floating is float:
        return 8
    else:
        return 2


cdef inline void add_lanes(Py_ssize_t lanes, const floating* lane, double* total, double* error) noexcept nogil:
    """total += lane: with compensation for float64; rounding in float64 is nothing to float32.

    (Dekker's, exact if a total is larger than what is added to it, which soon it is.)
    """
    cdef double value, added
    cdef Py_ssize_t k
    for k in range(lanes):
        value = total[k] + lane[k]
        if floating is double:
            error[k] += lane[k] - (value - total[k])
        total[k] = value


cdef inline void interleave(const floating* a, floating* b, Py_ssize_t quarter) noexcept nogil:
    """b = a[0], a[quarter], a[2 * quarter], a[3 * quarter], a[1], ...: the transpose of a matrix with four rows."""
    cdef Py_ssize_t i
    for i in range(quarter):
        b[4 * i] = a[i]
        b[4 * i + 1] = a[i + quarter]
        b[4 * i + 2] = a[i + 2 * quarter]
        b[4 * i + 3] = a[i + 3 * quarter]


cdef inline void deinterleave(const floating* a, floating* b, Py_ssize_t quarter) noexcept nogil:
    """The inverse of `interleave`."""
    cdef Py_ssize_t i
    for i in range(quarter):
        b[i] = a[4 * i]
        b[i + quarter] = a[4 * i + 1]
        b[i + 2 * quarter] = a[4 * i + 2]
        b[i + 3 * quarter] = a[4 * i + 3]


cdef inline floating larger(floating a, floating b) noexcept nogil:
    """The larger of two; b if a is NaN."""
    return a if a > b else b


cdef inline floating fold_row(floating* lane, Py_ssize_t lanes, bint to_max) noexcept nogil:
    """The sum, or the largest, of the lanes of one row, 64, 32 or 16, pairwise."""
    cdef Py_ssize_t k
    if lanes == 64:
        for k in range(32):
            lane[k] = larger(lane[k], lane[k + 32]) if to_max else lane[k] + lane[k + 32]
    if lanes >= 32:
        for k in range(16):
            lane[k] = larger(lane[k], lane[k + 16]) if to_max else lane[k] + lane[k + 16]
    for k in range(8):
        lane[k] = larger(lane[k], lane[k + 8]) if to_max else lane[k] + lane[k + 8]
    if to_max:
        return larger(larger(larger(lane[0], lane[4]), larger(lane[2], lane[6])),
                      larger(larger(lane[1], lane[5]), larger(lane[3], lane[7])))
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]))


cdef inline void fold_rows(floating* lane, floating* folded, bint to_max) noexcept nogil:
    """The sums, or the largest, of the NARROW lanes of each of 16 rows, pairwise: all rows at once, transposed."""
    cdef floating turned[256]
    cdef Py_ssize_t k
    interleave(lane, turned, 64)
    interleave(turned, lane, 64)
    for k in range(128):
        lane[k] = larger(lane[k], lane[k + 128]) if to_max else lane[k] + lane[k + 128]
    for k in range(64):
        lane[k] = larger(lane[k], lane[k + 64]) if to_max else lane[k] + lane[k + 64]
    for k in range(32):
        lane[k] = larger(lane[k], lane[k + 32]) if to_max else lane[k] + lane[k + 32]
    for k in range(16):
        folded[k] = larger(lane[k], lane[k + 16]) if to_max else lane[k] + lane[k + 16]


# --- steps ----------------------------------------------------------------------------------------------------
#
# One class of 64 rows, NARROW classes of four rows, or 64 classes of one row. (Or 32, two, and 32.) Such rows are a
# group: lanes / width rows that are computed at once. `pitch` is the distance from a row to the next, in numbers.

cdef inline void copy(const floating* a, floating* b, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        b[k] = a[k]


cdef inline void copy_part(const floating* a, floating* b, Py_ssize_t n, bint in_loop) noexcept nogil:
    """GCC makes vectors of a copy that is in a loop, but single numbers of one that stands alone."""
    if in_loop:
        copy(a, b, n)
    else:
        memcpy(b, a, n * sizeof(floating))


cdef inline void copy_up_to(Py_ssize_t n, const floating* a, floating* b) noexcept nogil:
    if n == LANES:
        copy(a, b, LANES)
    elif n == 1:
        b[0] = a[0]
    else:
        memcpy(b, a, n * sizeof(floating))


cdef inline void fill(double number, floating* b, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        b[k] = <floating> number


cdef inline void spread(const floating* m, Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t width,
                        floating* lane) noexcept nogil:
    """A number for each row, to all lanes of the row."""
    if width == 1:
        copy(m, lane, lanes)
    elif width < lanes:
        fill(m[0], lane, NARROW)
        fill(m[1] if rows > 1 else m[0], lane + NARROW, NARROW)
        if lanes == 4 * NARROW:
            fill(m[2] if rows > 2 else m[0], lane + 2 * NARROW, NARROW)
            fill(m[3] if rows > 3 else m[0], lane + 3 * NARROW, NARROW)
    else:
        fill(m[0], lane, lanes)


cdef inline Py_ssize_t lanes_of(const floating* kind) noexcept nogil:
    """Numbers in a step of exponentials or weighted sums."""
    return STEP_BYTES // sizeof(floating)


cdef inline void load_step(const floating* x, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t width,
                           floating* part, bint in_loop) noexcept nogil:
    """Row 0 stands in for rows that are missing."""
    if 1 < width < lanes:
        copy_part(x, part, NARROW, in_loop)
        copy_part(x + (pitch if rows > 1 else 0), part + NARROW, NARROW, in_loop)
        if lanes == 4 * NARROW:
            copy_part(x + (2 * pitch if rows > 2 else 0), part + 2 * NARROW, NARROW, in_loop)
            copy_part(x + (3 * pitch if rows > 3 else 0), part + 3 * NARROW, NARROW, in_loop)
    else:
        copy_part(x, part, lanes, in_loop)


cdef inline void store_step(const floating* part, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t width,
                            floating* e, bint in_loop) noexcept nogil:
    if 1 < width < lanes:
        copy_part(part, e, NARROW, in_loop)
        copy_part(part + NARROW, e + (pitch if rows > 1 else 0), NARROW, in_loop)
        if lanes == 4 * NARROW:
            copy_part(part + 2 * NARROW, e + (2 * pitch if rows > 2 else 0), NARROW, in_loop)
            copy_part(part + 3 * NARROW, e + (3 * pitch if rows > 3 else 0), NARROW, in_loop)
    else:
        copy_part(part, e, lanes, in_loop)


cdef inline void collect(floating* lane, Py_ssize_t group, Py_ssize_t lanes, Py_ssize_t width, floating* kept,
                         floating* results, bint to_max) noexcept nogil:
    """A group's lanes, folded to the results of its rows; those of four NARROW rows are kept for `fold_rows`."""
    if width == 1:
        copy(lane, results + group * lanes, lanes)
    elif width < lanes:
        copy(lane, kept + group * lanes, lanes)
    else:
        results[group] = fold_row(lane, lanes, to_max)


cdef inline void set_padding(Py_ssize_t classes, Py_ssize_t width, floating* padding) noexcept nogil:
    """-inf for the classes that a cut step has in common with another; else 0."""
    cdef Py_ssize_t k
    for k in range(LANES):
        padding[k] = -INFINITY if k % width < (width - classes % width) % width else 0


cdef inline Py_ssize_t steps_in(Py_ssize_t classes, Py_ssize_t width) noexcept nogil:
    return (classes - 1) // width + 1


cdef inline Py_ssize_t start_of(Py_ssize_t step, Py_ssize_t classes, Py_ssize_t width) noexcept nogil:
    """The first class of a step: if classes are left over, the first step takes the last `width`."""
    if classes % width == 0:
        return step * width
    return classes - width if step == 0 else (step - 1) * width


cdef inline void max_lanes(Py_ssize_t classes, Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t width,
                           const floating* x, Py_ssize_t pitch, floating* m) noexcept nogil:
    """m = the largest number in each row, NaN left out: it comes back in the differences from m."""
    cdef floating kept[256]
    cdef floating lane[LANES]
    cdef floating part[LANES]
    cdef Py_ssize_t class_step = LANES if width == 1 else 1
    cdef Py_ssize_t group, first, step, k
    for group in range((rows - 1) * width // lanes + 1):
        first = group * (lanes // width)
        for k in range(lanes):
            lane[k] = -INFINITY
        for step in range(steps_in(classes, width)):
            load_step(x + first * pitch + start_of(step, classes, width) * class_step, pitch, rows - first,
                      lanes, width, part, True)
            for k in range(lanes):
                lane[k] = larger(part[k], lane[k])
        collect(lane, group, lanes, width, kept, m, True)
    if 1 < width < lanes:
        fold_rows(kept, m, True)


cdef inline int lift_of(const floating* e) noexcept nogil:
    """The exponentials e of a row are kept times 2^lift, where thousands that are too small each still make a sum."""
    if floating is float:
        return 64
    else:
        return 128


cdef inline double unlift(const floating* e) noexcept nogil:
    """The factor 2^-lift that undoes it, exactly."""
    return ldexp(1, -lift_of(e))


cdef inline void exp_step(Py_ssize_t lanes, floating* part, const floating* shift, bint apart,
                          floating* lane, floating* maxima,
                          bint weigh, const floating* w, floating* weighed) noexcept nogil:
    """part = exp(part - shift), lifted, and added to the lanes: all, or with the maxima counted apart.

    If wanted, w * (part - shift) is added to other lanes; 0 if w is.
    """
    cdef floating difference, exponential
    cdef Py_ssize_t k
    for k in range(lanes):
        difference = part[k] - shift[k]
        exponential = exp_lifted(difference, lift_of(part))
        if weigh:
            weighed[k] += 0 if w[k] == 0 else w[k] * difference
        if apart:
            lane[k] += 0 if part[k] >= shift[k] else exponential
            maxima[k] += 1 if part[k] >= shift[k] else 0
        else:
            lane[k] += exponential
        part[k] = exponential


cdef struct Ahead:
    char* start         # of the next pack's numbers
    Py_ssize_t group    # bytes from one group's numbers to the next
    Py_ssize_t step     # bytes from one step's numbers to the next


cdef inline void prefetch_step(Ahead ahead, Py_ssize_t group, Py_ssize_t step, Py_ssize_t bytes,
                               bint to_write) noexcept nogil:
    cdef char* start = ahead.start + group * ahead.group + step * ahead.step
    cdef Py_ssize_t line
    for line in range(bytes // 64):
        if to_write:
            prefetch_to_write(start + line * 64)
        else:
            prefetch_to_read(start + line * 64)


ctypedef enum Finish:
    NOTHING             # no results wait to be written
    COPY
    SCALE               # a * number, lifted before
    SHIFT               # (number - a) - b


cdef struct Behind:
    char* target            # in the array: where the next run of the last pack's results goes
    const char* source      # their numbers, most often in a tile
    Py_ssize_t target_step  # bytes from a run to the next
    Py_ssize_t source_step
    Py_ssize_t run          # bytes of a run
    Py_ssize_t runs         # that are left
    Finish finish           # what is still to be done with the numbers
    double a
    double b


cdef inline void finish(const Behind* behind, Finish how, const floating* source, floating* target,
                        Py_ssize_t n) noexcept nogil:
    cdef floating a = <floating> behind.a
    cdef floating b = <floating> behind.b
    cdef floating unlifted = <floating> unlift(source)
    cdef Py_ssize_t k
    if how == SCALE:
        for k in range(n):
            target[k] = a * (unlifted * source[k])
    elif how == SHIFT:
        for k in range(n):
            target[k] = (source[k] - a) - b
    else:
        copy(source, target, n)


cdef void write_piece(char* target, const char* source, Py_ssize_t n) noexcept nogil:
    """Copy n bytes past the caches, but for the ends that do not fill a cache line."""
    cdef Py_ssize_t start = min(n, -<Py_ssize_t> target & 63)
    cdef Py_ssize_t end = n - ((n - start) & 63)
    cdef Py_ssize_t k
    memcpy(target, source, start)
    for k in range(start, end, 64):
        write_line(target + k, source + k)
    memcpy(target + end, source + end, n - end)


cdef inline void write_run(Behind* behind, Finish how, Py_ssize_t width, const floating* kind) noexcept nogil:
    """The next run: the numbers of a class, or of a step, in whole cache lines, but for columns that are cut."""
    cdef Py_ssize_t n = LANES if width == 1 else lanes_of(kind)
    cdef Py_ssize_t size = n * sizeof(floating)
    cdef floating part[LANES]
    cdef Py_ssize_t k
    if width > 1 or (behind.run == size and <size_t> behind.target & 63 == 0):
        finish(behind, how, <const floating*> behind.source, part, n)
        for k in range(0, size, 64):
            write_line(behind.target + k, <char*> part + k)
    else:
        write_piece(behind.target, behind.source, behind.run)
    behind.target += behind.target_step
    behind.source += behind.source_step
    behind.runs -= 1


cdef inline void write_rest(Behind* behind, Py_ssize_t width, const floating* kind) noexcept nogil:
    """All runs that are left."""
    while behind.runs > 0:
        write_run(behind, behind.finish, width, kind)


cdef inline void exp_lanes(Py_ssize_t classes, Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t width,
                           const floating* x, Py_ssize_t x_pitch, Ahead x_ahead, const floating* m,
                           floating* e, Py_ssize_t e_pitch, Ahead e_ahead, Behind* behind, Finish finish,
                           bint keep, bint apart, double* sums,
                           bint weigh, const floating* w, double* weighed_sums) noexcept nogil:
    """e = exp(x - m), lifted, if kept; sums = sum(exp(x - m)), less 1 for one maximum if that is kept apart.

    If wanted, weighed_sums = sum(w * (x - m)), with class weights w that are the same in every row.
    """
    cdef double totals[256]
    cdef floating maxima_of_rows[256]
    cdef double weighed_of_rows[256]
    cdef floating counts[LANES]
    cdef double total[LANES]
    cdef double lost[LANES]
    cdef double weighed_total[LANES]
    cdef double weighed_lost[LANES]
    cdef floating shift[LANES]
    cdef floating lane[LANES]
    cdef floating maxima[LANES]
    cdef floating weighed[LANES]
    cdef floating part[LANES]
    cdef floating w_part[LANES]
    cdef floating unpadded[LANES]
    cdef floating padding[LANES]
    cdef Behind left
    cdef const floating* x_first
    cdef floating* e_first
    cdef Py_ssize_t class_step = LANES if width == 1 else 1
    cdef Py_ssize_t whole = classes // width
    cdef Py_ssize_t steps_per_run = LANES // lanes if width == 1 else 1
    cdef Py_ssize_t group, first, block, step, r, k
    if finish != NOTHING:
        left = behind[0]  # a local copy stays in registers
    set_padding(classes, width, padding)
    fill(0, counts, LANES)
    for group in range((rows - 1) * width // lanes + 1):
        first = group * (lanes // width)
        x_first = x + first * x_pitch
        e_first = e + first * e_pitch
        spread(m + first, rows - first, lanes, width, shift)
        for k in range(lanes):
            total[k] = 0
            lost[k] = 0
            lane[k] = 0
            maxima[k] = 0
            if weigh:
                weighed_total[k] = 0
                weighed_lost[k] = 0
                weighed[k] = 0
        if classes % width != 0:
            # The classes that do not fill a step, first: with others before them that are padded
            prefetch_step(x_ahead, group, whole, lanes * sizeof(floating), False)
            if finish == NOTHING and (keep or e_ahead.start != NULL):
                prefetch_step(e_ahead, group, whole, lanes * sizeof(floating), True)
            load_step(x_first + classes - width, x_pitch, rows - first, lanes, width, unpadded, False)
            for k in range(lanes):
                part[k] = unpadded[k] + padding[k]
            if weigh:
                load_step(w + classes - width, 0, rows - first, lanes, width, w_part, False)
                for k in range(lanes):
                    w_part[k] = 0 if padding[k] < 0 else w_part[k]
            exp_step(lanes, part, shift, apart, lane, maxima, weigh, w_part, weighed)
            if keep:
                # What is padded stays as it is: if results are written over x, a later step reads it there
                for k in range(lanes):
                    part[k] = unpadded[k] if padding[k] < 0 else part[k]
                store_step(part, e_pitch, rows - first, lanes, width, e_first + classes - width, False)
        for block in range((whole - 1) // steps_of(lane) + 1):
            for step in range(block * steps_of(lane), min(whole, (block + 1) * steps_of(lane))):
                prefetch_step(x_ahead, group, step, lanes * sizeof(floating), False)
                if finish != NOTHING:
                    if left.runs > 0 and step % steps_per_run == 0:
                        write_run(&left, finish if width == lanes else COPY, width, x)
                elif keep or e_ahead.start != NULL:
                    prefetch_step(e_ahead, group, step, lanes * sizeof(floating), True)
                load_step(x_first + step * width * class_step, x_pitch, rows - first, lanes, width, part, True)
                if weigh:
                    load_step(w + step * width * class_step, 0, rows - first, lanes, width, w_part, True)
                exp_step(lanes, part, shift, apart, lane, maxima, weigh, w_part, weighed)
                if keep:
                    store_step(part, e_pitch, rows - first, lanes, width, e_first + step * width * class_step, True)
            add_lanes(lanes, lane, total, lost)
            if weigh:
                add_lanes(lanes, weighed, weighed_total, weighed_lost)
            for k in range(lanes):
                lane[k] = 0
                if weigh:
                    weighed[k] = 0
        if floating is double:
            for k in range(lanes):
                total[k] += lost[k]
                if weigh:
                    # Beyond the largest number what is lost is inf - inf.
                    weighed_total[k] += weighed_lost[k] if weighed_total[k] - weighed_total[k] == 0 else 0
        collect(total, group, lanes, width, totals, sums, False)
        if weigh:
            collect(weighed_total, group, lanes, width, weighed_of_rows, weighed_sums, False)
        if apart:
            collect(maxima, group, lanes, width, maxima_of_rows, counts, False)
    if finish != NOTHING:
        write_rest(&left, width, x)
        behind.runs = 0
    if 1 < width < lanes:
        fold_rows(totals, sums, False)
        if weigh:
            fold_rows(weighed_of_rows, weighed_sums, False)
        if apart:
            fold_rows(maxima_of_rows, counts, False)
    for r in range(rows):
        sums[r] = sums[r] * unlift(x) + (m[r] - m[r])  # NaN for an infinite maximum
        if apart:
            sums[r] += counts[r] - 1


cdef inline void weigh_step(Py_ssize_t lanes, const floating* w, const floating* x, const floating* half_shift,
                            bint of_log, bint skip_zeros, double* weight, floating* total) noexcept nogil:
    """Add w to one lane, and half of w * (x - shift) to another, or of w * log(x)."""
    cdef floating half = <floating> 0.5
    cdef floating term
    cdef Py_ssize_t k
    for k in range(lanes):
        if of_log:
            term = half * <floating> log_of(x[k])
        else:
            term = half * x[k] - half_shift[k]  # the difference of two large numbers may be too large
        term = 0 if skip_zeros and w[k] == 0 else w[k] * term
        weight[k] += w[k]
        total[k] += term


cdef inline void weigh_lanes(Py_ssize_t classes, Py_ssize_t rows, Py_ssize_t lanes, Py_ssize_t width,
                             const floating* w, Py_ssize_t w_pitch, Ahead w_ahead,
                             const floating* x, Py_ssize_t x_pitch, Ahead x_ahead,
                             const floating* m, bint of_log, bint skip_zeros,
                             double* weights, double* totals) noexcept nogil:
    """weights = sum(w), totals = sum(w * (x - m)), or of w * log(x); 0 * x counts as 0 with skip_zeros."""
    cdef double weights_of_rows[256]
    cdef double totals_of_rows[256]
    cdef double weight_sum[LANES]
    cdef double weight_lost[LANES]
    cdef double total_sum[LANES]
    cdef double total_lost[LANES]
    cdef double weight[LANES]
    cdef floating total[LANES]
    cdef floating shift[LANES]
    cdef floating half_shift[LANES]
    cdef floating w_part[LANES]
    cdef floating x_part[LANES]
    cdef floating padding[LANES]
    cdef const floating* w_first
    cdef const floating* x_first
    cdef Py_ssize_t class_step = LANES if width == 1 else 1
    cdef Py_ssize_t whole = classes // width
    cdef Py_ssize_t group, first, block, step, r, k
    set_padding(classes, width, padding)
    for group in range((rows - 1) * width // lanes + 1):
        first = group * (lanes // width)
        w_first = w + first * w_pitch
        x_first = x + first * x_pitch
        spread(m + first, rows - first, lanes, width, shift)
        for k in range(lanes):
            weight_sum[k] = 0
            weight_lost[k] = 0
            total_sum[k] = 0
            total_lost[k] = 0
            weight[k] = 0
            total[k] = 0
            half_shift[k] = <floating> 0.5 * shift[k]
        if classes % width != 0:
            prefetch_step(w_ahead, group, whole, lanes * sizeof(floating), False)
            prefetch_step(x_ahead, group, whole, lanes * sizeof(floating), False)
            load_step(w_first + classes - width, w_pitch, rows - first, lanes, width, w_part, False)
            load_step(x_first + classes - width, x_pitch, rows - first, lanes, width, x_part, False)
            for k in range(lanes):
                w_part[k] = 0 if padding[k] < 0 else w_part[k]
                x_part[k] = shift[k] if padding[k] < 0 else x_part[k]
            weigh_step(lanes, w_part, x_part, half_shift, of_log, skip_zeros, weight, total)
        for block in range((whole - 1) // steps_of(w) + 1):
            for step in range(block * steps_of(w), min(whole, (block + 1) * steps_of(w))):
                prefetch_step(w_ahead, group, step, lanes * sizeof(floating), False)
                prefetch_step(x_ahead, group, step, lanes * sizeof(floating), False)
                load_step(w_first + step * width * class_step, w_pitch, rows - first, lanes, width, w_part, True)
                load_step(x_first + step * width * class_step, x_pitch, rows - first, lanes, width, x_part, True)
                weigh_step(lanes, w_part, x_part, half_shift, of_log, skip_zeros, weight, total)
            add_lanes(lanes, total, total_sum, total_lost)
            for k in range(lanes):
                total[k] = 0
            if floating is double:
                add_lanes(lanes, weight, weight_sum, weight_lost)
                for k in range(lanes):
                    weight[k] = 0
        for k in range(lanes):
            if floating is double:
                weight_sum[k] += weight_lost[k]
                # Beyond the largest number what is lost is inf - inf.
                total_sum[k] += total_lost[k] if total_sum[k] - total_sum[k] == 0 else 0
            else:
                weight_sum[k] = weight[k]
        collect(weight_sum, group, lanes, width, weights_of_rows, weights, False)
        collect(total_sum, group, lanes, width, totals_of_rows, totals, False)
    if 1 < width < lanes:
        fold_rows(weights_of_rows, weights, False)
        fold_rows(totals_of_rows, totals, False)
    for r in range(rows):
        totals[r] *= 2


# --- half precision ------------------------------------------------------------------------------------------------
#
# float16 and bfloat16 are computed as float32: widened when rows are brought to a tile, and narrowed on their way back.

cdef inline float widened(Storage storage, uint16_t bits) noexcept nogil:
    cdef uint32_t sign = <uint32_t> (bits & 0x8000) << 16
    cdef uint32_t magnitude = <uint32_t> (bits & 0x7FFF) << 13
    if storage == BFLOAT16:
        return float_from_bits(<uint32_t> bits << 16)
    # The exponent's bias is 112 less; an infinite or NaN one keeps all its bits
    magnitude = (magnitude | 0x7F800000 if magnitude >= 0x0F800000
                 else float_bits(float_from_bits(magnitude) * <float> 5.192296858534828e33))
    return float_from_bits(sign | magnitude)


cdef inline uint16_t narrowed(Storage storage, float x) noexcept nogil:
    """The nearest number, of two the even one."""
    cdef uint32_t bits = float_bits(x)
    cdef uint32_t sign = bits & <uint32_t> 0x80000000
    cdef uint32_t magnitude = bits ^ sign
    cdef uint32_t small, normal
    if storage == BFLOAT16:
        normal = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return <uint16_t> ((bits >> 16) | 0x40 if <int32_t> magnitude > 0x7F800000 else normal)
    # Below the smallest normal number: added to 0.5, whose last bit is what theirs is
    small = float_bits(float_from_bits(magnitude) + <float> 0.5) - 0x3F000000
    # (All without constant branches, which would keep the compiler from making vectors)
    normal = (magnitude + <uint32_t> 0xC8000FFF + ((magnitude >> 13) & 1)) >> 13
    normal = min(normal, <uint32_t> 0x7C00) | (((<uint32_t> 0x7F800000 - magnitude) >> 31) << 9)
    normal = small if <int32_t> magnitude < 0x38800000 else normal
    return <uint16_t> ((sign >> 16) | normal)


cdef void widen(Storage storage, const uint16_t* bits, float* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t blocks = n // AT_ONCE if AT_ONCE > 0 and storage == FLOAT16 else 0
    cdef Py_ssize_t k
    for k in range(blocks):
        widen_at_once(bits + k * AT_ONCE, x + k * AT_ONCE)
    if storage == BFLOAT16:
        for k in range(n):
            x[k] = widened(BFLOAT16, bits[k])
    else:
        for k in range(blocks * AT_ONCE, n):
            x[k] = widened(FLOAT16, bits[k])


cdef void narrow(Storage storage, const float* x, uint16_t* bits, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t blocks = n // AT_ONCE if AT_ONCE > 0 and storage == FLOAT16 else 0
    cdef Py_ssize_t k
    for k in range(blocks):
        narrow_at_once(x + k * AT_ONCE, bits + k * AT_ONCE)
    if storage == BFLOAT16:
        for k in range(n):
            bits[k] = narrowed(BFLOAT16, x[k])
    else:
        for k in range(blocks * AT_ONCE, n):
            bits[k] = narrowed(FLOAT16, x[k])


# --- rows in an array ----------------------------------------------------------------------------------------

cdef struct Rows:
    char* origin                # of the array
    Storage storage
    Py_ssize_t itemsize         # of a number in the array
    Py_ssize_t outer_stride     # in bytes, as all strides here
    Py_ssize_t class_stride
    Py_ssize_t inner_stride
    bint direct                 # used where they are; else from a tile
    bint adjacent               # 64 rows are one block of memory
    bint past_cache             # results are written past the caches
    Py_ssize_t pitch            # numbers from a row to the next, where they are used
    Ahead ahead
    Behind behind


cdef struct Pack:
    Py_ssize_t itemsize
    Py_ssize_t classes
    Py_ssize_t inner
    Py_ssize_t total            # rows of the array
    Py_ssize_t width            # lanes of a row: 1, NARROW or LANES
    bint few                    # only so many rows that NARROW lanes hold them all, or one of them
    Py_ssize_t capacity         # rows of a full pack
    Py_ssize_t lead             # rows by which the first pack is smaller
    Py_ssize_t first            # row of this pack
    Py_ssize_t rows             # in this pack
    void* memory
    char* tile
    char* spare                 # another tile, for transposition, or for results that wait to be written
    bint has_spare
    char* more                  # further tiles
    Py_ssize_t tile_size


cdef inline Pack pack_of(Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, Py_ssize_t itemsize) noexcept nogil:
    """How the rows are computed: it depends on the number of classes, and on whether rows lie side by side."""
    cdef Pack pack
    pack.itemsize = itemsize
    pack.classes = classes
    pack.inner = inner
    pack.total = outer * inner
    if classes <= SHORT or (inner > 1 and classes <= MIDDLING):
        pack.width = 1
        pack.capacity = LANES
    elif classes <= MIDDLING:
        pack.width = NARROW
        pack.capacity = max(4, min(16, PACK_BYTES // (classes * itemsize) // 4 * 4))
    else:
        pack.width = LANES
        pack.capacity = 1 if inner == 1 else NARROW
    pack.few = pack.total <= NARROW if pack.width == 1 else pack.total <= 3 and pack.width == NARROW
    pack.has_spare = pack.width == 1 and inner == 1
    pack.lead = 0
    pack.first = 0
    pack.rows = 0
    pack.memory = NULL
    pack.tile = NULL
    pack.spare = NULL
    pack.more = NULL
    pack.tile_size = (pack.capacity * classes * itemsize + 63) // 64 * 64
    return pack


cdef inline Rows rows_at(const Pack* pack, const void* origin, Py_ssize_t outer_stride, Py_ssize_t class_stride,
                         Py_ssize_t inner_stride, Storage storage, Py_ssize_t itemsize) noexcept nogil:
    cdef Rows rows
    rows.origin = <char*> origin
    rows.storage = storage
    rows.itemsize = itemsize
    rows.outer_stride = outer_stride
    rows.class_stride = class_stride
    rows.inner_stride = inner_stride
    rows.direct = (storage == NATIVE and pack.width > 1 and pack.inner == 1 and class_stride == itemsize
                   and outer_stride % itemsize == 0)
    rows.adjacent = pack.inner == 1 and class_stride == itemsize and outer_stride == pack.classes * itemsize
    rows.past_cache = False
    rows.pitch = outer_stride // itemsize if rows.direct else pack.classes
    rows.ahead.start = rows.origin
    rows.ahead.step = rows.ahead.group = 0
    rows.behind.runs = 0
    rows.behind.finish = COPY
    return rows


cdef inline Rows rows_of(const Pack* pack, const stored[:, :, :] x) noexcept nogil:
    cdef Storage storage = NATIVE
    if stored is uint16_t:
        storage = FLOAT16
    elif stored is int16_t:
        storage = BFLOAT16
    return rows_at(pack, &x[0, 0, 0], x.strides[0], x.strides[1], x.strides[2], storage, sizeof(stored))


cdef inline Pack pack_for(const stored[:, :, :] x) noexcept nogil:
    return pack_of(x.shape[0], x.shape[1], x.shape[2], sizeof(double) if stored is double else sizeof(float))


cdef inline void keep_out_of_cache(Pack* pack, const Rows* x_rows, Rows* rows, Py_ssize_t itemsize) noexcept nogil:
    """Have results written past the caches, if their memory has a form in which this is fast, and is not that of x."""
    cdef Py_ssize_t long_enough = BUS_BOUND if itemsize == 4 else MIDDLING  # that memory, not arithmetic, is the limit
    cdef bint in_blocks = x_rows.direct and rows.adjacent and pack.classes > long_enough
    cdef bint in_columns = pack.width == 1 and pack.inner > 1 and rows.inner_stride == itemsize
    in_columns = in_columns and rows.storage == NATIVE
    if rows.origin == x_rows.origin or not (in_blocks or in_columns):
        return
    pack.few = False
    pack.has_spare = pack.width < LANES
    rows.past_cache = True
    rows.direct = False
    rows.pitch = pack.classes
    if in_columns:
        # Then all packs but the first start with a cache line
        pack.lead = <Py_ssize_t> (<size_t> rows.origin % 64) // itemsize


cdef int allocate(Pack* pack, bint tile, Py_ssize_t more) except -1 nogil:
    """Memory for the tiles that are needed: one (rows of one lane have it always), and so many more."""
    cdef Py_ssize_t size = (1 + pack.has_spare + more) * pack.tile_size
    if tile or more or pack.width == 1:
        pack.memory = PyMem_RawMalloc(size + 64)
        if pack.memory == NULL:
            with gil:
                raise MemoryError(f"no memory for {size} bytes to gather rows of {pack.classes} classes")
        pack.tile = <char*> ((<size_t> pack.memory + 63) // 64 * 64)
        pack.spare = pack.tile + pack.tile_size
        pack.more = pack.spare + (pack.tile_size if pack.has_spare else 0)
    return 0


cdef inline char* tile_of(const Pack* pack, Py_ssize_t number) noexcept nogil:
    return pack.more + number * pack.tile_size


cdef inline void gather_always(const Pack* pack, Rows* rows) noexcept nogil:
    """Have the rows brought to a tile, to be changed there."""
    rows.direct = False
    rows.pitch = pack.classes


cdef inline bint next_pack(Pack* pack) noexcept nogil:
    pack.first += pack.rows
    pack.rows = min(pack.capacity - pack.lead, pack.total - pack.first)
    pack.lead = 0
    return pack.rows > 0


cdef inline void turn_blocks(Py_ssize_t blocks, char* lines, Py_ssize_t stride, floating* rows, Py_ssize_t pitch,
                             bint gather) noexcept nogil:
    """Blocks of 16 lines of 16 numbers, `stride` bytes apart, to 16 rows, or back: transposed in two shuffles."""
    cdef floating block[256]
    cdef floating turned[256]
    cdef Py_ssize_t b, k
    for b in range(blocks):
        for k in range(16):
            if gather:
                copy(<floating*> (lines + k * stride), block + 16 * k, 16)
            else:
                prefetch_to_write(lines + (32 + k) * stride)
                copy(rows + k * pitch, block + 16 * k, 16)
        interleave(block, turned, 64)
        interleave(turned, block, 64)
        for k in range(16):
            if gather:
                copy(block + 16 * k, rows + k * pitch, 16)
            else:
                copy(block + 16 * k, <floating*> (lines + k * stride), 16)
        lines += 16 * stride
        rows += 16


cdef inline void count(const uint8_t* booleans, floating* x, Py_ssize_t n) noexcept nogil:
    """Booleans as 1 and 0."""
    cdef Py_ssize_t k
    for k in range(n):
        x[k] = booleans[k]


cdef inline void copy_run(const Rows* rows, char* number, floating* local, Py_ssize_t n, bint gather) noexcept nogil:
    """n numbers that are neighbours in the array: from there (gather), or back."""
    if rows.storage == NATIVE:
        if gather:
            copy_up_to(n, <const floating*> number, local)
        else:
            copy_up_to(n, local, <floating*> number)
    elif rows.storage == BOOLEAN:
        count(<const uint8_t*> number, local, n)
    elif floating is float:
        if gather:
            widen(rows.storage, <const uint16_t*> number, local, n)
        else:
            narrow(rows.storage, local, <uint16_t*> number, n)


cdef void copy_rows(const Pack* pack, const Rows* rows, floating* tile, Py_ssize_t row_step,
                    Py_ssize_t class_step, bint gather) noexcept nogil:
    """From the array to a tile (gather), or back. In the tile, rows and classes are that many numbers apart."""
    cdef Py_ssize_t t = 0
    cdef Py_ssize_t i, k, run, done, c, j
    cdef char* start
    cdef floating* column
    if rows.adjacent and class_step == 1 and row_step == pack.classes:
        copy_run(rows, rows.origin + pack.first * rows.outer_stride, tile, pack.rows * pack.classes, gather)
        return
    while t < pack.rows:
        i = (pack.first + t) // pack.inner
        k = (pack.first + t) % pack.inner
        run = min(pack.rows - t, pack.inner - k)  # (one row, if rows do not lie side by side)
        start = rows.origin + i * rows.outer_stride + k * rows.inner_stride
        done = 0
        if pack.inner == 1 and class_step == 1 and rows.class_stride == rows.itemsize:
            done = pack.classes
            copy_run(rows, start, tile + t * row_step, pack.classes, gather)
        elif pack.inner == 1 and class_step == 1 and rows.class_stride == 0:  # a mask of rows
            done = pack.classes
            copy_run(rows, start, tile + t * row_step, 1, gather)
            fill(tile[t * row_step], tile + t * row_step, pack.classes)
        elif (run == NARROW and class_step == 1 and rows.inner_stride == sizeof(floating)
              and rows.storage == NATIVE):
            done = pack.classes // 16 * 16
            turn_blocks(pack.classes // 16, start, rows.class_stride, tile + t * row_step, row_step, gather)
        for c in range(done, pack.classes):
            column = tile + t * row_step + c * class_step
            if row_step == 1 and rows.inner_stride == rows.itemsize:
                copy_run(rows, start + c * rows.class_stride, column, run, gather)
            else:
                for j in range(run):
                    copy_run(rows, start + c * rows.class_stride + j * rows.inner_stride, column + j * row_step, 1,
                             gather)
        t += run


cdef inline void aim(const Pack* pack, Rows* rows) noexcept nogil:
    """Where the next pack's rows are, to be prefetched."""
    cdef Py_ssize_t first = pack.first + pack.rows
    cdef Py_ssize_t lanes = lanes_of(<float*> NULL) if pack.itemsize == sizeof(float) else lanes_of(<double*> NULL)
    if pack.inner == 1:
        rows.ahead.step = lanes * rows.itemsize
        rows.ahead.group = steps_in(pack.classes, pack.width) * rows.ahead.step
    else:
        rows.ahead.step = rows.class_stride
        rows.ahead.group = lanes * rows.itemsize
    if first == pack.total:  # what lies behind the array would drive from the cache what is needed
        first = pack.first
        rows.ahead.step = rows.ahead.group = 0
    rows.ahead.start = rows.origin + first // pack.inner * rows.outer_stride + first % pack.inner * rows.inner_stride


cdef const floating* load_rows(const Pack* pack, Rows* rows, floating* tile, floating* spare) noexcept nogil:
    """The pack's rows: where they are, or in the tile, with the classes or (one lane a row) the rows side by side."""
    cdef const floating* source = <const floating*> (rows.origin + pack.first * rows.outer_stride)
    cdef Py_ssize_t quarter = LANES // 4 * pack.classes
    cdef Py_ssize_t n
    aim(pack, rows)
    if rows.direct:
        return source
    if pack.width == 1 and pack.rows < LANES:
        for n in range(LANES * pack.classes):
            tile[n] = 0
            if pack.inner == 1 and not pack.few:
                spare[n] = 0
    if pack.width > 1:
        copy_rows(pack, rows, tile, pack.classes, 1, True)
    elif pack.inner > 1 or pack.few:
        copy_rows(pack, rows, tile, 1, LANES, True)
    else:
        if not rows.adjacent or pack.rows < LANES or rows.storage != NATIVE:
            copy_rows(pack, rows, spare, pack.classes, 1, True)
            source = spare
        # Three times four rows from each quarter: the transpose of 64 rows.
        interleave(source, tile, quarter)
        interleave(tile, spare, quarter)
        interleave(spare, tile, quarter)
    return tile


cdef inline floating* result_rows(const Pack* pack, Rows* rows, floating* tile) noexcept nogil:
    """Where the pack's results are to be written: in the array itself, or in the tile."""
    aim(pack, rows)
    return <floating*> (rows.origin + pack.first * rows.outer_stride) if rows.direct else tile


cdef inline void finish_later(Rows* rows, Finish finish, double a, double b) noexcept nogil:
    """Have the numbers of a long row finished when they are written."""
    rows.behind.finish = finish
    rows.behind.a = a
    rows.behind.b = b


cdef void leave_behind(Pack* pack, Rows* rows, const floating* results) noexcept nogil:
    """Have the results written while the next pack is computed: another tile takes the place of theirs."""
    cdef Py_ssize_t inner_first = pack.first % pack.inner
    cdef Py_ssize_t size = pack.rows * pack.classes
    cdef Py_ssize_t lanes = lanes_of(results)
    cdef Behind* behind = &rows.behind
    cdef floating* target
    cdef Py_ssize_t head, body
    behind.target = rows.origin + pack.first // pack.inner * rows.outer_stride + inner_first * rows.inner_stride
    behind.source = <const char*> results
    if pack.width == 1:
        behind.run = pack.rows * sizeof(floating)
        behind.runs = pack.classes
        behind.target_step = rows.class_stride
        behind.source_step = LANES * sizeof(floating)
    else:
        # One block: runs are whole cache lines, and what is left on both sides is written now. At the end that are
        # a step's at least, because the next row's cut step comes first.
        target = <floating*> behind.target
        head = min(size, (-<Py_ssize_t> target & 63) // <Py_ssize_t> sizeof(floating))
        behind.run = behind.target_step = behind.source_step = lanes * sizeof(floating)
        behind.runs = max(0, size - head - lanes) // lanes
        body = behind.runs * lanes
        finish(behind, behind.finish, results, target, head)
        finish(behind, behind.finish, results + head + body, target + head + body, size - head - body)
        behind.target = <char*> (target + head)
        behind.source = <const char*> (results + head)
    if pack.width < LANES:
        # (A long row is written ahead of the exponentials that replace it.)
        pack.tile, pack.spare = pack.spare, pack.tile


cdef inline void finish_rows(const Pack* pack, Rows* rows, const floating* kind) noexcept nogil:
    """Write what is left."""
    if rows.past_cache:
        if pack.width == 1:
            write_rest(&rows.behind, 1, kind)
        else:
            write_rest(&rows.behind, LANES, kind)
        finish_writing()


cdef void store_rows(Pack* pack, Rows* rows, floating* tile, floating* spare) noexcept nogil:
    """The pack's results, from the tile to the array."""
    cdef Py_ssize_t quarter = LANES // 4 * pack.classes
    if rows.direct:
        return
    if rows.past_cache and (pack.inner == 1 or pack.first % pack.inner + pack.rows <= pack.inner):
        leave_behind(pack, rows, tile)
        return
    if pack.width > 1:
        copy_rows(pack, rows, tile, pack.classes, 1, False)
    elif pack.inner > 1 or pack.few:
        copy_rows(pack, rows, tile, 1, LANES, False)
    else:
        deinterleave(tile, spare, quarter)
        deinterleave(spare, tile, quarter)
        if rows.adjacent and pack.rows == LANES and rows.storage == NATIVE:
            deinterleave(tile, <floating*> (rows.origin + pack.first * rows.outer_stride), quarter)
        else:
            deinterleave(tile, spare, quarter)
            copy_rows(pack, rows, spare, pack.classes, 1, False)


cdef inline Rows mask_of(const Pack* pack, const uint8_t[:, :, :] mask) noexcept nogil:
    return rows_at(pack, &mask[0, 0, 0], mask.strides[0], mask.strides[1], mask.strides[2], BOOLEAN, 1)


cdef const floating* hide_rows(const Pack* pack, Rows* mask_rows, floating* mask, floating* x) noexcept nogil:
    """In a tile x = -inf where the mask is not set; returns the mask, in another."""
    cdef const floating* chosen = load_rows(pack, mask_rows, mask, <floating*> pack.spare)
    cdef Py_ssize_t k
    for k in range(pack.classes * (LANES if pack.width == 1 else pack.rows)):
        x[k] = x[k] if chosen[k] != 0 else -INFINITY
    return chosen


cdef inline Py_ssize_t place_of(const Pack* pack, const Rows* rows, Py_ssize_t row, Py_ssize_t c) noexcept nogil:
    """Where class c of a row of the pack is, counted from the pack's first number."""
    return c * LANES + row if pack.width == 1 else row * rows.pitch + c


# --- a pack of rows --------------------------------------------------------------------------------------------

cdef void max_rows(const Pack* pack, const Rows* rows, const floating* x, floating* m) noexcept nogil:
    if pack.width == 1:
        if pack.few:
            max_lanes(pack.classes, NARROW, NARROW, 1, x, 1, m)
        else:
            max_lanes(pack.classes, LANES, LANES, 1, x, 1, m)
    elif pack.width == NARROW:
        if pack.few:
            max_lanes(pack.classes, pack.rows, NARROW, NARROW, x, rows.pitch, m)
        else:
            max_lanes(pack.classes, pack.rows, LANES, NARROW, x, rows.pitch, m)
    else:
        max_lanes(pack.classes, pack.rows, LANES, LANES, x, rows.pitch, m)


cdef void level_empty_rows(const Pack* pack, const Rows* mask_rows, const floating* mask, floating* m) noexcept nogil:
    """m = 0 for rows of which the mask leaves nothing, so that their exponentials, and the sum of these, are 0."""
    cdef Py_ssize_t r, c
    for r in range(pack.rows):
        if m[r] == -INFINITY:
            m[r] = 0
            for c in range(pack.classes):
                if mask[place_of(pack, mask_rows, r, c)] != 0:
                    m[r] = -INFINITY


cdef inline void exp_rows(const Pack* pack, const Rows* x_rows, const floating* x, const floating* m, Rows* e_rows,
                          floating* e, Finish finish, bint keep, bint apart, double* sums,
                          bint weigh, const floating* w, double* weighed) noexcept nogil:
    if pack.width == 1:
        if pack.few and finish == NOTHING:
            exp_lanes(pack.classes, NARROW, NARROW, 1, x, 1, x_rows.ahead, m, e, 1, e_rows.ahead, &e_rows.behind,
                      finish, keep, apart, sums, weigh, w, weighed)
        else:
            exp_lanes(pack.classes, LANES, lanes_of(x), 1, x, 1, x_rows.ahead, m, e, 1, e_rows.ahead, &e_rows.behind,
                      finish, keep, apart, sums, weigh, w, weighed)
    elif pack.width == NARROW:
        if pack.few and finish == NOTHING:
            exp_lanes(pack.classes, pack.rows, NARROW, NARROW, x, x_rows.pitch, x_rows.ahead, m,
                      e, e_rows.pitch, e_rows.ahead, &e_rows.behind, finish, keep, apart, sums, weigh, w, weighed)
        else:
            exp_lanes(pack.classes, pack.rows, lanes_of(x), NARROW, x, x_rows.pitch, x_rows.ahead, m,
                      e, e_rows.pitch, e_rows.ahead, &e_rows.behind, finish, keep, apart, sums, weigh, w, weighed)
    else:
        exp_lanes(pack.classes, pack.rows, lanes_of(x), lanes_of(x), x, x_rows.pitch, x_rows.ahead, m,
                  e, e_rows.pitch, e_rows.ahead, &e_rows.behind, finish, keep, apart, sums, weigh, w, weighed)


cdef void exp_and_sum(const Pack* pack, const Rows* x_rows, const floating* x, const floating* m,
                      Rows* e_rows, floating* e, double* sums) noexcept nogil:
    """e = exp(x - m), lifted, and sums = sum(exp(x - m))."""
    if e_rows.past_cache:
        exp_rows(pack, x_rows, x, m, e_rows, e, SCALE, True, False, sums, False, <floating*> NULL, NULL)
    else:
        exp_rows(pack, x_rows, x, m, e_rows, e, NOTHING, True, False, sums, False, <floating*> NULL, NULL)


cdef void exp_and_rest(const Pack* pack, const Rows* x_rows, const floating* x, const floating* m,
                       Rows* e_rows, floating* e, double* rest, const floating* w, double* weighed) noexcept nogil:
    """e = exp(x - m), lifted, and rest = sum(exp(x - m)) - 1; weighed = sum(w * (x - m)), if w is not NULL."""
    if e_rows.past_cache and w != NULL:
        exp_rows(pack, x_rows, x, m, e_rows, e, COPY, True, True, rest, True, w, weighed)
    elif e_rows.past_cache:
        exp_rows(pack, x_rows, x, m, e_rows, e, COPY, True, True, rest, False, w, weighed)
    elif w != NULL:
        exp_rows(pack, x_rows, x, m, e_rows, e, NOTHING, True, True, rest, True, w, weighed)
    else:
        exp_rows(pack, x_rows, x, m, e_rows, e, NOTHING, True, True, rest, False, w, weighed)


cdef void rest_of(const Pack* pack, const Rows* x_rows, const floating* x, const floating* m,
                  Rows* out_rows, double* rest, const floating* w, double* weighed) noexcept nogil:
    """rest = sum(exp(x - m)) - 1, and weighed as above. Results will be written to `out_rows`, which may be NULL."""
    cdef Rows no_rows
    if out_rows != NULL and out_rows.past_cache:
        exp_rows(pack, x_rows, x, m, out_rows, <floating*> NULL, SHIFT, False, True, rest, False, w, weighed)
        return
    if out_rows == NULL:
        no_rows.pitch = 0
        no_rows.ahead.start = NULL
        no_rows.ahead.step = no_rows.ahead.group = 0
        out_rows = &no_rows
    if w != NULL:
        exp_rows(pack, x_rows, x, m, out_rows, <floating*> NULL, NOTHING, False, True, rest, True, w, weighed)
    else:
        exp_rows(pack, x_rows, x, m, out_rows, <floating*> NULL, NOTHING, False, True, rest, False, w, weighed)


cdef inline void weigh_rows(const Pack* pack, const Rows* w_rows, const floating* w, const Rows* x_rows,
                            const floating* x, const floating* m, bint of_log, bint skip_zeros,
                            double* weights, double* totals) noexcept nogil:
    if pack.width == 1:
        if pack.few:
            weigh_lanes(pack.classes, NARROW, NARROW, 1, w, 1, w_rows.ahead, x, 1, x_rows.ahead, m,
                        of_log, skip_zeros, weights, totals)
        else:
            weigh_lanes(pack.classes, LANES, lanes_of(x), 1, w, 1, w_rows.ahead, x, 1, x_rows.ahead, m,
                        of_log, skip_zeros, weights, totals)
    elif pack.width == NARROW:
        if pack.few:
            weigh_lanes(pack.classes, pack.rows, NARROW, NARROW, w, w_rows.pitch, w_rows.ahead,
                        x, x_rows.pitch, x_rows.ahead, m, of_log, skip_zeros, weights, totals)
        else:
            weigh_lanes(pack.classes, pack.rows, lanes_of(x), NARROW, w, w_rows.pitch, w_rows.ahead,
                        x, x_rows.pitch, x_rows.ahead, m, of_log, skip_zeros, weights, totals)
    else:
        weigh_lanes(pack.classes, pack.rows, lanes_of(x), lanes_of(x), w, w_rows.pitch, w_rows.ahead,
                    x, x_rows.pitch, x_rows.ahead, m, of_log, skip_zeros, weights, totals)


cdef void weigh_products(const Pack* pack, const Rows* w_rows, const floating* w, const Rows* x_rows,
                         const floating* x, double* weights, double* totals) noexcept nogil:
    """weights = sum(w), totals = sum(w * x)."""
    cdef floating unshifted[LANES]
    fill(0, unshifted, LANES)
    weigh_rows(pack, w_rows, w, x_rows, x, unshifted, False, False, weights, totals)


cdef void weigh_differences(const Pack* pack, const Rows* w_rows, const floating* w, const Rows* x_rows,
                            const floating* x, const floating* m, double* weights, double* totals) noexcept nogil:
    """weights = sum(w), totals = sum(w * (x - m)); 0 * (x - m) counts as 0."""
    weigh_rows(pack, w_rows, w, x_rows, x, m, False, True, weights, totals)


cdef void weigh_logs(const Pack* pack, const Rows* w_rows, const floating* w, const Rows* x_rows,
                     const floating* x, double* weights, double* totals) noexcept nogil:
    """weights = sum(w), totals = sum(w * log(x)); 0 * log(x) counts as 0."""
    cdef floating unshifted[LANES]
    fill(0, unshifted, LANES)
    weigh_rows(pack, w_rows, w, x_rows, x, unshifted, True, True, weights, totals)


# --- numbers in lines -----------------------------------------------------------------------------------------
#
# A line is one class of 64 rows, where rows are columns of a tile, or one row.

cdef inline void scale_lines(Py_ssize_t lines, Py_ssize_t length, bint columns, floating* e, Py_ssize_t e_pitch,
                             const floating* a) noexcept nogil:
    cdef floating unlifted = <floating> unlift(e)  # not in one factor with a, which may be small itself
    cdef Py_ssize_t line, k
    for line in range(lines):
        for k in range(length):
            e[line * e_pitch + k] = (a[k] if columns else a[line]) * (unlifted * e[line * e_pitch + k])


cdef void scale_rows(const Pack* pack, const Rows* rows, floating* e, const floating* a) noexcept nogil:
    """e = a * e, e lifted before."""
    if pack.width == 1:
        scale_lines(pack.classes, LANES, True, e, LANES, a)
    else:
        scale_lines(pack.rows, pack.classes, False, e, rows.pitch, a)


cdef inline void subtract_lines(Py_ssize_t lines, Py_ssize_t length, bint columns, floating* e, Py_ssize_t e_pitch,
                                const floating* a, const floating* t, Py_ssize_t t_pitch, const floating* b,
                                bint with_top, const floating* top, const floating* near,
                                const floating* others) noexcept nogil:
    cdef floating unlifted = <floating> unlift(e)
    cdef floating line_a, line_b, line_top, line_near, line_others, exponential, target
    cdef Py_ssize_t line, k
    for line in range(lines):
        line_a, line_b = a[0 if columns else line], b[0 if columns else line]
        if with_top:
            line_top = top[0 if columns else line]
            line_near = near[0 if columns else line]
            line_others = others[0 if columns else line]
        for k in range(length):
            if columns:
                line_a, line_b = a[k], b[k]
                if with_top:
                    line_top, line_near, line_others = top[k], near[k], others[k]
            exponential = e[line * e_pitch + k]
            target = t[line * t_pitch + k]
            e[line * e_pitch + k] = line_a * (unlifted * exponential) - line_b * target
            if with_top:
                e[line * e_pitch + k] = (line_b * ((line_near - target) + line_others) if exponential == line_top
                                         else e[line * e_pitch + k])


cdef inline void scale_and_subtract(const Pack* pack, const Rows* rows, floating* e, const floating* a,
                                    const Rows* t_rows, const floating* t, const floating* b, bint with_top,
                                    const floating* top, const floating* near, const floating* others) noexcept nogil:
    if pack.width == 1:
        subtract_lines(pack.classes, LANES, True, e, LANES, a, t, LANES, b, with_top, top, near, others)
    else:
        subtract_lines(pack.rows, pack.classes, False, e, rows.pitch, a, t, t_rows.pitch, b,
                       with_top, top, near, others)


cdef void subtract_classes(const Pack* pack, const Rows* rows, floating* e, const floating* a,
                           const Rows* w_rows, const floating* w, const floating* b) noexcept nogil:
    """e = a * e - b * w, e lifted before, w the same in every row."""
    scale_and_subtract(pack, rows, e, a, w_rows, w, b, False, <floating*> NULL, <floating*> NULL, <floating*> NULL)


cdef void subtract_targets(const Pack* pack, const Rows* rows, floating* e, const floating* a,
                           const Rows* t_rows, const floating* t, const floating* b,
                           const floating* top, const floating* near, const floating* others) noexcept nogil:
    """e = a * e - b * t, e lifted before; b * ((near - t) + others) where e = top."""
    scale_and_subtract(pack, rows, e, a, t_rows, t, b, True, top, near, others)


cdef inline void blend_lines(Py_ssize_t lines, Py_ssize_t length, floating* q, Py_ssize_t q_pitch,
                             const floating* w, Py_ssize_t w_pitch, floating kept, floating uniform) noexcept nogil:
    cdef Py_ssize_t line, k
    for line in range(lines):
        for k in range(length):
            q[line * q_pitch + k] = w[line * w_pitch + k] * (kept * q[line * q_pitch + k] + uniform)


cdef void blend_rows(const Pack* pack, const Rows* q_rows, floating* q, const Rows* w_rows, const floating* w,
                     double smoothing) noexcept nogil:
    """q = w * ((1 - smoothing) * q + smoothing / classes)."""
    cdef floating kept = <floating> (1 - smoothing)
    cdef floating uniform = <floating> (smoothing / pack.classes)
    if pack.width == 1:
        blend_lines(pack.classes, LANES, q, LANES, w, LANES, kept, uniform)
    else:
        blend_lines(pack.rows, pack.classes, q, q_rows.pitch, w, w_rows.pitch, kept, uniform)


cdef inline void multiply_lines(Py_ssize_t lines, Py_ssize_t length, floating* x, Py_ssize_t x_pitch,
                                const floating* y, Py_ssize_t y_pitch) noexcept nogil:
    cdef Py_ssize_t line, k
    for line in range(lines):
        for k in range(length):
            x[line * x_pitch + k] = x[line * x_pitch + k] * y[line * y_pitch + k]


cdef void multiply_rows(const Pack* pack, const Rows* x_rows, floating* x, const floating* y) noexcept nogil:
    """x = x * y, y in a tile."""
    if pack.width == 1:
        multiply_lines(pack.classes, LANES, x, LANES, y, LANES)
    else:
        multiply_lines(pack.rows, pack.classes, x, x_rows.pitch, y, pack.classes)


cdef inline void curve_lines(Py_ssize_t lines, Py_ssize_t length, bint columns, const floating* e, Py_ssize_t e_pitch,
                             const floating* rest, const floating* a,
                             floating* out, Py_ssize_t out_pitch) noexcept nogil:
    cdef floating unlifted = <floating> unlift(e)
    cdef floating top = 1 / unlifted
    cdef floating line_rest, line_a, share, p, others
    cdef Py_ssize_t line, k
    for line in range(lines):
        line_rest = rest[0 if columns else line]
        line_a = a[0 if columns else line]
        for k in range(length):
            if columns:
                line_rest, line_a = rest[k], a[k]
            share = 1 / (1 + line_rest)
            p = share * (unlifted * e[line * e_pitch + k])
            others = line_rest * share if e[line * e_pitch + k] == top else 1 - p
            out[line * out_pitch + k] = line_a * (p * others)


cdef void curve_rows(const Pack* pack, const Rows* e_rows, const floating* e, const floating* rest, const floating* a,
                     const Rows* out_rows, floating* out) noexcept nogil:
    """out = a * p * (1 - p), e the exponentials, lifted; the maximum's 1 - p from the rest."""
    if pack.width == 1:
        curve_lines(pack.classes, LANES, True, e, LANES, rest, a, out, LANES)
    else:
        curve_lines(pack.rows, pack.classes, False, e, e_rows.pitch, rest, a, out, out_rows.pitch)


cdef inline void shift_lines(Py_ssize_t lines, Py_ssize_t length, bint columns, const floating* x, Py_ssize_t x_pitch,
                             const floating* m, const floating* log_sum,
                             floating* out, Py_ssize_t out_pitch) noexcept nogil:
    cdef floating line_m, line_log_sum
    cdef Py_ssize_t line, k
    for line in range(lines):
        line_m = m[0 if columns else line]
        line_log_sum = log_sum[0 if columns else line]
        for k in range(length):
            out[line * out_pitch + k] = ((x[line * x_pitch + k] - (m[k] if columns else line_m))
                                         - (log_sum[k] if columns else line_log_sum))


cdef void shift_rows(const Pack* pack, const Rows* x_rows, const floating* x, const floating* m,
                     const floating* log_sum, const Rows* out_rows, floating* out) noexcept nogil:
    """out = (x - m) - log_sum."""
    if pack.width == 1:
        shift_lines(pack.classes, LANES, True, out, LANES, m, log_sum, out, LANES)  # in the tile, where x is
    elif x == out:
        shift_lines(pack.rows, pack.classes, False, out, out_rows.pitch, m, log_sum, out, out_rows.pitch)
    else:
        shift_lines(pack.rows, pack.classes, False, x, x_rows.pitch, m, log_sum, out, out_rows.pitch)


# Here what is read and what is written may be the same memory. The compiler cannot know that this is safe, so LANES
# numbers at a time are computed in local memory.

ctypedef enum Formula:
    TIMES_DIFFERENCE    # y * (x - a)
    LESS_EXP            # x - exp(y) * a
    MINUS_QUOTIENT      # -x / (y * a), and 0 where x is


cdef inline void compute_lines(Formula formula, Py_ssize_t lines, Py_ssize_t length, bint columns,
                               const floating* x, Py_ssize_t x_pitch, const floating* y, Py_ssize_t y_pitch,
                               const double* a, floating* out, Py_ssize_t out_pitch) noexcept nogil:
    cdef floating x_part[LANES]
    cdef floating y_part[LANES]
    cdef Py_ssize_t line, start, n, r, k
    for line in range(lines):
        for start in range(0, length, 64):  # LANES
            n = min(<Py_ssize_t> LANES, length - start)
            copy_up_to(n, x + line * x_pitch + start, x_part)
            copy_up_to(n, y + line * y_pitch + start, y_part)
            for k in range(LANES):
                r = k if columns else line
                if formula == TIMES_DIFFERENCE:
                    x_part[k] = <floating> (y_part[k] * (<double> x_part[k] - a[r]))
                elif formula == LESS_EXP:
                    x_part[k] = <floating> (x_part[k] - exp_any(y_part[k]) * a[r])
                else:
                    x_part[k] = <floating> (-<double> x_part[k] / (y_part[k] * a[r])) if x_part[k] != 0 else 0
            copy_up_to(n, x_part, out + line * out_pitch + start)


cdef inline void compute_rows(Formula formula, const Pack* pack, const Rows* x_rows, const floating* x,
                              const Rows* y_rows, const floating* y, const double* a,
                              const Rows* out_rows, floating* out) noexcept nogil:
    """out = formula(x, y, a), with a number a for each row."""
    if pack.width == 1:
        compute_lines(formula, pack.classes, LANES, True, x, LANES, y, LANES, a, out, LANES)
    else:
        compute_lines(formula, pack.rows, pack.classes, False, x, x_rows.pitch, y, y_rows.pitch, a,
                      out, out_rows.pitch)


# --- softcap and temperature -----------------------------------------------------------------------------------

cdef struct Cap:
    double cap              # x = cap * tanh(u / (temperature * cap)); x = u / temperature if it is 0
    double temperature


cdef inline double capped(const Cap* cap, double u) noexcept nogil:
    """x, from u."""
    cdef double e
    if cap.cap == 0:
        return u / cap.temperature
    e = exp_less(-2 * abs(u) / (cap.temperature * cap.cap), 0, 1)
    return (cap.cap if u < 0 else -cap.cap) * (e / (2 + e))


cdef inline void divide_lines(double divisor, Py_ssize_t lines, Py_ssize_t length, bint columns, floating* u,
                              const floating* top) noexcept nogil:
    cdef double quotient = 1 / divisor
    cdef floating factor = <floating> quotient
    cdef floating rest = <floating> (quotient - factor)  # what rounding to float32 took from it
    cdef floating difference
    cdef Py_ssize_t line, k
    for line in range(lines):
        for k in range(length):
            difference = u[line * length + k] - (top[k] if columns else top[line])
            # (An infinite difference has no rest)
            u[line * length + k] = difference * factor + (0 if difference - difference != 0 else difference * rest)


cdef inline void cap_lines(const Cap* cap, Py_ssize_t lines, Py_ssize_t length, bint columns, floating* u,
                           const floating* top, const floating* scale, const floating* below,
                           floating* slope) noexcept nogil:
    """With v = u / (temperature * cap), tanh(v_m) - tanh(v) = sinh(v_m - v) / (cosh(v_m) cosh(v)): a small difference
    of two large logits is not lost to the rounding of their tanh. All is written with exponentials of what is negative.
    """
    cdef floating rate = <floating> (-2 / (cap.temperature * cap.cap))
    cdef floating steepest = <floating> (4 / cap.temperature)
    cdef floating line_top, line_scale, line_below, number, e, share, difference
    cdef Py_ssize_t line, k
    for line in range(lines):
        line_top = top[0 if columns else line]
        line_scale = scale[0 if columns else line]
        line_below = below[0 if columns else line]
        for k in range(length):
            if columns:
                line_top, line_scale, line_below = top[k], scale[k], below[k]
            number = u[line * length + k]
            e = exp_lifted(rate * abs(number), 0)
            difference = exp_less(rate * (line_top - number), 0, <floating> 1)
            share = 1 / (1 + e)
            slope[line * length + k] = steepest * (e * (share * share))
            difference = line_scale * difference * ((e if number > 0 else line_below) * share)
            u[line * length + k] = difference if number != line_top else 0


cdef void cap_rows(const Pack* pack, const Cap* cap, floating* u, floating* m, double* top,
                   floating* slope) noexcept nogil:
    """In a tile u = x - x_m, so that m = 0; top = x_m; slope = dx/du, in another tile, if there is a cap."""
    cdef floating m_of_u[LANES]
    cdef floating scale[LANES]
    cdef floating below[LANES]
    cdef double e_top
    cdef Py_ssize_t r
    for r in range(LANES):
        m_of_u[r] = m[r] if r < pack.rows else 0
        m[r] = 0
        top[r] = capped(cap, m_of_u[r])
        if cap.cap != 0:
            e_top = exp_lifted(-2 * abs(<double> m_of_u[r]) / (cap.temperature * cap.cap), 0)
            scale[r] = <floating> (2 * cap.cap / (1 + e_top))
            below[r] = <floating> (1 if m_of_u[r] > 0 else e_top)
    if cap.cap == 0 and pack.width == 1:
        divide_lines(cap.temperature, pack.classes, LANES, True, u, m_of_u)
    elif cap.cap == 0:
        divide_lines(cap.temperature, pack.rows, pack.classes, False, u, m_of_u)
    elif pack.width == 1:
        cap_lines(cap, pack.classes, LANES, True, u, m_of_u, scale, below, slope)
    else:
        cap_lines(cap, pack.rows, pack.classes, False, u, m_of_u, scale, below, slope)


# --- one number for each row -----------------------------------------------------------------------------------

cdef struct RowValues:
    char* origin                # of the array; NULL if there is none
    Py_ssize_t outer_stride
    Py_ssize_t inner_stride


cdef struct Loss:
    # What is given; where it is not, the origin is NULL
    RowValues labels        # class indices, or
    Rows target             # class probabilities
    Rows class_weights
    RowValues row_weights
    bint ignoring
    int64_t ignored         # the label of rows that do not count
    double smoothing
    double z
    Cap cap
    double divisor          # of the sum of the losses, and of the gradient
    double z_divisor        # of the sum of the z terms
    # What is wanted, beside the sum
    RowValues losses
    RowValues lse


cdef inline RowValues values_at(const void* origin, Py_ssize_t outer_stride, Py_ssize_t inner_stride) noexcept nogil:
    cdef RowValues values
    values.origin = <char*> origin
    values.outer_stride = outer_stride
    values.inner_stride = inner_stride
    return values


cdef inline RowValues labels_of(const int64_t[:, :] labels) noexcept nogil:
    if labels is None:
        return values_at(NULL, 0, 0)
    return values_at(&labels[0, 0], labels.strides[0], labels.strides[1])


cdef inline RowValues values_of(const floating[:, :] values) noexcept nogil:
    if values is None:
        return values_at(NULL, 0, 0)
    return values_at(&values[0, 0], values.strides[0], values.strides[1])


cdef inline bint in_one_run(const Pack* pack, const RowValues* values, Py_ssize_t itemsize) noexcept nogil:
    """Whether the values for the rows of the pack are neighbours in memory."""
    if pack.inner == 1:
        return values.outer_stride == itemsize
    return values.inner_stride == itemsize and pack.first % pack.inner + pack.rows <= pack.inner


cdef inline char* value_at(const Pack* pack, const RowValues* values, Py_ssize_t row) noexcept nogil:
    """Where the value for a row of the array is."""
    return values.origin + row // pack.inner * values.outer_stride + row % pack.inner * values.inner_stride


cdef inline void take_labels(const Pack* pack, const RowValues* labels, int64_t* label) noexcept nogil:
    cdef const int64_t* run = <const int64_t*> value_at(pack, labels, pack.first)
    cdef Py_ssize_t r
    if in_one_run(pack, labels, sizeof(int64_t)):
        for r in range(pack.rows):
            label[r] = run[r]
    else:
        for r in range(pack.rows):
            label[r] = (<const int64_t*> value_at(pack, labels, pack.first + r))[0]


cdef void take_at_labels(const Pack* pack, const Rows* rows, const floating* x, const int64_t* label,
                         floating* at_label) noexcept nogil:
    """at_label = the number of each row at its label."""
    cdef floating wanted[LANES]
    cdef Py_ssize_t r, c
    if pack.width == 1 and not pack.few:  # comparing all classes is faster than to jump about in the tile
        for r in range(LANES):
            wanted[r] = <floating> label[r]
            at_label[r] = 0
        for c in range(pack.classes):
            for r in range(LANES):
                at_label[r] = x[c * LANES + r] if wanted[r] == c else at_label[r]
    else:
        for r in range(pack.rows):
            at_label[r] = x[place_of(pack, rows, r, label[r])]


cdef void put_at_labels(const Pack* pack, const Rows* rows, const int64_t* label, const floating* at_label,
                        floating* x) noexcept nogil:
    """The inverse: x at the labels = at_label."""
    cdef floating wanted[LANES]
    cdef floating number[LANES]
    cdef Py_ssize_t r, c
    if pack.width == 1 and not pack.few:
        for r in range(LANES):
            wanted[r] = <floating> label[r]
            number[r] = at_label[r]
        for c in range(pack.classes):
            for r in range(LANES):
                x[c * LANES + r] = number[r] if wanted[r] == c else x[c * LANES + r]
    else:
        for r in range(pack.rows):
            x[place_of(pack, rows, r, label[r])] = at_label[r]


cdef inline void take_row_weights(const Pack* pack, const Loss* loss, double* weight,
                                  const floating* kind) noexcept nogil:
    """The weights of the pack's rows, if there are any, in place of ones."""
    cdef const floating* run = <const floating*> value_at(pack, &loss.row_weights, pack.first)
    cdef Py_ssize_t r
    if loss.row_weights.origin == NULL:
        for r in range(LANES if loss.ignoring else 0):
            weight[r] = 1
    elif in_one_run(pack, &loss.row_weights, sizeof(floating)):
        for r in range(pack.rows):
            weight[r] = run[r]
    else:
        for r in range(pack.rows):
            weight[r] = (<const floating*> value_at(pack, &loss.row_weights, pack.first + r))[0]


cdef double sum_of_weights(const Rows* class_weights, Py_ssize_t classes, const floating* kind) noexcept nogil:
    cdef const floating* w = <const floating*> class_weights.origin
    cdef double total[16]
    cdef double lost[16]
    cdef Py_ssize_t whole = classes // 16 * 16
    cdef Py_ssize_t c, k
    fill(0, total, 16)
    fill(0, lost, 16)
    for c in range(0, whole, 16):
        add_lanes(16, w + c, total, lost)
    for k in range(classes - whole):
        add_lanes(1, w + whole + k, total + k, lost + k)
    for k in range(16):
        total[k] += lost[k]
    return fold_row(total, NARROW, False)


cdef const floating* class_weights_of(const Pack* pack, Rows* rows, floating* tile) noexcept nogil:
    """A row of class weights, as all rows of a pack have it: in columns of a tile, or at no distance from another."""
    cdef const floating* w = <const floating*> rows.origin
    cdef Py_ssize_t c
    rows.pitch = 0
    rows.ahead.start = rows.origin
    rows.ahead.step = rows.ahead.group = 0
    if pack.width > 1:
        return w
    for c in range(pack.classes):
        fill(w[c], tile + c * LANES, LANES)
    return tile


cdef inline void leave_out_ignored(const Pack* pack, const Loss* loss, int64_t* label,
                                   double* row_weight) noexcept nogil:
    """The weight of ignored rows is 0; in place of their label stands one that can be an index."""
    cdef int64_t counts
    cdef Py_ssize_t r
    for r in range(pack.rows if loss.ignoring else 0):
        counts = label[r] != loss.ignored
        row_weight[r] *= counts
        label[r] &= -counts


cdef void clear_rows(const Pack* pack, const Rows* rows, const double* row_weight, floating* x) noexcept nogil:
    """x = 0 in the rows that do not count, whatever is there."""
    cdef floating counts[LANES]
    cdef int some = False
    cdef Py_ssize_t r, c
    for r in range(pack.rows):
        some |= row_weight[r] == 0
    if not some:
        return
    if pack.width == 1:
        for r in range(LANES):
            counts[r] = <floating> row_weight[r]
        for c in range(pack.classes):
            for r in range(LANES):
                x[c * LANES + r] = x[c * LANES + r] if counts[r] != 0 else 0
        return
    for r in range(pack.rows):
        if row_weight[r] == 0:
            for c in range(pack.classes):
                x[place_of(pack, rows, r, c)] = 0


cdef inline void put_rows(const Pack* pack, const RowValues* out, const double* results,
                          const floating* kind) noexcept nogil:
    cdef floating* run = <floating*> value_at(pack, out, pack.first)
    cdef Py_ssize_t r
    if in_one_run(pack, out, sizeof(floating)):
        for r in range(pack.rows):
            run[r] = <floating> results[r]
    else:
        for r in range(pack.rows):
            (<floating*> value_at(pack, out, pack.first + r))[0] = <floating> results[r]


cdef struct Total:
    double value[64]    # the sums of the losses of every LANES-th row
    double lost[64]


cdef inline void add_terms(const double* loss, Py_ssize_t n, double* value, double* lost) noexcept nogil:
    cdef double sum, added
    cdef Py_ssize_t r
    for r in range(n):
        sum = value[r] + loss[r]
        added = sum - value[r]
        lost[r] += (value[r] - (sum - added)) + (loss[r] - added)
        value[r] = sum


cdef inline void add_losses(const Pack* pack, const double* loss, Total* total) noexcept nogil:
    """To the sums that the rows' numbers say: where packs begin depends on the memory."""
    cdef Py_ssize_t lane = pack.first % LANES
    cdef Py_ssize_t n = min(pack.rows, LANES - lane)
    add_terms(loss, n, total.value + lane, total.lost + lane)
    add_terms(loss + n, pack.rows - n, total.value, total.lost)


cdef inline double sum_of(const Pack* pack, const Total* total) noexcept nogil:
    cdef Sum all_rows = [0, 0]
    cdef Py_ssize_t r
    for r in range(min(<Py_ssize_t> LANES, pack.total)):
        add(&all_rows, total.value[r])
        if total.value[r] - total.value[r] == 0:  # beyond the largest number, what is lost is inf - inf
            all_rows.error += total.lost[r]
    return value_of(all_rows)


# --- the kernels -----------------------------------------------------------------------------------------------
#
# `kind` is a pointer, of which only the type matters: that of the numbers.

cdef int run_softmax(Pack* pack, Rows* x_rows, Rows* mask_rows, Rows* out_rows, bint past_cache,
                     const floating* kind) except -1 nogil:
    """out = exp(x - m) / sum(exp(x - m)), m the maximum of the row."""
    cdef const floating* logits
    cdef const floating* mask
    cdef floating* p
    cdef floating m[LANES]
    cdef floating factor[LANES]
    cdef double sums[LANES]
    cdef Py_ssize_t r
    if mask_rows != NULL:
        gather_always(pack, x_rows)
    if past_cache:
        keep_out_of_cache(pack, x_rows, out_rows, sizeof(floating))
    try:
        allocate(pack, not (x_rows.direct and out_rows.direct), mask_rows != NULL)
        while next_pack(pack):
            logits = load_rows(pack, x_rows, <floating*> pack.tile, <floating*> pack.spare)
            p = result_rows(pack, out_rows, <floating*> pack.tile)
            if mask_rows != NULL:
                mask = hide_rows(pack, mask_rows, <floating*> tile_of(pack, 0), <floating*> logits)
            max_rows(pack, x_rows, logits, m)
            if mask_rows != NULL:
                level_empty_rows(pack, mask_rows, mask, m)
            exp_and_sum(pack, x_rows, logits, m, out_rows, p, sums)
            for r in range(pack.rows):
                factor[r] = <floating> (1 / sums[r]) if sums[r] != 0 else 0  # (of an empty row)
            if out_rows.past_cache and pack.width == LANES:
                finish_later(out_rows, SCALE, factor[0], 0)
            else:
                scale_rows(pack, out_rows, p, factor)
            store_rows(pack, out_rows, p, <floating*> pack.spare)
        finish_rows(pack, out_rows, kind)
    finally:
        PyMem_RawFree(pack.memory)
    return 0


cdef int run_log_softmax(Pack* pack, Rows* x_rows, Rows* mask_rows, Rows* out_rows, bint past_cache,
                         const floating* kind) except -1 nogil:
    """out = (x - m) - log(1 + rest)."""
    cdef const floating* logits
    cdef const floating* mask
    cdef floating* log_p
    cdef floating m[LANES]
    cdef floating log_sum[LANES]
    cdef double rest[LANES]
    cdef Py_ssize_t r
    if mask_rows != NULL:
        gather_always(pack, x_rows)
    if past_cache:
        keep_out_of_cache(pack, x_rows, out_rows, sizeof(floating))
    try:
        allocate(pack, not (x_rows.direct and out_rows.direct), mask_rows != NULL)
        while next_pack(pack):
            logits = load_rows(pack, x_rows, <floating*> pack.tile, <floating*> pack.spare)
            log_p = result_rows(pack, out_rows, <floating*> pack.tile)
            if mask_rows != NULL:
                mask = hide_rows(pack, mask_rows, <floating*> tile_of(pack, 0), <floating*> logits)
            max_rows(pack, x_rows, logits, m)
            if mask_rows != NULL:
                level_empty_rows(pack, mask_rows, mask, m)
            rest_of(pack, x_rows, logits, m, out_rows, rest, <floating*> NULL, NULL)
            for r in range(pack.rows):
                log_sum[r] = <floating> log_of_sum(rest[r]) if rest[r] != -1 else 0  # (of an empty row)
            if out_rows.past_cache and pack.width == LANES:
                finish_later(out_rows, SHIFT, m[0], log_sum[0])
                log_p = <floating*> logits
            else:
                shift_rows(pack, x_rows, logits, m, log_sum, out_rows, log_p)
            store_rows(pack, out_rows, log_p, <floating*> pack.spare)
        finish_rows(pack, out_rows, kind)
    finally:
        PyMem_RawFree(pack.memory)
    return 0


cdef void take_limits(const Pack* pack, const Rows* x_rows, const floating* x, const floating* m,
                      double* limit) noexcept nogil:
    """The logsumexp of rows whose maximum is infinite: that, or NaN if a class is NaN. 0 for all others."""
    cdef int infinite = False
    cdef Py_ssize_t r, c
    for r in range(pack.rows):
        limit[r] = 0
        infinite |= m[r] - m[r] != 0
    for r in range(pack.rows if infinite else 0):
        if m[r] - m[r] != 0:
            limit[r] = m[r]
            for c in range(pack.classes):
                if x[place_of(pack, x_rows, r, c)] != x[place_of(pack, x_rows, r, c)]:
                    limit[r] = NAN


cdef int run_logsumexp(Pack* pack, Rows* x_rows, Rows* mask_rows, const RowValues* out,
                       const floating* kind) except -1 nogil:
    """out = m + log(1 + rest); the maximum itself where it is infinite and no class is NaN."""
    cdef const floating* logits
    cdef floating m[LANES]
    cdef double limit[LANES]
    cdef double rest[LANES]
    cdef double lse[LANES]
    cdef Py_ssize_t r
    if mask_rows != NULL:
        gather_always(pack, x_rows)
    try:
        allocate(pack, not x_rows.direct, mask_rows != NULL)
        while next_pack(pack):
            logits = load_rows(pack, x_rows, <floating*> pack.tile, <floating*> pack.spare)
            if mask_rows != NULL:
                hide_rows(pack, mask_rows, <floating*> tile_of(pack, 0), <floating*> logits)
            max_rows(pack, x_rows, logits, m)
            take_limits(pack, x_rows, logits, m, limit)
            rest_of(pack, x_rows, logits, m, NULL, rest, <floating*> NULL, NULL)
            for r in range(pack.rows):
                lse[r] = m[r] + log_of_sum(rest[r]) if limit[r] == 0 else limit[r]
            put_rows(pack, out, lse, kind)
    finally:
        PyMem_RawFree(pack.memory)
    return 0


cdef inline Loss plain_loss(double divisor) noexcept nogil:
    """A loss without options."""
    cdef Loss loss
    loss.labels = loss.row_weights = loss.losses = loss.lse = values_at(NULL, 0, 0)
    loss.target.origin = loss.class_weights.origin = NULL
    loss.ignoring = False
    loss.ignored = 0
    loss.smoothing = loss.z = 0
    loss.cap.cap = 0
    loss.cap.temperature = 1
    loss.divisor = loss.z_divisor = divisor
    return loss


cdef inline bint is_plain_loss(const Loss* loss) noexcept nogil:
    return (loss.class_weights.origin == NULL and loss.row_weights.origin == NULL and not loss.ignoring
            and loss.smoothing == 0 and loss.z == 0 and loss.cap.cap == 0 and loss.cap.temperature == 1)


cdef struct Numbers:
    # What is known of the rows of a pack: t is the target row of probabilities, else the class weights
    double top[64]              # the maximum m
    double limit[64]            # the logsumexp, if the maximum is infinite
    double rest[64]
    double distance[64]         # m - x_y
    double e_at_label[64]
    double label_weight[64]
    double row_weight[64]       # 0 if the row does not count
    double weight[64]           # sum(t)
    double shifted[64]          # sum(t * (x - m))
    # What follows
    double loss[64]
    double lse[64]


cdef inline void take_lse(const Pack* pack, Numbers* n) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(pack.rows):
        n.lse[r] = n.top[r] + log_of_sum(n.rest[r]) if n.limit[r] == 0 else n.limit[r]


cdef inline void plain_losses(const Pack* pack, const Loss* loss, Numbers* n) noexcept nogil:
    cdef double scale = 1 / loss.divisor
    cdef Py_ssize_t r
    if loss.labels.origin != NULL:
        for r in range(pack.rows):
            n.loss[r] = scale * (n.distance[r] + log_of_sum(n.rest[r]))
    else:
        for r in range(pack.rows):
            n.loss[r] = scale * (n.weight[r] * log_of_sum(n.rest[r]) - n.shifted[r])


cdef inline Py_ssize_t whole_vectors(const Pack* pack) noexcept nogil:
    """The rows, with some that are missing: where numbers are left over, the compiler may fuse other products."""
    return (pack.rows + 15) // 16 * 16


cdef inline void weighted_losses(const Pack* pack, const Loss* loss, Numbers* n) noexcept nogil:
    """s / D * (Q * lse - sum(q' * x)) + s / Dz * z * lse^2, where Q = sum(q').

    For labels, q' is (1 - smoothing) * w_y at the label, and smoothing / C * w everywhere. (The loops have no branch
    that the compiler could not make vectors of: lse is 0 where it is not wanted.)
    """
    cdef double scale = 1 / loss.divisor if loss.divisor != 0 else 0
    cdef double z_scale = loss.z / loss.z_divisor if loss.z_divisor != 0 else 0
    cdef double kept = 1 - loss.smoothing
    cdef double even = loss.smoothing / pack.classes
    cdef double at_label, distance, part
    cdef Py_ssize_t r
    if loss.labels.origin != NULL:
        for r in range(whole_vectors(pack)):
            at_label = kept * n.label_weight[r]
            distance = at_label * n.distance[r] if at_label != 0 else 0
            part = (at_label + even * n.weight[r]) * log_of_sum(n.rest[r]) - even * n.shifted[r] + distance
            part = scale * part + z_scale * (n.lse[r] * n.lse[r])
            n.loss[r] = n.row_weight[r] * part if n.row_weight[r] != 0 else 0
    else:
        for r in range(whole_vectors(pack)):
            part = n.weight[r] * log_of_sum(n.rest[r]) - n.shifted[r]
            part = scale * part + z_scale * (n.lse[r] * n.lse[r])
            n.loss[r] = n.row_weight[r] * part if n.row_weight[r] != 0 else 0


# A gradient is a * e - b * t, with these exceptions: the number at the label, and b * ((near - t) + others) where e is
# e_top. Each is floating[LANES].

cdef inline void plain_factors(const Pack* pack, const Loss* loss, const Numbers* n, floating* a, floating* b,
                               floating* e_top, floating* near, floating* others, floating* at_label) noexcept nogil:
    cdef floating share, rest
    cdef Py_ssize_t r
    if loss.labels.origin != NULL:
        for r in range(pack.rows):
            share = 1 / <floating> (loss.divisor + loss.divisor * n.rest[r])
            # 1 - p_y without cancellation: the share of the other classes
            rest = <floating> n.rest[r]
            rest = rest if n.distance[r] == 0 else 1 + (rest - <floating> n.e_at_label[r])
            a[r] = share
            at_label[r] = -rest * share
    else:
        for r in range(pack.rows):
            a[r] = <floating> (n.weight[r] / (loss.divisor + loss.divisor * n.rest[r]))
            b[r] = <floating> (1 / loss.divisor)
            # Where p is near 1, Q * p - q = (Q - q) - Q * rest / (1 + rest) keeps the digits
            e_top[r] = <floating> (1 / unlift(a) if n.rest[r] < 1 else NAN)
            near[r] = <floating> n.weight[r]
            others[r] = <floating> ((n.weight[r] - near[r]) - n.weight[r] * (n.rest[r] / (1 + n.rest[r])))


cdef inline void weighted_factors(const Pack* pack, const Loss* loss, const Numbers* n, floating* a, floating* b,
                                  floating* e_top, floating* near, floating* others,
                                  floating* at_label) noexcept nogil:
    """As above, of s / D * (Q * p - q') + s / Dz * 2 z * lse * p."""
    cdef double slope = 1 / loss.cap.temperature if loss.cap.cap == 0 else 1  # (that of a cap is another factor)
    cdef double scale = slope / loss.divisor if loss.divisor != 0 else 0
    cdef double z_scale = slope * 2 * loss.z / loss.z_divisor if loss.z_divisor != 0 else 0
    cdef double kept = 1 - loss.smoothing
    cdef double even = loss.smoothing / pack.classes
    cdef floating s, z, q, q_label, elsewhere, rest, share, p_label, part
    cdef Py_ssize_t r
    if loss.labels.origin != NULL:
        for r in range(whole_vectors(pack)):
            rest = <floating> n.rest[r]
            share = 1 / <floating> (1 + n.rest[r])
            s = <floating> (scale * n.row_weight[r])
            z = <floating> (z_scale * (n.row_weight[r] * n.lse[r]))
            q = <floating> (kept * n.label_weight[r] + even * n.weight[r])
            q_label = <floating> ((kept + even) * n.label_weight[r])
            elsewhere = <floating> (even * (n.weight[r] - n.label_weight[r]))
            p_label = <floating> n.e_at_label[r] * share
            # Where p is near 1, Q * p - q' is (Q - q') - Q * (1 - p)
            part = elsewhere - q * (rest * share) if n.distance[r] == 0 and rest < 1 else q * p_label - q_label
            at_label[r] = s * part + z * p_label
            a[r] = (s * q + z) * share
            b[r] = <floating> even * s
    else:
        for r in range(whole_vectors(pack)):
            share = 1 / <floating> (1 + n.rest[r])
            s = <floating> (scale * n.row_weight[r])
            z = <floating> (z_scale * (n.row_weight[r] * n.lse[r]))
            q = <floating> n.weight[r]
            e_top[r] = <floating> (1 / unlift(a) if n.rest[r] < 1 and s != 0 else NAN)
            near[r] = q
            others[r] = <floating> ((n.weight[r] - q) - n.weight[r] * (n.rest[r] * share)) + z * share / s
            a[r] = (s * q + z) * share
            b[r] = s


cdef inline void curvatures(const Pack* pack, const Loss* loss, const Numbers* n, floating* rest,
                            floating* a) noexcept nogil:
    """The Hessian is a * p * (1 - p), with a = s / D * Q."""
    cdef double scale = 1 / (loss.cap.temperature * loss.cap.temperature * loss.divisor) if loss.divisor != 0 else 0
    cdef double even = loss.smoothing / pack.classes
    cdef double q
    cdef Py_ssize_t r
    for r in range(whole_vectors(pack)):
        q = n.weight[r]
        if loss.labels.origin != NULL:
            q = (1 - loss.smoothing) * n.label_weight[r] + even * q
        rest[r] = <floating> n.rest[r]
        a[r] = <floating> (scale * n.row_weight[r] * q)


cdef int run_cross_entropy(Pack* pack, Rows* x_rows, Loss* loss, Rows* grad_rows, Rows* hess_rows, bint past_cache,
                           double* total_loss, const floating* kind) except -1 nogil:
    """The divided sum of the losses, and what is wanted beside it: gradient and Hessian are, if not NULL."""
    cdef bint plain = is_plain_loss(loss)
    cdef bint weighing = not plain or hess_rows != NULL
    cdef bint with_lse = loss.lse.origin != NULL or loss.z != 0
    cdef bint by_label = loss.labels.origin != NULL
    cdef bint with_grad = grad_rows != NULL
    cdef bint weighted = loss.class_weights.origin != NULL
    cdef bint capping = loss.cap.cap != 0 or loss.cap.temperature != 1
    cdef bint smoothing = by_label and loss.smoothing != 0  # (of probabilities, the row itself is smoothed)
    cdef const floating* logits
    cdef const floating* w = NULL
    cdef const floating* smoothed = NULL  # the class weights, if they are wanted with the exponentials
    cdef const floating* t = NULL
    cdef floating* slope = NULL
    cdef floating* g
    cdef floating* h
    cdef int64_t label[LANES]  # that of rows missing in the last pack does not matter, but must be a number
    cdef floating m[LANES]
    cdef floating at_label[LANES]
    cdef floating a[LANES]
    cdef floating b[LANES]
    cdef floating e_top[LANES]
    cdef floating near[LANES]
    cdef floating others[LANES]
    cdef Numbers n
    cdef Total total
    cdef Py_ssize_t r
    cdef Py_ssize_t tiles = 0
    cdef Py_ssize_t t_tile, w_tile, slope_tile, hess_tile
    fill(0, total.value, LANES)
    fill(0, total.lost, LANES)
    if weighing:
        memset(&n, 0, sizeof(n))
        fill(sum_of_weights(&loss.class_weights, pack.classes, kind) if smoothing else 0, n.weight, LANES)
        fill(1, n.row_weight, LANES)
        fill(1, n.label_weight, LANES)
    for r in range(LANES):
        label[r] = 0
    if capping:
        gather_always(pack, x_rows)
    if weighted and not by_label:
        gather_always(pack, &loss.target)
    if with_grad and past_cache and (floating is float or pack.inner > 1):  # (rows of float64 are slow to compute)
        keep_out_of_cache(pack, x_rows, grad_rows, sizeof(floating))
    t_tile = tiles
    tiles += not by_label and not loss.target.direct
    w_tile = tiles
    tiles += weighted and pack.width == 1
    slope_tile = tiles
    tiles += loss.cap.cap != 0
    hess_tile = tiles
    tiles += hess_rows != NULL and not hess_rows.direct
    try:
        allocate(pack, not (x_rows.direct and (not with_grad or grad_rows.direct)), tiles)
        if weighted:
            w = class_weights_of(pack, &loss.class_weights, <floating*> tile_of(pack, w_tile))
            smoothed = w if smoothing else <floating*> NULL
        if loss.cap.cap != 0:
            slope = <floating*> tile_of(pack, slope_tile)
        while next_pack(pack):
            logits = load_rows(pack, x_rows, <floating*> pack.tile, <floating*> pack.spare)
            max_rows(pack, x_rows, logits, m)
            if with_lse:
                for r in range(pack.rows):
                    n.top[r] = m[r]
                    n.limit[r] = 0
                if loss.cap.cap == 0:
                    take_limits(pack, x_rows, logits, m, n.limit)
            if weighing:
                take_row_weights(pack, loss, n.row_weight, kind)
            if capping:
                cap_rows(pack, &loss.cap, <floating*> logits, m, n.top, slope)
            if by_label:
                take_labels(pack, &loss.labels, label)
                if weighing:
                    leave_out_ignored(pack, loss, label, n.row_weight)
                    if weighted:
                        take_at_labels(pack, &loss.class_weights, w, label, at_label)
                        for r in range(pack.rows):
                            n.label_weight[r] = at_label[r]
                take_at_labels(pack, x_rows, logits, label, at_label)
                for r in range(pack.rows):
                    n.distance[r] = <double> m[r] - at_label[r]
            if not by_label:
                t = load_rows(pack, &loss.target, <floating*> tile_of(pack, t_tile), <floating*> pack.spare)
                if weighted:
                    blend_rows(pack, &loss.target, <floating*> t, &loss.class_weights, w, loss.smoothing)
                weigh_differences(pack, &loss.target, t, x_rows, logits, m, n.weight, n.shifted)
            if with_grad:
                g = result_rows(pack, grad_rows, <floating*> pack.tile)
                exp_and_rest(pack, x_rows, logits, m, grad_rows, g, n.rest, smoothed, n.shifted)
                if by_label:
                    take_at_labels(pack, grad_rows, g, label, at_label)
                    for r in range(pack.rows):
                        n.e_at_label[r] = unlift(g) * at_label[r]
            else:
                rest_of(pack, x_rows, logits, m, NULL, n.rest, smoothed, n.shifted)
            if with_lse:
                take_lse(pack, &n)
            if plain:
                plain_losses(pack, loss, &n)
            else:
                weighted_losses(pack, loss, &n)
            add_losses(pack, n.loss, &total)
            if loss.losses.origin != NULL:
                put_rows(pack, &loss.losses, n.loss, kind)
            if loss.lse.origin != NULL:
                put_rows(pack, &loss.lse, n.lse, kind)
            if hess_rows != NULL:
                h = result_rows(pack, hess_rows, <floating*> tile_of(pack, hess_tile))
                curvatures(pack, loss, &n, others, a)
                curve_rows(pack, grad_rows, g, others, a, hess_rows, h)
                clear_rows(pack, hess_rows, n.row_weight, h)
                store_rows(pack, hess_rows, h, <floating*> pack.spare)
            if with_grad:
                if plain:
                    plain_factors(pack, loss, &n, a, b, e_top, near, others, at_label)
                else:
                    weighted_factors(pack, loss, &n, a, b, e_top, near, others, at_label)
                if smoothing:
                    subtract_classes(pack, grad_rows, g, a, &loss.class_weights, w, b)
                elif by_label:
                    scale_rows(pack, grad_rows, g, a)
                else:
                    subtract_targets(pack, grad_rows, g, a, &loss.target, t, b, e_top, near, others)
                if by_label:
                    put_at_labels(pack, grad_rows, label, at_label, g)
                if slope != NULL:
                    multiply_rows(pack, grad_rows, g, slope)
                if not plain:
                    clear_rows(pack, grad_rows, n.row_weight, g)
                store_rows(pack, grad_rows, g, <floating*> pack.spare)
        if with_grad:
            finish_rows(pack, grad_rows, kind)
    finally:
        PyMem_RawFree(pack.memory)
    total_loss[0] = sum_of(pack, &total)
    return 0


def softmax(
    const stored[:, :, :] x,        # IN   (outer, classes, inner)
    const uint8_t[:, :, :] mask,    # IN   (outer, classes, inner), 1 for what takes part; or None
    stored[:, :, :] out,            # OUT  (outer, classes, inner), may be x
    bint past_cache,                # IN   whether `out` is to be written past the caches
):
    """out = exp(x - m) / sum(exp(x - m)), m the maximum of the row."""
    cdef Pack pack = pack_for(x)
    cdef Rows x_rows = rows_of(&pack, x)
    cdef Rows mask_rows = mask_of(&pack, mask) if mask is not None else x_rows
    cdef Rows* given_mask = &mask_rows if mask is not None else <Rows*> NULL
    cdef Rows out_rows = rows_of(&pack, out)
    with nogil:
        if stored is double:
            run_softmax(&pack, &x_rows, given_mask, &out_rows, past_cache, <double*> NULL)
        else:
            run_softmax(&pack, &x_rows, given_mask, &out_rows, past_cache, <float*> NULL)


def log_softmax(
    const stored[:, :, :] x,        # IN   (outer, classes, inner)
    const uint8_t[:, :, :] mask,    # IN   (outer, classes, inner), 1 for what takes part; or None
    stored[:, :, :] out,            # OUT  (outer, classes, inner), may be x
    bint past_cache,                # IN   whether `out` is to be written past the caches
):
    """out = (x - m) - log(1 + rest)."""
    cdef Pack pack = pack_for(x)
    cdef Rows x_rows = rows_of(&pack, x)
    cdef Rows mask_rows = mask_of(&pack, mask) if mask is not None else x_rows
    cdef Rows* given_mask = &mask_rows if mask is not None else <Rows*> NULL
    cdef Rows out_rows = rows_of(&pack, out)
    with nogil:
        if stored is double:
            run_log_softmax(&pack, &x_rows, given_mask, &out_rows, past_cache, <double*> NULL)
        else:
            run_log_softmax(&pack, &x_rows, given_mask, &out_rows, past_cache, <float*> NULL)


def logsumexp(
    const stored[:, :, :] x,        # IN   (outer, classes, inner)
    const uint8_t[:, :, :] mask,    # IN   (outer, classes, inner), 1 for what takes part; or None
    floating[:, :] out,             # OUT  (outer, inner), of the type that is computed
):
    """out = m + log(1 + rest); the maximum itself where it is infinite and no class is NaN."""
    cdef Pack pack = pack_for(x)
    cdef Rows x_rows = rows_of(&pack, x)
    cdef Rows mask_rows = mask_of(&pack, mask) if mask is not None else x_rows
    cdef Rows* given_mask = &mask_rows if mask is not None else <Rows*> NULL
    cdef RowValues results = values_of(out)
    with nogil:
        if stored is double:
            run_logsumexp(&pack, &x_rows, given_mask, &results, <double*> NULL)
        else:
            run_logsumexp(&pack, &x_rows, given_mask, &results, <float*> NULL)


def softmax_backward(
    const floating[:, :, :] grad_output,  # IN   (outer, classes, inner)
    const floating[:, :, :] output,       # IN   (outer, classes, inner), the probabilities
    floating[:, :, :] out,                # OUT  (outer, classes, inner), may be either input
):
    """out = p * (g - sum(g * p))."""
    cdef Pack pack = pack_of(output.shape[0], output.shape[1], output.shape[2], sizeof(floating))
    cdef Rows g_rows = rows_of(&pack, grad_output)
    cdef Rows p_rows = rows_of(&pack, output)
    cdef Rows out_rows = rows_of(&pack, out)
    cdef const floating* g
    cdef const floating* p
    cdef floating* grad
    cdef double weight[LANES]
    cdef double mean[LANES]
    try:
        allocate(&pack, False, not (g_rows.direct and p_rows.direct and out_rows.direct))
        with nogil:
            while next_pack(&pack):
                g = load_rows(&pack, &g_rows, <floating*> pack.tile, <floating*> pack.spare)
                p = load_rows(&pack, &p_rows, <floating*> tile_of(&pack, 0), <floating*> pack.spare)
                grad = result_rows(&pack, &out_rows, <floating*> pack.tile)
                weigh_products(&pack, &p_rows, p, &g_rows, g, weight, mean)
                compute_rows(TIMES_DIFFERENCE, &pack, &g_rows, g, &p_rows, p, mean, &out_rows, grad)
                store_rows(&pack, &out_rows, grad, <floating*> pack.spare)
    finally:
        PyMem_RawFree(pack.memory)


def log_softmax_backward(
    const floating[:, :, :] grad_output,  # IN   (outer, classes, inner)
    const floating[:, :, :] output,       # IN   (outer, classes, inner), the log-probabilities
    floating[:, :, :] out,                # OUT  (outer, classes, inner), may be either input
):
    """out = g - exp(output) * sum(g)."""
    cdef Pack pack = pack_of(output.shape[0], output.shape[1], output.shape[2], sizeof(floating))
    cdef Rows g_rows = rows_of(&pack, grad_output)
    cdef Rows log_p_rows = rows_of(&pack, output)
    cdef Rows out_rows = rows_of(&pack, out)
    cdef const floating* g
    cdef const floating* log_p
    cdef floating* grad
    cdef double sums[LANES]
    cdef double squares[LANES]
    try:
        allocate(&pack, False, not (g_rows.direct and log_p_rows.direct and out_rows.direct))
        with nogil:
            while next_pack(&pack):
                g = load_rows(&pack, &g_rows, <floating*> pack.tile, <floating*> pack.spare)
                log_p = load_rows(&pack, &log_p_rows, <floating*> tile_of(&pack, 0), <floating*> pack.spare)
                grad = result_rows(&pack, &out_rows, <floating*> pack.tile)
                weigh_products(&pack, &g_rows, g, &g_rows, g, sums, squares)
                compute_rows(LESS_EXP, &pack, &g_rows, g, &log_p_rows, log_p, sums, &out_rows, grad)
                store_rows(&pack, &out_rows, grad, <floating*> pack.spare)
    finally:
        PyMem_RawFree(pack.memory)


cdef Loss loss_of(const Pack* pack, const int64_t[:, :] labels, const floating[:, :, :] target,
                  const floating[::1] class_weights, const floating[:, :] row_weights, ignored,
                  double divisor, floating[:, :] losses, floating[:, :] lse):
    cdef Loss loss = plain_loss(divisor)
    loss.labels = labels_of(labels)
    loss.row_weights = values_of(row_weights)
    loss.losses = values_of(losses)
    loss.lse = values_of(lse)
    if target is not None:
        loss.target = rows_of(pack, target)
    if class_weights is not None:
        loss.class_weights = rows_at(pack, &class_weights[0], 0, sizeof(floating), 0, NATIVE, sizeof(floating))
    if ignored is not None:
        loss.ignoring = True
        loss.ignored = ignored
    return loss


def cross_entropy(
    const stored[:, :, :] x,    # IN   (outer, classes, inner)
    labels,                     # IN   (outer, inner), int64, each in 0..classes-1 or `ignored`; or None, and
    target,                     # IN   (outer, classes, inner), the class probabilities q; or None
    class_weights,              # IN   (classes,), or None
    row_weights,                # IN   (outer, inner), or None
    ignored,                    # IN   the label of rows that do not count, or None
    double smoothing,           # IN
    double z,                   # IN
    double cap,                 # IN   0 if there is none
    double temperature,         # IN
    double divisor,             # IN   of the sum of the losses, and of the gradient
    double z_divisor,           # IN   of the sum of the z terms
    losses,                     # OUT  (outer, inner), or None
    lse,                        # OUT  (outer, inner), or None
    stored[:, :, :] grad,       # OUT  (outer, classes, inner), may be x but not target, or None
    stored[:, :, :] hess,       # OUT  (outer, classes, inner), or None; wants grad too
    bint past_cache,            # IN   whether `grad` is to be written past the caches
):
    """Returns sum(losses), which are s / divisor * (Q * lse - sum(q' * x)) + s / z_divisor * z * lse^2.

    q' = w * ((1 - smoothing) * q + smoothing / classes), of which q is one-hot for labels, Q = sum(q'), and s is the
    row's weight: 0 if its label is ignored. With smoothing, class weights must be given. All but x, grad and hess have
    the type that is computed.
    """
    cdef Pack pack = pack_for(x)
    cdef Rows x_rows = rows_of(&pack, x)
    cdef Rows grad_rows = rows_of(&pack, grad) if grad is not None else x_rows
    cdef Rows hess_rows = rows_of(&pack, hess) if hess is not None else x_rows
    cdef Rows* wanted_grad = &grad_rows if grad is not None else <Rows*> NULL
    cdef Rows* wanted_hess = &hess_rows if hess is not None else <Rows*> NULL
    cdef Loss loss
    cdef double total = 0
    if stored is double:
        loss = loss_of[double](&pack, labels, target, class_weights, row_weights, ignored, divisor, losses, lse)
    else:
        loss = loss_of[float](&pack, labels, target, class_weights, row_weights, ignored, divisor, losses, lse)
    loss.smoothing = smoothing
    loss.z = z
    loss.cap.cap = cap
    loss.cap.temperature = temperature
    loss.z_divisor = z_divisor
    with nogil:
        if stored is double:
            run_cross_entropy(&pack, &x_rows, &loss, wanted_grad, wanted_hess, past_cache, &total, <double*> NULL)
        else:
            run_cross_entropy(&pack, &x_rows, &loss, wanted_grad, wanted_hess, past_cache, &total, <float*> NULL)
    return total


def from_probs_index(
    const floating[:, :, :] probs,  # IN   (outer, classes, inner)
    const int64_t[:, :] labels,     # IN   (outer, inner), each in 0..classes-1
    double divisor,                 # IN   of the sum of the losses and of the gradient
    floating[:, :] losses,          # OUT  (outer, inner), or None
    floating[:, :, :] grad,         # OUT  (outer, classes, inner), may be probs, or None
):
    """losses = -log(p_y), grad = -1 / p_y / divisor at y and 0 elsewhere; returns sum(losses) / divisor."""
    cdef floating at_label
    cdef double loss
    cdef Sum total = [0, 0]
    cdef Py_ssize_t i, k, c, label
    with nogil:
        for i in range(probs.shape[0]):
            for k in range(probs.shape[2]):
                label = labels[i, k]
                at_label = probs[i, label, k]
                loss = -log(<double> at_label)
                add(&total, loss / divisor)
                if losses is not None:
                    losses[i, k] = <floating> loss
                if grad is not None:
                    for c in range(probs.shape[1]):
                        grad[i, c, k] = 0
                    grad[i, label, k] = <floating> (-1 / (divisor * at_label))
    return value_of(total)


def from_probs_dense(
    const floating[:, :, :] probs,   # IN   (outer, classes, inner)
    const floating[:, :, :] target,  # IN   (outer, classes, inner)
    double divisor,                  # IN   of the sum of the losses and of the gradient
    floating[:, :] losses,           # OUT  (outer, inner), or None
    floating[:, :, :] grad,          # OUT  (outer, classes, inner), may be either input, or None
):
    """losses = -sum(q * log(p)), grad = -q / p / divisor, both 0 where q is; returns sum(losses) / divisor."""
    cdef bint with_grad = grad is not None
    cdef Pack pack = pack_of(probs.shape[0], probs.shape[1], probs.shape[2], sizeof(floating))
    cdef Rows p_rows = rows_of(&pack, probs)
    cdef Rows q_rows = rows_of(&pack, target)
    cdef Rows grad_rows = rows_of(&pack, grad) if with_grad else p_rows
    cdef const floating* p
    cdef const floating* q
    cdef floating* g
    cdef RowValues results = values_of(losses)
    cdef double divisors[LANES]
    cdef double weight[LANES]
    cdef double loss[LANES]
    cdef Total total
    cdef Py_ssize_t r
    fill(divisor, divisors, LANES)
    fill(0, total.value, LANES)
    fill(0, total.lost, LANES)
    try:
        allocate(&pack, False, not (p_rows.direct and q_rows.direct and grad_rows.direct))
        with nogil:
            while next_pack(&pack):
                p = load_rows(&pack, &p_rows, <floating*> pack.tile, <floating*> pack.spare)
                q = load_rows(&pack, &q_rows, <floating*> tile_of(&pack, 0), <floating*> pack.spare)
                weigh_logs(&pack, &q_rows, q, &p_rows, p, weight, loss)
                for r in range(pack.rows):
                    loss[r] /= -divisor
                if with_grad:
                    g = result_rows(&pack, &grad_rows, <floating*> pack.tile)
                    compute_rows(MINUS_QUOTIENT, &pack, &q_rows, q, &p_rows, p, divisors, &grad_rows, g)
                    store_rows(&pack, &grad_rows, g, <floating*> pack.spare)
                add_losses(&pack, loss, &total)
                if losses is not None:
                    put_rows(&pack, &results, loss, p)
    finally:
        PyMem_RawFree(pack.memory)
    return sum_of(&pack, &total)


cdef inline bint strided_in_range(const char* start, Py_ssize_t n, Py_ssize_t stride, Py_ssize_t classes,
                                  bint ignoring, int64_t ignored) noexcept nogil:
    cdef uint64_t last = classes - 1
    cdef uint64_t label, counts
    cdef uint64_t signs = 0
    cdef Py_ssize_t k
    for k in range(n):
        label = <uint64_t> (<const int64_t*> (start + k * stride))[0]
        counts = not ignoring or label != <uint64_t> ignored
        signs |= (label | (last - label)) & (0 - counts)  # the highest bit: whether either is negative
    return signs >> 63 == 0


cdef bint all_in_range(const char* start, Py_ssize_t n, Py_ssize_t stride, Py_ssize_t classes,
                       bint ignoring, int64_t ignored) noexcept nogil:
    if stride == sizeof(int64_t):  # a literal, with which the compiler makes vectors
        return strided_in_range(start, n, sizeof(int64_t), classes, ignoring, ignored)
    return strided_in_range(start, n, stride, classes, ignoring, ignored)


def labels_in_range(
    const int64_t[:, :] labels,     # IN   (outer, inner)
    Py_ssize_t classes,             # IN
    ignored,                        # IN   a label that may be anything, or None
):
    """Whether every label but the ignored is in 0..classes-1."""
    cdef RowValues values = labels_of(labels)
    cdef Py_ssize_t outer = labels.shape[0]
    cdef Py_ssize_t inner = labels.shape[1]
    cdef bint ignoring = ignored is not None
    cdef int64_t ignored_label = ignored if ignoring else 0
    cdef bint inside = True
    cdef Py_ssize_t i
    with nogil:
        if inner == 1:
            inside = all_in_range(values.origin, outer, values.outer_stride, classes, ignoring, ignored_label)
        else:
            for i in range(outer):
                inside &= all_in_range(values.origin + i * values.outer_stride, inner, values.inner_stride, classes,
                                       ignoring, ignored_label)
    return inside


def are_weights(
    const floating[::1] values,     # IN
):
    """Whether all are finite numbers from 0 on."""
    cdef int outside = 0
    cdef Py_ssize_t k
    with nogil:
        for k in range(values.shape[0]):
            outside |= not (0 <= values[k] < <floating> INFINITY)
    return outside == 0


cdef inline void add_at_labels(const int64_t* labels, Py_ssize_t n, const double* class_weights, bint ignoring,
                               int64_t ignored, double* lane) noexcept nogil:
    """(Numbers of 0 and 1, and masks of them, where branches would be guessed wrong.)"""
    cdef int64_t counts
    cdef Py_ssize_t k
    for k in range(n):
        counts = not ignoring or labels[k] != ignored
        if class_weights == NULL:
            lane[k] += counts
        else:
            lane[k] += counts * class_weights[labels[k] & -counts]


cdef double sum_at_labels(const int64_t* labels, Py_ssize_t n, const double* class_weights, bint ignoring,
                          int64_t ignored) noexcept nogil:
    """The sum of the labels' class weights; their number, if these are NULL. Lanes keep additions from waiting."""
    cdef double lane[16]
    cdef Py_ssize_t whole = n // 16 * 16
    cdef Py_ssize_t i
    fill(0, lane, 16)
    for i in range(0, whole, 16):
        if class_weights == NULL:
            add_at_labels(labels + i, 16, NULL, True, ignored, lane)
        elif ignoring:
            add_at_labels(labels + i, 16, class_weights, True, ignored, lane)
        else:
            add_at_labels(labels + i, 16, class_weights, False, ignored, lane)
    add_at_labels(labels + whole, n - whole, class_weights, ignoring, ignored, lane)
    return fold_row(lane, NARROW, False)


def sums_of_weights(
    const int64_t[:, :] labels,             # IN   (outer, inner), checked
    const floating[:, :] row_weights,       # IN   (outer, inner), or None
    const double[:] class_weights,          # IN   (classes,), or None
    ignored,                                # IN   the label of rows that do not count, or None
):
    """The sums, over the rows that count, of s * w_y and of s: the row's weight, and that of its class."""
    cdef bint ignoring = ignored is not None
    cdef int64_t ignored_label = ignored if ignoring else 0
    cdef const double* w = &class_weights[0] if class_weights is not None else <const double*> NULL
    cdef RowValues values = labels_of(labels)
    cdef Py_ssize_t outer = labels.shape[0]
    cdef Py_ssize_t inner = labels.shape[1]
    cdef Sum weights = [0, 0]
    cdef Sum rows = [0, 0]
    cdef double s
    cdef const int64_t* run
    cdef int64_t block[1024]
    cdef Py_ssize_t i, k, n, j
    with nogil:
        if row_weights is not None:
            for i in range(outer):
                for k in range(inner):
                    if not (ignoring and labels[i, k] == ignored_label):
                        s = row_weights[i, k]
                        add(&rows, s)
                        add(&weights, s * w[labels[i, k]] if w != NULL else s)
        else:
            if inner == 1:
                outer, inner = 1, outer
                values.inner_stride = values.outer_stride
            for i in range(outer):
                for k in range(0, inner, 1024):  # in blocks, whose sums are added with compensation
                    n = min(<Py_ssize_t> 1024, inner - k)
                    run = <const int64_t*> (values.origin + i * values.outer_stride + k * values.inner_stride)
                    if values.inner_stride != sizeof(int64_t):
                        for j in range(n):
                            block[j] = (<const int64_t*> (<const char*> run + j * values.inner_stride))[0]
                        run = block
                    add(&rows, sum_at_labels(run, n, NULL, ignoring, ignored_label) if ignoring else n)
                    if w != NULL:
                        add(&weights, sum_at_labels(run, n, w, ignoring, ignored_label))
            if w == NULL:
                weights = rows
    return value_of(weights), value_of(rows)


# --- small calls -----------------------------------------------------------------------------------------------
#
# The checks and views of a call take longer than the arithmetic of a few hundred numbers. These functions are a shorter
# way for what most small calls bring, plain arrays. For all else they return None, and the general way is taken.

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty
cdef object int16 = numpy.dtype(numpy.int16)
cdef object float32 = numpy.dtype(numpy.float32)
cdef object float64 = numpy.dtype(numpy.float64)
cdef object int64 = numpy.dtype(numpy.int64)
cdef dict storages = {float32: NATIVE, float64: NATIVE, int64: NATIVE, numpy.dtype(numpy.bool_): BOOLEAN,
                      numpy.dtype(numpy.float16): FLOAT16}  # and bfloat16, when it has been seen


cdef struct Plain:
    char* start
    Storage storage         # of floating-point numbers
    Py_ssize_t itemsize
    Py_ssize_t ndim
    Py_ssize_t size
    Py_ssize_t classes      # of the last axis
    bint read_only


cdef bint is_plain(object array, Plain* plain) except -1:
    """Whether it is an array of the dtypes above, not large, of at most two dimensions, in C order."""
    cdef Py_buffer memory
    cdef bint accepted
    if type(array) is not ndarray:
        return False
    dtype = array.dtype
    storage = storages.get(dtype)
    if storage is None:
        if dtype.kind != "V" or dtype.name != "bfloat16" or not dtype.isnative:
            return False
        storage = storages[dtype] = BFLOAT16
    plain.storage = storage
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


cdef bint are_plain_logits(object array, object axis, Plain* plain) except -1:
    """Whether it is such an array of floating-point numbers, with its last axis as the class axis."""
    return (type(axis) is int and is_plain(array, plain) and plain.ndim > 0 and plain.storage != BOOLEAN
            and array.dtype is not int64 and (axis == -1 or axis == plain.ndim - 1))


cdef inline Pack plain_pack(const Plain* x) noexcept nogil:
    return pack_of(x.size // x.classes, x.classes, 1, sizeof(float) if x.itemsize == 2 else x.itemsize)


cdef inline Rows plain_rows(const Pack* pack, const Plain* x) noexcept nogil:
    return rows_at(pack, x.start, x.classes * x.itemsize, x.itemsize, x.itemsize, x.storage, x.itemsize)


cdef inline bint has_shape_of(const Plain* a, const Plain* b) noexcept:
    return a.ndim == b.ndim and a.size == b.size and a.classes == b.classes


cdef bint are_apart(const Plain* a, const Plain* b) noexcept:
    return a.start + a.size * a.itemsize <= b.start or b.start + b.size * b.itemsize <= a.start


cdef object plain_output(object out, object x, const Plain* plain_x, Plain* plain_out):
    """Memory for a result like x: `out`, if it is that; None if that is not plain or overlaps x in part."""
    if out is None:
        out = empty(x.shape, x.dtype)
        is_plain(out, plain_out)
    elif not (is_plain(out, plain_out) and out.dtype is x.dtype and has_shape_of(plain_out, plain_x)
              and not plain_out.read_only
              and (plain_out.start == plain_x.start or are_apart(plain_out, plain_x))):
        return None
    return out


cdef object plain_softmax(object x, object axis, object where, object out, bint of_log):
    cdef Plain plain_x, plain_mask, plain_out
    cdef Pack pack
    cdef Rows x_rows, mask_rows, out_rows
    cdef Rows* mask = NULL
    if not are_plain_logits(x, axis, &plain_x):
        return None
    out = plain_output(out, x, &plain_x, &plain_out)
    if out is None:
        return None
    pack = plain_pack(&plain_x)
    x_rows = plain_rows(&pack, &plain_x)
    out_rows = plain_rows(&pack, &plain_out)
    if where is not None:
        if not (is_plain(where, &plain_mask) and plain_mask.storage == BOOLEAN and has_shape_of(&plain_mask, &plain_x)
                and are_apart(&plain_mask, &plain_out)):
            return None
        mask_rows = plain_rows(&pack, &plain_mask)
        mask = &mask_rows
    with nogil:
        if of_log and pack.itemsize == sizeof(float):
            run_log_softmax(&pack, &x_rows, mask, &out_rows, False, <float*> NULL)
        elif of_log:
            run_log_softmax(&pack, &x_rows, mask, &out_rows, False, <double*> NULL)
        elif pack.itemsize == sizeof(float):
            run_softmax(&pack, &x_rows, mask, &out_rows, False, <float*> NULL)
        else:
            run_softmax(&pack, &x_rows, mask, &out_rows, False, <double*> NULL)
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
    cdef Pack pack
    cdef Rows x_rows
    cdef RowValues results
    if not are_plain_logits(x, axis, &plain_x):
        return None
    pack = plain_pack(&plain_x)
    out = empty(x.shape[:plain_x.ndim - 1], float32 if pack.itemsize == sizeof(float) else float64)
    is_plain(out, &plain_out)
    x_rows = plain_rows(&pack, &plain_x)
    results = values_at(plain_out.start, plain_out.itemsize, plain_out.itemsize)
    with nogil:
        if pack.itemsize == sizeof(float):
            run_logsumexp(&pack, &x_rows, NULL, &results, <float*> NULL)
        else:
            run_logsumexp(&pack, &x_rows, NULL, &results, <double*> NULL)
    return out if plain_x.ndim > 1 else out[()]


def small_cross_entropy(logits, target, axis, out, bint mean, bint with_grad):
    """The sum, or the mean, of the losses of small plain arrays with the classes last, and the gradient or None."""
    cdef Plain plain_x, plain_target, plain_grad
    cdef Pack pack
    cdef Rows x_rows, grad_rows
    cdef Loss loss
    cdef Rows* written = &grad_rows if with_grad else <Rows*> NULL
    cdef double total = 0
    cdef bint by_label
    if not (are_plain_logits(logits, axis, &plain_x) and is_plain(target, &plain_target)):
        return None
    pack = plain_pack(&plain_x)
    by_label = plain_target.ndim == plain_x.ndim - 1 and plain_target.size == pack.total and target.dtype is int64
    if by_label:
        if not all_in_range(plain_target.start, pack.total, sizeof(int64_t), pack.classes, False, 0):
            return None
    elif not (has_shape_of(&plain_target, &plain_x) and target.dtype is logits.dtype):
        return None
    grad = None
    x_rows = plain_rows(&pack, &plain_x)
    if with_grad:
        grad = plain_output(out, logits, &plain_x, &plain_grad)
        if grad is None or not are_apart(&plain_grad, &plain_target):
            return None
        grad_rows = plain_rows(&pack, &plain_grad)
    loss = plain_loss(<double> pack.total if mean else 1.0)
    if by_label:
        loss.labels = values_at(plain_target.start, sizeof(int64_t), sizeof(int64_t))
    else:
        loss.target = plain_rows(&pack, &plain_target)
    with nogil:
        if pack.itemsize == sizeof(float):
            run_cross_entropy(&pack, &x_rows, &loss, written, NULL, False, &total, <float*> NULL)
        else:
            run_cross_entropy(&pack, &x_rows, &loss, written, NULL, False, &total, <double*> NULL)
    return total, grad
