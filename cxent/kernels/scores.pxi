"""The entry point of scoring."""

from cxent.kernels.scoring cimport token_logprobs_batch


cdef void* start_of(array) except? NULL:
    """Where an array begins."""
    cdef Py_buffer memory
    PyObject_GetBuffer(array, &memory, PyBUF_STRIDED_RO)
    PyBuffer_Release(&memory)   # whoever calls holds the array
    return memory.buf


def token_logprobs(
    x,                  # IN   (outer, classes, inner)
    ids,                # IN   (outer, inner, candidates) of integers, each in 0..classes-1 or `ignored`
    options,            # IN   (ignored, softcap, temperature), as in `cross_entropy`
    logprob,            # OUT  (outer, inner, candidates), as all results of several numbers a row in C order
    rank,               # OUT  (outer, inner, candidates) of int64
    entropy,            # OUT  (outer, inner)
    lse,                # OUT  (outer, inner)
    top_id,             # OUT  (outer, inner, top_k) of int64, or None
    top_logprob,        # OUT  (outer, inner, top_k), or None
    int threads,        # IN   that may compute, at least 1
    /,
):
    """logprob = (x_y - m) - log1p(r), rank = 1 + how many x are larger, entropy = -sum(p * log(p)), and the top k.

    Candidates that are ignored have logprob 0 and rank 0. Where a row has no probabilities, ranks are 0, and top_id -1.
    """
    cdef Call call
    begin_with(&call, x)
    ignored, call.loss.softcap, call.loss.temperature = options
    call.loss.ignoring = ignored is not None
    call.loss.ignored = 0 if ignored is None else ignored
    if call.loss.softcap != 0 or call.loss.temperature != 1:
        call.x.direct = False  # logits are changed in a tile
    call.spare.origin = call.x.origin  # (a tile alone)
    call.scores.candidates = ids.shape[2]
    if call.scores.candidates > 0:
        call.scores.ids, call.scores.id_stride = labels_of(ids), ids.strides[2]
        call.scores.logprob, call.scores.rank = <real*> start_of(logprob), <int64_t*> start_of(rank)
    call.values = values_of(entropy)
    call.loss.lse = values_of(lse)
    if top_id is not None:
        call.scores.top_k = top_id.shape[2]
        call.scores.top_id, call.scores.top_logprob = <int64_t*> start_of(top_id), <real*> start_of(top_logprob)
    call.threads = threads
    with nogil:
        run(&call, token_logprobs_batch)
