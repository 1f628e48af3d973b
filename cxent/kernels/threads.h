/* What threads need and C has no portable name for: atomic integers, a pause in a spin, a nap, a clock, affinity. */
#ifndef CXENT_THREADS_H
#define CXENT_THREADS_H
#include <time.h>

#if defined(__GNUC__) || defined(__clang__)
typedef int cxent_atomic;
#define cxent_atomic_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define cxent_atomic_store(p, x) __atomic_store_n(p, x, __ATOMIC_SEQ_CST)
#define cxent_atomic_add(p, x) __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST)
static inline int cxent_atomic_replace(cxent_atomic* p, int old, int x) {
    return __atomic_compare_exchange_n(p, &old, x, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#else
#include <intrin.h>
typedef volatile long cxent_atomic;
#define cxent_atomic_load(p) _InterlockedOr(p, 0)
#define cxent_atomic_store(p, x) ((void) _InterlockedExchange(p, x))
#define cxent_atomic_add(p, x) _InterlockedExchangeAdd(p, x)
#define cxent_atomic_replace(p, old, x) (_InterlockedCompareExchange(p, x, old) == (old))
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define cxent_pause() _mm_pause()
#elif defined(__aarch64__)
#define cxent_pause() __asm__ volatile("isb")
#elif defined(_M_ARM64)
#define cxent_pause() __isb(_ARM64_BARRIER_SY)
#else
#define cxent_pause() ((void) 0)
#endif

/* Some 20 microseconds without the CPU. The shortest sleep of Windows is 1 to 15 milliseconds, in which a call is long
   over: there others are let onto the CPU, and the wait goes on if there are none. */
#ifdef _WIN32
__declspec(dllimport) int __stdcall SwitchToThread(void);
#define cxent_nap() ((void) SwitchToThread())
#else
static inline void cxent_nap(void) {
    const struct timespec nap = {0, 20000};
    nanosleep(&nap, NULL);
}
#endif

/* Keeping a helper off the CPU of the thread that wakes it. Elsewhere than on Linux the system is left to choose. */
#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef CPU_SETSIZE
typedef cpu_set_t cxent_cpus;
static inline long cxent_thread_id(void) { return syscall(SYS_gettid); }
/* The CPUs that this thread may use, but for the one that it is on; returns whether there are any. */
static inline int cxent_other_cpus(cxent_cpus* cpus) {
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof *cpus, cpus) != 0) return 0;
    CPU_CLR(here, cpus);
    return CPU_COUNT(cpus) > 0;
}
/* (It fails where a CPU has gone meanwhile; the thread then stays where it may be.) */
static inline void cxent_keep_to(long thread, const cxent_cpus* cpus) {
    (void) sched_setaffinity((pid_t) thread, sizeof *cpus, cpus);
}
#else
typedef char cxent_cpus;
#define cxent_thread_id() 0L
#define cxent_other_cpus(cpus) ((void) (cpus), 0)
#define cxent_keep_to(thread, cpus) ((void) (thread), (void) (cpus))
#endif

static inline double cxent_microseconds(void) {
    struct timespec now;
#ifdef _WIN32
    timespec_get(&now, TIME_UTC);
#else
    clock_gettime(CLOCK_MONOTONIC, &now); /* (nobody can set it back, which would make a spin longer) */
#endif
    return 1e6 * (double) now.tv_sec + 1e-3 * (double) now.tv_nsec;
}

#endif
