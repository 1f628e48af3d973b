"""PyTorch: its functions with preallocated output; gradients with autograd, and by hand in place."""

from __future__ import annotations

from typing import Any

from cases import GAMMA, SMOOTHING, TOP, Case, Formulations

NAME = "PyTorch"
DISTRIBUTION = "torch"


def formulations(case: Case) -> Formulations:
    import torch
    from torch.nn.functional import cross_entropy, kl_div, nll_loss

    torch.set_num_threads(case.threads)

    def tensor(array: Any) -> Any:
        if case.half:
            return torch.from_numpy(array.view("int16")).view(getattr(torch, array.dtype.name))
        return torch.from_numpy(array)

    axis = case.axis
    x, y, q = tensor(case.x), torch.from_numpy(case.labels), tensor(case.q)
    teacher = tensor(case.teacher)
    leaf = tensor(case.x).requires_grad_()
    w, w_along, hidden = tensor(case.weight), tensor(case.along(case.weight)), torch.from_numpy(~case.mask)
    even = SMOOTHING / x.shape[axis]
    t = tensor(case.temperatures).unsqueeze(axis)
    out: dict[str, Any] = {} if case.small else {"out": tensor(case.out)}
    lse_out: dict[str, Any] = {} if case.small else {"out": torch.empty(case.row_shape, dtype=x.dtype)}

    def masked(x: Any = x) -> Any:
        return x.masked_fill(hidden, float("-inf"))

    def loss_of(x: Any) -> Any:
        at_label = x.gather(axis, y.unsqueeze(axis)).squeeze(axis)
        return (torch.logsumexp(x, axis, **lse_out) - at_label).mean()

    def with_gradient(loss: Any) -> tuple[Any, Any]:
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    def autograd(target: Any, **options: Any) -> tuple[Any, Any]:
        return with_gradient(cross_entropy(leaf, target, **options))

    def by_hand(x: Any = x) -> tuple[Any, Any]:
        p = torch.log_softmax(x, axis, **out)
        loss = nll_loss(p, y)
        p.exp_()
        index = y.unsqueeze(axis)
        p.scatter_add_(axis, index, p.new_full((), -1).expand(index.shape))
        return loss, p.div_(case.rows)

    def smoothed_by_hand() -> tuple[Any, Any]:
        p = torch.log_softmax(x, axis, **out)
        index = y.unsqueeze(axis)
        w_of_row = w[index]
        divisor = w_of_row.sum()
        loss = (1 - SMOOTHING) * nll_loss(p, y, w) - even / divisor * torch.tensordot(p, w, ([axis], [0])).sum()
        p.exp_().mul_(((1 - SMOOTHING) * w_of_row + even * w.sum()) / divisor).sub_(even / divisor * w_along)
        return loss, p.scatter_add_(axis, index, (SMOOTHING - 1) / divisor * w_of_row)

    def focal_loss() -> Any:
        # torchvision's formula for two classes, for any number of them.
        log_p = torch.log_softmax(leaf, axis).gather(axis, y.unsqueeze(axis))
        return -((1 - log_p.exp()) ** GAMMA * log_p).mean()

    def focal_by_hand() -> tuple[Any, Any]:
        p = torch.log_softmax(x, axis, **out)
        index = y.unsqueeze(axis)
        log_p = p.gather(axis, index)
        at_label = log_p.exp()
        factor = (1 - at_label) ** GAMMA
        slope = (factor - GAMMA * (1 - at_label) ** (GAMMA - 1) * at_label * log_p).div_(case.rows)
        p.exp_().mul_(slope).scatter_add_(axis, index, slope.neg())
        return -(factor * log_p).mean(), p

    def soft_by_hand() -> tuple[Any, Any]:
        p = torch.log_softmax(x, axis, **out)
        loss = -torch.dot(q.view(-1), p.view(-1)) / case.rows
        return loss, p.exp_().sub_(q).div_(case.rows)

    def scores() -> Any:
        log_p = torch.log_softmax(x, axis, **out)
        log_p.topk(TOP, axis)
        return log_p.gather(axis, y.unsqueeze(axis)).squeeze(axis)

    def scores_of_logits() -> Any:
        lse = torch.logsumexp(x, axis, keepdim=True)
        x.topk(TOP, axis)[0].sub_(lse)
        return (x.gather(axis, y.unsqueeze(axis)) - lse).squeeze(axis)

    def scores_with_temperatures() -> Any:
        z = torch.div(x, t, **out)
        return (z.gather(axis, y.unsqueeze(axis)) - torch.logsumexp(z, axis, keepdim=True)).squeeze(axis)

    def divergence(logits: Any) -> Any:
        log_p = torch.log_softmax(teacher, axis)
        return kl_div(torch.log_softmax(logits, axis), log_p, reduction="sum", log_target=True) / case.rows

    def divergence_by_hand() -> tuple[Any, Any]:
        log_p = torch.log_softmax(teacher, axis)
        log_q = torch.log_softmax(x, axis, **out)
        p = log_p.exp()
        loss = torch.dot(p.view(-1), log_p.sub_(log_q).view(-1)) / case.rows
        return loss, log_q.exp_().sub_(p).div_(case.rows)

    return {
        "softmax": [lambda: torch.softmax(x, axis, **out)],
        "softmax, masked": [lambda: torch.softmax(masked(), axis, **out)],
        "log_softmax": [lambda: torch.log_softmax(x, axis, **out)],
        "logsumexp": [lambda: torch.logsumexp(x, axis, **lse_out)],
        "loss": [
            lambda: cross_entropy(x, y),
            lambda: nll_loss(torch.log_softmax(x, axis, **out), y),
            lambda: loss_of(x),
        ],
        "loss+grad": [lambda: autograd(y), by_hand],
        "loss, masked": [
            lambda: cross_entropy(masked(), y),
            lambda: nll_loss(torch.log_softmax(masked(), axis, **out), y),
            lambda: loss_of(masked()),
        ],
        "loss+grad, masked": [lambda: with_gradient(cross_entropy(masked(leaf), y)), lambda: by_hand(masked())],
        "loss+grad, smoothed": [lambda: autograd(y, weight=w, label_smoothing=SMOOTHING), smoothed_by_hand],
        "focal loss+grad": [lambda: with_gradient(focal_loss()), focal_by_hand],
        "loss, soft": [lambda: cross_entropy(x, q)],
        "loss+grad, soft": [lambda: autograd(q), soft_by_hand],
        "scores, top 10": [scores, scores_of_logits],
        "scores, temperatures": [
            scores_with_temperatures,
            lambda: torch.log_softmax(torch.div(x, t, **out), axis).gather(axis, y.unsqueeze(axis)).squeeze(axis),
        ],
        "KL": [lambda: divergence(x)],
        "KL+grad": [lambda: with_gradient(divergence(leaf)), divergence_by_hand],
    }


