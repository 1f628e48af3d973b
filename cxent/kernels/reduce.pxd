"""Many numbers of a row to one: the sums of their terms.

Every sum goes through one loop, `add_terms`, in which a literal chooses the terms and the C compiler keeps those alone.
With vectors of 64 bytes an exponential goes from its register to the sum. With narrower ones, and in columns, a chunk
that L1 holds has two loops: first its exponentials, then the sums of what they are.

A loop of exponentials leaves the CPU's memory idle, so it has company: step by step it finds the maximum of a row of
the next batch, prefetches what the next batch needs, and in columns writes what waits to be written past the caches.

In the loop over exponentials alone, a group of vectors is computed together (see `exp_each`): 1.05 to 1.1 times as fast
on a Zen 2 in float32, 1.1 to 1.19 in float64, 1.03 to 1.06 in columns. Twice or half as large groups, 0.86 to 1.05;
lines moved among them, 0.9.

Tried: one loop on AVX2, 0.86 of the speed, and worse the further it is unrolled (16 registers do not hold it, and long
loops fall out of the cache of decoded operations), while two loops on AVX-512 have 0.95; one loop with plain partial
sums of four steps on AVX2, 0.97; the tail of a row first, 1.0; the tails after all rows of a batch, 0.93 to 1.05;
chunks half or twice as long, 0.98 to 1.0; the first halves of four exponentials before the second in the one loop of
AVX-512 on a Zen 5, 1.0 to 1.07 in the caches, 0.92 to 1.0 beyond; the maxima counted in float32 like any other term,
0.96 to 0.99; removed in
the loop of the exponentials, where these are not kept, 0.94; batches of half as many rows beyond the caches, where L1
has 32 kB, 0.93 to 1.0.
In version 0.1: the sum without the 1 of the maximum by a search for its place, 15 ns a row.
"""

from .math cimport GROUP, INFINITY, exp, exp_each, number_of
from .maxima cimport take_tail_maximum
from .simd cimport (
    LANES, VECTORS, W, bits, broadcast, broadcast_bits, flattened, load, load_first, maximum, real, store, store_first,
    vec,
)
from .stores cimport Beside, begin_run, is_busy, move_line, stream_all
from .sums cimport Sum, add, fold_maxima, fold_sums, value_of
from .terms cimport (
    DIFFERENCES, EXPONENTIALS, FACTORS, NUMBERS, PRODUCTS, SUMEXP_M1, TARGETS, Terms,
    Terms_of_batch, compute_terms, count_of, for_step, has_exponentials, has_y, lift_of,
)
from .tiles cimport MOST_IN_ROWS, SHORT, Batch, Block

cdef enum:
    CHUNK = 32                  # steps of a row that are computed together, where there are two loops
    LONG_CHUNK = 4096           # where there is one, and from one renewal of the sums to the next
    STEPS = GROUP // VECTORS    # of a row, whose exponentials are computed together, likewise
    GROUP_OF_COLUMNS = 2 * VECTORS  # vectors of columns, in the same way
    ONE_LOOP = (VECTORS == 1)   # exponentials and sums of rows, where a step is one vector and there are 32 registers

cdef struct Strip:              # what the terms of one strip are of
    const real* x
    const real* y
    const real* w
    Py_ssize_t x_step
    Py_ssize_t y_step
    real c
    real* e                     # where its exponentials go, step by step; NULL if they are not kept
    const real* next            # a row of the next batch, of which the maximum is found beside


cdef inline void take_group(Terms terms, bint moving, Py_ssize_t steps, Py_ssize_t at, Strip of, const vec* shift,
                            Beside* beside, vec* largest) noexcept nogil:
    """The exponentials of a few steps, up to STEPS: the first half of each, and then the second half of each."""
    cdef vec e[STEPS * VECTORS]
    cdef Py_ssize_t _step, step, v, n
    for _step in range(steps if moving else 0):
        move_line(beside)
    for step in range(steps):
        for v in range(VECTORS):
            n = step * VECTORS + v
            largest[v] = maximum(load(of.next + at + n * W), largest[v])
            e[n] = load(of.x + at + n * W) - shift[v]
    exp_each(e, steps * VECTORS, lift_of(terms))
    for n in range(steps * VECTORS):
        store(of.e + at + n * W, e[n])


