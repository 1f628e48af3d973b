"""What this CPU can run."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    /* The operating system must save the wide registers too; __builtin_cpu_supports asks for both.
       Every CPU with these features has the rest of its x86-64 level. */
    static int cpu_level(void) {
        __builtin_cpu_init();
        if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
              && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")))
            return 1;
        if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl")))
            return 3;
        return 4;
    }
    #else
    static int cpu_level(void) { return 1; }
    #endif
    """
    int cpu_level()


def x86_level():
    """The highest of the x86-64 levels 1, 3 and 4 that this CPU has; 1 on any other architecture."""
    return cpu_level()
