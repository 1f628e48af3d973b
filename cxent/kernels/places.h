/* Numbers that change places within vectors and between them: the part of ``simd.h`` that includes it. */
#ifndef CXENT_PLACES_H
#define CXENT_PLACES_H

/* Pieces of n numbers, n a power of 2 below W, each in the place of its neighbour. */
CXENT_INLINE cxent_vec cxent_swap_pieces(cxent_vec x, int n) {
#if CXENT_VECTOR_BYTES == 64
    const __m512 y = (__m512) x;
    switch (n * sizeof(cxent_real)) {
    case 32: return (cxent_vec) _mm512_shuffle_f32x4(y, y, 0x4E);
    case 16: return (cxent_vec) _mm512_shuffle_f32x4(y, y, 0xB1);
    case 8: return (cxent_vec) _mm512_permute_ps(y, 0x4E);
    default: return (cxent_vec) _mm512_permute_ps(y, 0xB1);
    }
#elif CXENT_VECTOR_BYTES == 32
    const __m256 y = (__m256) x;
    switch (n * sizeof(cxent_real)) {
    case 16: return (cxent_vec) _mm256_permute2f128_ps(y, y, 1);
    case 8: return (cxent_vec) _mm256_permute_ps(y, 0x4E);
    default: return (cxent_vec) _mm256_permute_ps(y, 0xB1);
    }
#elif CXENT_W == 4
    return n == 2 ? __builtin_shufflevector(x, x, 2, 3, 0, 1) : __builtin_shufflevector(x, x, 1, 0, 3, 2);
#elif CXENT_W == 2
    return __builtin_shufflevector(x, x, 1, 0);
#else
    return x;
#endif
}

/* table[k] for the k in the lowest three bits of each number of t, of a table of 8. */
CXENT_INLINE cxent_bits cxent_look_up(const cxent_word* table, cxent_bits t) {
#if CXENT_FLOAT64
    (void) table;
    return t; /* (float64 has no table) */
#elif CXENT_VECTOR_BYTES == 64
    const __m256i eight = _mm256_loadu_si256((const __m256i*) table);
    return (cxent_bits) _mm512_permutexvar_epi32((__m512i) t, _mm512_broadcast_i64x4(eight));
#elif CXENT_VECTOR_BYTES == 32
    return (cxent_bits) _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*) table), (__m256i) t);
#elif CXENT_W == 4 && defined(CXENT_NEON)
    const uint8x16x2_t bytes = {{vld1q_u8((const uint8_t*) table), vld1q_u8((const uint8_t*) (table + 4))}};
    return (cxent_bits) vqtbl2q_u8(bytes, (uint8x16_t) ((t & 7) * 0x04040404 + 0x03020100));
#elif CXENT_W == 4 && defined(__AVX__)
    const __m128 low = _mm_loadu_ps((const float*) table), high = _mm_loadu_ps((const float*) (table + 4));
    return (cxent_bits) _mm_blendv_ps(_mm_permutevar_ps(low, (__m128i) t), _mm_permutevar_ps(high, (__m128i) t),
                                      (__m128) (t << 29));
#elif CXENT_W > 1
    cxent_bits found = t;
    for (int k = 0; k < CXENT_W; k++)
        found[k] = table[t[k] & 7];
    return found;
#else
    return table[t & 7];
#endif
}

enum { CXENT_BLOCK = CXENT_W == 1 ? 1 : 128 / CXENT_REAL_BITS }; /* numbers in 16 bytes */

/* Within every 16 bytes of BLOCK vectors, for which all CPUs have instructions that interleave the low (high) halves of
   two: number k of vector j and number j of vector k change places. */
#if CXENT_VECTOR_BYTES == 64 || CXENT_VECTOR_BYTES == 32
#define CXENT_LOW(a, b) CXENT_OP(unpacklo)(a, b)
#define CXENT_HIGH(a, b) CXENT_OP(unpackhi)(a, b)
#define CXENT_LOW_PAIRS(a, b) ((cxent_vec) CXENT_BY_WIDTH(unpacklo, _pd)((cxent_wide) (a), (cxent_wide) (b)))
#define CXENT_HIGH_PAIRS(a, b) ((cxent_vec) CXENT_BY_WIDTH(unpackhi, _pd)((cxent_wide) (a), (cxent_wide) (b)))
#elif CXENT_W == 4
#define CXENT_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define CXENT_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define CXENT_LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define CXENT_HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#elif CXENT_W == 2
#define CXENT_LOW(a, b) __builtin_shufflevector(a, b, 0, 2)
#define CXENT_HIGH(a, b) __builtin_shufflevector(a, b, 1, 3)
#endif

