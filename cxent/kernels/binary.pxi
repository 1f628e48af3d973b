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
        return None if of.outside[0] else of.sums[0]

    def plain_sigmoid(self, x, out, int threads, bint of_log, /):
        """The sigmoid of a plain array, or its logarithm."""
        cdef Plain plain_x, plain_out
        cdef Binary of
        if not is_plain(x, &plain_x) or not is_run(&plain_x):
            return None
        out = plain_output(out, x, &plain_x, &plain_out)
        if out is None or not has_strides_of(&plain_out, &plain_x):
            return None
        begin_binary(LOG_SIGMOID if of_log else SIGMOID, &plain_x, &of)
        of.out = plain_out.start
        run_plain_binary(self.level, &of, threads)
        return out

    def plain_binary_cross_entropy(self, x, target, options, out, bint with_grad, bint with_hess, /):
        """The loss of plain arrays without weights, and its derivatives."""
        cdef Plain plain_x, plain_target, plain_out
        cdef Binary of
        cdef Labels labels
        if options.ignore_index is not None or not is_plain(x, &plain_x) or plain_x.ndim == 0 or not plain_x.in_c_order:
            return None
        begin_binary(LOSSES, &plain_x, &of)
        of.smoothing, of.gamma = options.label_smoothing, options.focal_gamma
        if options.reduction == "mean":
            of.divisor = <double> of.size
        if type(target) is not ndarray:
            return None
        dtype = target.dtype
        plain_target.storage = NATIVE
        if dtype is real_dtype and of.gamma == 0:
            if not describe(target, sizeof(real), &plain_target):
                return None
            of.q = <const real*> plain_target.start
        else:
            integer = INT64 if dtype is int64 else UINT8 if dtype is boolean else integer_dtypes.get(dtype)
            if integer is None or not describe(target, size_of_integer(integer), &plain_target):
                return None
            of.labels, of.labels_dtype, of.label_size = plain_target.start, integer, plain_target.itemsize
        if not has_shape_of(&plain_target, &plain_x) or not plain_target.in_c_order:
            return None
        grad = hess = losses = None
        if with_grad:
            grad = plain_output(out, x, &plain_x, &plain_out)
            if grad is None or not plain_out.in_c_order or not are_distant(&plain_out, &plain_target):
                return None
            of.out = plain_out.start
        if out is not None and of.labels != NULL:
            labels.at = values_at(plain_target.start, plain_target.itemsize, plain_target.itemsize)
            labels.dtype, labels.ignoring = of.labels_dtype, False
            if not self.level.are_in_range(&labels, 1, of.size, 2):
                return None
        if with_hess:
            hess = new_array(x.shape, x.dtype, plain_x.storage, &plain_out)
            of.hess = plain_out.start
        if options.reduction == "none":
            losses = new_array(x.shape, real_dtype, NATIVE, &plain_out)
            of.losses = <real*> plain_out.start
        run_plain_binary(self.level, &of, options.threads)
        if of.outside[0]:
            return None
        return real_type(<real> of.sums[0]) if losses is None else losses, grad, hess
