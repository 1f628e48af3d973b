"""The C loops: softmax, cross-entropy and their gradients over the rows of an array.

Design
------
Every function takes its arrays as 3-D views ``(outer, classes, inner)`` and treats each of the
``outer * inner`` rows of ``classes`` logits by itself. Labels and row results are ``(outer, inner)``.
Nothing here knows of options, defaults or errors: ``_arrays`` has checked everything before.

*One row.* With ``m = max(x)`` and ``rest = sum(exp(x_j - m)) - 1``, summed over all classes but one maximum,

    softmax_j = exp(x_j - m) / (1 + rest)         lse = m + log1p(rest)

``rest`` is kept apart from the 1 because a confident row has ``rest`` far below the rounding of 1: the
loss of logits [17, 0, 0] is ``log1p(8.3e-8)``, and ``log(1 + 8.3e-8)`` in float32 is 0. So the place of one
maximum is found first, and -inf stands there while the exponentials are summed. They are kept times 2^64 or
2^128 (``lift_of``), out of reach of the smallest normal number: thousands that are too small each still make a sum.
Differences from ``m`` are taken before anything else is added, so that no digit is lost to a large ``m``.

*One gradient.* Every cross-entropy gradient is ``a * exp(x_j - m) - b * target_j`` with two numbers per row.

*Vectors.* No ``-ffast-math``: the order of every sum is written here, and the compiler makes vectors of it
because each sum runs in LANES independent lanes. Lanes are folded pairwise, in double precision, after
a few additions, and the folds are added with compensation, so that the error of a sum does not grow with the
number of classes. The last classes of a row fill up a whole group of lanes with -inf, which adds nothing: the
exponentials need no remainder loop, and a row has the same bits wherever it stands.

*Memory.* A row is read for its maximum (which brings it into the cache), read again for its exponentials, which
go to the output, and these are scaled in place. While the exponentials are computed, the next row is prefetched.

*Layout.* Rows with contiguous classes are read and written where they are. Of others, up to TILE
neighbours at a time are gathered into a tile, and treated there by the same code.

Measured: softmax in 10^9 elements a second, one core of an AMD EPYC (Zen 5, AVX-512), GCC 12.2, November 2026.

    rows x classes             float32                  float64
                        16,384 x 100  512 x 32,000  16,384 x 100  512 x 32,000
    np.copyto                    5.7           4.4           2.7           2.3
    as written here             0.88           3.2          0.63           1.2
    without prefetching         0.82           2.5          0.62           1.0
    selects and counts           1.1           2.9          0.67           1.0
    torch 2.13                   1.4           2.2          0.54           1.0

- *Selects and counts*: instead of finding the place of the maximum, add exp(x_j - m) where x_j < m and count the
  maxima, in one branch-free loop. Its second array of lanes costs a store for every vector; the search for the maximum
  costs a row some 20 ns, which shows below some 200 classes.
- A clamp of the argument of exp before the polynomial keeps GCC from making vectors: it threads the constant
  branch. The select comes last.
- Eight additions to a float64 lane before the fold, as in float32, left gradients for smoothed labels wrong by up to
  6.7 units in the last place, two by up to 5.2: equal terms all round the same way.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport INFINITY, NAN, ldexp, log, log1p
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    static inline uint32_t float_bits(float x) { uint32_t b; memcpy(&b, &x, sizeof b); return b; }
    static inline uint64_t double_bits(double x) { uint64_t b; memcpy(&b, &x, sizeof b); return b; }
    static inline float float_from_bits(uint32_t b) { float x; memcpy(&x, &b, sizeof x); return x; }
    static inline double double_from_bits(uint64_t b) { double x; memcpy(&x, &b, sizeof x); return x; }

    #ifdef __GNUC__
    #define prefetch_to_read(address) __builtin_prefetch((address), 0)
    #define prefetch_to_write(address) __builtin_prefetch((address), 1)
    #else
    #define prefetch_to_read(address) ((void) (address))
    #define prefetch_to_write(address) ((void) (address))
    #endif
    """
    uint32_t float_bits(float x) noexcept nogil
    uint64_t double_bits(double x) noexcept nogil
    float float_from_bits(uint32_t bits) noexcept nogil
    double double_from_bits(uint64_t bits) noexcept nogil
    void prefetch_to_read(const void* address) noexcept nogil
    void prefetch_to_write(const void* address) noexcept nogil

