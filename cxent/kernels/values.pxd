"""One number a row: what is given for each, and what is returned."""

from .batch cimport Batch, address, padded_rows
from .simd cimport real

cdef struct Values:             # an array of one number for each row
    char* origin                # NULL if there is none
    Py_ssize_t outer_stride     # in bytes
    Py_ssize_t inner_stride


cdef inline Values values_at(const void* origin, Py_ssize_t outer_stride, Py_ssize_t inner_stride) noexcept nogil:
    return Values(<char*> origin, outer_stride, inner_stride)


cdef inline char* value_at(const Batch* batch, const Values* values, Py_ssize_t row) noexcept nogil:
    """Where the value for a row of the array is."""
    return address(batch, values.origin, values.outer_stride, values.inner_stride, row)


cdef inline Py_ssize_t distance_of(const Batch* batch, const Values* values) noexcept nogil:
    """Bytes from the value for one row of the batch to that for the next; 0 if it is not the same everywhere."""
    if batch.inner == 1:
        return values.outer_stride
    return values.inner_stride if batch.first % batch.inner + batch.rows <= batch.inner else 0


cdef inline void take_values(const Batch* batch, const Values* values, real* x) noexcept nogil:
    cdef Py_ssize_t distance = distance_of(batch, values)
    cdef const char* start = value_at(batch, values, batch.first)
    cdef Py_ssize_t r
    for r in range(batch.rows):
        x[r] = (<const real*> (start + r * distance if distance != 0
                               else value_at(batch, values, batch.first + r)))[0]


cdef inline void put_values(const Batch* batch, const Values* values, const real* x) noexcept nogil:
    cdef Py_ssize_t distance = distance_of(batch, values)
    cdef char* start = value_at(batch, values, batch.first)
    cdef Py_ssize_t r
    for r in range(batch.rows):
        (<real*> (start + r * distance if distance != 0 else value_at(batch, values, batch.first + r)))[0] = x[r]


cdef inline void fill(const Batch* batch, real number, real* x) noexcept nogil:
    """The same number for each row."""
    cdef Py_ssize_t r
    for r in range(padded_rows(batch)):
        x[r] = number
