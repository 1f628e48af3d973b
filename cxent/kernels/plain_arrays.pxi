"""Plain arrays: where their rows are, read from NumPy's own structure instead of views.

An array is plain if it is no larger than the caches, and if its axes before the class axis are like one, and those
after it too: in C order, for example, or of two axes with any strides. (Included, since a `.pxd` cannot hold what is
kept of NumPy here.)
"""

cdef extern from *:
    """
    /* How a NumPy array begins: PyArrayObject_fields of NumPy's C interface, the same in all versions. (Its buffer
    takes longer to get, small calls have 0.94 of the speed, and an array of bfloat16 has none.) */
    struct cxent_array {
        PyObject_HEAD
        char *data;
        int ndim;
        Py_ssize_t *shape;
        Py_ssize_t *strides;
        PyObject *base;
        PyObject *dtype;
        int flags;
    };
    """
    struct Array "cxent_array":
        char* data
        int ndim
        Py_ssize_t* shape
        Py_ssize_t* strides
        PyObject* dtype
        int flags

cdef enum:                      # flags, as NumPy numbers them
    C_CONTIGUOUS = 0x1
    F_CONTIGUOUS = 0x2
    ALIGNED = 0x100
    WRITEABLE = 0x400

cdef enum:
    PLAIN_BYTES = (1 << 25) - 1     # of larger arrays, the results are written past the caches
    MOST_AXES = 4

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty
cdef object int64 = numpy.dtype(numpy.int64)
cdef object boolean = numpy.dtype(numpy.bool_)
cdef object real_dtype = numpy.dtype(numpy.float64 if sizeof(real) == 8 else numpy.float32)
cdef object other_real_dtype = numpy.dtype(numpy.float32 if sizeof(real) == 8 else numpy.float64)
cdef object real_type = real_dtype.type
cdef dict half_storages = {} if sizeof(real) == 8 else {numpy.dtype(numpy.float16): FLOAT16}  # and bfloat16

cdef struct Plain:
    char* start             # of its first number,
    char* lowest            # of its memory,
    char* end               # and what follows that
    Storage storage
    Py_ssize_t itemsize
    Py_ssize_t ndim
    Py_ssize_t[MOST_AXES] shape
    Py_ssize_t[MOST_AXES] strides
    Py_ssize_t size
    Py_ssize_t class_axis   # of logits, whose
    bint rows_are_near      # rows are nearer to each other than their classes
    bint in_c_order
    bint in_f_order         # of two axes, and not in C order
    bint read_only


cdef inline object dtype_of(array):
    """The dtype of an `ndarray`. (As an attribute it takes longer: small calls have 0.96 to 1 of the speed.)"""
    return <object> (<const Array*> <void*> array).dtype


cdef int storage_of(dtype) except -2:
    """The storage of numbers of this dtype; -1 if this module does not compute with them."""
    if dtype is real_dtype:
        return NATIVE
    if dtype is other_real_dtype:  # (sooner said than found)
        return -1
    storage = half_storages.get(dtype)
    if storage is None:
        if sizeof(real) == 8 or dtype.kind != "V" or dtype.name != "bfloat16" or not dtype.isnative:
            return -1
        storage = half_storages[dtype] = BFLOAT16
    return storage


cdef bint describe(array, Py_ssize_t itemsize, Plain* plain) noexcept:
    """Set what is known of an array but its storage; returns whether it is plain: aligned and not empty, too."""
    cdef const Array* memory = <const Array*> <void*> array     # (its type is `ndarray`)
    cdef Py_ssize_t a, reach
    plain.start = plain.lowest = plain.end = memory.data
    plain.itemsize, plain.ndim, plain.size = itemsize, memory.ndim, 1
    plain.read_only = not memory.flags & WRITEABLE
    plain.in_c_order = memory.flags & C_CONTIGUOUS
    plain.in_f_order = not plain.in_c_order and plain.ndim == 2 and memory.flags & F_CONTIGUOUS
    plain.class_axis, plain.rows_are_near = plain.ndim - 1, plain.in_f_order
    if plain.ndim > MOST_AXES or not memory.flags & ALIGNED:
        return False
    for a in range(plain.ndim - 1, -1, -1):     # (an axis of length 1 may have any stride)
        plain.shape[a] = memory.shape[a]
        plain.strides[a] = plain.size * itemsize if plain.in_c_order else memory.strides[a]
        plain.size *= plain.shape[a]
        reach = (plain.shape[a] - 1) * plain.strides[a]
        plain.lowest += min(reach, <Py_ssize_t> 0)
        plain.end += max(reach, <Py_ssize_t> 0)
    plain.end += itemsize
    return 0 < plain.size <= PLAIN_BYTES // itemsize


cdef object new_array(shape, dtype, Storage storage, Plain* plain):
    """A new array in C order, and what it is."""
    return described(empty(shape, dtype), storage, plain)


cdef object described(array, Storage storage, Plain* plain):
    plain.storage = storage
    describe(array, size_of(storage), plain)
    return array


cdef bint is_plain(array, Plain* plain) except -1:
    """Whether it is a plain array of numbers."""
    cdef int storage
    if type(array) is not ndarray:
        return False
    storage = storage_of(dtype_of(array))
    if storage < 0:
        return False
    plain.storage = <Storage> storage
    return describe(array, size_of(plain.storage), plain)