ctypedef fused floating:
    float
    double

cdef enum:
    LANES = 64          # independent partial sums; row_max and fold halve them by hand
    TILE = 16           # rows gathered together: one cache line of float32
    TILE_CLASSES = 4096 # longer rows are gathered one by one, to bound the tile


# --- exp -------------------------------------------------------------------------------------------------

cdef inline floating exp_lifted(floating x, int lift) noexcept nogil:
    """exp(x) * 2^lift for x <= 0, to about 1 ulp; 0 where this is below the smallest normal number; NaN for NaN.

    exp(x) = 2^k * exp(r) with k = round(x / ln 2) and |r| <= ln(2)/2. Adding 1.5 * 2^(mantissa bits) rounds to
    an integer, which then stands in the lowest bits. ln 2 is subtracted in two parts, the first exact.
    exp(r) = 1 + r + r^2 q(r), q fitted for the least relative error (2^-28 and 2^-58).
    """
    cdef floating shifted, k, r, q, power
    if floating is float:
        shifted = x * <float> 1.4426950408889634 + <float> 12582912.0
        k = shifted - <float> 12582912.0
        r = x - k * <float> 0.693115234375
        r = r - k * <float> 3.19461833e-05
        q = <float> 0.00138145348
        q = q * r + <float> 0.00836874545
        q = q * r + <float> 0.0416683927
        q = q * r + <float> 0.166665211
        q = q * r + <float> 0.49999994
        power = float_from_bits((float_bits(shifted) + <uint32_t> (127 + lift)) << 23)
        q = ((q * r) * r + r + <float> 1.0) * power
        return <float> 0.0 if x < <float> (-0.6931471 * (126 + lift)) else q
    else:
        shifted = x * 1.4426950408889634 + 6755399441055744.0
        k = shifted - 6755399441055744.0
        r = x - k * 0.69314718036912382
        r = r - k * 1.9082149292705877e-10
        q = 2.5000301260848814e-08
        q = q * r + 2.7630307297545969e-07
        q = q * r + 2.75575859360685e-06
        q = q * r + 2.4801492945913477e-05
        q = q * r + 0.00019841269506712362
        q = q * r + 0.001388888894376444
        q = q * r + 0.0083333333334945636
        q = q * r + 0.041666666666529704
        q = q * r + 0.16666666666666413
        q = q * r + 0.50000000000000111
        power = double_from_bits((double_bits(shifted) + <uint64_t> (1023 + lift)) << 52)
        q = ((q * r) * r + r + 1.0) * power
        return 0.0 if x < -0.69314718055994529 * (1022 + lift) else q


cdef inline floating exp_any(floating x) noexcept nogil:
    """exp(x) for any x: as above, and inf from 2^127.5 (float32) or 2^1023.5 (float64) on."""
    if floating is float:
        return <float> INFINITY if x > <float> 88.3762626 else exp_lifted(x, 0)
    else:
        return INFINITY if x > 709.43613930310391 else exp_lifted(x, 0)


# --- sums ------------------------------------------------------------------------------------------------

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


cdef inline Py_ssize_t steps_of(const floating* x) noexcept nogil:
    """How many numbers go into a lane before the lanes are folded: float64 has no digits to spare for the rounding."""
    if floating is float:
        return 8
    else:
        return 2


cdef inline double fold(const floating* lane) noexcept nogil:
    """The sum of LANES lanes, pairwise."""
    cdef double half[32]
    cdef Py_ssize_t k
    for k in range(32):
        half[k] = <double> lane[k] + <double> lane[k + 32]
    for k in range(16):
        half[k] += half[k + 16]
    for k in range(8):
        half[k] += half[k + 8]
    for k in range(4):
        half[k] += half[k + 4]
    return (half[0] + half[2]) + (half[1] + half[3])


# --- one row of contiguous classes -------------------------------------------------------------------------

cdef inline floating larger(floating a, floating b) noexcept nogil:
    """The larger of two; b if a is NaN."""
    return a if a > b else b


