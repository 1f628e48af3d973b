cdef class Checks(AtLevel):
    """The entry points of checks: labels that are classes, weights that are finite and have a sum to divide by."""

    def labels_in_range(
        self,
        labels,             # IN   (outer, inner) of integers
        Py_ssize_t classes,  # IN
        ignored,            # IN   a label that may be anything, or None
        /,
    ):
        """Whether every label but the ignored is in 0..classes-1."""
        cdef Labels values = labels_of(labels, ignored)
        cdef Py_ssize_t outer = labels.shape[0]
        cdef Py_ssize_t inner = labels.shape[1]
        cdef bint inside
        with nogil:
            inside = self.level.are_in_range(&values, outer, inner, classes)
        return inside

    def are_finite(
        self,
        const real[::1] values,     # IN
        /,
    ):
        """Whether all are finite numbers."""
        cdef bint finite
        with nogil:
            finite = self.level.are_finite(&values[0], values.shape[0])
        return finite

    def exponent_for_products(
        self,
        const real[::1] values,     # IN
        /,
    ):
        """By which power of 2 class weights are to be multiplied; 0 unless all are very small, or some very large."""
        return self.level.exponent_for_products(&values[0], values.shape[0])

    def sums_of_weights(
        self,
        labels,             # IN   (outer, inner) of integers, checked; or None
        row_weights,        # IN   (outer, inner), or None
        const real[:] class_weights,    # IN   (classes,), or None
        ignored,            # IN   the label of rows that do not count, or None
        /,
    ):
        """The sums, over the rows that count, of s * w_y and of s: the row's weight, and that of its class.

        Where these are too large or too small to be divided by, they are those of s * 2^j and w * 2^k, as which the
        weights are then to be given: a mean is the same. Returns the sums, j and k.
        """
        cdef Weights weights
        cdef double sums[2]
        cdef double largest[2]
        cdef double heaviest = 0
        cdef int row_exponent = 0
        cdef int class_exponent = 0
        cdef Py_ssize_t c
        memset(&weights, 0, sizeof(Weights))
        weights.labels, weights.row_weights = labels_of(labels, ignored), values_of(row_weights)
        weights.outer, weights.inner = (row_weights if labels is None else labels).shape
        if class_weights is not None:
            weights.w, weights.classes = &class_weights[0], class_weights.shape[0]
            for c in range(class_weights.shape[0]):
                heaviest = max(heaviest, <double> class_weights[c], -<double> class_weights[c])
        with nogil:
            self.level.sum_weights(&weights, 1, 1, sums)
            if not (can_divide(sums[0]) and can_divide(sums[1])):
                self.level.find_largest_weights(&weights, largest)
                row_exponent, class_exponent = exponent_to_one(largest[0]), exponent_to_one(largest[1])
                if heaviest != 0:   # no weight shall become infinite
                    class_exponent = min(class_exponent, exponent_to_one(heaviest) + LARGEST_EXPONENT)
                self.level.sum_weights(&weights, power_of_two(row_exponent), power_of_two(class_exponent), sums)
        return sums[0], sums[1], row_exponent, class_exponent