def of_two_classes(case: Case) -> Formulations:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

    torch.set_num_threads(case.threads)

    def tensor(array: Any) -> Any:
        if case.half:
            return torch.from_numpy(array.view("int16")).view(getattr(torch, array.dtype.name))
        return torch.from_numpy(array)

    x, leaf = tensor(case.x), tensor(case.x).requires_grad_()
    y = torch.from_numpy(case.labels).to(x.dtype)
    out: dict[str, Any] = {} if case.small else {"out": tensor(case.out)}

    def loss_by_hand() -> Any:
        # (Beyond its threshold softplus(x) is x: the default, 20, would lose digits of float64.)
        return (torch._C._nn.softplus(x, 1, 40, **out).sum() - torch.dot(x, y)) / case.rows

    def autograd() -> tuple[Any, Any]:
        loss = binary_cross_entropy_with_logits(leaf, y)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    def loss_and_grad_by_hand() -> tuple[Any, Any]:
        loss = loss_by_hand()
        return loss, torch.sigmoid(x, **out).sub_(y).div_(case.rows)

    return {
        "sigmoid": [lambda: torch.sigmoid(x, **out)],
        "log_sigmoid": [lambda: logsigmoid(x), lambda: torch._C._nn.log_sigmoid(x, **out)],
        "two-class loss": [lambda: binary_cross_entropy_with_logits(x, y), loss_by_hand],
        "two-class loss+grad": [autograd, loss_and_grad_by_hand],
    }
