"""Threads that share the parts of a call, made once."""

# Computes one part; `seat` is the same for no two threads that compute at once, and less than the number of threads.
ctypedef void (*Work)(void* job, int seat, int part) noexcept nogil

cdef enum:
    MOST_PARTS = 64

# How many parts a call has. It depends on its shape alone, as then do the bits of a sum over all rows.
cdef int parts_of(Py_ssize_t rows, Py_ssize_t classes) noexcept nogil

# How many of the threads asked for are worth having for so many numbers; others than the caller's are started.
cdef int threads_for(Py_ssize_t numbers, int wanted) except -1 nogil

# All parts, on up to `threads` threads of which the caller is one; on that alone while another call has the others.
cdef void share(Work work, void* job, int parts, int threads) noexcept nogil