CXENT_INLINE void cxent_transpose_blocks(cxent_vec* v) {
#if CXENT_W == 1
    (void) v;
#elif CXENT_FLOAT64
    const cxent_vec a = v[0], b = v[1];
    v[0] = CXENT_LOW(a, b);
    v[1] = CXENT_HIGH(a, b);
#else
    const cxent_vec a = CXENT_LOW(v[0], v[1]), b = CXENT_HIGH(v[0], v[1]);
    const cxent_vec c = CXENT_LOW(v[2], v[3]), d = CXENT_HIGH(v[2], v[3]);
    v[0] = CXENT_LOW_PAIRS(a, c);
    v[1] = CXENT_HIGH_PAIRS(a, c);
    v[2] = CXENT_LOW_PAIRS(b, d);
    v[3] = CXENT_HIGH_PAIRS(b, d);
#endif
}

/* v[k] = number k of each of W lines, `stride` bytes apart: BLOCK numbers of a line. A vector is loaded in pieces of 16
   bytes, each of which already is where it belongs; so nothing has to change places between the pieces. */
CXENT_INLINE void cxent_load_block(const void* lines, ptrdiff_t stride, cxent_vec* v) {
    const char* line = (const char*) lines;
    const ptrdiff_t next = CXENT_BLOCK * stride;
    (void) next;
#define CXENT_TWO(line) _mm256_loadu2_m128((const float*) ((line) + next), (const float*) (line))
    for (int k = 0; k < CXENT_BLOCK; k++, line += stride)
#if CXENT_VECTOR_BYTES == 64
        v[k] = (cxent_vec) _mm512_insertf32x8(_mm512_castps256_ps512(CXENT_TWO(line)), CXENT_TWO(line + 2 * next), 1);
#elif CXENT_VECTOR_BYTES == 32
        v[k] = (cxent_vec) CXENT_TWO(line);
#else
        v[k] = cxent_load((const cxent_real*) line);
#endif
    cxent_transpose_blocks(v);
}

/* The inverse: number k of each of W lines = v[k], of BLOCK vectors. Lines are written in their order. */
CXENT_INLINE void cxent_store_block(void* lines, ptrdiff_t stride, cxent_vec* v) {
    char* line = (char*) lines;
    cxent_transpose_blocks(v);
    for (int piece = 0; piece < CXENT_W; piece += CXENT_BLOCK)
        for (int k = 0; k < CXENT_BLOCK; k++, line += stride)
            memcpy(line, (const char*) &v[k] + piece * sizeof(cxent_real), CXENT_BLOCK * sizeof(cxent_real));
}

/* The same of W vectors, whose pieces change places in registers, so that whole vectors are stored. */
CXENT_INLINE void cxent_store_square(void* lines, ptrdiff_t stride, cxent_vec* v) {
    char* line = (char*) lines;
    for (int k = 0; k < CXENT_W; k += CXENT_BLOCK)
        cxent_transpose_blocks(v + k);
#if CXENT_VECTOR_BYTES == 32
    for (int k = 0; k < CXENT_BLOCK; k++) {
        const cxent_vec a = v[k], b = v[k + CXENT_BLOCK];
        v[k] = (cxent_vec) _mm256_permute2f128_ps((__m256) a, (__m256) b, 0x20);
        v[k + CXENT_BLOCK] = (cxent_vec) _mm256_permute2f128_ps((__m256) a, (__m256) b, 0x31);
    }
#elif CXENT_VECTOR_BYTES == 64
#define CXENT_PIECES(a, b, order) ((cxent_vec) _mm512_shuffle_f32x4((__m512) (a), (__m512) (b), order))
    for (int k = 0; k < CXENT_BLOCK; k++) {
        const cxent_vec a = v[k], b = v[k + CXENT_BLOCK], c = v[k + 2 * CXENT_BLOCK], d = v[k + 3 * CXENT_BLOCK];
        const cxent_vec ab_low = CXENT_PIECES(a, b, 0x44), ab_high = CXENT_PIECES(a, b, 0xEE);
        const cxent_vec cd_low = CXENT_PIECES(c, d, 0x44), cd_high = CXENT_PIECES(c, d, 0xEE);
        v[k] = CXENT_PIECES(ab_low, cd_low, 0x88);
        v[k + CXENT_BLOCK] = CXENT_PIECES(ab_low, cd_low, 0xDD);
        v[k + 2 * CXENT_BLOCK] = CXENT_PIECES(ab_high, cd_high, 0x88);
        v[k + 3 * CXENT_BLOCK] = CXENT_PIECES(ab_high, cd_high, 0xDD);
    }
#endif
    for (int k = 0; k < CXENT_W; k++, line += stride)
        cxent_store((cxent_real*) line, v[k]);
}

#endif
