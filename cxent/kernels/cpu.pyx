"""What this CPU can run."""

cdef extern from *:
    """
    /* (Where GNU C compiles for x86-64 the kernels are built for these levels: setup.py.) */
    #if defined(__x86_64__) && defined(__GNUC__) && !defined(_WIN32)
    #define HAS(feature) __builtin_cpu_supports(feature)

    #ifdef __clang__ /* has no names for these; CPUs with the other features have them */
    #define HAS_F16C_LZCNT_MOVBE 1
    #else
    #define HAS_F16C_LZCNT_MOVBE (HAS("f16c") && HAS("lzcnt") && HAS("movbe"))
    #endif

    static int cpu_level(void) {
        __builtin_cpu_init(); /* asks the operating system too whether it saves the wide registers */
        if (!(HAS("avx2") && HAS("fma") && HAS("bmi") && HAS("bmi2") && HAS_F16C_LZCNT_MOVBE))
            return 1;
        if (!(HAS("avx512f") && HAS("avx512bw") && HAS("avx512cd") && HAS("avx512dq") && HAS("avx512vl")))
            return 3;
        return 4;
    }
    #else
    static int cpu_level(void) { return 1; }
    #endif
    """
    int cpu_level()


def x86_level():
    """The highest of the x86-64 levels 1, 3 and 4 that this CPU has; 1 where there are kernels for no other."""
    return cpu_level()
