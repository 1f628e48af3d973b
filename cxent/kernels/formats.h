/* Booleans, labels and half precision as vectors: the part of ``simd.h`` that includes it. */
#ifndef CXENT_FORMATS_H
#define CXENT_FORMATS_H

/* Which of W booleans, each a byte, are set. (GCC 12 converts bytes one by one.) */
CXENT_INLINE cxent_mask cxent_load_truths(const void* p) {
#if CXENT_VECTOR_BYTES == 64
    const __m128i bytes = CXENT_FLOAT64 ? _mm_loadl_epi64((const __m128i*) p) : _mm_loadu_si128((const __m128i*) p);
    return _mm_test_epi8_mask(bytes, bytes);
#elif CXENT_VECTOR_BYTES == 32 && CXENT_FLOAT64
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return (cxent_truths) _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(bytes)) != 0;
#elif CXENT_VECTOR_BYTES == 32
    return (cxent_truths) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*) p)) != 0;
#else
    cxent_bytes bytes;
    memcpy(&bytes, p, sizeof bytes);
    return CXENT_CONVERT(bytes, cxent_truths) != 0;
#endif
}

CXENT_INLINE cxent_vec cxent_load_booleans(const void* p) {
    return cxent_select(cxent_load_truths(p), cxent_broadcast(1), cxent_broadcast(0));
}

/* W small labels as numbers. */
CXENT_INLINE cxent_vec cxent_load_labels(const int64_t* p) {
    cxent_labels labels;
    memcpy(&labels, p, sizeof labels);
    return CXENT_CONVERT(CXENT_CONVERT(labels, cxent_truths), cxent_vec);
}

/* As many labels as fit a vector, and the bits that are set in any of these. */
CXENT_INLINE cxent_longs cxent_load_longs(const int64_t* p) {
    cxent_longs labels;
    memcpy(&labels, p, sizeof labels);
    return labels;
}

CXENT_INLINE uint64_t cxent_any_of(cxent_longs labels) {
    uint64_t lane[sizeof labels / sizeof(uint64_t)], any = 0;
    memcpy(lane, &labels, sizeof labels);
    for (unsigned k = 0; k < sizeof lane / sizeof *lane; k++)
        any |= lane[k];
    return any;
}

#if !CXENT_FLOAT64
CXENT_INLINE cxent_vec cxent_load_bfloat16(const void* p) {
    cxent_halfwords h;
    memcpy(&h, p, sizeof h);
    return cxent_from_bits(CXENT_CONVERT(h, cxent_bits) << 16);
}

/* To the nearest, of two the even one; a NaN stays one. */
CXENT_INLINE void cxent_store_bfloat16(void* p, cxent_vec x) {
    const cxent_bits bits = cxent_bits_of(x), high = bits >> 16;
    const cxent_bits nearest = (bits + 0x7FFF + (high & 1)) >> 16;
    const cxent_halfwords h = CXENT_CONVERT(CXENT_CHOOSE(x != x, high | 0x40, nearest), cxent_halfwords);
    memcpy(p, &h, sizeof h);
}

CXENT_INLINE cxent_vec cxent_load_float16(const void* p) {
#if CXENT_VECTOR_BYTES == 64
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*) p));
#elif CXENT_VECTOR_BYTES == 32
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*) p));
#elif CXENT_W == 4 && defined(CXENT_NEON)
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*) p)));
#else
    cxent_halfwords h;
    memcpy(&h, p, sizeof h);
    const cxent_bits bits = CXENT_CONVERT(h, cxent_bits), magnitude = (bits & 0x7FFF) << 13;
    /* The exponent's bias is 112 less; that of what is infinite or NaN keeps all its bits. */
    const cxent_bits finite = cxent_bits_of(cxent_from_bits(magnitude) * 0x1p112f);
    return cxent_from_bits((bits & 0x8000) << 16
                           | CXENT_CHOOSE(magnitude >= 0x0F800000, magnitude | 0x7F800000, finite));
#endif
}

CXENT_INLINE void cxent_store_float16(void* p, cxent_vec x) {
#if CXENT_VECTOR_BYTES == 64
    _mm256_storeu_si256((__m256i*) p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif CXENT_VECTOR_BYTES == 32
    _mm_storeu_si128((__m128i*) p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif CXENT_W == 4 && defined(CXENT_NEON)
    vst1_u16((uint16_t*) p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
#else
    const cxent_bits bits = cxent_bits_of(x), magnitude = bits & 0x7FFFFFFF;
    /* Below the smallest normal number: added to 0.5, whose last bit is what theirs is. */
    const cxent_bits small = cxent_bits_of(cxent_from_bits(magnitude) + 0.5f) - 0x3F000000;
    const cxent_bits rounded = (magnitude + 0xC8000FFF + ((magnitude >> 13) & 1)) >> 13;
    const cxent_bits normal = CXENT_CHOOSE(magnitude >= 0x47800000, cxent_broadcast_bits(0x7C00), rounded);
    const cxent_bits number = CXENT_CHOOSE(magnitude < 0x38800000, small, normal);
    const cxent_bits half = CXENT_CHOOSE(magnitude > 0x7F800000, 0x7E00 | magnitude >> 13, number);
    const cxent_halfwords h = CXENT_CONVERT((bits >> 16 & 0x8000) | half, cxent_halfwords);
    memcpy(p, &h, sizeof h);
#endif
}

#else

/* Half precision is the float32 kernels' alone; these are never called. */
#define cxent_load_float16(p) cxent_broadcast(0)
#define cxent_load_bfloat16(p) cxent_broadcast(0)
#define cxent_store_float16(p, x) memset(p, 0, sizeof(cxent_halfwords))
#define cxent_store_bfloat16(p, x) memset(p, 0, sizeof(cxent_halfwords))

#endif

#endif
