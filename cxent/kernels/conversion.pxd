"""Numbers that are neighbours in memory: half precision and booleans as they are loaded and stored."""

from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

from .batch cimport BFLOAT16, BOOLEAN, FLOAT16, NATIVE, Storage, size_of
from .simd cimport (
    W, broadcast, flattened, load, load_bfloat16, load_booleans, load_first, load_float16, real, store, store_bfloat16,
    store_first, store_float16, vec,
)


cdef inline vec load_as(Storage storage, const char* p, Py_ssize_t n) noexcept nogil:
    """The first n numbers at p as a vector, and 0 in the place of others."""
    cdef char copy[64]
    if storage == NATIVE:
        return load_first(<const real*> p, n, broadcast(0))
    if n < W:
        memset(copy, 0, sizeof(copy))
        memcpy(copy, p, n * size_of(storage))
        p = copy
    if storage == BOOLEAN:
        return load_booleans(p)
    return load_float16(p) if storage == FLOAT16 else load_bfloat16(p)


cdef inline void store_as(Storage storage, char* p, vec x, Py_ssize_t n) noexcept nogil:
    """The first n numbers of x to p, rounded to the nearest."""
    cdef char copy[64]
    cdef char* target = p if n >= W else copy
    if storage == NATIVE:
        store_first(<real*> p, x, n)
        return
    if storage == FLOAT16:
        store_float16(target, x)
    else:
        store_bfloat16(target, x)
    if n < W:
        memcpy(p, copy, n * sizeof(uint16_t))


cdef inline void convert(Storage storage, char* p, real* x, Py_ssize_t n, bint to_tile) noexcept nogil:
    """n neighbours in the array to x, or back; `storage` is a literal."""
    cdef Py_ssize_t whole = n // W
    cdef Py_ssize_t k
    for k in range(whole):
        if to_tile:
            store(x + k * W, load_as(storage, p + k * W * size_of(storage), W))
        else:
            store_as(storage, p + k * W * size_of(storage), load(x + k * W), W)
    if n % W > 0:
        p, x, n = p + whole * W * size_of(storage), x + whole * W, n % W
        if to_tile:
            store_first(x, load_as(storage, p, n), n)
        else:
            store_as(storage, p, load_first(x, n, broadcast(0)), n)


cdef inline flattened convert_chosen(Storage storage, char* p, real* x, Py_ssize_t n, bint to_tile) noexcept nogil:
    if storage == NATIVE:
        if to_tile:
            convert(NATIVE, p, x, n, True)
        else:
            convert(NATIVE, p, x, n, False)
    elif storage == BOOLEAN:
        convert(BOOLEAN, p, x, n, True)
    elif storage == FLOAT16:
        if to_tile:
            convert(FLOAT16, p, x, n, True)
        else:
            convert(FLOAT16, p, x, n, False)
    else:
        if to_tile:
            convert(BFLOAT16, p, x, n, True)
        else:
            convert(BFLOAT16, p, x, n, False)


cdef inline void copy_run(Storage storage, char* p, real* x, Py_ssize_t n, bint to_tile) noexcept nogil:
    """n neighbours in the array to x, or back."""
    if n > 1 or storage != NATIVE:
        convert_chosen(storage, p, x, n, to_tile)
    elif to_tile:
        x[0] = (<real*> p)[0]
    else:
        (<real*> p)[0] = x[0]


cdef inline void copy_lines(Storage storage, char* lines, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t length,
                            real* x, bint to_tile) noexcept nogil:
    """Lines of the array, `stride` bytes apart, to lines without gaps, or back."""
    cdef Py_ssize_t k
    if stride == length * size_of(storage):
        copy_run(storage, lines, x, count * length, to_tile)
        return
    for k in range(count):
        copy_run(storage, lines + k * stride, x + k * length, length, to_tile)
