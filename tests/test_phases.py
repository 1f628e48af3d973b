"""The phases of a call: each file of the Python side is entered once, in order, and none imports in a circle."""

import ast
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import cxent
from cxent import sharded
from cxent._arrays import logits_and
from cxent._layout import lay_out
from cxent._results import result_of
from cxent._targets import checked_targets

PACKAGE = Path(cxent.__file__).parent
PHASES = ["_options", "_arrays", "_targets", "_layout", "_loss", "_results"]

X = np.random.default_rng(0).standard_normal((6, 10))
P = cxent.softmax(X)
LABELS = np.arange(6)
MASK = X > -1
WEIGHTS = {"weight": np.arange(1, 11), "sample_weight": [1, 2, 3, 4, 5, 6]}
LAYER = np.eye(6, 10), np.eye(4, 10)
PART = sharded.part(X, LABELS)
CALLS = {
    "softmax": lambda: cxent.softmax(X),
    "softmax, masked": lambda: cxent.softmax(X, where=MASK),
    "softmax, half precision": lambda: cxent.softmax(X.astype(np.float16), out=np.empty((12, 10), np.float16)[::2]),
    "log_softmax": lambda: cxent.log_softmax(X),
    "logsumexp": lambda: cxent.logsumexp(X),
    "logsumexp, with factors": lambda: cxent.logsumexp(X, b=P, where=MASK, return_sign=True),
    "softmax_backward": lambda: cxent.softmax_backward(X.astype(np.float16), P.astype(np.float16)),
    "log_softmax_backward": lambda: cxent.log_softmax_backward(X, X),
    "softmax_jacobian": lambda: cxent.softmax_jacobian(P),
    "cross_entropy": lambda: cxent.cross_entropy(X, LABELS),
    "cross_entropy_with_grad": lambda: cxent.cross_entropy_with_grad(X, P, **WEIGHTS, label_smoothing=0.1),
    "cross_entropy_with_grad, out": lambda: cxent.cross_entropy_with_grad(X, P, out=X.copy()[:, ::-1], workers=2),
    "cross_entropy_with_hess": lambda: cxent.cross_entropy_with_hess(X, LABELS, reduction="none"),
    "cross_entropy_hvp": lambda: cxent.cross_entropy_hvp(X, LABELS, X, **WEIGHTS),
    "cross_entropy_from_probs": lambda: cxent.cross_entropy_from_probs(P, LABELS, ignore_index=2),
    "cross_entropy_from_probs_with_grad": lambda: cxent.cross_entropy_from_probs_with_grad(P, P),
    "token_logprobs": lambda: cxent.token_logprobs(X, LABELS, top_k=2),
    "perplexity": lambda: cxent.perplexity(X, LABELS),
    "fit_temperature": lambda: cxent.fit_temperature(X, LABELS, ignore_index=3, where=MASK | (X == X)),
    "reliability": lambda: cxent.reliability(X, LABELS, sample_weight=np.arange(6)),
    "binary_reliability": lambda: cxent.binary_reliability(X, MASK, sample_weight=np.arange(6)),
    "kl_divergence": lambda: cxent.kl_divergence(X, P, where=MASK),
    "js_divergence_with_grad": lambda: cxent.js_divergence_with_grad(X, P, sample_weight=2.0),
    "linear_cross_entropy_with_grad": lambda: cxent.linear_cross_entropy_with_grad(*LAYER, [0, 1, 2, 3, 0, -1]
        , ignore_index=-1, return_lse=True),
    "linear_token_logprobs": lambda: cxent.linear_token_logprobs(*LAYER, [0, 1, 2, 3, 0, 1], top_k=2),
    "sharded.part": lambda: sharded.part(X, LABELS, top_k=2),
    "sharded.loss": lambda: sharded.loss(PART, sample_weight=2.0),
    "sharded.softmax": lambda: sharded.softmax(X, PART),
    "sharded.grad": lambda: sharded.grad(X, PART, LABELS),
    "sharded.count_larger": lambda: sharded.count_larger(X, PART),
}  # fmt: skip


