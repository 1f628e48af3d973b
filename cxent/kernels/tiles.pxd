"""Rows of an array to a tile, and back: transposed, copied where rows lie side by side, number by number where strides
allow nothing better. Half precision and booleans are widened on the way, and results narrowed on the way back.
"""

from libc.string cimport memset

from .batch cimport (
    NATIVE, Batch, Block, Rows, are_adjacent, are_lines, block_of, leave_columns_empty, number_at, row_at,
)
from .conversion cimport copy_run
from .simd cimport LANES, W, broadcast, real, store
from .transposition cimport turn, turn_back, turn_group, whole_lines


cdef inline void copy_by_number(const Batch* batch, const Rows* rows, Block block, bint to_tile) noexcept nogil:
    """All lines of such an array to columns, number by number, or back. Columns without a line are like the first."""
    cdef real* line
    cdef Py_ssize_t r, c
    for r in range(batch.rows):
        line = <real*> row_at(batch, rows, r)
        for c in range(batch.classes):
            if not to_tile:
                line[c] = block.start[r + c * block.step]
            elif r == 0:
                store(block.start + c * block.step, broadcast(line[c]))
            else:
                block.start[r + c * block.step] = line[c]


cdef inline void turn_classes(const Batch* batch, const Rows* rows, const char* start, real* tile,
                              Py_ssize_t pitch) noexcept nogil:
    """W rows that lie side by side, and have W classes at least, to W rows of a tile."""
    cdef Py_ssize_t number, c
    for number in range((batch.classes + W - 1) // W):
        c = min(number * W, batch.classes - W)
        turn_group(start + c * rows.class_stride, rows.class_stride, W, tile + c, pitch)


cdef inline void copy_rows(const Batch* batch, const Rows* rows, Block block, bint to_tile) noexcept nogil:
    """The numbers of the batch from the array to a block, or back."""
    cdef Py_ssize_t itemsize = rows.itemsize
    cdef Py_ssize_t t = 0
    cdef Py_ssize_t run, whole, group, c, j
    cdef char* start
    while t < batch.rows:
        run = min(batch.rows - t, batch.inner - (batch.first + t) % batch.inner)  # (1, if rows do not lie side by side)
        start = row_at(batch, rows, batch.first + t)
        if batch.columns and rows.inner_stride == itemsize and batch.inner > 1:
            for c in range(batch.classes):
                copy_run(rows.storage, start + c * rows.class_stride, number_at(batch, block, t, c), run, to_tile)
        elif not batch.columns and batch.inner == 1 and rows.class_stride == itemsize:
            copy_run(rows.storage, start, number_at(batch, block, t, 0), batch.classes, to_tile)
        else:
            whole = 0
            if not batch.columns and rows.inner_stride == itemsize and rows.storage == NATIVE:
                whole = run // W * W  # rows that can be transposed, W at a time
            for group in range(whole // W):
                if to_tile:
                    turn_classes(batch, rows, start + group * W * itemsize, number_at(batch, block, t + group * W, 0),
                                 block.strip)
                else:
                    turn_group(<const char*> number_at(batch, block, t + group * W, 0), block.strip * itemsize,
                               batch.classes, <real*> (start + group * W * itemsize), rows.class_stride // itemsize)
            for j in range(whole, run):
                for c in range(batch.classes):
                    copy_run(rows.storage, start + c * rows.class_stride + j * rows.inner_stride,
                             number_at(batch, block, t + j, c), 1, to_tile)
        t += run


cdef inline void fill_columns(const Batch* batch, Block block, Py_ssize_t present) noexcept nogil:
    """Numbers in columns without a row too, from a whole vector on."""
    cdef Py_ssize_t c
    if present < batch.strips * LANES:
        for c in range(batch.classes):
            memset(block.start + c * block.step + present, 0, (batch.strips * LANES - present) * sizeof(real))


cdef inline Block load_rows(const Batch* batch, const Rows* rows) noexcept nogil:
    """The numbers of the batch: where they are, or brought to the tile. Columns without a row hold numbers too."""
    cdef Block block = block_of(batch, rows)
    cdef Py_ssize_t present = batch.rows
    if rows.direct:
        return block
    if leave_columns_empty(batch, rows):
        copy_by_number(batch, rows, block, True)
        present = W
    elif are_lines(batch, rows):
        turn(rows.storage, row_at(batch, rows, batch.first), rows.outer_stride, batch.rows,
             whole_lines(batch.end - batch.first, batch.classes, are_adjacent(batch, rows)), batch.classes,
             block.start, block.step)
        present = (batch.rows + W - 1) // W * W  # (the last strip may have more vectors)
    else:
        copy_rows(batch, rows, block, True)
    if batch.columns:
        fill_columns(batch, block, present)
    return block


cdef inline void store_rows(const Batch* batch, const Rows* rows, Block block) noexcept nogil:
    """The numbers of a block to the array, if they are not there already."""
    if rows.direct:
        return
    if leave_columns_empty(batch, rows):
        copy_by_number(batch, rows, block, False)
    elif are_lines(batch, rows):
        turn_back(rows.storage, block.start, block.step, row_at(batch, rows, batch.first), rows.outer_stride,
                  batch.rows, batch.classes)
    else:
        copy_rows(batch, rows, block, False)
