"""exp, expm1, log and log1p of vectors: each with its formula, its range, and the worst error that was found.

The errors are in units in the last place (ulp) of the result, with fused multiply-add. Those of float32 were found by
``tools/sweep_math.py`` over all arguments named; those of float64 over 10^7 random ones. The exponentials of rows,
where the time goes, have a form of their own, `exponential`.

Tried on AVX2, all in L1: Horner's order in exp, no faster; a test for small results instead of the clamp, two
operations instead of one; ln 2 in one part for float32, 7 to 10 % faster, and up to 4 ulp off for arguments far from 0
that are exact; its second part added to r alone, and not to what the polynomial takes, 1 to 3 % faster, and 2.1 ulp
off; five coefficients instead of six, 10 % faster, and 2.3 ulp off; the power of 2 multiplied in at the end, one
rounding more. Of float32 on a Zen 2 (10^9/s): one vector after the other 2.74; the first halves of eight before their
second halves 3.51, of four 3.12; eight in thirds 2.93 to 3.33; four side by side line by line 3.18, eight so 2.86. In
the loop over a row on a Zen 3: the first halves of four before their second halves 1.07 to 1.15 times as fast as one
after the other, of eight no faster; a table with powers of 2 that are rounded by up to half an ulp, 4.9 ulp off.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from .simd cimport (
    FLOAT64, FUSED, MANTISSA_BITS, absolute, at_least, bits, bits_of, broadcast, broadcast_bits, equal, fma, from_bits,
    greater, look_up, mask, maximum, real, scale_bits, select, unless, vec, word,
)

cdef extern from "<math.h>" nogil:
    const float INFINITY
    const float NAN

cdef extern from "<float.h>" nogil:
    const double LARGEST "DBL_MAX"
    const double LARGEST_FLOAT32 "FLT_MAX"

cdef enum:
    BIAS = 64 * (1 + FLOAT64)   # the exponentials of a row are kept times 2^BIAS

cdef extern from *:
    """
    /* c 2^(j/8) in float32, less j in the place of the exponent's last bits (see `exponential`) */
    static const cxent_word cxent_powers[8] = {
        0x3F8B3A3E, 0x3F87D424, 0x3F859202, 0x3F848E45, 0x3F84E5BE, 0x3F86B7DA, 0x3F8A26DE, 0x3F8F5829};
    """
    const word* POWERS "cxent_powers"


# --- exp and expm1 of what is not positive -------------------------------------------------------------------------

cdef inline vec expm1_of_remainder(vec r) noexcept nogil:
    """exp(r) - 1 = r + r^2 q(r) for |r| <= ln(2) / 2, q fitted for the least relative error (2^-28 and 2^-58)."""
    cdef vec r2 = r * r
    cdef vec r4
    if FLOAT64:
        r4 = r2 * r2
        return fma(r2, fma(
            r4,
            fma(r4, fma(broadcast(2.5000301260848814e-08), r, broadcast(2.7630307297545969e-07)),
                fma(r2, fma(broadcast(2.75575859360685e-06), r, broadcast(2.4801492945913477e-05)),
                    fma(broadcast(0.00019841269506712362), r, broadcast(0.001388888894376444)))),
            fma(r2, fma(broadcast(0.0083333333334945636), r, broadcast(0.041666666666529704)),
                fma(broadcast(0.16666666666666413), r, broadcast(0.50000000000000111)))), r)
    return fma(r2, fma(
        r2,
        fma(r2, broadcast(0.00138144822), fma(broadcast(0.0083687589), r, broadcast(0.0416683929))),
        fma(broadcast(0.1666652026), r, broadcast(0.4999999342))), r)


cdef inline vec exp_less(vec x, int exponent, real less) noexcept nogil:
    """exp(x) * 2^exponent - less for x <= 0, and 0 - less where exp(x) * 2^exponent is no normal number.

    With k = round(x / ln 2) it is 2^k exp(x - k ln 2). Adding 1.5 * 2^MANTISSA_BITS rounds to an integer, which then
    stands in the lowest bits. ln 2 is subtracted in two parts, the first of which makes an exact product.
    Worst error, less = 0: float32 1.02 ulp over all x from -200 to 0, float64 1.07 ulp. NaN for NaN.
    """
    cdef vec t, k, r, power
    if FLOAT64:
        x = maximum(broadcast(-0.69314718055994531 * (1023 + exponent)), x)
        t = fma(x, broadcast(1.4426950408889634), broadcast(6755399441055744.0 + (1023 + exponent)))
        k = t - broadcast(6755399441055744.0 + (1023 + exponent))
        r = fma(k, broadcast(-0.69314718036912382), x)
        r = fma(k, broadcast(-1.9082149292705877e-10), r)
    else:
        x = maximum(broadcast(-0.6931472 * (127 + exponent)), x)
        t = fma(x, broadcast(1.4426950408889634), broadcast(12582912.0 + (127 + exponent)))
        k = t - broadcast(12582912.0 + (127 + exponent))
        r = fma(k, broadcast(-0.693115234375), x)
        r = fma(k, broadcast(-3.19461833e-05), r)
    power = scale_bits(t)
    return fma(power, expm1_of_remainder(r), power - broadcast(less) if less != 0 else power)


cdef inline vec exp(vec x, int exponent) noexcept nogil:
    """exp(x) * 2^exponent for x <= 0: as above."""
    return exp_less(x, exponent, 0)


cdef inline vec expm1(vec x) noexcept nogil:
    """exp(x) - 1 for x <= 0. Worst error: float32 0.99 ulp over all x from -20 to 0, float64 1.15 ulp."""
    return exp_less(x, 0, 1)


cdef inline vec exp_any(vec x) noexcept nogil:
    """exp(x) for any x: as above, and inf from 2^127.5 (float32) or 2^1023.5 (float64) on."""
    cdef vec largest = broadcast(709.43613930310391 if FLOAT64 else 88.3762626)
    return select(greater(x, largest), broadcast(INFINITY), exp(x, 0))


# --- the exponentials of a row -------------------------------------------------------------------------------------

cdef struct Scale:      # of a row's exponentials: what makes its largest about 2^BIAS
    vec shift           # taken from its numbers first: 0, or the largest of them (see `shift_of`)
    vec lowest          # smaller ones count as this one, whose exponential is next to nothing
    vec magic           # adding it rounds to an integer, and takes the largest number's power of 2 away


cdef inline Scale scale_of(vec m, vec shift) noexcept nogil:
    """The scale of a row whose largest number is m."""
    cdef vec k
    if FLOAT64:
        k = fma(m - shift, broadcast(1.4426950408889634), broadcast(6755399441055744.0)) - broadcast(6755399441055744.0)
        return Scale(shift, fma(k, broadcast(0.69314718055994531), broadcast(-0.69314718055994531 * (1021 + BIAS))),
                     broadcast(6755399441055744.0 + 1023 + BIAS) - k)
    k = fma(m - shift, broadcast(1.4426950408889634), broadcast(12582912.0)) - broadcast(12582912.0)
    return Scale(shift, fma(k, broadcast(0.6931472), broadcast(-0.6931472 * (125 + BIAS))),
                 fma(k, broadcast(-8), broadcast(12582912.0 + 8 * BIAS)))


cdef inline vec shift_of(vec m) noexcept nogil:
    """0, or m where it is 2^16 or more, or infinite: then x - m is exact for every x near enough to count.

    (Without fused multiply-add float32 has exact products with ln 2 up to 177 alone: there it is 177 or more, and -89
    or less, for probabilities are of numbers to 88 below m.)
    """
    if FUSED or FLOAT64:
        return select(greater(broadcast(65536), absolute(m)), broadcast(0), m)
    return select(greater(broadcast(133), absolute(m - broadcast(44))), broadcast(0), m)


cdef inline vec remainder_of(vec x, vec lowest, vec magic, vec* t) noexcept nogil:
    """The first half of `exponential`: r, and t with k in its lowest bits."""
    cdef vec k, r
    x = maximum(lowest, x)
    if FLOAT64:
        t[0] = fma(x, broadcast(1.4426950408889634), magic)
        k = t[0] - magic
        r = fma(k, broadcast(-0.69314718036912382), x)
        return fma(k, broadcast(-1.9082149292705877e-10), r)
    t[0] = fma(x, broadcast(11.5415603), magic)
    k = t[0] - magic
    r = fma(k, broadcast(-0.086639404296875), x)
    return fma(k, broadcast(-3.9932729162e-06), r)


cdef inline vec exponential_of_remainder(vec r, vec t) noexcept nogil:
    """The second half."""
    cdef vec power
    if FLOAT64:
        power = scale_bits(t)
        return fma(power, expm1_of_remainder(r), power)
    power = from_bits(look_up(POWERS, bits_of(t)) + (bits_of(t) << 20))
    return fma(power, fma(r * r, fma(broadcast(0.16669), r, broadcast(0.5000785)), r), power)


cdef inline vec exponential(vec x, vec lowest, vec magic) noexcept nogil:
    """c 2^(BIAS - K) exp(x) for x <= m, K = round(m / ln 2), c the same for all x (1.0877 in float32, 1 in float64).

    x is not shifted, so nothing of it is rounded: K is taken from t, where it is an integer. In float32 exp(x) is
    2^(k/8) exp(r), r = x - k ln(2) / 8: the eighths of k, its lowest three bits, choose one of eight powers, to whose
    exponent the other bits are added (less those of the eighths, which are taken out of the table). c, which cancels
    wherever exponentials are compared, is that for which all eight have the least error, 2^-28. The polynomial has
    2^-25.6. Worst error: float32 0.87 ulp, float64 1.07 ulp, both of c exp(x). NaN for NaN.
    """
    cdef vec t
    cdef vec r = remainder_of(x, lowest, magic, &t)
    return exponential_of_remainder(r, t)


cdef inline vec flush(vec e) noexcept nogil:
    """0 in the place of exponentials whose share of a sum is no normal number."""
    return unless(greater(broadcast(3.785766995733679e-270 if FLOAT64 else 1.0842021724855044e-19), e), e)


cdef inline vec unbiased(vec e) noexcept nogil:
    """e * 2^-BIAS. (Not in one factor with another, which may be small itself.)"""
    return e * broadcast(2.938735877055719e-39 if FLOAT64 else 5.421010862427522e-20)


cdef inline vec exponential_below_zero(vec x) noexcept nogil:
    """c exp(x) of a row whose largest number is 0. (For tests.)"""
    cdef Scale scale = scale_of(broadcast(0), broadcast(0))
    return unbiased(flush(exponential(x, scale.lowest, scale.magic)))


# --- logarithms ----------------------------------------------------------------------------------------------------

cdef inline vec log_of_product(vec k, vec f) noexcept nogil:
    """log(2^k (1 + f)) for 1 + f from sqrt(1/2) to sqrt(2).

    log(1 + f) = 2 artanh(s) with s = f / (2 + f); its series in s^2 is fitted for the least relative error (2^-28 and
    2^-59).
    """
    cdef vec s = f / (broadcast(2) + f)
    cdef vec z = s * s
    cdef vec z2, series
    if FLOAT64:
        z2 = z * z
        series = fma(z2,
                     fma(z2, fma(z2, broadcast(0.14795785353616853),
                                 fma(z, broadcast(0.15314069535395727), broadcast(0.18183563480903744))),
                         fma(z, broadcast(0.2222219859148781), broadcast(0.2857142874218907))),
                     fma(z, broadcast(0.39999999999415659), broadcast(0.6666666666666734)))
        series = z * series
        return fma(k, broadcast(0.69314718036912382),
                   f - fma(s, f - series, k * broadcast(-1.9082149292705877e-10)))
    series = z * fma(z, fma(z, broadcast(0.2958568077), broadcast(0.3998865394)), broadcast(0.6666668535))
    return fma(k, broadcast(0.693115234375), f - fma(s, f - series, k * broadcast(-3.19461833e-05)))


cdef inline bits exponent_of(vec x) noexcept nogil:
    """128 + k in float32, 1024 + k in float64, for x = 2^k (1 + f) as above."""
    return (bits_of(x) + (broadcast_bits(<word> (0x4000000000000000 - 0x3FE6A09E667F3BCD)) if FLOAT64
                          else broadcast_bits(0x40000000 - 0x3F3504F3))) >> MANTISSA_BITS


cdef inline vec number_of(bits n) noexcept nogil:
    """A small integer as a number: it stands in the lowest bits of 2^MANTISSA_BITS."""
    return from_bits(n + bits_of(broadcast(4503599627370496.0 if FLOAT64 else 8388608.0))) - broadcast(
        4503599627370496.0 if FLOAT64 else 8388608.0)


cdef inline vec log1p(vec x) noexcept nogil:
    """log(1 + x) for finite x > -0.5: f comes from x itself, so that a small one keeps its digits. NaN for NaN.

    Worst error: float32 1.50 ulp over all x from 0 to 10^6, float64 1.48 ulp.
    """
    cdef bits exponent = exponent_of(broadcast(1) + x)
    cdef vec scale = from_bits((broadcast_bits(2047 if FLOAT64 else 255) - exponent) << MANTISSA_BITS)  # 2^-k
    return log_of_product(number_of(exponent) - broadcast(1024 if FLOAT64 else 128),
                          fma(x, scale, scale - broadcast(1)))


cdef inline vec log(vec x) noexcept nogil:
    """log(x): -inf for 0, NaN for what is below. Worst error: float32 0.90 ulp over all x, float64 0.92 ulp."""
    cdef vec tiny = broadcast(2.2250738585072014e-308 if FLOAT64 else 1.17549435e-38)  # the smallest normal number
    cdef vec normal = select(greater(tiny, x), x * broadcast(18014398509481984.0), x)  # times 2^54
    cdef vec shift = select(greater(tiny, x), broadcast(54), broadcast(0))
    cdef bits exponent = exponent_of(normal)
    cdef bits bias = broadcast_bits(1024 if FLOAT64 else 128)
    cdef vec f = from_bits(bits_of(normal) - ((exponent - bias) << MANTISSA_BITS)) - broadcast(1)
    cdef vec result = log_of_product((number_of(exponent) - broadcast(1024 if FLOAT64 else 128)) - shift, f)
    result = select(greater(broadcast(INFINITY), x), result, x)
    result = select(equal(x, broadcast(0)), broadcast(-INFINITY), result)
    return select(at_least(x, broadcast(0)), result, x - x + broadcast(NAN))


cdef inline vec log1p_or_log(mask near_one, vec x, vec y) noexcept nogil:
    """log(1 + x) for x > -0.5 where `near`, and log(y) for finite y > 0 elsewhere: their bits, by one logarithm."""
    cdef vec zero = broadcast(0)
    cdef vec tiny = broadcast(2.2250738585072014e-308 if FLOAT64 else 1.17549435e-38)
    cdef vec one = select(near_one, broadcast(1), zero)
    cdef vec part = select(near_one, x, y)
    cdef mask is_tiny = greater(tiny, one + part)
    cdef bits exponent
    cdef vec scale
    part = select(is_tiny, part * broadcast(18014398509481984.0), part)     # times 2^54
    exponent = exponent_of(one + part)
    scale = from_bits((broadcast_bits(2047 if FLOAT64 else 255) - exponent) << MANTISSA_BITS)   # 2^-k
    return log_of_product((number_of(exponent) - broadcast(1024 if FLOAT64 else 128))
                          - select(is_tiny, broadcast(54), zero), fma(part, scale, fma(one, scale, broadcast(-1))))


cdef inline vec quotient(vec a, vec b) noexcept nogil:
    """a / b, and 0 where b is."""
    return select(equal(b, broadcast(0)), broadcast(0), a / b)


cdef inline vec product(vec a, vec b) noexcept nogil:
    """a * b, and 0 where a is, whatever b is there."""
    return select(equal(a, broadcast(0)), broadcast(0), a * b)


# --- powers of two -------------------------------------------------------------------------------------------------

cdef inline int exponent_to_one(double x) noexcept nogil:
    """k, so that x * 2^k is from 1 to 2; below that for the smallest x, and 0 for 0."""
    cdef uint64_t pattern
    memcpy(&pattern, &x, sizeof(pattern))
    return 1023 - max(<int> (pattern >> 52 & 0x7FF), 1) if x != 0 else 0


cdef inline double power_of_two(int k) noexcept nogil:
    """2^k for k from -1023 to 1023."""
    cdef uint64_t pattern = <uint64_t> (k + 1023) << 52 if k > -1023 else <uint64_t> 1 << 51
    cdef double x
    memcpy(&x, &pattern, sizeof(x))
    return x


cdef struct Scaled:         # a number that this dtype may not have: factor * power
    real factor
    real power


cdef inline Scaled scaled(double x) noexcept nogil:
    """x, times a power of 2 where it is too large or too small: so nothing is rounded that was not."""
    cdef double largest = LARGEST if FLOAT64 else LARGEST_FLOAT32
    cdef int k = exponent_to_one(x)
    if FLOAT64 or -96 <= k <= 96:
        k = 0
    k = max(-126, min(k, 126))
    x *= power_of_two(k)
    return Scaled(<real> max(-largest, min(x, largest)), <real> power_of_two(-k))


# --- powers of numbers up to 1 ---------------------------------------------------------------------------------------

cdef inline vec power(vec u, vec minus_log_u, real gamma) noexcept nogil:
    """u^gamma for u from 0 to 1: whole powers by multiplication, since those of exp(gamma log(u)) lose digits."""
    cdef int whole = <int> gamma
    cdef vec result = exp(-product(broadcast(gamma - whole), minus_log_u), 0) if gamma != whole else broadcast(1)
    while whole > 0:
        if whole & 1:
            result = result * u
        u = u * u
        whole >>= 1
    return result