cdef inline void take_exponentials(Terms terms, bint moving, Py_ssize_t steps, Strip of, const vec* shift,
                                   Beside* beside, vec* largest) noexcept nogil:
    """e = exp(x - shift) * 2^lift, over whole steps of a row.

    Where results lie a little further in their page than x, as in NumPy's allocations one after the other, a CPU takes
    each load for one of what has just been stored, and waits: 0.9 of the speed. Then the steps are taken from the last.
    """
    cdef Py_ssize_t groups = steps // STEPS
    cdef Py_ssize_t next_group = STEPS * LANES
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t _group
    if (<size_t> of.e - <size_t> of.x) % 4096 - 1 < 63:
        at = (groups - 1) * next_group
        next_group = -next_group
    for _group in range(groups):
        take_group(terms, moving, STEPS, at, of, shift, beside, largest)
        at += next_group
    take_group(terms, moving, steps % STEPS, groups * STEPS * LANES, of, shift, beside, largest)


cdef inline void take_group_of_columns(int lift, bint busy, Py_ssize_t vectors, const real* x, const real* shift,
                                       real* e, Beside* beside) noexcept nogil:
    """The exponentials of a class in a few vectors of rows, likewise."""
    cdef vec group[GROUP_OF_COLUMNS]
    cdef Py_ssize_t _strip, n
    for _strip in range(vectors // VECTORS if busy else 0):
        move_line(beside)
    for n in range(vectors):
        group[n] = load(x + n * W) - load(shift + n * W)
    exp_each(group, vectors, lift)
    for n in range(vectors):
        store(e + n * W, group[n])


cdef inline void take_exponentials_of_columns(int lift, bint busy, const Batch* batch, const Terms_of_batch* of,
                                              Beside* beside) noexcept nogil:
    """The same over all vectors of a batch in columns that have rows, class by class."""
    cdef const real* x = of.x.start
    cdef real* e = of.kept.start
    cdef Py_ssize_t vectors = (batch.rows + W - 1) // W
    cdef Py_ssize_t groups = vectors // GROUP_OF_COLUMNS
    cdef Py_ssize_t left = vectors % GROUP_OF_COLUMNS
    cdef Py_ssize_t c, group, at
    for c in range(batch.classes):
        if busy:
            begin_run(beside, c)
        for group in range(groups):
            at = group * GROUP_OF_COLUMNS * W
            take_group_of_columns(lift, busy, GROUP_OF_COLUMNS, x + at, of.shift + at, e + at, beside)
        at = groups * GROUP_OF_COLUMNS * W
        take_group_of_columns(lift, busy, left, x + at, of.shift + at, e + at, beside)
        x += of.x.step
        e += of.kept.step


cdef inline void take_exponentials_of_few(int lift, const Batch* batch, const Terms_of_batch* of) noexcept nogil:
    """The same of a row or two, as rows: of a vector of columns they would fill one number or two."""
    cdef real row[SHORT + LANES]
    cdef Py_ssize_t r, c, k
    for r in range(batch.rows):
        for c in range(batch.classes):
            row[c] = of.x.start[r + c * of.x.step]
        for k in range((batch.classes + W - 1) // W):
            store(row + k * W, exp(load_first(row + k * W, batch.classes - k * W, broadcast(0))
                                   - broadcast(of.shift[r]), lift))
        for c in range(batch.classes):
            of.kept.start[r + c * of.kept.step] = row[c]


cdef inline void terms_at(Terms terms, bint one_loop, bint moving, const Batch* batch, Strip of, Py_ssize_t step,
                          Py_ssize_t v, const vec* shift, Beside* beside, vec* t, bits* maxima,
                          vec* largest) noexcept nogil:
    """The terms of a step's vector v; in `one_loop`, its exponentials too."""
    cdef vec x = load(of.x + step * of.x_step + v * W)
    if one_loop and has_exponentials(terms):
        if moving:
            move_line(beside)
        largest[v] = maximum(load(of.next + step * LANES + v * W), largest[v])
        x = exp(x - shift[v], lift_of(terms))
        if of.e != NULL:
            store(of.e + step * LANES + v * W, x)
    compute_terms(terms, x,
                  load(of.y + step * of.y_step + v * W) if has_y(terms) else broadcast(0),
                  for_step(of.w, batch, step, v) if terms == DIFFERENCES else broadcast(0),
                  shift[v], broadcast(of.c), t, &maxima[v])


cdef inline void add_terms(Terms terms, bint one_loop, bint moving, const Batch* batch, Strip of, Py_ssize_t steps,
                           const vec* shift, Beside* beside, Sum* sums, vec* largest) noexcept nogil:
    """Add the terms of whole steps to sums[i * VECTORS + v], i the term: pairs of pairs."""
    cdef vec t[8]       # term i of step j is t[2 j + i]
    cdef bits maxima[VECTORS]   # (the second terms of SUMEXP_M1, which are counted)
    cdef Py_ssize_t added = 1 if terms == SUMEXP_M1 else count_of(terms)
    cdef Py_ssize_t quads = steps // 4
    cdef Py_ssize_t _quad, v, i, j
    for v in range(VECTORS):
        maxima[v] = broadcast_bits(0)
    for _quad in range(quads):
        for v in range(VECTORS):
            # (Not in a loop, which compilers leave as it is where it is long: 0.5 of the speed.)
            terms_at(terms, one_loop, moving, batch, of, 0, v, shift, beside, t, maxima, largest)
            terms_at(terms, one_loop, moving, batch, of, 1, v, shift, beside, t + 2, maxima, largest)
            terms_at(terms, one_loop, moving, batch, of, 2, v, shift, beside, t + 4, maxima, largest)
            terms_at(terms, one_loop, moving, batch, of, 3, v, shift, beside, t + 6, maxima, largest)
            for i in range(added):
                add(&sums[i * VECTORS + v], (t[i] + t[2 + i]) + (t[4 + i] + t[6 + i]))
        of.x += 4 * of.x_step
        of.y += 4 * of.y_step
        of.w += 4 if batch.columns else 4 * LANES
        of.next += 4 * LANES
        if of.e != NULL:
            of.e += 4 * LANES
    for v in range(VECTORS if steps % 4 != 0 else 0):
        for i in range(added):
            t[2 + i] = broadcast(0)
        for j in range(steps % 4):
            terms_at(terms, one_loop, moving, batch, of, j, v, shift, beside, t, maxima, largest)
            for i in range(added):
                t[2 + i] = t[2 + i] + t[i]
        for i in range(added):
            add(&sums[i * VECTORS + v], t[2 + i])
    for v in range(VECTORS if terms == SUMEXP_M1 else 0):
        add(&sums[VECTORS + v], number_of(maxima[v]))


cdef inline void sum_chunk(Terms terms, bint moving, const Batch* batch, Strip of, Py_ssize_t steps, const vec* shift,
                           Beside* beside, Sum* sums, vec* largest) noexcept nogil:
    """A chunk of a row: its exponentials, and its terms. (`moving` is a literal, for loops without a test.)"""
    if has_exponentials(terms) and not ONE_LOOP:
        take_exponentials(terms, moving, steps, of, shift, beside, largest)
        of.x = of.e
    add_terms(terms, ONE_LOOP, moving, batch, of, steps, shift, beside, sums, largest)


cdef inline void sum_tail(Terms terms, const Batch* batch, Strip of, const vec* shift,
                          Sum* sums) noexcept nogil:
    """The classes of a row that do not fill a step: their exponentials to e, if that is not NULL, and their terms."""
    cdef vec zero = broadcast(0)
    cdef vec x, y = zero, w = zero
    cdef vec t[2]
    cdef bits maxima
    cdef Py_ssize_t v, n, i
    for v in range(VECTORS):
        n = batch.tail - v * W
        if n > 0:
            x = load_first(of.x + v * W, n, broadcast(-INFINITY) if has_exponentials(terms) else zero)
            if has_exponentials(terms):
                x = exp(x - shift[v], lift_of(terms))
                if of.e != NULL:
                    store_first(of.e + v * W, x, n)
            if has_y(terms):
                y = load_first(of.y + v * W, n, zero)
            if terms == DIFFERENCES:
                w = load_first(of.w + v * W, n, zero)
            maxima = broadcast_bits(0)
            compute_terms(terms, x, y, w, shift[v], broadcast(of.c), t, &maxima)
            for i in range(1 if terms == SUMEXP_M1 else count_of(terms)):
                add(&sums[i * VECTORS + v], t[i])
            if terms == SUMEXP_M1:
                add(&sums[VECTORS + v], number_of(maxima))


cdef inline void clear(Sum* sums, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(count):
        sums[k] = Sum(broadcast(0), broadcast(0))


cdef inline void renew_sums(Sum* sums, Py_ssize_t count) noexcept nogil:
    """Add to the totals what rounding has taken from them, before that needs digits that it has not."""
    cdef vec total
    cdef Py_ssize_t k
    for k in range(count):
        total = value_of(sums[k])
        sums[k] = Sum(total, sums[k].lost - (total - sums[k].total))


cdef inline Strip strip_of(const Terms_of_batch* of, Py_ssize_t row, bint find_next) noexcept nogil:
    cdef const real* x = of.x.start + row * of.x.strip
    cdef Strip strip = Strip(x, of.y.start + row * of.y.strip, of.w, LANES, LANES, of.c, NULL, x)
    if of.kept.start != NULL:
        strip.e = of.kept.start + row * of.kept.strip
    if find_next:
        strip.next = of.next.start + row * of.x.strip
    return strip


cdef inline Strip strip_from(Strip strip, Py_ssize_t n) noexcept nogil:
    """The same from its class n on."""
    strip.x += n
    strip.y += n
    strip.w += n
    strip.next += n
    if strip.e != NULL:
        strip.e += n
    return strip


cdef inline void sum_row(Terms terms, bint moving, const Batch* batch, const Terms_of_batch* of, Py_ssize_t row,
                         Beside* beside, Sum* sums) noexcept nogil:
    """sums[i * VECTORS + v] = the sum of the terms i of a row, in the lanes of the vector v."""
    cdef real scratch[CHUNK * LANES]    # a chunk's exponentials that are not kept
    cdef bint find_next = has_exponentials(terms) and row < of.next.rows
    cdef Strip whole = strip_of(of, row, find_next)
    cdef Strip strip
    cdef vec shift[VECTORS]
    cdef vec largest[VECTORS]
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t n, v
    for v in range(VECTORS):
        shift[v] = broadcast(of.shift[row])
        largest[v] = broadcast(-INFINITY)
    clear(sums, count_of(terms) * VECTORS)
    if moving:
        begin_run(beside, row)
    while start < batch.steps:
        n = min(<Py_ssize_t> (LONG_CHUNK if ONE_LOOP else CHUNK), batch.steps - start)
        strip = strip_from(whole, start * LANES)
        if not ONE_LOOP and strip.e == NULL:
            strip.e = scratch
        if moving and has_exponentials(terms):
            sum_chunk(terms, True, batch, strip, n, shift, beside, sums, largest)
        else:
            sum_chunk(terms, False, batch, strip, n, shift, beside, sums, largest)
        start += n
        if start % LONG_CHUNK == 0:
            renew_sums(sums, count_of(terms) * VECTORS)
    if batch.tail > 0:
        if moving:
            move_line(beside)
        strip = strip_from(whole, batch.steps * LANES)
        sum_tail(terms, batch, strip, shift, sums)
        take_tail_maximum(batch, strip.next, largest)
    if find_next:
        of.next.largest[row] = fold_maxima(largest)


cdef inline void sum_as_rows(Terms terms, bint moving, const Batch* batch, const Terms_of_batch* of, Beside* beside,
                             real** results) noexcept nogil:
    cdef Sum sums[MOST_IN_ROWS][2 * VECTORS]
    cdef Py_ssize_t row
    for row in range(batch.rows):
        sum_row(terms, moving, batch, of, row, beside, sums[row])
    # (After all rows: the additions of a fold wait for one another, but not for those of other rows.)
    for row in range(batch.rows):
        results[0][row] = fold_sums(sums[row])
        if count_of(terms) == 2:
            results[1][row] = fold_sums(sums[row] + VECTORS)


cdef inline void sum_columns(Terms terms, const Batch* batch, Block x, const Terms_of_batch* of,
                             real** results) noexcept nogil:
    """The terms of columns, strip by strip; x are the exponentials, if there are any."""
    cdef Sum sums[2 * VECTORS]
    cdef vec shift[VECTORS]
    cdef Strip part
    cdef Py_ssize_t strip, i, v
    for strip in range(batch.strips):
        for v in range(VECTORS):
            shift[v] = load(of.shift + strip * LANES + v * W)
        clear(sums, count_of(terms) * VECTORS)
        part = Strip(x.start + strip * LANES, of.y.start + strip * LANES, of.w, x.step, of.y.step, of.c, NULL, NULL)
        add_terms(terms, False, False, batch, part, batch.steps, shift, NULL, sums, NULL)
        for i in range(count_of(terms)):
            for v in range(VECTORS):
                store(results[i] + strip * LANES + v * W, value_of(sums[i * VECTORS + v]))


cdef inline void sum_as_columns(Terms terms, bint busy, const Batch* batch, const Terms_of_batch* of, Beside* beside,
                                real** results) noexcept nogil:
    if has_exponentials(terms):
        if batch.rows <= W // 8 and batch.classes <= SHORT:
            take_exponentials_of_few(lift_of(terms), batch, of)
        elif busy:
            take_exponentials_of_columns(lift_of(terms), True, batch, of, beside)
        else:
            take_exponentials_of_columns(lift_of(terms), False, batch, of, beside)
        sum_columns(terms, batch, of.kept, of, results)
    else:
        sum_columns(terms, batch, of.x, of, results)


cdef inline void sum_in_form(Terms terms, const Batch* batch, const Terms_of_batch* of, Beside* beside,
                             real** results) noexcept nogil:
    if batch.columns:
        sum_as_columns(terms, is_busy(beside), batch, of, beside, results)
    else:
        sum_as_rows(terms, is_busy(beside), batch, of, beside, results)
        if has_exponentials(terms):
            of.next.found = of.next.rows


cdef inline flattened sum_chosen(Terms terms, const Batch* batch, const Terms_of_batch* of, Beside* beside,
                                 real** results) noexcept nogil:
    if terms == EXPONENTIALS:
        sum_in_form(EXPONENTIALS, batch, of, beside, results)
    elif terms == SUMEXP_M1:
        sum_in_form(SUMEXP_M1, batch, of, beside, results)
    elif terms == TARGETS:
        sum_in_form(TARGETS, batch, of, beside, results)
    elif terms == PRODUCTS:
        sum_in_form(PRODUCTS, batch, of, beside, results)
    elif terms == NUMBERS:
        sum_in_form(NUMBERS, batch, of, beside, results)
    elif terms == FACTORS:
        sum_in_form(FACTORS, batch, of, beside, results)
    else:
        sum_in_form(DIFFERENCES, batch, of, beside, results)


cdef inline void sum_rows(Terms terms, const Batch* batch, Terms_of_batch* of, real* first,
                          real* second) noexcept nogil:
    """The sums of a batch's terms, for each row: as many as there are terms."""
    cdef real* results[2]
    results[0], results[1] = first, second
    if of.pending != NULL and of.pending.lines > 0:
        of.beside.pending = of.pending[0]
        of.pending.lines = 0
    sum_chosen(terms, batch, of, &of.beside, results)
    stream_all(&of.beside.pending)