def entries(call):
    """The files of cxent that a call enters from another of its files, in that order; the kernels are none of them."""
    found = []

    def name_of(frame):
        path = Path(frame.f_code.co_filename)
        inside = path.is_relative_to(PACKAGE) and "kernels" not in path.parts
        return path.stem if inside else None

    def trace(frame, event, _):
        if event == "call" and (name := name_of(frame)):
            caller = frame.f_back
            while caller is not None and name_of(caller) is None:  # such as a decorator of NumPy's
                caller = caller.f_back
            if caller is None or name_of(caller) != name:
                found.append(name)

    call()  # what is looked up once is looked up here
    sys.setprofile(trace)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.once
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("way", ["short", "general"])
def test_a_call_enters_each_file_once_and_in_order(way, call, close_the_short_way):
    if way == "general":
        close_the_short_way()
    found = entries(call)
    assert len(found) == len(set(found)), found
    phases = [name for name in found if name in PHASES]
    assert phases == sorted(phases, key=PHASES.index)


@pytest.mark.once
def test_a_call_checks_everything_before_it_lays_anything_out(close_the_short_way):
    close_the_short_way()
    found = entries(CALLS["cross_entropy_with_grad"])
    assert found == ["_cross_entropy", *PHASES]
    out = np.full((6, 10), 7.0)
    for bad in ({"weight": [1.0]}, {"sample_weight": [1.0, 2.0]}, {"target": np.full(6, 10)}, {"axis": 2}):
        with pytest.raises((ValueError, IndexError)):
            cxent.cross_entropy_with_grad(**{"logits": X, "target": LABELS, "out": out} | bad)
    assert (out == 7).all()


@pytest.mark.once
def test_imports_have_no_circle():
    """Each module needs those that it imports when it is loaded, and none of these needs it."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(["cxent", *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    imported = defaultdict(set)
    for name, path in names.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                imported[name] |= {alias.name for alias in node.names} & set(names)
            elif isinstance(node, ast.ImportFrom):
                levels = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                module = ".".join([*levels, *([node.module] if node.module else [])])
                for alias in node.names:
                    full = f"{module}.{alias.name}"
                    imported[name].add(full if full in names else module)
        imported[name] &= set(names) - {name}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(imported[name]):
                visit(other)
            done.add(path.pop())

    for name in sorted(names):
        visit(name)
    assert {"cxent", "cxent._arrays", "cxent.sharded._part", "cxent.dask._chunks"} <= done


# What kernels are given: on x86 they could read misaligned memory, elsewhere not.


@pytest.fixture
def misaligned():
    array = np.zeros(8 * 6 + 1, np.uint8)[1:].view(np.float64).reshape(2, 3)
    assert not array.flags.aligned
    return array


@pytest.mark.once
def test_inputs_are_aligned_and_native(misaligned):
    x = np.zeros((2, 3))
    assert logits_and("x", x, -1).x is x
    for array in (misaligned, x.astype(">f8"), x.astype("<f8")):
        readable = logits_and("x", array, -1).x
        assert readable.flags.aligned and readable.dtype.isnative and readable.dtype == np.float64


@pytest.mark.once
def test_targets_are_aligned_and_native(misaligned):
    x = np.zeros((2, 3))
    labels = misaligned.view(np.int64)[:, 0]
    for target, shape, dtype in (
        (labels, (2, 1), np.int64),
        (labels.astype(">i2"), (2, 1), np.int16),
        (misaligned, (2, 3, 1), np.float64),
    ):
        arrays = logits_and("logits", x, -1, target=target)
        indices, probabilities, *_ = checked_targets(arrays, None)
        laid = lay_out(arrays.shape, [x, probabilities], [indices])
        view = laid.inputs[1] if indices is None else laid.row_inputs[0]
        assert view.flags.aligned and view.dtype.isnative and (view.shape, view.dtype) == (shape, dtype)


@pytest.mark.once
def test_outputs_are_aligned_and_native(misaligned):
    x = np.ones((2, 3))
    shape = logits_and("x", x, -1).shape
    aligned = np.zeros((2, 3))
    laid = lay_out(shape, [x], outputs=[True], result_dtype=x.dtype, out=aligned)
    assert np.shares_memory(laid.outputs[0], aligned) and not laid.copies
    for out in (misaligned, aligned.astype(">f8")):
        laid = lay_out(shape, [x], outputs=[True], result_dtype=x.dtype, out=out)
        (output,) = laid.outputs
        assert output.flags.aligned and output.dtype.isnative
        output[...] = 5
        assert result_of(laid) is out and (out == 5).all()
