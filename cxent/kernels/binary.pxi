cdef class TwoClasses(AtLevel):
    """The entry points of two-class problems: arrays in C order, each number a problem of its own."""

    def sigmoid(
        self,
        x,                  # IN   of any shape
        out,                # OUT  of that shape, may be x
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """out = 1 / (1 + exp(-x))."""
        cdef Binary of = binary_of(SIGMOID, x)
        of.out = <char*> start_of(out)
        with nogil:
            self.level.run_binary(&of, threads)

    def log_sigmoid(
        self,
        x,                  # IN   of any shape
        out,                # OUT  of that shape, may be x
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """out = -log(1 + exp(-x))."""
        cdef Binary of = binary_of(LOG_SIGMOID, x)
        of.out = <char*> start_of(out)
        with nogil:
            self.level.run_binary(&of, threads)

    def binary_cross_entropy(
        self,
        x,                  # IN   (rows, columns)
        target,             # IN   (rows, columns), integers 0, 1 or `ignored`; or probabilities of this module's dtype
        pos_weight,         # IN   (columns,), or None
        const real[:, :] weights,  # IN   (rows, columns), of any strides; or None
        options,            # IN   (ignored, smoothing, gamma, divisor), where `ignored` is the label that does not
                            #      count, or None; gamma is 0 unless the target is labels
        losses,             # OUT  (rows, columns), or None
        grad,               # OUT  (rows, columns) of x's dtype, may be x; or None
        hess,               # OUT  (rows, columns) of x's dtype, or None
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """Returns sum(losses), which are w / divisor * (q' a softplus(-x) + (1 - q') softplus(x)), times u^gamma; or
        None, if a label was neither 0 nor 1 nor ignored.

        q' = (1 - smoothing) q + smoothing / 2, a is the positive class's weight, and u is 1 - p for label 1 and p for
        0.
        """
        cdef Binary of = binary_of(LOSSES, x)
        cdef Labels labels
        of.columns = x.shape[1]
        ignored, of.smoothing, of.gamma, of.divisor = options
        if target.dtype.kind == "f":
            of.q = <const real*> start_of(target)
        else:
            labels = labels_of(target, ignored)
            of.labels, of.labels_dtype, of.label_size = labels.at.origin, labels.dtype, target.itemsize
            of.ignoring, of.ignored = labels.ignoring, labels.ignored
        if pos_weight is not None:
            of.positive = <const real*> start_of(pos_weight)
        of.weights = values_of(weights)
        if losses is not None:
            of.losses = <real*> start_of(losses)
        if grad is not None:
            of.out = <char*> start_of(grad)
        if hess is not None:
            of.hess = <char*> start_of(hess)
        with nogil:
            self.level.run_binary(&of, threads)
        return of.sums[0] if of.outside[0] == 0 else None

    def plain_sigmoid(self, x, out, int threads, bint of_log, /):
        """The sigmoid of a plain array, or its logarithm."""
        cdef Plain plain_x, plain_out
        cdef Binary of
        if not is_plain(x, &plain_x):
            return None
        out = plain_output(out, x, &plain_x, &plain_out)
        if out is None:
            return None
        memset(&of, 0, sizeof(Binary))
        of.function, of.storage = LOG_SIGMOID if of_log else SIGMOID, plain_x.storage
        of.x, of.out, of.size = plain_x.start, plain_out.start, plain_x.size
        if threads == 1 and of.size < SMALL_SIZE:
            self.level.run_binary(&of, 1)
        else:
            with nogil:
                self.level.run_binary(&of, threads)
        return out
