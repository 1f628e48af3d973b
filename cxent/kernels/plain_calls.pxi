cdef class PlainCalls(AtLevel):
    """The shorter ways of plain arrays, which return None for all other arrays."""

    def plain_softmax(self, x, axis, temperature, where, out, int threads, /):
        """The softmax of a plain array."""
        return softmax_of_plain(self.level, x, axis, temperature, where, out, threads, False)

    def plain_log_softmax(self, x, axis, temperature, where, out, int threads, /):
        """The log-softmax of a plain array."""
        return softmax_of_plain(self.level, x, axis, temperature, where, out, threads, True)

    def plain_softmax_backward(self, grad_output, output, axis, where, out, int threads, /):
        """The gradient through the softmax of a plain array."""
        return backward_of_plain(self.level, self.level.softmax_backward, grad_output, output, axis, where, out,
                                 threads)

    def plain_log_softmax_backward(self, grad_output, output, axis, where, out, int threads, /):
        """The gradient through its log-softmax."""
        return backward_of_plain(self.level, self.level.log_softmax_backward, grad_output, output, axis, where, out,
                                 threads)

    def plain_softmax_jacobian(self, p, axis, /):
        """The Jacobian of the softmax of a plain array in C order over its last axis."""
        cdef Plain plain_p, plain_out
        cdef const real* row
        cdef real* line
        cdef real one = 1
        cdef Py_ssize_t n, r, i, j
        if (not are_plain_logits(p, axis, &plain_p) or dtype_of(p) is not real_dtype
                or plain_p.class_axis != plain_p.ndim - 1 or not plain_p.in_c_order or plain_p.ndim == MOST_AXES):
            return None
        n = plain_p.shape[plain_p.class_axis]
        if plain_p.size * n * plain_p.itemsize > PLAIN_BYTES:
            return None
        out = new_array((*p.shape, n), real_dtype, NATIVE, &plain_out)
        line = <real*> plain_out.start
        for r in range(plain_p.size // n):
            row = <const real*> plain_p.start + r * n
            for i in range(n):
                for j in range(n):
                    line[j] = -row[i] * row[j]
                line[i] = row[i] * (one - row[i])
                line += n
        return out

    def plain_logsumexp(self, x, axis, int threads, /):
        """The logsumexp of a plain array."""
        cdef Plain plain_x
        cdef Call call
        if not are_plain_logits(x, axis, &plain_x):
            return None
        begin_plain(&call, &plain_x, threads)
        out = plain_row_results(&call, x, &plain_x, &call.values)
        run_plain(self.level, &call, self.level.logsumexp)
        return row_results(out)

    def plain_cross_entropy(self, logits, target, where, weight, row_weight, options, out, int threads, bint with_lse,
                            bint with_grad, bint with_hess, /):
        """The loss of plain arrays; the gradient, the Hessian and the logsumexp, or None."""
        return loss_of_plain(self.level, self.level.cross_entropy, logits, target, where, weight, row_weight, options,
                             out, threads, with_lse, with_grad, with_hess)

    def plain_nll(self, logits, ids, where, options, int threads, /):
        """The sum of the losses of plain arrays with class indices, in float64."""
        return nll_of_plain(self.level, logits, ids, where, options, threads)

    def plain_divergence(self, p, q, where, row_weight, options, out, bint with_grad, /):
        """The divergence of plain logits, and its gradient, or None."""
        cdef Plain plain_p, plain_q, plain_mask, plain_s, plain_grad
        cdef Call call
        of_loss = options.loss
        if (not are_plain_logits(q, of_loss.axis, &plain_q) or type(p) is not ndarray or dtype_of(p) is not dtype_of(q)
                or not is_plain(p, &plain_p) or not has_shape_of(&plain_p, &plain_q)):
            return None
        begin_plain(&call, &plain_q, of_loss.threads)
        if (not set_plain_mask(&call, where, &plain_q, &plain_mask)
                or not set_plain_row_weights(self.level, &call, row_weight, &plain_q, &plain_s)
                or (of_loss.reduction == "mean" and not set_divisors(self.level, &call))):
            return None
        call.x, call.y = plain_rows(&call, &plain_q, &plain_p), call.x
        grad = losses = None
        if with_grad:
            grad = plain_output(out, q, &plain_q, &plain_grad)
            if (grad is None or not can_replace(&plain_grad, &plain_p)
                    or (where is not None and not are_distant(&plain_grad, &plain_mask))
                    or (row_weight is not None and not are_distant(&plain_grad, &plain_s))):
                return None
            call.out = plain_rows(&call, &plain_q, &plain_grad)
        if of_loss.reduction == "none":
            losses = plain_row_results(&call, q, &plain_q, &call.loss.losses)
        set_divergence(&call, options.comparison, options.beta, of_loss.temperature)
        run_plain(self.level, &call, self.level.divergence)
        return real_type(<real> call.sum) if losses is None else row_results(losses), grad

    def plain_from_probs(self, probs, target, weight, row_weight, options, out, int threads, bint with_grad, /):
        """The same of predicted probabilities."""
        if type(probs) is not ndarray or dtype_of(probs) is not real_dtype:
            return None
        return loss_of_plain(self.level, self.level.from_probs, probs, target, None, weight, row_weight, options, out,
                             threads, False, with_grad, False)
