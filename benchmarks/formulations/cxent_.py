"""cxent: one call per operation."""

from __future__ import annotations

from typing import Any

from cases import GAMMA, SMOOTHING, TOP, Case, Formulations

NAME = "cxent"
DISTRIBUTION = "cxent"


def formulations(case: Case) -> Formulations:
    import cxent

    x, y, q, out, axis = case.x, case.labels, case.q, case.out, case.axis
    teacher = case.teacher
    workers: dict[str, Any] = {} if case.threads == 1 else {"workers": case.threads}
    masked = {"where": case.mask, **workers}
    smoothed = {"weight": case.weight, "label_smoothing": SMOOTHING, **workers}
    focal = {"focal_gamma": GAMMA, **workers}
    warm = {"temperature": case.temperatures, **workers}
    return {
        "softmax": [lambda: cxent.softmax(x, axis, out=out, **workers)],
        "softmax, masked": [lambda: cxent.softmax(x, axis, where=case.mask, out=out, **workers)],
        "log_softmax": [lambda: cxent.log_softmax(x, axis, out=out, **workers)],
        "logsumexp": [lambda: cxent.logsumexp(x, axis, **workers)],
        "loss": [lambda: cxent.cross_entropy(x, y, axis=axis, **workers)],
        "loss+grad": [lambda: cxent.cross_entropy_with_grad(x, y, axis=axis, out=out, **workers)],
        "loss, masked": [lambda: cxent.cross_entropy(x, y, axis=axis, **masked)],
        "loss+grad, masked": [lambda: cxent.cross_entropy_with_grad(x, y, axis=axis, out=out, **masked)],
        "loss+grad, smoothed": [lambda: cxent.cross_entropy_with_grad(x, y, axis=axis, out=out, **smoothed)],
        "focal loss+grad": [lambda: cxent.cross_entropy_with_grad(x, y, axis=axis, out=out, **focal)],
        "loss, soft": [lambda: cxent.cross_entropy(x, q, axis=axis, **workers)],
        "loss+grad, soft": [lambda: cxent.cross_entropy_with_grad(x, q, axis=axis, out=out, **workers)],
        "scores, top 10": [lambda: cxent.token_logprobs(x, y, axis=axis, top_k=TOP, **workers)[0]],
        "scores, temperatures": [lambda: cxent.token_logprobs(x, y, axis=axis, **warm)[0]],
        "KL": [lambda: cxent.kl_divergence(teacher, x, axis=axis, **workers)],
        "KL+grad": [lambda: cxent.kl_divergence_with_grad(teacher, x, axis=axis, out=out, **workers)],
    }


def of_two_classes(case: Case) -> Formulations:
    import cxent

    x, y, out = case.x, case.labels, case.out
    workers: dict[str, Any] = {} if case.threads == 1 else {"workers": case.threads}
    return {
        "sigmoid": [lambda: cxent.sigmoid(x, out=out, **workers)],
        "log_sigmoid": [lambda: cxent.log_sigmoid(x, out=out, **workers)],
        "two-class loss": [lambda: cxent.binary_cross_entropy(x, y, **workers)],
        "two-class loss+grad": [lambda: cxent.binary_cross_entropy_with_grad(x, y, out=out, **workers)],
    }
