cdef class Conversions(AtLevel):
    """The entry point of conversions from half precision and to it."""

    def convert(
        self,
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
            self.level.run(&call, self.level.convert)
