/* Vectors of one dtype and one instruction set: with ``places.h`` and ``formats.h`` the only file with intrinsics, and with an #if for a
   machine.

   The dtype is CXENT_REAL_BITS, 32 or 64, which the build defines. A vector is what one register holds: 64 bytes with
   AVX-512, 32 with AVX2 and FMA, 16 with NEON or SSE2, and one number for a compiler that has no vectors of its own.
   Where GNU C has an operator for vectors (a + b, a * b), rooms write that; all else has its function here. No function
   loops over an array, and none has a formula. Every one of them returns the same bits on every machine but
   `cxent_fma`, which rounds twice where the CPU has no fused multiply-add (SSE2), and the sign and payload of a NaN. */
#ifndef CXENT_SIMD_H
#define CXENT_SIMD_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What the compiler has decides, not its name: clang-cl has the vectors of GNU C, and calls itself MSVC. */
#if defined(__has_attribute) && defined(__has_builtin)
#if __has_attribute(vector_size) && __has_builtin(__builtin_shufflevector) && __has_builtin(__builtin_convertvector)
#if defined(__x86_64__)
#define CXENT_X86 1
#include <immintrin.h>
#elif defined(__aarch64__)
#define CXENT_NEON 1
#include <arm_neon.h>
#endif
#endif
#endif

/* --- types ------------------------------------------------------------------------------------------------------- */

#if CXENT_REAL_BITS == 64
#define CXENT_FLOAT64 1
#define CXENT_MANTISSA_BITS 52
typedef double cxent_real;
typedef uint64_t cxent_word;
typedef int64_t cxent_signed_word;
#else
#define CXENT_FLOAT64 0
#define CXENT_MANTISSA_BITS 23
typedef float cxent_real;
typedef uint32_t cxent_word;
typedef int32_t cxent_signed_word;
#endif

#ifndef CXENT_VECTOR_BYTES
#if defined(CXENT_X86) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define CXENT_VECTOR_BYTES 64
#elif defined(CXENT_X86) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define CXENT_VECTOR_BYTES 32
#elif defined(CXENT_X86) || defined(CXENT_NEON)
#define CXENT_VECTOR_BYTES 16
#else
#define CXENT_VECTOR_BYTES (CXENT_REAL_BITS / 8)
#endif
#endif

#define CXENT_W (CXENT_VECTOR_BYTES * 8 / CXENT_REAL_BITS) /* numbers in a vector */
#define CXENT_LANES (512 / CXENT_REAL_BITS)                /* lanes of a sum: numbers in 64 bytes, on every machine */
#define CXENT_VECTORS (CXENT_LANES / CXENT_W)              /* vectors that hold the lanes */
#ifdef __OPTIMIZE_SIZE__
#define CXENT_WRITTEN_OUT 0 /* vectors of a loop over these that is written out */
#else
#define CXENT_WRITTEN_OUT 4
#endif
#define CXENT_HALVES (CXENT_REAL_BITS == 32 && CXENT_W > 1 ? 2 : 1) /* vectors of double that hold one of cxent_real */

#if CXENT_W > 1 ? defined(__FMA__) || defined(CXENT_NEON) : defined(__FP_FAST_FMA)
#define CXENT_FUSED 1
#else
#define CXENT_FUSED 0
#endif

#if CXENT_W > 1
#define CXENT_VECTOR(type, bytes) typedef type __attribute__((vector_size(bytes)))
CXENT_VECTOR(cxent_real, CXENT_VECTOR_BYTES) cxent_vec;
CXENT_VECTOR(cxent_word, CXENT_VECTOR_BYTES) cxent_bits;
CXENT_VECTOR(double, CXENT_VECTOR_BYTES) cxent_wide;
CXENT_VECTOR(uint8_t, CXENT_W) cxent_bytes;
CXENT_VECTOR(uint16_t, CXENT_W * 2) cxent_halfwords;
CXENT_VECTOR(int64_t, CXENT_W * 8) cxent_labels;
CXENT_VECTOR(uint64_t, CXENT_VECTOR_BYTES) cxent_longs;
CXENT_VECTOR(cxent_signed_word, CXENT_VECTOR_BYTES) cxent_truths;
#define CXENT_CONVERT(x, type) __builtin_convertvector(x, type)
#define CXENT_CHOOSE(truth, a, b) (((cxent_bits) (truth) & (a)) | (~(cxent_bits) (truth) & (b)))
#else
typedef cxent_real cxent_vec;
typedef cxent_word cxent_bits;
typedef double cxent_wide;
typedef uint8_t cxent_bytes;
typedef uint16_t cxent_halfwords;
typedef int64_t cxent_labels;
typedef uint64_t cxent_longs;
typedef int cxent_truths;
#define CXENT_CONVERT(x, type) ((type) (x))
#define CXENT_CHOOSE(truth, a, b) ((truth) ? (a) : (b))
#endif

