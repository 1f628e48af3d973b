cdef void set_divergence(Call* call, comparison, double beta, double temperature) except *:
    """The options of a divergence, and what follows from them and from its arrays."""
    call.comparison = {"forward": FORWARD, "reverse": REVERSE, "jensen-shannon": JENSEN_SHANNON}[comparison]
    call.beta = beta
    call.loss.temperature = temperature
    call.x.direct = call.y.direct = call.mask.direct = False  # all are changed in tiles
    call.spare.origin = call.x.origin  # (a tile alone)
    if call.out.origin != NULL and call.comparison != FORWARD:
        call.v.origin = call.x.origin  # (another)
    call.has_losses = True


cdef class Divergences(AtLevel):
    """The entry point of divergences."""

    def divergence(
        self,
        str comparison,     # IN   forward, reverse or jensen-shannon
        double beta,        # IN   the share of p in the mixture, in the last case
        x,                  # IN   (outer, classes, inner), the logits of p
        y,                  # IN   (outer, classes, inner), the logits of q
        mask,               # IN   (outer, classes, inner) of uint8, 1 for what takes part; or None
        row_weights,        # IN   (outer, inner), or None
        double temperature,     # IN
        double divisor,     # IN
        losses,             # OUT  (outer, inner), or None
        grad,               # OUT  (outer, classes, inner), may be x or y; or None
        int threads,        # IN   that may compute, at least 1
        /,
    ):
        """Returns sum(losses), which are s / divisor * KL(p, q) forward, KL(q, p) reverse, and for Jensen-Shannon
        beta * KL(p, m) + (1 - beta) * KL(q, m), m = beta * p + (1 - beta) * q. The gradient is that with respect to y.
        """
        cdef Call call
        begin_with(&call, x)
        call.y = rows_of(&call.batch, y)
        call.mask = rows_of(&call.batch, mask)
        call.loss.row_weights = values_of(row_weights)
        call.loss.divisor = divisor
        call.loss.losses = values_of(losses)
        call.out = rows_of(&call.batch, grad)
        call.threads = threads
        set_divergence(&call, comparison, beta, temperature)
        with nogil:
            self.level.run(&call, self.level.divergence)
        return call.sum
