cdef class Scores(AtLevel):
    """The entry points of scoring, and of logits whose classes are in several places."""

    def token_logprobs(
        self,
        x,                  # IN   (outer, classes, inner)
        mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
        ids,                # IN   (outer, inner, candidates) of integers, each in 0..classes-1 or `ignored`
        options,            # IN   (ignored, softcap, temperature), as in `cross_entropy`; a temperature may also be
                            #      (outer, inner), one for each row, without a softcap
        logprob,            # OUT  (outer, inner, candidates), as all results of several numbers a row in C order
        rank,               # OUT  (outer, inner, candidates) of int64, or None
        entropy,            # OUT  (outer, inner), or None
        lse,                # OUT  (outer, inner)
        top_id,             # OUT  (outer, inner, top_k) of int64, or None
        top_logprob,        # OUT  (outer, inner, top_k), or None
        moments,            # OUT  (outer, inner, 2): the variance of x under p, and sum(p^2); or None
        state,              # OUT  (outer, inner, 3): m before temperature, r, and sum(exp(x - m) * (x - m)); or None
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """logprob = (x_y - m) - log1p(r), rank = 1 + how many x are larger, entropy = -sum(p * log(p)), and the top k.

        Candidates that are ignored have logprob 0, and a row whose candidates all are has entropy 0. Their ranks are
        the largest int64, as are those of candidates that take no part, and of a row without probabilities. Its top_id
        are -1, as those are for which there are no more classes.
        """
        cdef Call call
        begin_with(&call, x)
        set_mask(&call, mask)
        ignored, call.loss.softcap, temperature = options
        set_temperature(&call, temperature)
        if call.loss.softcap != 0:
            call.x.direct = False  # logits are changed in a tile
        call.spare.origin = call.x.origin  # (a tile alone)
        call.scores.candidates = ids.shape[2]
        if call.scores.candidates > 0:
            call.scores.ids, call.scores.id_stride = labels_of(ids, ignored), ids.strides[2]
            call.scores.logprob = <real*> start_of(logprob)
            if rank is not None:
                call.scores.rank = <int64_t*> start_of(rank)
        call.values = values_of(entropy)
        call.loss.lse = values_of(lse)
        if top_id is not None:
            call.scores.top_k = top_id.shape[2]
            call.scores.top_id, call.scores.top_logprob = <int64_t*> start_of(top_id), <real*> start_of(top_logprob)
        if moments is not None:
            call.scores.moments = <real*> start_of(moments)
        if state is not None:
            call.scores.state = <real*> start_of(state)
        call.threads = threads
        with nogil:
            self.level.run(&call, self.level.token_logprobs)

    def total_of(
        self,
        const real[::1] values,     # IN
        /,
    ):
        """Their sum, as that of a float64 array whatever its dtype."""
        cdef double total
        with nogil:
            total = self.level.sum_of_numbers(&values[0], values.shape[0])
        return total

    def merge_parts(
        self,
        const real[:, ::1] a,   # IN   (5, rows): m before temperature, r, what r lacks, sum(exp(x - m) * (x - m)), what
                                #      it lacks; of some classes
        const real[:, ::1] b,   # IN   (5, rows), of others
        double temperature,     # IN
        real[:, ::1] out,       # OUT  (5, rows), of both
        /,
    ):
        """The state of rows from those of two parts of their classes."""
        cdef Py_ssize_t rows = a.shape[1]
        with nogil:
            self.level.merge_rows(&a[0, 0], &b[0, 0], rows, <real> temperature, &out[0, 0])

    def finish_part(
        self,
        x,                  # IN   (outer, classes, inner), a part of the classes
        mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
        const real[:, :] m,  # IN  (outer, inner), the maximum of all parts
        const real[:, :] b,  # IN  (outer, inner)
        bint logarithms,    # IN
        double temperature,     # IN
        out,                # OUT  (outer, classes, inner), may be x
        bint past_caches,   # IN   whether `out` is to be written past the caches
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """out = b * exp((x - m) / temperature), and 0 where b is; or, of logarithms, (x - m) / temperature - b."""
        cdef Call call
        begin_with(&call, x)
        set_mask(&call, mask)
        call.shifts = values_at(&m[0, 0], m.strides[0], m.strides[1])
        call.shares = values_at(&b[0, 0], b.strides[0], b.strides[1])
        call.out = rows_of(&call.batch, out)
        call.loss.temperature = temperature
        call.threads = threads
        with nogil:
            if past_caches:
                stream_past_caches(&call.batch, &call.x, &call.out)
            if logarithms:
                self.level.run(&call, self.level.part_of_log_softmax)
            else:
                self.level.run(&call, self.level.part_of_softmax)

    def plain_token_logprobs(self, x, ids, where, options, temperature, top_k, int threads, /):
        """The same of plain arrays with one id for each row, past the checks and views."""
        cdef Plain plain_x, plain_t, plain_ids, plain_mask
        cdef Call call
        if not are_plain_logits(x, options.axis, &plain_x) or type(top_k) is not int:
            return None
        begin_plain(&call, &plain_x, threads)
        set_plain_options(&call, options)
        if (not 0 <= top_k <= call.batch.classes
                or not set_plain_target(self.level, &call, ids, options, x, &plain_x, &plain_ids)
                or call.y.origin != NULL or not set_plain_mask(&call, where, &plain_x, &plain_mask)
                or not set_plain_temperature(&call, temperature, &plain_x, &plain_t)):
            return None
        if call.loss.softcap != 0:
            call.x.direct = False
        call.spare.origin = call.x.origin
        call.scores.ids, call.scores.candidates, call.scores.top_k = call.loss.labels, 1, top_k
        logprob = plain_row_array(x, &plain_x, real_dtype, 0, <void**> &call.scores.logprob)
        rank = plain_row_array(x, &plain_x, int64, 0, <void**> &call.scores.rank)
        entropy = plain_row_results(&call, x, &plain_x, &call.values)
        lse = plain_row_results(&call, x, &plain_x, &call.loss.lse)
        top_id = top_logprob = None
        if top_k > 0:
            top_id = plain_row_array(x, &plain_x, int64, top_k, <void**> &call.scores.top_id)
            top_logprob = plain_row_array(x, &plain_x, real_dtype, top_k, <void**> &call.scores.top_logprob)
        run_plain(self.level, &call, self.level.token_logprobs)
        return row_results(logprob), row_results(rank), row_results(entropy), row_results(lse), top_id, top_logprob
