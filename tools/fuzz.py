"""Coverage-guided fuzzing of shapes, strides, dtypes, labels and options, against the reference kernels.

    pip install atheris && python tools/fuzz.py -runs=1000000

Arguments are libFuzzer's. Both kernels get the same call: either their results agree, or both raise the same exception.
Anything else ends the run, and the input is saved to a file, which can be passed as an argument to repeat the call.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["cxent"]):
    import cxent

FAST, REFERENCE = cxent.kernels.serving, cxent.kernels.load("python")
DTYPES = [np.float32, np.float64, np.float16, np.int32, np.bool_, np.dtype(">f4"), np.complex64]
LABELS = [np.int64, np.int32, np.uint8, np.int8, np.uint64]
NUMBERS = [0.0, 1.0, -1.0, 1e-30, 3e4, -3e4, np.inf, -np.inf, np.nan, 88.0, -104.0]
ERRORS = (ValueError, TypeError, IndexError)


def array(data: atheris.FuzzedDataProvider, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Random numbers, some of them special values, in a random layout."""
    generator = np.random.default_rng(data.ConsumeIntInRange(0, 255))
    scale = data.PickValueInList([1.0, 0.0, 30.0, 1e-6])
    wide = generator.standard_normal((*shape, 2)) * scale
    if data.ConsumeBool() and wide.size:
        wide.reshape(-1)[generator.integers(0, wide.size, 3)] = data.PickValueInList(NUMBERS)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        wide = wide.astype(dtype)
    layout = data.ConsumeIntInRange(0, 3)
    x = wide[..., 0]
    return [x, np.ascontiguousarray(x), np.asfortranarray(x), x[..., ::-1]][layout]


