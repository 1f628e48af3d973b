"""Threads that share the parts of a call: made once, and waiting without the GIL.

The thread that calls publishes a job, `open`s it, and takes parts of it from a counter, as do all others that come by
in time. Each seat has a run of parts, its own in every call, since what it has in its cache may be wanted again; it
takes these first, one after the other, and then what is left of other runs. When no part is left the caller closes the
job and waits for those that have begun a part; for no thread that has not.
While one call has the helpers, others compute alone: so does a call from within a part.

A helper that has nothing to do spins for a while, since the next call often comes soon: it then begins in less than a
microsecond. After that it sleeps on a lock of Python's, from which it takes some 50 microseconds to wake. The locks
work on every platform, and need no GIL. Linux often wakes a thread on the CPU of the one that woke it, which is in use,
and moves it away milliseconds later. So before a helper is woken, its affinity is set to the other CPUs that the caller
may use.

Tried: one counter for all parts, 0.7 to 0.9 of the speed on two cores, each of which then had half of what it wanted
in the other's cache.
"""

import os
import threading

cdef extern from "threads.h" nogil:
    ctypedef int atomic "cxent_atomic"
    int load "cxent_atomic_load"(atomic* p) noexcept
    void store "cxent_atomic_store"(atomic* p, int x) noexcept
    int add "cxent_atomic_add"(atomic* p, int x) noexcept    # returns what was there
    bint replace "cxent_atomic_replace"(atomic* p, int old, int x) noexcept
    void pause "cxent_pause"() noexcept
    void nap "cxent_nap"() noexcept
    double microseconds "cxent_microseconds"() noexcept
    ctypedef struct cpus "cxent_cpus":
        pass
    long thread_id "cxent_thread_id"() noexcept
    bint other_cpus "cxent_other_cpus"(cpus* found) noexcept
    void keep_to "cxent_keep_to"(long thread, const cpus* allowed) noexcept

cdef extern from "pythread.h" nogil:
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)

cdef enum:
    MOST_HELPERS = 255
    PATIENCE = 50       # microseconds that the caller spins for those who have begun a part, before it naps

cdef struct Helper:
    PyThread_type_lock bed      # held by the helper; released by who wakes it
    long id                     # the system's
    atomic asleep

cdef struct Run:                # the parts of a seat
    atomic next_part
    int end
    char apart[56]              # (from others' counters, in a cache line of its own)

cdef Helper helpers[MOST_HELPERS]
cdef Run runs[MOST_HELPERS + 1]
cdef int run_count = 0
cdef int helper_count = 0
cdef atomic busy = 0            # some call has the helpers
cdef atomic open_job = 0        # the number of the job whose parts may be taken; 0 if there is none
cdef atomic active = 0          # helpers that may be taking some
cdef atomic seats = 0           # for helpers, that are left
cdef Work work_of_job = NULL
cdef void* current_job = NULL
cdef int job_number = 0
cdef double spin = 200          # microseconds
cdef Py_ssize_t part_size = 8192    # numbers: some 4 microseconds' work, many times what it takes to take it
cdef Py_ssize_t worth_sharing = 24576   # numbers: with fewer, another thread comes too late
starting = threading.Lock()


