/* What threads need and C has no portable name for: atomic integers, a pause in a spin, a nap, a clock. */
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
