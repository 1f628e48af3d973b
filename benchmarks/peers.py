"""cxent beside its peers: elements per second and peak memory, every peer in its fastest form, in one run.

    pip install -e '.[bench]' && python benchmarks/peers.py

Measures on one core and on two, writes ``results.json`` beside this file, and from it ``README.md`` and the chart (see
``report.py``). ``--shapes``, ``--operations``, ``--dtypes`` and ``--threads`` select; then nothing is written.

A peer is given preallocated output where it has a way to take it, and the fastest of the formulations listed here
counts. Every result is compared with cxent's before it is timed. Runs are interleaved: each round times every contender
once, after untimed calls that let pass what the one before has left to do (JAX frees its buffers in the background, on
the same core), and the median over the rounds counts. A peer that is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
SHAPES = {
    "1 x 10": ((1, 10), -1),
    "1,000,000 x 3": ((1_000_000, 3), -1),
    "200,000 x 10": ((200_000, 10), -1),
    "16,384 x 100": ((16_384, 100), -1),
    "4,096 x 1,000": ((4_096, 1_000), -1),
    "512 x 32,000": ((512, 32_000), -1),
    "256 x 128,256": ((256, 128_256), -1),
    "4 x 21 x 512 x 512, axis 1": ((4, 21, 512, 512), 1),
}
OPERATIONS = [
    "softmax",
    "softmax, masked",
    "log_softmax",
    "logsumexp",
    "loss",
    "loss+grad",
    "loss+grad, smoothed",
    "loss, soft",
    "loss+grad, soft",
]
HALF_OPERATIONS = ["softmax", "log_softmax", "logsumexp"]  # of losses peers return half precision
WIDE_DTYPES = ["float32", "float64"]
DTYPES = [*WIDE_DTYPES, "float16", "bfloat16"]  # half precision on one core
MEMORY_SHAPE = "512 x 32,000"
SMOOTHING = 0.1
SETTLE_SECONDS = 0.03

Call = Callable[[], Any]


class Case:
    """Logits, labels, soft labels, class weights, a mask, and memory for the result."""

    def __init__(self, shape: tuple[int, ...], axis: int, dtype: str, threads: int) -> None:
        import numpy as np

        rng = np.random.default_rng(0)
        self.axis = axis % len(shape)
        self.threads = threads
        self.half = dtype not in WIDE_DTYPES
        if self.half:
            import ml_dtypes  # noqa: F401  (it tells NumPy of bfloat16)
        self.x = (3 * rng.standard_normal(shape, np.float32)).astype(dtype)
        self.row_shape = shape[: self.axis] + shape[self.axis + 1 :]
        self.rows = int(np.prod(self.row_shape))
        self.labels = rng.integers(0, shape[self.axis], self.row_shape)
        self.q = rng.random(shape, np.float32).astype(dtype)
        self.q /= self.q.sum(self.axis, keepdims=True)
        self.weight = (rng.random(shape[self.axis]) + 0.5).astype(dtype)
        self.mask = rng.random(shape, np.float32) < 0.7
        self.mask[(slice(None),) * self.axis + (0,)] = True  # no row without any
        self.small = self.x.size < 1000  # a call's overhead counts: the result is allocated
        self.out = None if self.small else np.empty_like(self.x)


def along(weight: Any, case: Case) -> Any:
    """Class weights in a shape that broadcasts to that of the logits."""
    return weight.reshape([-1 if a == case.axis else 1 for a in range(case.x.ndim)])


def cxent(case: Case) -> dict[str, list[Call]]:
    import cxent

    x, y, q, out, axis = case.x, case.labels, case.q, case.out, case.axis
    workers = {} if case.threads == 1 else {"workers": case.threads}
    smoothed = {"weight": case.weight, "label_smoothing": SMOOTHING, **workers}
    return {
        "softmax": [lambda: cxent.softmax(x, axis, out=out, **workers)],
        "softmax, masked": [lambda: cxent.softmax(x, axis, where=case.mask, out=out, **workers)],
        "log_softmax": [lambda: cxent.log_softmax(x, axis, out=out, **workers)],
        "logsumexp": [lambda: cxent.logsumexp(x, axis, **workers)],
        "loss": [lambda: cxent.cross_entropy(x, y, axis=axis, **workers)],
        "loss+grad": [lambda: cxent.cross_entropy_with_grad(x, y, axis=axis, out=out, **workers)],
        "loss+grad, smoothed": [lambda: cxent.cross_entropy_with_grad(x, y, axis=axis, out=out, **smoothed)],
        "loss, soft": [lambda: cxent.cross_entropy(x, q, axis=axis, **workers)],
        "loss+grad, soft": [lambda: cxent.cross_entropy_with_grad(x, q, axis=axis, out=out, **workers)],
    }


def numpy(case: Case) -> dict[str, list[Call]]:
    import numpy as np

    if case.half:
        return {}
    x, q, axis = case.x, case.q, case.axis
    y = np.expand_dims(case.labels, axis)
    w, w_of_row = along(case.weight, case), case.weight[y]
    even = SMOOTHING / x.shape[axis]
    hidden = ~case.mask

    def softmax(x: Any = x) -> tuple[Any, Any]:
        m = x.max(axis, keepdims=True)
        e = np.subtract(x, m, out=case.out)
        np.exp(e, out=e)
        total = e.sum(axis, keepdims=True)
        e /= total
        return e, m + np.log(total)

    def masked_softmax() -> Any:
        shown = x.copy() if case.out is None else case.out
        np.copyto(shown, x)
        np.copyto(shown, -np.inf, where=hidden)
        return softmax(shown)[0]

    def logsumexp() -> Any:
        m = x.max(axis, keepdims=True)
        e = np.subtract(x, m, out=case.out)
        np.exp(e, out=e)
        return m + np.log(e.sum(axis, keepdims=True))

    def loss_and_grad() -> tuple[Any, Any]:
        p, lse = softmax()
        loss = (lse - np.take_along_axis(x, y, axis)).mean()
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - 1, axis)
        p /= case.rows
        return loss, p

    def smoothed_loss_and_grad() -> tuple[Any, Any]:
        p, lse = softmax()
        at_label = (1 - SMOOTHING) * w_of_row
        weight = at_label + even * case.weight.sum()
        loss = (weight * lse - at_label * np.take_along_axis(x, y, axis)).sum()
        loss -= even * np.tensordot(x, case.weight, (axis, 0)).sum()
        divisor = w_of_row.sum()
        p *= weight / divisor
        p -= even / divisor * w
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - at_label / divisor, axis)
        return loss / divisor, p

    def soft_loss_and_grad() -> tuple[Any, Any]:
        p, lse = softmax()
        loss = (lse - np.vecdot(q, x, axis=axis)[(slice(None),) * axis + (None,)]).mean()
        p -= q
        p /= case.rows
        return loss, p

    return {
        "softmax": [lambda: softmax()[0]],
        "softmax, masked": [masked_softmax],
        "log_softmax": [lambda: np.subtract(x, logsumexp(), out=case.out)],
        "logsumexp": [lambda: logsumexp().squeeze(axis)],
        "loss": [lambda: (logsumexp() - np.take_along_axis(x, y, axis)).mean()],
        "loss+grad": [loss_and_grad],
        "loss+grad, smoothed": [smoothed_loss_and_grad],
        "loss, soft": [lambda: (logsumexp().squeeze(axis) - np.vecdot(q, x, axis=axis)).mean()],
        "loss+grad, soft": [soft_loss_and_grad],
    }


def scipy(case: Case) -> dict[str, list[Call]]:
    import numpy as np
    from scipy import special

    if case.half:
        return {}
    x, q, axis = case.x, case.q, case.axis
    y = np.expand_dims(case.labels, axis)
    w, w_of_row = along(case.weight, case), case.weight[y]
    even = SMOOTHING / x.shape[axis]

    def loss_and_grad() -> tuple[Any, Any]:
        log_p = special.log_softmax(x, axis)
        loss = -np.take_along_axis(log_p, y, axis).mean()
        p = np.exp(log_p, out=log_p)
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - 1, axis)
        p /= case.rows
        return loss, p

    def smoothed_loss_and_grad() -> tuple[Any, Any]:
        log_p = special.log_softmax(x, axis)
        at_label = (1 - SMOOTHING) * w_of_row
        divisor = w_of_row.sum()
        loss = -(at_label * np.take_along_axis(log_p, y, axis)).sum()
        loss -= even * np.tensordot(log_p, case.weight, (axis, 0)).sum()
        p = np.exp(log_p, out=log_p)
        p *= (at_label + even * case.weight.sum()) / divisor
        p -= even / divisor * w
        np.put_along_axis(p, y, np.take_along_axis(p, y, axis) - at_label / divisor, axis)
        return loss / divisor, p

    def soft_loss_and_grad() -> tuple[Any, Any]:
        log_p = special.log_softmax(x, axis)
        loss = -np.vecdot(q, log_p, axis=axis).mean()
        p = np.exp(log_p, out=log_p)
        p -= q
        p /= case.rows
        return loss, p

    return {
        "softmax": [lambda: special.softmax(x, axis)],
        "softmax, masked": [lambda: special.softmax(np.where(case.mask, x, x.dtype.type(-np.inf)), axis)],
        "log_softmax": [lambda: special.log_softmax(x, axis)],
        "logsumexp": [lambda: special.logsumexp(x, axis)],
        "loss": [lambda: -np.take_along_axis(special.log_softmax(x, axis), y, axis).mean()],
        "loss+grad": [loss_and_grad],
        "loss+grad, smoothed": [smoothed_loss_and_grad],
        "loss, soft": [lambda: -np.vecdot(q, special.log_softmax(x, axis), axis=axis).mean()],
        "loss+grad, soft": [soft_loss_and_grad],
    }


def sklearn(case: Case) -> dict[str, list[Call]]:
    import numpy as np
    from sklearn._loss import HalfMultinomialLoss

    if case.half or case.axis != case.x.ndim - 1:
        return {}
    x, n = case.x, case.rows
    y = case.labels.astype(x.dtype)
    loss = HalfMultinomialLoss(n_classes=x.shape[1])
    losses, grad = np.empty(n, x.dtype), np.empty_like(x)

    def loss_and_grad() -> tuple[Any, Any]:
        loss.loss_gradient(y, x, loss_out=losses, gradient_out=grad, n_threads=case.threads)
        return losses.mean(), np.divide(grad, n, out=grad)

    return {
        "loss": [lambda: loss.loss(y, x, loss_out=losses, n_threads=case.threads).mean()],
        "loss+grad": [loss_and_grad],
    }


def torch(case: Case) -> dict[str, list[Call]]:
    import torch
    from torch.nn.functional import cross_entropy, nll_loss

    torch.set_num_threads(case.threads)

    def tensor(array: Any) -> Any:
        if case.half:
            return torch.from_numpy(array.view("int16")).view(getattr(torch, array.dtype.name))
        return torch.from_numpy(array)

    axis = case.axis
    x, y, q = tensor(case.x), torch.from_numpy(case.labels), tensor(case.q)
    leaf = tensor(case.x).requires_grad_()
    w, w_along, hidden = tensor(case.weight), tensor(along(case.weight, case)), torch.from_numpy(~case.mask)
    even = SMOOTHING / x.shape[axis]
    out = {} if case.small else {"out": tensor(case.out)}
    lse_out = {} if case.small else {"out": torch.empty(case.row_shape, dtype=x.dtype)}

    def autograd(target: Any, **options: Any) -> tuple[Any, Any]:
        loss = cross_entropy(leaf, target, **options)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    def by_hand() -> tuple[Any, Any]:
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

    def soft_by_hand() -> tuple[Any, Any]:
        p = torch.log_softmax(x, axis, **out)
        loss = -torch.dot(q.view(-1), p.view(-1)) / case.rows
        return loss, p.exp_().sub_(q).div_(case.rows)

    return {
        "softmax": [lambda: torch.softmax(x, axis, **out)],
        "softmax, masked": [lambda: torch.softmax(x.masked_fill(hidden, float("-inf")), axis, **out)],
        "log_softmax": [lambda: torch.log_softmax(x, axis, **out)],
        "logsumexp": [lambda: torch.logsumexp(x, axis, **lse_out)],
        "loss": [
            lambda: cross_entropy(x, y),
            lambda: nll_loss(torch.log_softmax(x, axis, **out), y),
            lambda: (torch.logsumexp(x, axis, **lse_out) - x.gather(axis, y.unsqueeze(axis)).squeeze(axis)).mean(),
        ],
        "loss+grad": [lambda: autograd(y), by_hand],
        "loss+grad, smoothed": [lambda: autograd(y, weight=w, label_smoothing=SMOOTHING), smoothed_by_hand],
        "loss, soft": [lambda: cross_entropy(x, q)],
        "loss+grad, soft": [lambda: autograd(q), soft_by_hand],
    }


def jax(case: Case) -> dict[str, list[Call]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    axis, rows = case.axis, case.rows
    x, y, q = jnp.asarray(case.x), jnp.asarray(case.labels, dtype="int32"), jnp.asarray(case.q)
    w, w_along, mask = jnp.asarray(case.weight), jnp.asarray(along(case.weight, case)), jnp.asarray(case.mask)
    even = SMOOTHING / x.shape[axis]

    def loss(x: Any, y: Any) -> Any:
        at_label = jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis).squeeze(axis)
        return (jax.nn.logsumexp(x, axis) - at_label).mean()

    def loss_and_grad(x: Any, y: Any) -> tuple[Any, Any]:
        m = x.max(axis, keepdims=True)
        e = jnp.exp(x - m)
        total = e.sum(axis, keepdims=True)
        at_label = jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis)
        return (m + jnp.log(total) - at_label).mean(), (e / total - jax.nn.one_hot(y, x.shape[axis], axis=axis)) / rows

    def smoothed_loss(x: Any, y: Any) -> Any:
        at_label = jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis).squeeze(axis)
        weight = (1 - SMOOTHING) * w[y] + even * w.sum()
        losses = weight * jax.nn.logsumexp(x, axis) - (1 - SMOOTHING) * w[y] * at_label - even * (w_along * x).sum(axis)
        return losses.sum() / w[y].sum()

    def smoothed_loss_and_grad(x: Any, y: Any) -> tuple[Any, Any]:
        divisor = w[y].sum()
        target = ((1 - SMOOTHING) * jax.nn.one_hot(y, x.shape[axis], axis=axis, dtype=x.dtype) + even) * w_along
        weight = target.sum(axis, keepdims=True)
        return smoothed_loss(x, y), (weight * jax.nn.softmax(x, axis) - target) / divisor

    def soft_loss(x: Any, q: Any) -> Any:
        return (jax.nn.logsumexp(x, axis) - (q * x).sum(axis)).mean()

    def soft_loss_and_grad(x: Any, q: Any) -> tuple[Any, Any]:
        return soft_loss(x, q), (jax.nn.softmax(x, axis) - q) / rows

    def timed(function: Callable[..., Any], *arguments: Any) -> Call:
        compiled = jax.jit(function).lower(*arguments).compile()
        return lambda: jax.block_until_ready(compiled(*arguments))

    return {
        "softmax": [timed(lambda x: jax.nn.softmax(x, axis), x)],
        "softmax, masked": [timed(lambda x, mask: jax.nn.softmax(x, axis, where=mask), x, mask)],
        "log_softmax": [timed(lambda x: jax.nn.log_softmax(x, axis), x)],
        "logsumexp": [timed(lambda x: jax.nn.logsumexp(x, axis), x)],
        "loss": [timed(loss, x, y)],
        "loss+grad": [timed(jax.value_and_grad(loss), x, y), timed(loss_and_grad, x, y)],
        "loss+grad, smoothed": [timed(jax.value_and_grad(smoothed_loss), x, y), timed(smoothed_loss_and_grad, x, y)],
        "loss, soft": [timed(soft_loss, x, q)],
        "loss+grad, soft": [timed(jax.value_and_grad(soft_loss), x, q), timed(soft_loss_and_grad, x, q)],
    }


def onnxruntime(case: Case) -> dict[str, list[Call]]:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    if case.half:
        return {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    types = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64}

    def session(operator: str, inputs: dict[str, Any], shape: tuple[int, ...], out: Any, **attributes: Any) -> Call:
        real = types[case.x.dtype.name]
        graph = helper.make_graph(
            [helper.make_node(operator, list(inputs), ["result"], **attributes)],
            operator,
            [helper.make_tensor_value_info(n, types[a.dtype.name], a.shape) for n, a in inputs.items()],
            [helper.make_tensor_value_info("result", real, shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        if case.small:
            return lambda: run.run(None, inputs)[0]
        out = np.empty(shape, case.x.dtype) if out is None else out
        binding = run.io_binding()
        for n, array in inputs.items():
            binding.bind_cpu_input(n, array)
        binding.bind_output("result", "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def call() -> Any:
            run.run_with_iobinding(binding)
            return out

        return call

    x, axis = {"x": case.x}, case.axis
    operations = {
        "softmax": lambda: session("Softmax", x, case.x.shape, case.out, axis=axis),
        "log_softmax": lambda: session("LogSoftmax", x, case.x.shape, case.out, axis=axis),
        "logsumexp": lambda: session("ReduceLogSumExp", x, case.row_shape, None, axes=[axis], keepdims=0),
        "loss": lambda: session("SoftmaxCrossEntropyLoss", {**x, "y": case.labels}, (), None, reduction="mean"),
    }
    calls = {}
    for operation, make in operations.items():
        try:
            calls[operation] = [make()]
        except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
            pass  # no kernel for this dtype
    return calls


# The name in tables, the distribution that has the version, and the formulations.
PEERS = [
    ("cxent", "cxent", cxent),
    ("NumPy", "numpy", numpy),
    ("SciPy", "scipy", scipy),
    ("scikit-learn", "scikit-learn", sklearn),
    ("PyTorch", "torch", torch),
    ("JAX", "jax", jax),
    ("ONNX Runtime", "onnxruntime", onnxruntime),
]


def calls_of(case: Case) -> tuple[dict[str, dict[str, list[Call]]], list[str]]:
    """For each peer its calls by operation, and the peers that are not installed."""
    calls, missing = {}, []
    for name, _, formulations in PEERS:
        try:
            calls[name] = formulations(case)
        except ImportError:
            missing.append(name)
    return calls, missing


def check(operation: str, name: str, found: Any, expected: Any, half: bool) -> None:
    """Refuse to time a contender that computes something else."""
    import numpy as np

    pairs = zip(found, expected, strict=True) if "grad" in operation else [(found, expected)]
    for a, b in pairs:
        a = np.asarray(a.float() if half and name == "PyTorch" else a).astype(float)
        b = np.asarray(b).astype(float)
        # A peer may flush small numbers to 0, round more often and sum in its own way; another formula would differ
        # visibly.
        np.testing.assert_allclose(
            a,
            b,
            rtol=5e-2 if half else 2e-3,
            atol=(2e-3 if half else 1e-4) * np.abs(b).max(),
            err_msg=f"{name} {operation}",
        )


def settle(call: Call) -> None:
    """Call untimed, once at least, until what the contender before has left to do is done."""
    end = time.perf_counter() + SETTLE_SECONDS
    call()
    while time.perf_counter() < end:
        call()


def timed(call: Call, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def measure(contenders: dict[str, list[Call]], budget: float) -> dict[str, float]:
    """Seconds a call: medians of interleaved rounds, at least 5, as many as fit the budget, at most 31."""
    calls = [(name, call) for name, formulations in contenders.items() for call in formulations]
    once = [timed(call, 1) for _, call in calls]
    repeats = [max(1, min(2000, int(1e-3 / seconds))) for seconds in once]
    rounds = max(5, min(31, int(budget / sum(max(2 * t, SETTLE_SECONDS) for t in once))))
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for sample, (_, call), repeat in zip(samples, calls, repeats, strict=True):
            settle(call)
            sample.append(timed(call, repeat))
    medians: dict[str, float] = {}
    for (name, _), sample in zip(calls, samples, strict=True):
        medians[name] = min(median(sample), medians.get(name, float("inf")))
    return medians


def copies(x: Any, out: Any, threads: int) -> list[Call]:
    """np.copyto as one call, and over as many threads."""
    import numpy as np

    whole = partial(np.copyto, out, x)
    if threads == 1 or x.size < 1000:
        return [whole]
    parts = list(zip(np.array_split(out.ravel(), threads), np.array_split(x.ravel(), threads), strict=True))
    executor = ThreadPoolExecutor(threads - 1)

    def over_threads() -> None:
        others = [executor.submit(np.copyto, *part) for part in parts[1:]]
        np.copyto(*parts[0])
        wait(others)

    return [whole, over_threads]


def speed(threads: int, shapes: list[str], operations: list[str], dtypes: list[str], budget: float) -> dict[str, Any]:
    """Runs in a child process that is pinned to as many CPUs as it may have threads."""
    import numpy as np

    rows, missing = [], []
    for dtype in dtypes if threads == 1 else [d for d in dtypes if d in WIDE_DTYPES]:
        for label in shapes:
            case = Case(*SHAPES[label], dtype, threads)
            calls, missing = calls_of(case)
            copy = np.empty_like(case.x)
            for operation in operations:
                if case.half and operation not in HALF_OPERATIONS:
                    continue
                contenders = {name: c[operation] for name, c in calls.items() if operation in c}
                result = contenders["cxent"][0]()
                expected = tuple(map(np.copy, result)) if "grad" in operation else np.copy(result)
                for name, formulations in contenders.items():
                    for call in formulations:
                        check(operation, name, call(), expected, case.half)
                contenders["np.copyto"] = copies(case.x, copy, threads)
                seconds = measure(contenders, budget)
                rows.append(
                    {
                        "threads": threads,
                        "dtype": dtype,
                        "shape": label,
                        "operation": operation,
                        "elements": case.x.size,
                        "seconds": seconds,
                    }
                )
                print(line_of(rows[-1]), file=sys.stderr, flush=True)
    return {"rows": rows, "missing": missing}


def line_of(row: dict[str, Any]) -> str:
    peers = {n: t for n, t in row["seconds"].items() if n not in ("cxent", "np.copyto")}
    best = min(peers, key=peers.__getitem__)
    ours = row["seconds"]["cxent"]
    rates = "  ".join(f"{n} {row['elements'] / t / 1e9:.3g}" for n, t in row["seconds"].items())
    return (
        f"{row['threads']} {row['dtype']} {row['shape']:27s} {row['operation']:16s} "
        f"{peers[best] / ours:6.2f} x {best:13s} {row['seconds']['np.copyto'] / ours:5.2f} x copy   {rates}"
    )


def memory() -> dict[str, Any]:
    """Peak memory that a call adds, in multiples of the logits, as the kernel counts it (Linux only)."""
    import ctypes

    import numpy as np

    libc = ctypes.CDLL(None)

    def resident(field: str) -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split(field + ":")[1].split()[0])

    def peak_of(call: Call) -> float:
        for _ in range(2):
            result = call()
        del result
        libc.malloc_trim(0)
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        result = call()  # kept: it counts
        del result
        return (resident("VmHWM") - before) / case.x.nbytes

    case = Case(*SHAPES[MEMORY_SHAPE], "float32", 1)
    np.copyto(case.out, case.x)
    calls, _ = calls_of(case)
    return {
        operation: {
            name: round(max(0.0, min(peak_of(call) for call in c[operation])), 2)
            for name, c in calls.items()
            if operation in c
        }
        for operation in OPERATIONS
    }


def child(*arguments: str, cpus: int) -> Any:
    """Run a part in a process of its own: pinned, and with allocators told to keep their memory when speed counts."""
    keep = {
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "4294967296",
        "MALLOC_TOP_PAD_": "67108864",
    }
    available = sorted(os.sched_getaffinity(0))
    if len(available) < cpus:
        sys.exit(f"{cpus} CPUs are needed, {len(available)} are available")
    process = subprocess.run(
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        check=True,
        env={
            **os.environ,
            **(keep if "speed" in arguments[0] else {}),
            "OMP_NUM_THREADS": str(cpus),
            "OPENBLAS_NUM_THREADS": str(cpus),
        },
        preexec_fn=lambda: os.sched_setaffinity(0, available[-cpus:]),
    )
    return json.loads(process.stdout)


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    field = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in field.items()}
    import cxent

    versions = {}
    for name, distribution, _ in PEERS:
        try:
            versions[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})",
        "kernels": cxent.kernels.serving.name,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=OPERATIONS, metavar="OPERATION")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for one row of the table")
    parser.add_argument("--part", choices=["speed", "memory"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    selection = [
        "--budget",
        str(arguments.budget),
        "--shapes",
        *arguments.shapes,
        "--operations",
        *arguments.operations,
        "--dtypes",
        *arguments.dtypes,
    ]
    if arguments.part == "speed":
        print(
            json.dumps(
                speed(arguments.threads[0], arguments.shapes, arguments.operations, arguments.dtypes, arguments.budget)
            )
        )
    elif arguments.part == "memory":
        print(json.dumps(memory()))
    else:
        parts = [child("--part=speed", "--threads", str(n), *selection, cpus=n) for n in arguments.threads]
        everything = (list(SHAPES), OPERATIONS, DTYPES, [1, 2])
        if (arguments.shapes, arguments.operations, arguments.dtypes, arguments.threads) == everything:
            results = {
                "machine": machine(),
                "missing": parts[0]["missing"],
                "memory": child("--part=memory", cpus=1),
                "rows": [row for part in parts for row in part["rows"]],
            }
            (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            from report import write

            write(results, HERE)
        for name in parts[0]["missing"]:
            print(f"{name} is not installed and was left out", file=sys.stderr)


if __name__ == "__main__":
    main()