cdef inline floating row_max(const floating* x, Py_ssize_t classes) noexcept nogil:
    """The largest number in x, NaN left out: it comes back in the differences from the maximum."""
    cdef floating lane[LANES]
    cdef Py_ssize_t group, k
    cdef Py_ssize_t groups = classes // LANES
    for k in range(LANES):
        lane[k] = -INFINITY
    for group in range(groups):
        for k in range(LANES):
            lane[k] = larger(x[group * LANES + k], lane[k])
    for k in range(classes - groups * LANES):
        lane[k] = larger(x[groups * LANES + k], lane[k])
    for k in range(32):
        lane[k] = larger(lane[k], lane[k + 32])
    for k in range(16):
        lane[k] = larger(lane[k], lane[k + 16])
    for k in range(8):
        lane[k] = larger(lane[k], lane[k + 8])
    for k in range(4):
        lane[k] = larger(lane[k], lane[k + 4])
    return larger(larger(lane[0], lane[1]), larger(lane[2], lane[3]))


cdef inline Py_ssize_t row_argmax(const floating* x, Py_ssize_t classes) noexcept nogil:
    """Where the largest number in x is; anywhere if all are NaN."""
    cdef floating m = row_max(x, classes)
    cdef Py_ssize_t start = 0
    cdef int found = False
    cdef int place = 0
    cdef int k
    # Group by group: a loop that stops at the first match does not become vectors.
    while start + LANES < classes:
        for k in range(LANES):
            found |= x[start + k] == m
        if found:
            break
        start += LANES
    for k in range(<int> min(<Py_ssize_t> LANES, classes - start)):
        place = k if x[start + k] == m else place
    return start + place


cdef inline int lift_of(const floating* e) noexcept nogil:
    """The exponentials e of a row are kept times 2^lift, where thousands that are too small each still make a sum."""
    if floating is float:
        return 64
    else:
        return 128


cdef inline double unlift(const floating* e) noexcept nogil:
    """The factor 2^-lift that undoes it, exactly."""
    return ldexp(1, -lift_of(e))


cdef inline void exp_group(const floating* x, floating m, floating* e, bint keep, floating* lane) noexcept nogil:
    """exp(x - m), lifted, of one group of LANES classes: kept in e, and added to the lanes."""
    cdef floating exponential
    cdef Py_ssize_t k
    for k in range(LANES):
        exponential = exp_lifted(x[k] - m, lift_of(e))
        if keep:
            e[k] = exponential
        lane[k] += exponential


