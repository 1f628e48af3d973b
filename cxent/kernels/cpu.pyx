"""What this CPU can run."""

cdef extern from *:
    """
    #define CXENT_REAL_BITS 32
    #include "simd.h"

    /* (Where simd.h has vectors of x86-64 the kernels are built for these levels: setup.py.) */
    #ifdef CXENT_X86
    #include <cpuid.h>

    static int cpu_level(void) {
        const unsigned first = bit_FMA | bit_MOVBE | bit_F16C | bit_OSXSAVE | bit_AVX;
        const unsigned bits_v3 = bit_AVX2 | bit_BMI | bit_BMI2;
        const unsigned bits_v4 = bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | (unsigned) bit_AVX512VL;
        unsigned a, b, c, d, saved, high;
        if (!__get_cpuid(1, &a, &b, &c, &d) || (c & first) != first)
            return 1;
        if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & bit_LZCNT))
            return 1;
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & bits_v3) != bits_v3)
            return 1;
        /* Whether the operating system saves the wide registers: bits 1 and 2, and 5 to 7 for those of AVX-512. */
        __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
        if ((saved & 0x06) != 0x06)
            return 1;
    #ifdef __APPLE__ /* begins to save those when they are first used */
        saved |= 0xE0;
    #endif
        return (b & bits_v4) == bits_v4 && (saved & 0xE0) == 0xE0 ? 4 : 3;
    }
    #else
    static int cpu_level(void) { return 1; }
    #endif
    """
    int cpu_level()
    bint BASELINE_IS_FUSED "CXENT_FUSED"


def x86_level():
    """The highest of the x86-64 levels 1, 3 and 4 that this CPU has; 1 where there are kernels for no other."""
    return cpu_level()


def baseline_is_fused():
    """Whether the kernels of the baseline, which this module is compiled like, have fused multiply-add."""
    return BASELINE_IS_FUSED