cdef int parts_of(Py_ssize_t rows, Py_ssize_t classes) noexcept nogil:
    return <int> max(<Py_ssize_t> 1, min(min(rows, rows * classes // part_size), <Py_ssize_t> MOST_PARTS))


cdef int threads_for(Py_ssize_t numbers, int wanted) except -1 nogil:
    if wanted <= 1 or numbers < worth_sharing:
        return 1
    if helper_count < wanted - 1:
        with gil:
            start(wanted - 1)
    return wanted


cdef void take_parts(int seat) noexcept nogil:
    cdef Run* run
    cdef int k, part
    for k in range(run_count):
        run = &runs[(seat + k) % run_count]
        part = add(&run.next_part, 1)
        while part < run.end:
            work_of_job(current_job, seat, part)
            part = add(&run.next_part, 1)


cdef void wake(int wanted) noexcept nogil:
    cdef cpus allowed
    cdef bint looked = False
    cdef bint found = False
    cdef int k
    for k in range(helper_count):
        if wanted > 0 and replace(&helpers[k].asleep, 1, 0):
            if not looked:
                looked, found = True, other_cpus(&allowed)
            if found:
                keep_to(helpers[k].id, &allowed)
            PyThread_release_lock(helpers[k].bed)
            wanted -= 1


cdef void wait_for_helpers() noexcept nogil:
    cdef double begun = 0
    cdef int turn = 0
    while load(&active) != 0:
        pause()
        turn = (turn + 1) & 63
        if turn == 0:
            if begun == 0:
                begun = microseconds()
            elif not 0 <= microseconds() - begun < PATIENCE:
                nap()


cdef void share(Work work, void* job, int parts, int threads) noexcept nogil:
    global work_of_job, current_job, run_count, job_number
    cdef int part, k
    if threads <= 1 or parts <= 1 or not replace(&busy, 0, 1):
        for part in range(parts):
            work(job, 0, part)
        return
    work_of_job, current_job, run_count = work, job, min(threads, MOST_HELPERS + 1)
    for k in range(run_count):
        store(&runs[k].next_part, parts * k // run_count)
        runs[k].end = parts * (k + 1) // run_count
    store(&seats, threads - 1)
    job_number = job_number % 1000000000 + 1
    store(&open_job, job_number)
    wake(threads - 1)
    take_parts(0)
    store(&open_job, 0)
    wait_for_helpers()
    store(&busy, 0)


cdef void join_in() noexcept nogil:
    """Take parts of the open job, if one still is open and has a seat left."""
    cdef int seat
    add(&active, 1)     # before the look: who closes the job waits for all that it may have let in
    if load(&open_job):
        seat = add(&seats, -1)
        if seat > 0:
            take_parts(seat)
    add(&active, -1)


cdef inline bint is_new(int last) noexcept nogil:
    """Whether there is a job other than the last that this helper has seen."""
    cdef int job = load(&open_job)
    return job != 0 and job != last


cdef void sleep(Helper* self, int last) noexcept nogil:
    store(&self.asleep, 1)
    if is_new(last) and replace(&self.asleep, 1, 0):
        return  # it came in between, and nobody wakes who is awake
    PyThread_acquire_lock(self.bed, 1)


cdef void serve(Helper* self) noexcept nogil:
    """A helper's life, which ends with the process."""
    cdef double since = microseconds()
    cdef int last = 0
    cdef int turn = 0
    self.id = thread_id()
    while True:
        if is_new(last):
            last = load(&open_job)
            join_in()
            since = microseconds()
        pause()
        turn = (turn + 1) & 63
        if turn == 0 and not 0 <= microseconds() - since < spin:
            sleep(self, last)
            since = microseconds()


def _serve(int number):
    with nogil:
        serve(&helpers[number])


def spin_of(text):
    """The microseconds that the environment variable names."""
    try:
        wanted = float(text)
    except ValueError:
        wanted = -1.0
    if not 0 <= wanted <= 200:
        raise ValueError(f"CXENT_SPIN must be a number of microseconds from 0 to 200, got {text!r}")
    return wanted


def start(int wanted):
    """Have at least so many helpers; fewer, if the system has no more threads."""
    global helper_count, spin
    if helper_count >= wanted:
        return
    with starting:
        spin = spin_of(os.environ.get("CXENT_SPIN", "200"))
        while helper_count < min(wanted, MOST_HELPERS):
            helpers[helper_count].bed = PyThread_allocate_lock()
            helpers[helper_count].asleep = 0
            PyThread_acquire_lock(helpers[helper_count].bed, 1)
            name = f"cxent-{helper_count + 1}"
            try:
                threading.Thread(target=_serve, args=(helper_count,), name=name, daemon=True).start()
            except RuntimeError:  # the system has no more threads, or the interpreter is shutting down
                return
            helper_count += 1


def set_sizes(Py_ssize_t part, Py_ssize_t shared):
    """For tests, which split and share small calls: the numbers of a part, and of a call worth sharing. Returns both
    as they were."""
    global part_size, worth_sharing
    before = part_size, worth_sharing
    part_size, worth_sharing = part, shared
    return before


def shared_jobs():
    """For tests: how many calls were shared."""
    return job_number


def can_meet(int threads, double seconds):
    """For tests: whether so many threads compute parts at once, each of which waits for the others."""
    cdef Meeting meeting
    meeting.threads, meeting.until = threads, microseconds() + 1e6 * seconds
    store(&meeting.present, 0)
    store(&meeting.met, 0)
    with nogil:
        share(meet, &meeting, threads, threads)
    return load(&meeting.met) == threads


cdef struct Meeting:
    int threads
    double until
    atomic present
    atomic met


cdef void meet(void* job, int seat, int part) noexcept nogil:
    cdef Meeting* meeting = <Meeting*> job
    add(&meeting.present, 1)
    while load(&meeting.present) < meeting.threads and microseconds() < meeting.until:
        pause()
    if microseconds() < meeting.until:
        add(&meeting.met, 1)


def forget():
    """In a forked child there are no helpers, whatever the parent's were at."""
    global helper_count, starting
    helper_count = 0
    store(&busy, 0)
    store(&open_job, 0)
    store(&active, 0)
    starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)