def call(data: atheris.FuzzedDataProvider) -> tuple[str, list[Any], dict[str, Any]]:
    """A public function with arguments for it, which need not be valid."""
    shape = tuple(data.ConsumeIntInRange(0, 9) for _ in range(data.ConsumeIntInRange(0, 3)))
    shape += (data.PickValueInList([0, 1, 2, 3, 10, 17, 33, 64, 127, 128, 129, 300, 1100]),)
    axis = data.PickValueInList([-1, -1, -1, 0, 1, 5])
    dtype = data.PickValueInList(DTYPES)
    x = array(data, shape, dtype)
    name = data.PickValueInList(
        [
            "softmax",
            "log_softmax",
            "logsumexp",
            "softmax_backward",
            "log_softmax_backward",
            "cross_entropy",
            "cross_entropy_with_grad",
            "cross_entropy_with_hess",
            "cross_entropy_from_probs_with_grad",
            "token_logprobs",
            "perplexity",
            "kl_divergence_with_grad",
            "js_divergence_with_grad",
        ]
    )
    options: dict[str, Any] = {"axis": axis}
    if name in ("softmax", "log_softmax", "logsumexp"):
        if data.ConsumeBool():
            options["where"] = array(data, shape, np.bool_)
        return name, [x], options
    if name.endswith("backward"):
        x = np.nan_to_num(x, posinf=9.0, neginf=-9.0) if x.dtype.kind == "f" else x
        output = array(data, shape, dtype)
        return name, [x, -np.abs(output) if output.dtype.kind == "f" else output], options
    if "divergence" in name:
        other = array(data, shape, dtype)
        if data.ConsumeBool():
            options["where"] = array(data, shape, np.bool_)
        if data.ConsumeBool():
            options["temperature"] = data.PickValueInList([1.0, 0.5, 3.0, 0.0])
        if name == "kl_divergence_with_grad":
            options["direction"] = data.PickValueInList(["forward", "reverse", "both"])
        else:
            options["beta"] = data.PickValueInList([0.5, 0.1, 1.0])
        options["reduction"] = data.PickValueInList(["mean", "sum", "none", "median"])
        return name, [x, other], options
    classes = shape[axis] if -len(shape) <= axis < len(shape) else 1
    of_tokens = name in ("token_logprobs", "perplexity")
    if data.ConsumeBool() and not of_tokens:
        target = np.abs(np.nan_to_num(array(data, shape, np.float64), posinf=9.0, neginf=9.0))
    else:
        rows = tuple(np.delete(shape, axis)) if -len(shape) <= axis < len(shape) else shape
        generator = np.random.default_rng(data.ConsumeIntInRange(0, 255))
        target = generator.integers(0, max(1, classes + data.ConsumeBool()), rows).astype(data.PickValueInList(LABELS))
    if of_tokens:
        if name == "token_logprobs":
            target = target if data.ConsumeBool() else np.stack([target, target // 2], axis=-1)
            options["top_k"] = data.ConsumeIntInRange(0, 5)
        if data.ConsumeBool():
            options["ignore_index"] = data.ConsumeIntInRange(-2, 3)
        if data.ConsumeBool():
            options["temperature"] = data.PickValueInList([1.0, 0.5, 3.0, 0.0])
            options["softcap"] = data.PickValueInList([None, 5.0, 30.0])
        return name, [x, target], options
    if data.ConsumeBool():
        weight = array(data, (classes,), np.float64)
        options["weight"] = np.where(np.abs(weight) < 1e-6, 0, weight)  # (products of tiny numbers may or may not be 0)
    if data.ConsumeBool():
        options["ignore_index"] = data.ConsumeIntInRange(-2, 3)
    options["reduction"] = data.PickValueInList(["mean", "sum", "none", "median"])
    if name == "cross_entropy_from_probs_with_grad":
        x = np.abs(x) if x.dtype.kind == "f" else x
        return name, [x, target], options
    if data.ConsumeBool():
        options["label_smoothing"] = data.PickValueInList([0.0, 0.1, 1.0, 2.0])
    if data.ConsumeBool():
        options["temperature"] = data.PickValueInList([1.0, 0.5, 3.0, 0.0, -1.0])
    if data.ConsumeBool() and name != "cross_entropy_with_hess":
        options["z_loss"] = data.PickValueInList([0.0, 1e-3])
        options["softcap"] = data.PickValueInList([None, 5.0, 30.0])
    return name, [x, target], options


def outcome(kernels: Any, name: str, given: list[Any], options: dict[str, Any]) -> Any:
    """The results, or the type and text of the exception."""
    cxent.kernels.serving = kernels
    try:
        with np.errstate(all="ignore"):
            result = getattr(cxent, name)(*given, **options)
    except ERRORS as error:
        return type(error), str(error)
    finally:
        cxent.kernels.serving = FAST
    parts = result if isinstance(result, tuple) else (result,)
    with np.errstate(over="ignore"):  # (a perplexity is a float, but only as accurate as the logits' dtype)
        return [np.asarray(np.float32(part) if type(part) is float else part) for part in parts if part is not None]


def largest(x: np.ndarray[Any, Any]) -> float:
    """The largest finite number."""
    wide = np.abs(x).astype(float)
    return float(np.max(wide, initial=1e-30, where=np.isfinite(wide)))


def agree(found: Any, expected: Any, unit: float) -> bool:
    """Whether both are the same exception, or have the same dtypes, shapes, integers and special values, and close
    numbers.

    `unit` is the size of terms that may cancel.
    """
    if isinstance(found, tuple) or isinstance(expected, tuple):
        return bool(found == expected)
    for a, b in zip(found, expected, strict=True):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype.kind == "i":
            if not np.array_equal(a, b):
                return False
            continue
        precision = 1e-2 if a.dtype.itemsize == 2 else 2e-4 if a.dtype.itemsize == 4 else 1e-9
        near = max(precision * max(largest(b), unit), 2 * float(np.finfo(a.dtype).smallest_subnormal))
        if not np.allclose(a.astype(float), b.astype(float), rtol=precision, atol=near, equal_nan=True):
            return False
    return True


def test_one_input(buffer: bytes) -> None:
    name, given, options = call(atheris.FuzzedDataProvider(buffer))
    before = [array.copy() for array in given]
    found, expected = outcome(FAST, name, given, options), outcome(REFERENCE, name, given, options)
    cancelling = given[:1] if name.endswith("backward") else [*given[1:], options.get("weight", np.zeros(1))]
    unit = 0.0 if len(given) == 1 else max(1.0, *map(largest, cancelling))
    if not agree(found, expected, unit):
        raise AssertionError(
            f"{name} of {[(x.shape, x.dtype) for x in given]}, {options}: {found}, reference: {expected}"
        )
    if not all(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in zip(given, before, strict=True)):
        raise AssertionError(f"{name} changed its input")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
