"""Many numbers of a row to one: the sums of their terms, for one row in one loop, or for the columns of a tile.

Every sum goes through one loop, `add_terms`, in which a literal chooses the terms and the C compiler keeps those alone.
In rows an exponential goes from its register to the sum. That loop keeps the CPU's arithmetic busy and its memory idle,
so it has company: it finds the maximum of the next row, and prefetches what lies ahead.

Tried: exponentials and sums in two loops, 0.8 to 0.95 of the speed (AVX2 and AVX-512); the shift of all rows by their
maximum, 0.85 to 0.9; what is below the lowest number removed here and not by `flush`, 0.93 to 0.97 (and a test for it
at the end of the row, 0.9); the steps of a row from the last to the first where results lie a little further in their
page than x, 1.0; the tail of a row first, 1.0.
In version 0.1: the sum without the 1 of the maximum by a search for its place, 15 ns a row.
"""

from .batch cimport MOST_IN_ROWS, SHORT, Batch, Block
from .columns cimport take_exponentials_of_columns
from .math cimport INFINITY, Scale, exponential, exponential_of_remainder, number_of, remainder_of
from .simd cimport (
    BLOCK, LANES, VECTORS, W, WRITTEN_OUT, bits, broadcast, broadcast_bits, equal, flattened, load, load_block,
    load_first, maximum, prefetch, prefetch_to_write, real, scalar, store, store_first, unless, vec,
)
from .sums cimport Sum, add, add_sum, add_to, fold_maxima, fold_sums, sum_of_lanes, value_of
from .terms cimport (
    DIFFERENCES, EXPONENTIALS, FACTORS, MOMENTS, NUMBERS, PRESENT, PRODUCTS, SHIFTED, SUMEXP_M1, TARGETS, Terms,
    Terms_of_batch, compute_terms, count_of, for_step, for_strip, has_exponentials, has_y, is_counting,
    scale_for_strip,
)
from .traffic cimport DISTANCE, stream_all

cdef enum:
    RUN = 4096                  # steps of a row whose sums are added up by themselves,
    SHIFTED_RUN = 64            # and of a row that is shifted first

cdef struct Numbers:            # what terms are of: those of a row, or of LANES columns
    const real* x
    const real* y
    const real* w
    Py_ssize_t x_step
    Py_ssize_t y_step
    real c
    vec lowest                  # of the scale of a row's exponentials
    vec magic
    real* e                     # where these go, step by step,
    Py_ssize_t e_step           # that is; 0 if they are not kept
    const real* next            # a row whose maximum is found beside them
    bint far                    # more of the next row is prefetched,
    const real* next_out        # and with it what is written next, if that is not NULL

cdef struct Lanes:              # of one row, or of LANES columns
    Sum sums[2 * VECTORS]       # of the term i in the vector v: i * VECTORS + v
    bits counted[VECTORS]       # the second terms, where these are counted
    vec largest[VECTORS]        # of the next row


