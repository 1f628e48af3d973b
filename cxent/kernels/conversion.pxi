"""The entry point of conversions from half precision and to it."""

from cxent.kernels.batch cimport block_of
from cxent.kernels.tiles cimport copy_rows, load_rows, store_rows


cdef inline void convert_batch(Call* call) noexcept nogil:
    if call.out.direct:     # (then x, being half precision, is not)
        copy_rows(&call.batch, &call.x, block_of(&call.batch, &call.out), True)
    else:
        store_rows(&call.batch, &call.out, load_rows(&call.batch, &call.x))


def convert(
    x,                  # IN   (outer, classes, inner)
    out,                # OUT  (outer, classes, inner), of which one is half precision and the other is not
    int threads,        # IN   that may compute, at least 1
    /,
):
    """out = x, rounded to the nearest."""
    cdef Call call
    begin_with(&call, x)
    call.out = rows_of(&call.batch, out)
    call.threads = threads
    with nogil:
        run(&call, convert_batch)