#if CXENT_VECTOR_BYTES == 64
typedef __mmask16 cxent_mask; /* (of which float64 uses half) */
#else
typedef cxent_truths cxent_mask;
#endif

#if defined(__GNUC__) || defined(__clang__)
#define CXENT_INLINE static inline __attribute__((always_inline, unused))
/* Returned by functions into which all that they call is to be inlined, so that literals choose their code; they
   themselves are not, lest every caller have a copy. */
#define cxent_flattened __attribute__((flatten, noinline)) void
#define cxent_prefetch(p) __builtin_prefetch((p), 0)
#define cxent_prefetch_to_write(p) __builtin_prefetch((p), 1)
#else
#define CXENT_INLINE static __forceinline
#define cxent_flattened void
#define cxent_prefetch(p) ((void) (p))
#define cxent_prefetch_to_write(p) ((void) (p))
#endif

/* An intrinsic of this vector's width and dtype: CXENT_OP(max) is _mm256_max_ps for 8 numbers of float32. */
#ifdef CXENT_X86
#if CXENT_VECTOR_BYTES == 64
#define CXENT_BY_WIDTH(name, suffix) _mm512_##name##suffix
#elif CXENT_VECTOR_BYTES == 32
#define CXENT_BY_WIDTH(name, suffix) _mm256_##name##suffix
#else
#define CXENT_BY_WIDTH(name, suffix) _mm_##name##suffix
#endif
#if CXENT_FLOAT64
#define CXENT_OP(name) CXENT_BY_WIDTH(name, _pd)
#define CXENT_WITH_TYPE(name, suffix) name##_pd##suffix
#else
#define CXENT_OP(name) CXENT_BY_WIDTH(name, _ps)
#define CXENT_WITH_TYPE(name, suffix) name##_ps##suffix
#endif
#endif

/* --- numbers and bits -------------------------------------------------------------------------------------------- */

#if CXENT_W > 1
#define CXENT_EVERY(x, vector) ((x) - (vector) {0})
#else
#define CXENT_EVERY(x, vector) (x)
#endif

CXENT_INLINE cxent_vec cxent_broadcast(cxent_real x) { return CXENT_EVERY(x, cxent_vec); }
CXENT_INLINE cxent_wide cxent_broadcast_wide(double x) { return CXENT_EVERY(x, cxent_wide); }
CXENT_INLINE cxent_longs cxent_broadcast_longs(uint64_t x) { return CXENT_EVERY(x, cxent_longs); }
CXENT_INLINE cxent_bits cxent_broadcast_bits(cxent_word x) { return CXENT_EVERY(x, cxent_bits); }