cdef inline double exp_row(const floating* x, Py_ssize_t classes, Py_ssize_t top, floating* e, bint keep,
                           Py_ssize_t x_pitch, Py_ssize_t e_pitch) noexcept nogil:
    """e = exp(x - m), lifted, if kept, with m = x[top]; returns rest, the sum of exp(x - m) without x[top].

    Prefetches the rows `pitch` bytes on.
    """
    cdef floating lane[LANES]
    cdef floating part[LANES]
    cdef floating m = x[top]
    cdef Py_ssize_t groups = (classes - 1) // LANES + 1
    cdef Py_ssize_t steps = steps_of(x)
    cdef Py_ssize_t block, group, start, width, line, k
    cdef Sum rest = [0, 0]
    for block in range((groups - 1) // steps + 1):
        for k in range(LANES):
            lane[k] = 0
        for group in range(block * steps, min(groups, (block + 1) * steps)):
            start = group * LANES
            width = min(<Py_ssize_t> LANES, classes - start)
            for line in range(0, <Py_ssize_t> (LANES * sizeof(floating)), 64):  # bytes of a cache line
                prefetch_to_read(<const char*> (x + start) + line + x_pitch)
                if keep:
                    prefetch_to_write(<char*> (e + start) + line + e_pitch)
            if width == LANES and group != top // LANES:
                exp_group(x + start, m, e + start, keep, lane)
            else:
                # -inf adds nothing: in the place of x[top], and after the last class
                for k in range(LANES):
                    part[k] = x[start + k] if k < width and start + k != top else -INFINITY
                exp_group(part, m, part, True, lane)
                if keep:
                    for k in range(LANES):
                        if k < width:
                            e[start + k] = part[k]
        add(&rest, fold(lane))
    if keep:
        e[top] = <floating> (1 / unlift(e))
    return value_of(rest) * unlift(e) + (m - m)  # NaN for an infinite maximum


cdef struct Weighted:
    double weight       # sum(w)
    double total        # sum(w * (x - shift))


cdef inline Weighted weigh_row(const floating* w, const floating* x, Py_ssize_t classes, floating shift,
                               bint skip_zeros) noexcept nogil:
    """The sums of the weights w and of the shifted and weighted x; 0 * x counts as 0 with skip_zeros."""
    cdef double weight[LANES]
    cdef double total[LANES]
    cdef double term
    cdef Py_ssize_t steps = steps_of(x)
    cdef Py_ssize_t block, group, k, start, width
    cdef Sum weight_sum = [0, 0]
    cdef Sum total_sum = [0, 0]
    cdef Weighted sums
    for block in range((classes - 1) // (LANES * steps) + 1):
        for k in range(LANES):
            weight[k] = 0
            total[k] = 0
        for group in range(block * steps, min((block + 1) * steps, (classes - 1) // LANES + 1)):
            start = group * LANES
            width = min(<Py_ssize_t> LANES, classes - start)
            for k in range(width):
                term = <double> w[start + k] * (<double> x[start + k] - shift)
                weight[k] += w[start + k]
                total[k] += 0 if skip_zeros and w[start + k] == 0 else term
        add(&weight_sum, fold(weight))
        add(&total_sum, fold(total))
    sums.weight = value_of(weight_sum)
    sums.total = value_of(total_sum)
    return sums


cdef inline bint has_nan(const floating* x, Py_ssize_t classes) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(classes):
        if x[c] != x[c]:
            return True
    return False


cdef inline void scale_row(floating* e, Py_ssize_t classes, double a,
                           const floating* target, double b) noexcept nogil:
    """e = a * e - b * target, e lifted before: the softmax and every cross-entropy gradient. NULL is a target of 0."""
    cdef floating factor = <floating> a
    cdef floating target_factor = <floating> b
    cdef floating unlifted = <floating> unlift(e)  # not in one factor with a, which may be small itself
    cdef Py_ssize_t c
    for c in range(classes):
        e[c] = factor * (unlifted * e[c]) - (target_factor * target[c] if target != NULL else 0)


# --- rows in an array --------------------------------------------------------------------------------------

cdef class Rows:
    """How the rows of an array are reached: where they are, `pitch` bytes apart, or gathered in a `tile`."""
    cdef void* tile             # NULL if the classes are contiguous
    cdef Py_ssize_t pitch       # for prefetching; 0 for gathered rows

    def __cinit__(self, Py_ssize_t classes, Py_ssize_t outer_stride, Py_ssize_t class_stride, Py_ssize_t itemsize):
        if class_stride == itemsize:
            self.tile = NULL
            self.pitch = outer_stride
        else:
            self.tile = PyMem_RawMalloc(tile_rows(classes) * classes * itemsize)
            self.pitch = 0
            if self.tile == NULL:
                raise MemoryError(f"no memory to gather rows of {classes} classes")

    def __dealloc__(self):
        PyMem_RawFree(self.tile)


cdef inline Py_ssize_t tile_rows(Py_ssize_t classes) noexcept nogil:
    """How many neighbouring rows are gathered together."""
    return TILE if classes <= TILE_CLASSES else 1


cdef inline const floating* load_row(const floating[:, :, :] x, Py_ssize_t i, Py_ssize_t k,
                                     void* tile) noexcept nogil:
    """The classes of row (i, k): where they are, or gathered in the tile with the rows beside it."""
    cdef floating* gathered = <floating*> tile
    cdef Py_ssize_t classes = x.shape[1]
    cdef Py_ssize_t place = k % tile_rows(classes)
    cdef Py_ssize_t c, t
    if tile == NULL:
        return &x[i, 0, k]
    if place == 0:
        for c in range(classes):
            for t in range(min(tile_rows(classes), x.shape[2] - k)):
                gathered[t * classes + c] = x[i, c, k + t]
    return gathered + place * classes


cdef inline floating* result_row(floating[:, :, :] out, Py_ssize_t i, Py_ssize_t k, void* tile) noexcept nogil:
    """Where the results of row (i, k) are to be written: in `out` itself, or in the tile."""
    if tile == NULL:
        return &out[i, 0, k]
    return <floating*> tile + k % tile_rows(out.shape[1]) * out.shape[1]


cdef inline void store_row(floating[:, :, :] out, Py_ssize_t i, Py_ssize_t k, const void* tile) noexcept nogil:
    """Row (i, k) is computed: bring the rows of the tile to `out` if it is their last."""
    cdef const floating* computed = <const floating*> tile
    cdef Py_ssize_t classes = out.shape[1]
    cdef Py_ssize_t place = k % tile_rows(classes)
    cdef Py_ssize_t c, t
    if tile != NULL and (place == tile_rows(classes) - 1 or k == out.shape[2] - 1):
        for c in range(classes):
            for t in range(place + 1):
                out[i, c, k - place + t] = computed[t * classes + c]


# --- the kernels -------------------------------------------------------------------------------------------

def softmax(
    const floating[:, :, :] x,      # IN   (outer, classes, inner)
    floating[:, :, :] out,          # OUT  (outer, classes, inner), may be x
):
    """out = exp(x - m) / sum(exp(x - m)), m the maximum of the row."""
    cdef Py_ssize_t classes = x.shape[1]
    cdef Rows x_rows = Rows(classes, x.strides[0], x.strides[1], sizeof(floating))
    cdef Rows out_rows = Rows(classes, out.strides[0], out.strides[1], sizeof(floating))
    cdef const floating* logits
    cdef floating* p
    cdef double rest
    cdef Py_ssize_t i, k, top
    with nogil:
        for i in range(x.shape[0]):
            for k in range(x.shape[2]):
                logits = load_row(x, i, k, x_rows.tile)
                p = result_row(out, i, k, out_rows.tile)
                top = row_argmax(logits, classes)
                rest = exp_row(logits, classes, top, p, True, x_rows.pitch, out_rows.pitch)
                scale_row(p, classes, 1 / (1 + rest), <const floating*> NULL, 0)
                store_row(out, i, k, out_rows.tile)


def log_softmax(
    const floating[:, :, :] x,      # IN   (outer, classes, inner)
    floating[:, :, :] out,          # OUT  (outer, classes, inner), may be x
):
    """out = (x - m) - log1p(rest)."""
    cdef Py_ssize_t classes = x.shape[1]
    cdef Rows x_rows = Rows(classes, x.strides[0], x.strides[1], sizeof(floating))
    cdef Rows out_rows = Rows(classes, out.strides[0], out.strides[1], sizeof(floating))
    cdef const floating* logits
    cdef floating* log_p
    cdef floating m, log_sum
    cdef Py_ssize_t i, k, c, top
    with nogil:
        for i in range(x.shape[0]):
            for k in range(x.shape[2]):
                logits = load_row(x, i, k, x_rows.tile)
                log_p = result_row(out, i, k, out_rows.tile)
                top = row_argmax(logits, classes)
                m = logits[top]
                log_sum = <floating> log1p(exp_row(logits, classes, top, log_p, False, x_rows.pitch, 0))
                for c in range(classes):
                    log_p[c] = (logits[c] - m) - log_sum
                store_row(out, i, k, out_rows.tile)


def logsumexp(
    const floating[:, :, :] x,      # IN   (outer, classes, inner)
    floating[:, :] out,             # OUT  (outer, inner)
):
    """out = m + log1p(rest); the maximum itself where it is infinite and no class is NaN."""
    cdef Py_ssize_t classes = x.shape[1]
    cdef Rows x_rows = Rows(classes, x.strides[0], x.strides[1], sizeof(floating))
    cdef const floating* logits
    cdef floating m
    cdef Py_ssize_t i, k, top
    with nogil:
        for i in range(x.shape[0]):
            for k in range(x.shape[2]):
                logits = load_row(x, i, k, x_rows.tile)
                top = row_argmax(logits, classes)
                m = logits[top]
                if m - m == 0:
                    out[i, k] = <floating> (<double> m + log1p(
                        exp_row(logits, classes, top, <floating*> NULL, False, x_rows.pitch, 0)))
                else:
                    out[i, k] = <floating> NAN if has_nan(logits, classes) else m


def softmax_backward(
    const floating[:, :, :] grad_output,  # IN   (outer, classes, inner)
    const floating[:, :, :] output,       # IN   (outer, classes, inner), the probabilities
    floating[:, :, :] out,                # OUT  (outer, classes, inner), may be either input
):
    """out = p * (g - sum(g * p))."""
    cdef Py_ssize_t classes = output.shape[1]
    cdef Rows g_rows = Rows(classes, grad_output.strides[0], grad_output.strides[1], sizeof(floating))
    cdef Rows p_rows = Rows(classes, output.strides[0], output.strides[1], sizeof(floating))
    cdef Rows out_rows = Rows(classes, out.strides[0], out.strides[1], sizeof(floating))
    cdef const floating* g
    cdef const floating* p
    cdef floating* grad
    cdef double mean
    cdef Py_ssize_t i, k, c
    with nogil:
        for i in range(output.shape[0]):
            for k in range(output.shape[2]):
                g = load_row(grad_output, i, k, g_rows.tile)
                p = load_row(output, i, k, p_rows.tile)
                grad = result_row(out, i, k, out_rows.tile)
                mean = weigh_row(p, g, classes, <floating> 0, False).total
                for c in range(classes):
                    grad[c] = <floating> (p[c] * (<double> g[c] - mean))
                store_row(out, i, k, out_rows.tile)


def log_softmax_backward(
    const floating[:, :, :] grad_output,  # IN   (outer, classes, inner)
    const floating[:, :, :] output,       # IN   (outer, classes, inner), the log-probabilities
    floating[:, :, :] out,                # OUT  (outer, classes, inner), may be either input
):
    """out = g - exp(output) * sum(g)."""
    cdef Py_ssize_t classes = output.shape[1]
    cdef Rows g_rows = Rows(classes, grad_output.strides[0], grad_output.strides[1], sizeof(floating))
    cdef Rows log_p_rows = Rows(classes, output.strides[0], output.strides[1], sizeof(floating))
    cdef Rows out_rows = Rows(classes, out.strides[0], out.strides[1], sizeof(floating))
    cdef const floating* g
    cdef const floating* log_p
    cdef floating* grad
    cdef double total
    cdef Py_ssize_t i, k, c
    with nogil:
        for i in range(output.shape[0]):
            for k in range(output.shape[2]):
                g = load_row(grad_output, i, k, g_rows.tile)
                log_p = load_row(output, i, k, log_p_rows.tile)
                grad = result_row(out, i, k, out_rows.tile)
                total = weigh_row(g, g, classes, <floating> 0, False).weight
                for c in range(classes):
                    grad[c] = <floating> (g[c] - exp_any(log_p[c]) * total)
                store_row(out, i, k, out_rows.tile)


def cross_entropy_index(
    const floating[:, :, :] x,      # IN   (outer, classes, inner)
    const int64_t[:, :] labels,     # IN   (outer, inner), each in 0..classes-1
    double divisor,                 # IN   of the sum of the losses and of the gradient
    floating[:, :] losses,          # OUT  (outer, inner), or None
    floating[:, :, :] grad,         # OUT  (outer, classes, inner), may be x, or None
):
    """losses = lse - x_y, grad = (p - onehot(y)) / divisor; returns sum(losses) / divisor."""
    cdef Py_ssize_t classes = x.shape[1]
    cdef bint with_grad = grad is not None
    cdef Rows x_rows = Rows(classes, x.strides[0], x.strides[1], sizeof(floating))
    cdef Rows grad_rows = Rows(classes, grad.strides[0], grad.strides[1], sizeof(floating)) if with_grad else None
    cdef const floating* logits
    cdef floating* g
    cdef floating m, at_label
    cdef double rest, loss, other
    cdef Sum total = [0, 0]
    cdef Py_ssize_t i, k, top, label
    with nogil:
        for i in range(x.shape[0]):
            for k in range(x.shape[2]):
                logits = load_row(x, i, k, x_rows.tile)
                label = labels[i, k]
                at_label = logits[label]
                top = row_argmax(logits, classes)
                m = logits[top]
                if with_grad:
                    g = result_row(grad, i, k, grad_rows.tile)
                    rest = exp_row(logits, classes, top, g, True, x_rows.pitch, grad_rows.pitch)
                    # 1 - p_y without cancellation: the share of the other classes
                    other = rest if at_label == m else 1 + (rest - g[label] * unlift(g))
                    scale_row(g, classes, 1 / (divisor + divisor * rest), <const floating*> NULL, 0)
                    g[label] = <floating> (-other / (divisor + divisor * rest))
                    store_row(grad, i, k, grad_rows.tile)
                else:
                    rest = exp_row(logits, classes, top, <floating*> NULL, False, x_rows.pitch, 0)
                loss = (<double> m - at_label) + log1p(rest)
                add(&total, loss / divisor)
                if losses is not None:
                    losses[i, k] = <floating> loss
    return value_of(total)


def cross_entropy_dense(
    const floating[:, :, :] x,       # IN   (outer, classes, inner)
    const floating[:, :, :] target,  # IN   (outer, classes, inner)
    double divisor,                  # IN   of the sum of the losses and of the gradient
    floating[:, :] losses,           # OUT  (outer, inner), or None
    floating[:, :, :] grad,          # OUT  (outer, classes, inner), may be x but not target, or None
):
    """losses = Q * lse - sum(q * x), grad = (Q * p - q) / divisor, Q = sum(q); returns sum(losses) / divisor."""
    cdef Py_ssize_t classes = x.shape[1]
    cdef bint with_grad = grad is not None
    cdef Rows x_rows = Rows(classes, x.strides[0], x.strides[1], sizeof(floating))
    cdef Rows q_rows = Rows(classes, target.strides[0], target.strides[1], sizeof(floating))
    cdef Rows grad_rows = Rows(classes, grad.strides[0], grad.strides[1], sizeof(floating)) if with_grad else None
    cdef const floating* logits
    cdef const floating* q
    cdef floating* g
    cdef floating m
    cdef double rest, loss, others
    cdef Weighted sums
    cdef Sum total = [0, 0]
    cdef Py_ssize_t i, k, top
    with nogil:
        for i in range(x.shape[0]):
            for k in range(x.shape[2]):
                logits = load_row(x, i, k, x_rows.tile)
                q = load_row(target, i, k, q_rows.tile)
                top = row_argmax(logits, classes)
                m = logits[top]
                sums = weigh_row(q, logits, classes, m, True)
                if with_grad:
                    g = result_row(grad, i, k, grad_rows.tile)
                    rest = exp_row(logits, classes, top, g, True, x_rows.pitch, grad_rows.pitch)
                    scale_row(g, classes, sums.weight / (divisor + divisor * rest), q, 1 / divisor)
                    if rest < 1:
                        # p is near 1: Q * p - q = (Q - q) - Q * rest / (1 + rest) keeps the digits
                        others = (sums.weight - q[top]) - sums.weight * (rest / (1 + rest))
                        g[top] = <floating> (others / divisor)
                    store_row(grad, i, k, grad_rows.tile)
                else:
                    rest = exp_row(logits, classes, top, <floating*> NULL, False, x_rows.pitch, 0)
                loss = sums.weight * log1p(rest) - sums.total
                add(&total, loss / divisor)
                if losses is not None:
                    losses[i, k] = <floating> loss
    return value_of(total)


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
    cdef floating p, q
    cdef double loss
    cdef Sum row, total = [0, 0]
    cdef Py_ssize_t i, k, c
    with nogil:
        for i in range(probs.shape[0]):
            for k in range(probs.shape[2]):
                row.value = row.error = 0
                for c in range(probs.shape[1]):
                    p = probs[i, c, k]
                    q = target[i, c, k]
                    if q != 0:
                        add(&row, -<double> q * log(<double> p))
                    if grad is not None:
                        grad[i, c, k] = <floating> (-q / (divisor * p)) if q != 0 else <floating> 0
                loss = value_of(row)
                add(&total, loss / divisor)
                if losses is not None:
                    losses[i, k] = <floating> loss
    return value_of(total)


def labels_in_range(
    const int64_t[:, :] labels,     # IN   (outer, inner)
    Py_ssize_t classes,             # IN
):
    """Whether every label is in 0..classes-1."""
    cdef bint inside = True
    cdef Py_ssize_t i, k
    with nogil:
        for i in range(labels.shape[0]):
            for k in range(labels.shape[1]):
                inside &= (labels[i, k] >= 0) & (labels[i, k] < classes)
    return inside