cdef inline bint has_even_rows(const Plain* a, Py_ssize_t class_axis) noexcept nogil:
    """Whether its axes before the class axis are like one, and those after it."""
    cdef Py_ssize_t k
    for k in range(0 if a.in_c_order else a.ndim - 1):
        if k != class_axis and k + 1 != class_axis and a.strides[k] != a.shape[k + 1] * a.strides[k + 1]:
            return False
    return True


cdef inline size_t gap(Py_ssize_t stride) noexcept nogil:
    """Between neighbours on an axis, less 1: an axis that is broadcast has the largest of all, and is the outermost."""
    return <size_t> max(stride, -stride) - 1


cdef inline bint follows_c_order(const Plain* x) noexcept nogil:
    """Whether axes before that of the classes have longer strides, and those after it shorter ones."""
    cdef Py_ssize_t a
    for a in range(0 if x.in_c_order else x.ndim):
        if a != x.class_axis and (gap(x.strides[a]) < gap(x.strides[x.class_axis])) != (a > x.class_axis):
            return False
    return True


cdef bint are_plain_logits(array, axis, Plain* plain) except -1:
    """Whether it is a plain array of numbers that has this class axis."""
    if type(axis) is not int or not is_plain(array, plain):
        return False
    if axis == -1:
        plain.class_axis = plain.ndim - 1
    elif 0 <= axis < plain.ndim:
        plain.class_axis = axis
    else:
        return False
    plain.rows_are_near = plain.class_axis < plain.ndim - 1
    if plain.ndim == 2 and not plain.in_c_order:
        plain.rows_are_near = gap(plain.strides[1 - plain.class_axis]) < gap(plain.strides[plain.class_axis])
    return plain.ndim > 0 and has_even_rows(plain, plain.class_axis) and (plain.ndim <= 2 or follows_c_order(plain))


cdef inline void begin_plain(Call* call, const Plain* x, int threads) noexcept nogil:
    """The rows of x."""
    cdef Py_ssize_t a, classes = x.shape[x.class_axis], inner = 1
    if x.ndim == 2:
        inner = x.size // classes if x.rows_are_near else 1
    else:
        for a in range(x.class_axis + 1, x.ndim):
            inner *= x.shape[a]
    begin(call, x.size // (classes * inner), classes, inner)
    call.x = plain_rows(call, x, x)
    call.threads = threads


cdef inline Rows plain_rows(const Call* call, const Plain* x, const Plain* a) noexcept nogil:
    """The rows of an array that has the shape of x."""
    cdef Py_ssize_t last = x.ndim - 1
    cdef Py_ssize_t outer = x.class_axis - 1 if x.class_axis > 0 else last      # the axes whose neighbours are rows,
    cdef Py_ssize_t inner = last if x.class_axis < last else outer              # if there are any
    return rows_at(&call.batch, a.start, a.strides[outer], a.strides[x.class_axis], a.strides[inner], a.storage)


cdef inline Values plain_values(const Call* call, const Plain* values) noexcept nogil:
    """Numbers of the rows."""
    if values.ndim == 1:
        return values_at(values.start, values.strides[0], values.strides[0])
    return values_at(values.start, call.batch.inner * values.itemsize, values.itemsize)


cdef inline bint has_shape_of(const Plain* a, const Plain* b) noexcept nogil:
    """Whether `a` has the shape of `b`, and rows where `plain_rows` says."""
    cdef Py_ssize_t k
    for k in range(min(a.ndim, b.ndim)):
        if a.shape[k] != b.shape[k]:
            return False
    return a.ndim == b.ndim and has_even_rows(a, b.class_axis)


cdef inline bint has_strides_of(const Plain* a, const Plain* b) noexcept nogil:
    """Whether arrays of the same shape have the same strides."""
    cdef Py_ssize_t k
    for k in range(a.ndim):
        if a.strides[k] != b.strides[k]:
            return False
    return True


cdef inline bint is_run(const Plain* a) noexcept nogil:
    """Whether its numbers are one run of memory, the first of them first."""
    return a.in_c_order or a.in_f_order


cdef inline bint has_row_shape_of(const Plain* a, const Plain* b) noexcept nogil:
    """Whether `a` has a number for each row of `b`, and these follow one another in memory as the rows do."""
    cdef Py_ssize_t k
    for k in range(min(a.ndim, b.ndim - 1)):
        if a.shape[k] != b.shape[k if k < b.class_axis else k + 1]:
            return False
    return a.ndim == b.ndim - 1 and (a.in_c_order or a.ndim == 1)


cdef inline bint are_distant(const Plain* a, const Plain* b) noexcept nogil:
    """Whether they have no memory in common."""
    return a.end <= b.lowest or b.end <= a.lowest


cdef inline bint can_replace(const Plain* out, const Plain* x) noexcept nogil:
    """Whether what is computed of x, whose shape it has, may be written there: they are the same, or distant."""
    return (out.start == x.start and has_strides_of(out, x)) or are_distant(out, x)


cdef object plain_output(out, x, const Plain* plain_x, Plain* plain_out):
    """Memory for a result like x: `out`, if it is that; None if that is not plain or overlaps x in part."""
    cdef bint first_axis_is_nearest = plain_x.ndim == 2 and plain_x.rows_are_near == (plain_x.class_axis == 1)
    if out is None:
        out = described(empty(x.shape, dtype_of(x), "F" if first_axis_is_nearest else "C"), plain_x.storage, plain_out)
    elif not (is_plain(out, plain_out) and dtype_of(out) is dtype_of(x) and has_shape_of(plain_out, plain_x)
              and not plain_out.read_only and can_replace(plain_out, plain_x)):
        return None
    return out