cdef inline void clear(Sum* sums, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        sums[k] = Sum(broadcast(0), broadcast(0))


cdef inline void exponentials_of_steps(Numbers of, Py_ssize_t steps, Py_ssize_t v, Lanes* lanes, vec* x) noexcept nogil:
    """The exponentials of a row in the vectors v of up to four steps, in the place of its numbers x.

    (The first half of each, then the second half of each: what a half computes waits for what is before it, and a CPU
    looks only some tens of operations ahead for others.)
    """
    cdef vec t[4]
    cdef Py_ssize_t j
    for j in range(steps):
        lanes.largest[v] = maximum(load(of.next + j * LANES + v * W), lanes.largest[v])
        x[j] = remainder_of(x[j], of.lowest, of.magic, &t[j])
    for j in range(steps):
        x[j] = exponential_of_remainder(x[j], t[j])
    for j in range(steps if of.e_step != 0 else 0):
        store(of.e + j * LANES + v * W, x[j])


cdef inline Py_ssize_t added_of(Terms terms) noexcept nogil:
    """How many of the terms are added up, and not counted."""
    return 1 if is_counting(terms) else count_of(terms)


cdef inline void terms_of_steps(Terms terms, bint columns, Numbers of, Py_ssize_t steps, Py_ssize_t v, vec n,
                                Lanes* lanes, vec* t) noexcept nogil:
    """The terms of the vectors v of up to four steps: term i of step j is t[2 j + i]."""
    cdef vec x[4]
    cdef Py_ssize_t j
    for j in range(steps):
        x[j] = load(of.x + j * of.x_step + v * W)
    if has_exponentials(terms) and not columns:
        exponentials_of_steps(of, steps, v, lanes, x)
    for j in range(steps):
        compute_terms(terms, x[j],
                      load(of.y + j * of.y_step + v * W) if has_y(terms) else broadcast(0),
                      for_step(of.w, columns, j, v) if terms == DIFFERENCES else broadcast(0),
                      n, broadcast(of.c), t + 2 * j, &lanes.counted[v])


cdef inline void add_quad(Terms terms, bint columns, Numbers of, Py_ssize_t v, const vec* n,
                          Lanes* lanes) noexcept nogil:
    """Add the terms of the vectors v of four steps: in pairs."""
    cdef vec t[8]
    cdef Py_ssize_t i
    terms_of_steps(terms, columns, of, 4, v, n[v], lanes, t)
    for i in range(added_of(terms)):
        add(&lanes.sums[i * VECTORS + v], t[i] + t[2 + i])
        add(&lanes.sums[i * VECTORS + v], t[4 + i] + t[6 + i])


cdef inline void add_steps(Terms terms, bint columns, Numbers of, Py_ssize_t steps, Py_ssize_t v, const vec* n,
                           Lanes* lanes) noexcept nogil:
    """Add those of up to three steps, one after the other."""
    cdef vec t[2]
    cdef vec sum[2]
    cdef Py_ssize_t _step, i
    sum[0] = sum[1] = broadcast(0)
    for _step in range(steps):
        terms_of_steps(terms, columns, of, 1, v, n[v], lanes, t)
        for i in range(added_of(terms)):
            sum[i] = sum[i] + t[i]
        of.x += of.x_step
        of.y += of.y_step
        of.w += 1 if columns else LANES
        of.e += of.e_step
        of.next += LANES
    for i in range(added_of(terms)):
        add(&lanes.sums[i * VECTORS + v], sum[i])


cdef inline void prefetch_quad(Numbers of) noexcept nogil:
    """Four lines of what is read next, and of results."""
    cdef Py_ssize_t k
    for k in range(4):
        prefetch(of.next + (DISTANCE + k) * LANES)
    for k in range(4 if of.next_out != NULL else 0):
        prefetch_to_write(of.next_out + k * LANES)


cdef inline void add_terms(Terms terms, bint columns, Numbers of, Py_ssize_t steps, const vec* n,
                           Lanes* lanes) noexcept nogil:
    """Add the terms of whole steps."""
    cdef Py_ssize_t _quad, v
    for v in range(VECTORS):
        lanes.counted[v] = broadcast_bits(0)
    for _quad in range(steps // 4):
        if WRITTEN_OUT > 0:     # (Compilers leave a loop as it is where it is long: 0.5 of the speed.)
            add_quad(terms, columns, of, 0, n, lanes)
        if WRITTEN_OUT > 0 and VECTORS > 1:
            add_quad(terms, columns, of, 1, n, lanes)
        if WRITTEN_OUT > 0 and VECTORS > 2:
            add_quad(terms, columns, of, 2, n, lanes)
            add_quad(terms, columns, of, 3, n, lanes)
        for v in range(WRITTEN_OUT, VECTORS):
            add_quad(terms, columns, of, v, n, lanes)
        if has_exponentials(terms) and not columns and of.far:
            prefetch_quad(of)
            of.next_out += 4 * LANES if of.next_out != NULL else 0
        of.x += 4 * of.x_step
        of.y += 4 * of.y_step
        of.w += 4 if columns else 4 * LANES
        of.e += 4 * of.e_step
        of.next += 4 * LANES
    for v in range(VECTORS if steps % 4 != 0 else 0):
        add_steps(terms, columns, of, steps % 4, v, n, lanes)
    for v in range(VECTORS if is_counting(terms) else 0):
        add(&lanes.sums[VECTORS + v], number_of(lanes.counted[v]))


# --- rows ----------------------------------------------------------------------------------------------------------

cdef inline void add_tail(Terms terms, const Batch* batch, Numbers of, const vec* n, Lanes* lanes) noexcept nogil:
    """The classes of a row that do not fill a step."""
    cdef vec lowest = broadcast(-INFINITY), zero = broadcast(0)
    cdef vec x, e, y = zero, w = zero
    cdef vec t[2]
    cdef Py_ssize_t v, left, i
    for v in range(VECTORS):
        left = batch.tail - v * W
        if left > 0:
            x = load_first(of.x + v * W, left, lowest if has_exponentials(terms) or terms == PRESENT else zero)
            if has_exponentials(terms):
                lanes.largest[v] = maximum(load_first(of.next + v * W, left, lowest), lanes.largest[v])
                e = exponential(x, of.lowest, of.magic)
                if of.e_step != 0:
                    store_first(of.e + v * W, e, left)
                x = unless(equal(x, lowest), e)
            if has_y(terms):
                y = load_first(of.y + v * W, left, zero)
            if terms == DIFFERENCES:
                w = load_first(of.w + v * W, left, zero)
            lanes.counted[v] = broadcast_bits(0)
            compute_terms(terms, x, y, w, n[v], broadcast(of.c), t, &lanes.counted[v])
            for i in range(added_of(terms)):
                add(&lanes.sums[i * VECTORS + v], t[i])
            if is_counting(terms):
                add(&lanes.sums[VECTORS + v], number_of(lanes.counted[v]))


cdef inline flattened move_sums(Sum* sums, Py_ssize_t count, Sum* whole) noexcept nogil:
    """Add a run's sums to those of the whole row, before what rounding takes from them needs digits that it has not."""
    cdef Py_ssize_t k
    for k in range(count):
        add_sum(&whole[k], sums[k])
    clear(sums, count)


cdef inline Numbers numbers_from(Numbers of, Py_ssize_t n) noexcept nogil:
    """The same from the class n of a row on."""
    of.x += n
    of.y += n
    of.w += n
    of.e += n if of.e_step != 0 else 0
    of.next += n
    of.next_out += n if of.next_out != NULL else 0
    return of


cdef inline flattened shift_run(const real* x, Py_ssize_t n, vec shift, real* shifted) noexcept nogil:
    cdef Py_ssize_t k
    for k in range((n + W - 1) // W):
        store(shifted + k * W, load_first(x + k * W, n - k * W, broadcast(0)) - shift)


cdef inline void sum_row(Terms terms, const Batch* batch, Numbers of, vec shift, vec number,
                         Lanes* lanes) noexcept nogil:
    """The sums of the terms of a row, and the lanes of the maximum of the next.

    A very long row, or one that is shifted, is taken in runs. (One loop for all rows, lest it be compiled twice.)
    """
    cdef real shifted[SHIFTED_RUN * LANES]
    cdef Sum whole[2 * VECTORS]
    cdef vec n[VECTORS]
    cdef Numbers run = of
    cdef Py_ssize_t sums = count_of(terms) * VECTORS
    cdef bint is_shifted = has_exponentials(terms) and scalar(shift) != 0
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t steps, v
    for v in range(VECTORS):
        n[v] = number
        lanes.largest[v] = broadcast(-INFINITY)
    clear(&lanes.sums[0], sums)
    clear(whole, sums)
    while start < batch.steps:
        steps = min(<Py_ssize_t> (SHIFTED_RUN if is_shifted else RUN), batch.steps - start)
        run = numbers_from(of, start * LANES)
        if is_shifted:
            shift_run(run.x, steps * LANES, shift, shifted)
            run.x = shifted
        add_terms(terms, False, run, steps, n, lanes)
        start += steps
        if start % RUN == 0:
            move_sums(&lanes.sums[0], sums, whole)
    run = numbers_from(of, batch.steps * LANES)
    if is_shifted and batch.tail > 0:
        shift_run(run.x, batch.tail, shift, shifted)
        run.x = shifted
    add_tail(terms, batch, run, n, lanes)
    if batch.steps >= RUN:
        move_sums(&lanes.sums[0], sums, whole)
        for v in range(sums):
            lanes.sums[v] = whole[v]


cdef inline vec fold_counts(const Batch* batch, Lanes* lanes) noexcept nogil:
    """How many of the numbers of a row were counted: in every lane."""
    cdef vec total = lanes.sums[VECTORS].total
    cdef Py_ssize_t v
    if batch.steps >= RUN:      # (a count may have more digits than a number)
        return value_of(fold_sums(&lanes.sums[VECTORS]))
    for v in range(1, VECTORS):
        total = total + lanes.sums[VECTORS + v].total
    return sum_of_lanes(total)


cdef inline void put_sum(Sum sum, real* total, real* lost) noexcept nogil:
    """A row's sum as the nearest number, and what that lacks."""
    cdef vec value = value_of(sum)
    total[0] = scalar(value)
    if lost != NULL:
        lost[0] = scalar(sum.lost - (value - sum.total))


cdef inline void sum_as_rows(Terms terms, const Batch* batch, Terms_of_batch* of, real** results,
                             real* lost) noexcept nogil:
    cdef Lanes lanes[MOST_IN_ROWS]
    cdef Scale scale = Scale(broadcast(0), broadcast(0), broadcast(0))
    cdef Numbers numbers
    cdef const real* x
    cdef Py_ssize_t row
    for row in range(batch.rows):
        x = of.x.start + row * of.x.strip
        if has_exponentials(terms):
            scale = scale_for_strip(of.scales, batch, row, 0)
        numbers = Numbers(x, of.y.start + row * of.y.strip, of.w, LANES, LANES, of.c, scale.lowest, scale.magic,
                          NULL, 0, x, of.far, NULL)
        if of.kept.start != NULL:
            numbers.e, numbers.e_step = of.kept.start + row * of.kept.strip, LANES
        if row < of.next.rows:
            numbers.next = of.next.start + row * of.next.strip
        if of.next_out.start != NULL:
            numbers.next_out = of.next_out.start + row * of.next_out.strip
        sum_row(terms, batch, numbers, scale.shift, for_strip(of.n, batch, row, 0), &lanes[row])
        if has_exponentials(terms) and row < of.next.rows:
            of.next.largest[row], of.next.found = scalar(fold_maxima(&lanes[row].largest[0])), row + 1
    # (After all rows: the additions of a fold wait for one another, but not for those of other rows.)
    for row in range(batch.rows):
        put_sum(fold_sums(&lanes[row].sums[0]), results[0] + row, lost + row if lost != NULL else NULL)
        if is_counting(terms):
            results[1][row] = scalar(fold_counts(batch, &lanes[row]))
        elif count_of(terms) == 2:
            put_sum(fold_sums(&lanes[row].sums[VECTORS]), results[1] + row, NULL)


cdef inline Sum sum_in_order_of_columns(const real* terms, Py_ssize_t n) noexcept nogil:
    """What `add_terms` makes of the terms of a column, up to SHORT of them. (What follows them is read.)"""
    cdef vec number[4]
    cdef real pairs[2][SHORT + 1]
    cdef real total = 0, lost = 0, term = 0
    cdef Py_ssize_t group, k
    for group in range((n // 4 + W - 1) // W):
        for k in range(4 // BLOCK):
            load_block(terms + 4 * W * group + k * BLOCK, 4 * sizeof(real), &number[k * BLOCK])
        store(pairs[0] + W * group, number[0] + number[1])
        store(pairs[1] + W * group, number[2] + number[3])
    for k in range(n // 4):
        add_to(&total, &lost, pairs[0][k])
        add_to(&total, &lost, pairs[1][k])
    for k in range(n // 4 * 4, n):
        term = term + terms[k]
    if n % 4 != 0:
        add_to(&total, &lost, term)
    return Sum(broadcast(total), broadcast(lost))


# --- columns, and both ---------------------------------------------------------------------------------------------

cdef inline void sum_as_columns(Terms terms, const Batch* batch, Terms_of_batch* of, real** results,
                                real* lost) noexcept nogil:
    """The terms of columns, strip by strip, those of exponentials once all of these are computed."""
    cdef Lanes lanes
    cdef Block x = of.x
    cdef Numbers numbers
    cdef vec n[VECTORS]
    cdef vec value, zero = broadcast(0)
    cdef Py_ssize_t strip, i, v, r
    if has_exponentials(terms):
        take_exponentials_of_columns(batch, of)
        x = of.kept
    for strip in range(batch.strips):
        for v in range(VECTORS):
            n[v] = load(of.n + strip * LANES + v * W)
        clear(&lanes.sums[0], count_of(terms) * VECTORS)
        numbers = Numbers(x.start + strip * LANES, of.y.start + strip * LANES, of.w, x.step, of.y.step, of.c,
                          zero, zero, NULL, 0, NULL, False, NULL)
        add_terms(terms, True, numbers, batch.steps, n, &lanes)
        for v in range(VECTORS):
            r = strip * LANES + v * W
            for i in range(count_of(terms)):
                value = value_of(lanes.sums[i * VECTORS + v])
                store(results[i] + r, value)
                if i == 0 and lost != NULL:
                    store(lost + r, lanes.sums[v].lost - (value - lanes.sums[v].total))


cdef inline void sum_in_form(Terms terms, const Batch* batch, Terms_of_batch* of, real** results,
                             real* lost) noexcept nogil:
    if batch.columns:
        sum_as_columns(terms, batch, of, results, lost)
    else:
        sum_as_rows(terms, batch, of, results, lost)


cdef inline flattened sum_chosen(Terms terms, const Batch* batch, Terms_of_batch* of, real** results,
                                 real* lost) noexcept nogil:
    if terms == EXPONENTIALS:
        sum_in_form(EXPONENTIALS, batch, of, results, lost)
    elif terms == SUMEXP_M1:
        sum_in_form(SUMEXP_M1, batch, of, results, lost)
    elif terms == TARGETS:
        sum_in_form(TARGETS, batch, of, results, NULL)
    elif terms == SHIFTED:
        sum_in_form(SHIFTED, batch, of, results, NULL)
    elif terms == MOMENTS:
        sum_in_form(MOMENTS, batch, of, results, NULL)
    elif terms == PRODUCTS:
        sum_in_form(PRODUCTS, batch, of, results, NULL)
    elif terms == NUMBERS:
        sum_in_form(NUMBERS, batch, of, results, NULL)
    elif terms == FACTORS:
        sum_in_form(FACTORS, batch, of, results, NULL)
    elif terms == DIFFERENCES:
        sum_in_form(DIFFERENCES, batch, of, results, NULL)
    elif terms == PRESENT:
        sum_in_form(PRESENT, batch, of, results, NULL)


cdef inline void sum_rows(Terms terms, const Batch* batch, Terms_of_batch* of, real* first, real* second,
                          real* lost) noexcept nogil:
    """The sums of a batch's terms, for each row: as many as there are terms; and what rounding took from the first."""
    cdef real* results[2]
    results[0], results[1] = first, second
    if of.pending != NULL and of.pending.lines > 0:
        of.traffic.pending = of.pending[0]
        of.pending.lines = 0
    sum_chosen(terms, batch, of, results, lost)
    stream_all(&of.traffic.pending)