CXENT_INLINE cxent_bits cxent_bits_of(cxent_vec x) {
    cxent_bits b;
    memcpy(&b, &x, sizeof b);
    return b;
}
CXENT_INLINE cxent_vec cxent_from_bits(cxent_bits b) {
    cxent_vec x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* 2^k, for the k + bias that stands in the lowest bits of t. */
#define cxent_scale_bits(t) cxent_from_bits(cxent_bits_of(t) << CXENT_MANTISSA_BITS)

CXENT_INLINE cxent_vec cxent_absolute(cxent_vec x) {
    return cxent_from_bits(cxent_bits_of(x) & cxent_broadcast_bits((cxent_word) -1 >> 1));
}

/* --- arithmetic -------------------------------------------------------------------------------------------------- */

/* a * b + c, rounded once where the CPU can. */
CXENT_INLINE cxent_vec cxent_fma(cxent_vec a, cxent_vec b, cxent_vec c) {
#if !CXENT_FUSED
    return a * b + c;
#elif CXENT_W == 1
    return CXENT_FLOAT64 ? fma(a, b, c) : fmaf(a, b, c);
#elif defined(CXENT_X86)
    return CXENT_OP(fmadd)(a, b, c);
#elif CXENT_FLOAT64
    return vfmaq_f64(c, a, b);
#else
    return vfmaq_f32(c, a, b);
#endif
}

/* a, if it is larger than b; else b, which therefore is what comes of a NaN. */
CXENT_INLINE cxent_vec cxent_maximum(cxent_vec a, cxent_vec b) {
#if CXENT_W == 1
    return a > b ? a : b;
#elif defined(CXENT_X86)
    return CXENT_OP(max)(a, b);
#else
    return cxent_from_bits(CXENT_CHOOSE(a > b, cxent_bits_of(a), cxent_bits_of(b)));
#endif
}

/* --- comparison and selection ------------------------------------------------------------------------------------ */

#if CXENT_VECTOR_BYTES == 64
#define CXENT_COMPARE(a, b, operation, sign) CXENT_WITH_TYPE(_mm512_cmp, _mask)(a, b, operation)
#else
#define CXENT_COMPARE(a, b, operation, sign) ((a) sign(b))
#endif

CXENT_INLINE cxent_mask cxent_greater(cxent_vec a, cxent_vec b) { return CXENT_COMPARE(a, b, _CMP_GT_OQ, >); }
CXENT_INLINE cxent_mask cxent_at_least(cxent_vec a, cxent_vec b) { return CXENT_COMPARE(a, b, _CMP_GE_OQ, >=); }
CXENT_INLINE cxent_mask cxent_equal(cxent_vec a, cxent_vec b) { return CXENT_COMPARE(a, b, _CMP_EQ_OQ, ==); }

/* a where the mask is set, b elsewhere. */
CXENT_INLINE cxent_vec cxent_select(cxent_mask mask, cxent_vec a, cxent_vec b) {
#if CXENT_VECTOR_BYTES == 64
    return CXENT_OP(mask_blend)(mask, b, a);
#elif CXENT_VECTOR_BYTES == 32
    return CXENT_OP(blendv)(b, a, (cxent_vec) mask);
#else
    return cxent_from_bits(CXENT_CHOOSE(mask, cxent_bits_of(a), cxent_bits_of(b)));
#endif
}

/* a where the mask is not set, 0 elsewhere. */
CXENT_INLINE cxent_vec cxent_unless(cxent_mask mask, cxent_vec a) {
#if CXENT_VECTOR_BYTES == 64 || CXENT_W == 1
    return cxent_select(mask, cxent_broadcast(0), a);
#else
    return cxent_from_bits(~(cxent_bits) mask & cxent_bits_of(a));
#endif
}

/* n + 1 where the mask is set, n elsewhere. */
CXENT_INLINE cxent_bits cxent_count(cxent_bits n, cxent_mask mask) {
#if CXENT_VECTOR_BYTES == 64 && CXENT_FLOAT64
    return (cxent_bits) _mm512_mask_add_epi64((__m512i) n, mask, (__m512i) n, _mm512_set1_epi64(1));
#elif CXENT_VECTOR_BYTES == 64
    return (cxent_bits) _mm512_mask_add_epi32((__m512i) n, mask, (__m512i) n, _mm512_set1_epi32(1));
#elif CXENT_W == 1
    return n + (mask ? 1 : 0);
#else
    return n - (cxent_bits) mask;
#endif
}

/* Bit k is set where the mask is in lane k. */
CXENT_INLINE unsigned cxent_lanes_of(cxent_mask mask) {
#if CXENT_VECTOR_BYTES == 64 || CXENT_W == 1
    return (unsigned) mask;
#elif CXENT_VECTOR_BYTES == 32
    return (unsigned) CXENT_OP(movemask)((cxent_vec) mask);
#else
    unsigned lanes = 0;
    for (int k = 0; k < CXENT_W; k++)
        lanes |= (mask[k] ? 1u : 0u) << k;
    return lanes;
#endif
}

/* The number of the lowest bit that is set, of which there is one. */
CXENT_INLINE int cxent_lowest(unsigned lanes) {
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_ctz(lanes);
#else
    int k = 0;
    while (!(lanes >> k & 1))
        k++;
    return k;
#endif
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

CXENT_INLINE cxent_vec cxent_load(const cxent_real* p) {
    cxent_vec x;
    memcpy(&x, p, sizeof x);
    return x;
}
CXENT_INLINE void cxent_store(cxent_real* p, cxent_vec x) { memcpy(p, &x, sizeof x); }
CXENT_INLINE cxent_real cxent_first(cxent_vec x) {
    cxent_real n;
    memcpy(&n, &x, sizeof n);
    return n;
}

/* p[k] for each k of a vector. (AVX2's instruction for it is no faster.) */
CXENT_INLINE cxent_vec cxent_gather(const cxent_real* p, cxent_bits at) {
#if CXENT_W == 1
    return p[at];
#else
    cxent_vec x = cxent_broadcast(0);
#pragma GCC unroll 16
    for (int k = 0; k < CXENT_W; k++)
        x[k] = p[at[k]];
    return x;
#endif
}

/* The first n numbers at p, and `fill` in the place of the others; n may be 0 or less, W or more. */
CXENT_INLINE cxent_vec cxent_load_first(const cxent_real* p, ptrdiff_t n, cxent_vec fill) {
    if (n >= CXENT_W)
        return cxent_load(p);
#if CXENT_VECTOR_BYTES == 64
    return CXENT_OP(mask_loadu)(fill, (cxent_mask) ((1u << (n > 0 ? n : 0)) - 1), p);
#elif CXENT_VECTOR_BYTES == 32
    static const cxent_signed_word set_then_not[2 * CXENT_W] = {[0 ... CXENT_W - 1] = -1};
    const __m256i mask = _mm256_loadu_si256((const __m256i*) (set_then_not + CXENT_W - (n > 0 ? n : 0)));
    return CXENT_OP(blendv)(fill, CXENT_OP(maskload)(p, mask), (cxent_vec) mask);
#elif CXENT_W > 1
    for (ptrdiff_t k = 0; k < CXENT_W - 1; k++)
        if (k < n)
            fill[k] = p[k];
    return fill;
#else
    return fill;
#endif
}

/* The first n numbers of x to p. (AVX2's masked store takes 40 operations on AMD's CPUs.) */
CXENT_INLINE void cxent_store_first(cxent_real* p, cxent_vec x, ptrdiff_t n) {
    if (n >= CXENT_W) {
        cxent_store(p, x);
        return;
    }
#if CXENT_VECTOR_BYTES == 64
    CXENT_OP(mask_storeu)(p, (cxent_mask) ((1u << (n > 0 ? n : 0)) - 1), x);
#elif CXENT_W > 1
    for (ptrdiff_t k = 0; k < CXENT_W - 1; k++)
        if (k < n)
            p[k] = x[k];
#endif
}

/* Past the caches; p must be a multiple of the vector's size. What is written so is ordered by `cxent_fence`. */
CXENT_INLINE void cxent_stream(cxent_real* p, cxent_vec x) {
#if defined(CXENT_X86) && CXENT_W > 1
    CXENT_OP(stream)(p, x);
#else
    cxent_store(p, x);
#endif
}

CXENT_INLINE void cxent_fence(void) {
#ifdef CXENT_X86
    _mm_sfence();
#endif
}

#include "places.h"

/* --- other dtypes ------------------------------------------------------------------------------------------------ */

/* A vector of float32 in float64, half by half; one of float64 is its only half. */
CXENT_INLINE cxent_wide cxent_widen(cxent_vec x, int half) {
#if CXENT_VECTOR_BYTES == 32 && !CXENT_FLOAT64
    return _mm256_cvtps_pd(half ? _mm256_extractf128_ps(x, 1) : _mm256_castps256_ps128(x));
#elif CXENT_HALVES == 2
    CXENT_VECTOR(float, CXENT_VECTOR_BYTES / 2) halves;
    halves h[2];
    memcpy(h, &x, sizeof x);
    return __builtin_convertvector(h[half], cxent_wide);
#else
    (void) half;
    return x;
#endif
}

/* The inverse. */
CXENT_INLINE cxent_vec cxent_narrow(const cxent_wide* halves) {
#if CXENT_VECTOR_BYTES == 32 && !CXENT_FLOAT64
    return _mm256_set_m128(_mm256_cvtpd_ps(halves[1]), _mm256_cvtpd_ps(halves[0])); /* (not by way of memory) */
#elif CXENT_HALVES == 2
    CXENT_VECTOR(float, CXENT_VECTOR_BYTES / 2) half;
    const half h[2] = {__builtin_convertvector(halves[0], half), __builtin_convertvector(halves[1], half)};
    return cxent_load((const cxent_real*) h);
#else
    return (cxent_vec) halves[0];
#endif
}

CXENT_INLINE cxent_wide cxent_load_wide(const double* p) {
    cxent_wide x;
    return memcpy(&x, p, sizeof x), x;
}
CXENT_INLINE void cxent_store_wide(double* p, cxent_wide x) { memcpy(p, &x, sizeof x); }

#include "formats.h"

#endif
