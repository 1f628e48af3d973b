"""Two arrays of logits compared: against definitions, and against the formulas of llama.cpp's tool."""

import math
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    FLOATS,
    HALVES,
    assert_same_bits,
    exact_numbers,
    little_memory,
    softmax_by_definition,
    unchanged,
)
from mpmath import mp

import cxent
from cxent import Comparison, compare_logits

RTOL = {"float16": 2e-5, "bfloat16": 2e-5, "float32": 2e-5, "float64": 1e-12}
ATOL = {"float16": 1e-9, "bfloat16": 1e-9, "float32": 1e-9, "float64": 1e-15}
OF_TOKENS = ("kl", "same_top", "reference_logprob", "other_logprob", "prob_change")


def two_models(shape=(60, 37), dtype=np.float64, noise=0.2, axis=-1):
    """The logits of a model, those of one that is a little off, and ids."""
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal(shape)
    y = x + noise * rng.standard_normal(shape)
    return x.astype(dtype), y.astype(dtype), rng.integers(0, shape[axis], np.delete(shape, axis))


def by_definition(x, y, ids, axis=-1, where=True, temperature=1.0):
    """What is computed of each token, in float64."""
    x, y = (np.asarray(a).astype(float) / temperature for a in (x, y))
    (p, log_p, _), (_, log_q, _) = (softmax_by_definition(a, axis, where) for a in (x, y))
    with np.errstate(invalid="ignore"):
        kl = np.where(p > 0, p * (log_p - log_q), 0).sum(axis=axis)
    x, y = (np.where(where, a, -np.inf) for a in (x, y))
    own = [np.take_along_axis(a, np.expand_dims(ids, axis), axis).squeeze(axis) for a in (log_p, log_q)]
    return kl, x.argmax(axis) == y.argmax(axis), *own, np.exp(own[1]) - np.exp(own[0])


def mean_and_uncertainty(numbers):
    """As llama.cpp's perplexity.cpp has it, of sums of numbers and of squares."""
    n = len(numbers)
    f = math.fsum(numbers) / n
    return f, math.sqrt(max(0.0, math.fsum(v * v for v in numbers) / n - f * f) / (n - 1))


def statistics(kl, same, base, new, change):
    """The lines of llama.cpp's table, by its formulas, one token after the other."""
    n = len(kl)
    nll, nll_base = [-float(v) for v in new], [-float(v) for v in base]
    (log_ppl, log_ppl_error), (log_base, log_base_error) = (mean_and_uncertainty(v) for v in (nll, nll_base))
    covariance = math.fsum(a * b for a, b in zip(nll, nll_base, strict=True)) / n - log_ppl * log_base
    covariance /= n - 1
    ppl, ppl_base = math.exp(log_ppl), math.exp(log_base)
    ratio_error = math.sqrt(log_ppl_error**2 + log_base_error**2 - 2 * covariance)
    ppl_error, base_error = ppl * log_ppl_error, ppl_base * log_base_error
    square, square_error = mean_and_uncertainty([float(v) ** 2 for v in change])
    top = sum(map(bool, same)) / n
    return {
        "kl_mean": mean_and_uncertainty([float(v) for v in kl]),
        "same_top_mean": (top, math.sqrt(top * (1 - top) / (n - 1))),
        "reference_perplexity": (ppl_base, base_error),
        "other_perplexity": (ppl, ppl_error),
        "log_ratio": (log_ppl - log_base, ratio_error),
        "perplexity_ratio": (math.exp(log_ppl - log_base), math.exp(log_ppl - log_base) * ratio_error),
        "perplexity_difference": (
            ppl - ppl_base,
            math.sqrt(ppl_error**2 + base_error**2 - 2 * ppl * ppl_base * covariance),
        ),
        "correlation": covariance / (log_ppl_error * log_base_error),
        "prob_change_mean": mean_and_uncertainty([float(v) for v in change]),
        "prob_change_rms": (math.sqrt(square), 0.5 / math.sqrt(square) * square_error),
    }


def assert_all_same(found, expected):
    """The same bits in two comparisons."""
    for name, a, b in zip(Comparison._fields, found, expected, strict=True):
        assert_same_bits(np.asarray(a), np.asarray(b), name)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((60, 37), -1), ((37, 60), 0), ((4, 5, 300), 2), ((3, 200, 7), 1), ((5, 3000), 1)], ids=str
)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_tokens_and_statistics(dtype, shape, axis, masked, temperature):
    x, y, ids = two_models(shape, dtype, axis=axis)
    mask = True
    if masked:
        mask = np.random.default_rng(1).random(shape) < 0.7
        np.put_along_axis(mask, np.expand_dims(ids, axis), True, axis)
    with unchanged(x, y, ids):
        found = compare_logits(
            x, y, ids, axis=axis, temperature=temperature, where=mask if masked else None, chunk_bytes=5000
        )
    expected = by_definition(x, y, ids, axis, mask, temperature)
    name = np.dtype(dtype).name
    for field, wanted in zip(OF_TOKENS, expected, strict=True):
        np.testing.assert_allclose(getattr(found, field), wanted, rtol=RTOL[name], atol=10 * ATOL[name], err_msg=field)
    assert found.kl.dtype == found.other_logprob.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert found.tokens == ids.size
    of_tokens = [np.ravel(getattr(found, field)).tolist() for field in OF_TOKENS]
    for field, wanted in statistics(*of_tokens).items():
        np.testing.assert_allclose(getattr(found, field), wanted, rtol=1e-7, atol=1e-12, err_msg=field)
    for numbers, quantiles in ((found.kl, found.kl_quantiles), (found.prob_change, found.prob_change_quantiles)):
        levels = [0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1]
        np.testing.assert_allclose(quantiles, np.quantile(numbers.astype(float), levels), rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_differences_against_exact_values(dtype):
    x, y, ids = two_models((6, 5), dtype, noise=1e-3)
    found = compare_logits(x, y, ids, chunk_bytes=1)
    for row in range(6):
        logits = [exact_numbers(a[row]) for a in (x, y)]
        (log_p, log_q) = ([v - mp.log(mp.fsum(map(mp.exp, u))) for v in u] for u in logits)
        kl = mp.fsum(mp.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))
        own = log_p[ids[row]], log_q[ids[row]]
        eps = float(np.finfo(dtype).eps)
        assert abs(found.kl[row] / kl - 1) < 3e3 * eps  # (the differences, of some 1e-3, are rounded)
        assert abs(found.reference_logprob[row] / own[0] - 1) < 4 * eps
        assert abs(found.prob_change[row] - (mp.exp(own[1]) - mp.exp(own[0]))) < 20 * eps


@pytest.mark.once
def test_scipy():
    special = pytest.importorskip("scipy.special")
    x, y, _ = two_models((40, 500))
    expected = special.rel_entr(special.softmax(x, axis=1), special.softmax(y, axis=1)).sum(axis=1)
    found = compare_logits(x, y)
    np.testing.assert_allclose(found.kl, expected, rtol=1e-11)
    np.testing.assert_allclose(found.kl_mean.error, special.logsumexp([0]) + np.std(expected, ddof=1) / np.sqrt(40))


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_equal_logits_do_not_differ(dtype):
    x, _, ids = two_models((50, 1000), dtype)
    found = compare_logits(x, x.copy(), ids)
    assert (found.kl == 0).all() and found.same_top.all() and (found.prob_change == 0).all()
    assert found.kl_mean == found.log_ratio == found.prob_change_rms == found.perplexity_difference == (0, 0)
    assert found.same_top_mean == found.perplexity_ratio == (1, 0)
    assert found.correlation == 1 and (found.kl_quantiles == 0).all()
    if dtype is not np.float64:
        assert (compare_logits(x, x.astype(float), ids).kl == 0).all()


@pytest.mark.parametrize("noise", [1e-7, 1e-5, 1e-3, 0.1, 10])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_no_divergence_is_negative(dtype, noise):
    """Where llama.cpp's tool finds some that are."""
    x, y, ids = two_models((200, 1000), dtype, noise)
    found = compare_logits(x, y, ids)
    assert (found.kl >= 0).all() and found.kl_quantiles[0] >= 0


LAYOUTS = {
    "rows": lambda a: a,
    "in F order": np.asfortranarray,
    "backwards": lambda a: a[::-1, :, ::-1],
    "every other row": lambda a: a[::2],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "with axes swapped": lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1),
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_same_bits_in_any_chunks_and_for_any_number_of_workers(dtype, axis, layout, share_small_calls):
    share_small_calls(100)
    shape = [6, 7, 9]
    shape[axis] = 150
    x, y, _ = two_models(shape, dtype)
    x, y = layout(x), layout(y)
    ids = np.random.default_rng(2).integers(0, x.shape[axis], np.delete(x.shape, axis))
    whole = compare_logits(x, y, ids, axis=axis, chunk_bytes=1 << 30)
    row_bytes = 2 * x.shape[axis] * x.itemsize
    for rows in (1, 2, 5, 8, 20, 44):
        assert_all_same(compare_logits(x, y, ids, axis=axis, chunk_bytes=rows * row_bytes), whole)
    assert_all_same(compare_logits(x, y, ids, axis=axis, chunk_bytes=9 * row_bytes, workers=3), whole)


def test_tokens_that_do_not_count():
    x, y, ids = two_models()
    expected = compare_logits(x[20:], y[20:], ids[20:])
    x[:10], y[5:20] = np.nan, np.inf
    ids[:20] = -100
    found = compare_logits(x, y, ids, ignore_index=-100)
    assert found.tokens == 40
    for name, a, b in zip(Comparison._fields, found, expected, strict=True):
        if name in OF_TOKENS:
            assert not np.asarray(a)[:20].any()
            a = a[20:]
        assert_same_bits(np.asarray(a), np.asarray(b), name)


def test_without_ids():
    x, y, ids = two_models()
    found, expected = compare_logits(x, y), compare_logits(x, y, ids)
    for name in ("kl", "same_top", "tokens", "kl_mean", "kl_quantiles", "same_top_mean"):
        assert_same_bits(np.asarray(getattr(found, name)), np.asarray(getattr(expected, name)), name)
    assert found[6:] == (None,) * 12


def test_a_single_row_and_none():
    found = compare_logits([2.0, 1.0, 0.0], [1, 1, 1], 0)
    assert type(found.kl) is np.float64 and found.kl == pytest.approx(0.26621671)
    assert type(found.prob_change) is np.float64 and type(found.same_top) is np.bool_
    assert found.tokens == 1 and found.kl_mean.value == found.kl and math.isnan(found.kl_mean.error)
    empty = compare_logits(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0, int), quantiles=[0.5])
    assert empty.kl.shape == (0,) and empty.tokens == 0
    assert np.isnan([*empty.kl_mean, *empty.kl_quantiles, *empty.other_perplexity, empty.correlation]).all()


def test_special_values():
    x = np.array([[0.0, 1.0, 2.0]] * 4)
    y = x.copy()
    y[1, 0] = -np.inf  # a class that the other excludes
    y[2, 1] = np.nan
    x[3] = y[3] = [0, -np.inf, 1]  # one that both exclude
    found = compare_logits(x, y, [0, 0, 0, 2], quantiles=[0, 1])
    assert found.kl.tolist()[:2] == [0, np.inf] and np.isnan(found.kl[2]) and found.kl[3] == 0
    assert found.same_top.tolist() == [True, True, False, True]
    assert np.isnan(found.kl_quantiles).all()  # of numbers of which one is none
    found = compare_logits(x[:2], y[:2], [0, 0], quantiles=[0, 0.5, 1])
    assert found.kl_quantiles.tolist() == [0, np.inf, np.inf]
    assert found.kl_mean.value == found.other_perplexity.value == np.inf
    assert found.prob_change[1] == pytest.approx(-cxent.softmax(x[0])[0])


def test_equal_logits_share_the_top():
    """The lowest index is the top class, as in token_logprobs."""
    found = compare_logits([[1.0, 3.0, 3.0], [3.0, 1.0, 3.0]], [[1.0, 3.0, 2.0], [2.0, 1.0, 3.0]])
    assert found.same_top.tolist() == [True, False]


@pytest.mark.once
def test_quantiles():
    x, y, ids = two_models()
    levels = np.random.default_rng(0).random(50)
    found = compare_logits(x, y, ids, quantiles=levels)
    np.testing.assert_allclose(found.kl_quantiles, np.quantile(found.kl, levels), rtol=1e-13)
    assert compare_logits(x, y, ids, quantiles=[]).kl_quantiles.shape == (0,)
    assert compare_logits(x, y, quantiles=np.array([1, 0])).kl_quantiles.tolist() == [found.kl.max(), found.kl.min()]


@pytest.mark.once
def test_progress(capsys):
    x, y, ids = two_models()
    calls = []
    compare_logits(x, y, ids, chunk_bytes=25 * 2 * 37 * 8, progress=lambda *done: calls.append(done))
    assert calls == [(20, 60), (40, 60), (60, 60)]
    calls.clear()
    compare_logits(x[:0], y[:0], progress=lambda *done: calls.append(done))
    assert calls == [(0, 0)]
    pytest.importorskip("tqdm")
    compare_logits(x, y, progress=True)
    assert "60/60" in capsys.readouterr().err


# Memory


CONVERTED = {
    "float32": (np.float32, np.float32),
    "float16": (np.float16, np.float16),
    "two dtypes": (np.float32, np.float64),
    "byte-swapped": (">f4", ">f4"),
    "integers": (np.int16, np.int16),
}


@pytest.mark.parametrize("dtypes", CONVERTED.values(), ids=CONVERTED)
def test_memory_for_a_chunk_alone(dtypes, kernels):
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    x, y = (np.zeros((4000, 1000), dtype) for dtype in dtypes)
    ids = np.zeros(4000, int)
    chunk = 1 << 20
    tracemalloc.start()
    compare_logits(x, y, ids, chunk_bytes=chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * chunk + 150 * len(x)  # (numbers of tokens, and what statistics take)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits what a process may allocate, as Linux does")
@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_memory_maps_larger_than_memory(kernels, tmp_path, other):
    """Files of 0.5 and 1 GB, where a process may have 64 MB beyond what it has."""
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    rows, classes = 1000, 128_256
    x = np.memmap(tmp_path / "reference", np.float32, "w+", shape=(rows, classes))  # (files without contents)
    y = np.memmap(tmp_path / "other", other, "w+", shape=(rows, classes))
    y[-1, 7] = 5
    with little_memory():
        found = compare_logits(x, y, np.full(rows, 7))
    assert (found.kl[:-1] == 0).all() and found.kl[-1] > 0 and found.prob_change[-1] > 0


# Bad input


X = np.zeros((2, 3))
BAD = {
    "shapes that differ": (dict(other=np.zeros((2, 4))), ValueError, r"other must .* \(2, 3\), got \(2, 4\)"),
    "an axis that is not there": (dict(axis=2), np.exceptions.AxisError, "axis 2 is out of bounds"),
    "two axes": (dict(axis=(0, 1)), TypeError, r"axis must be an integer, got \(0, 1\)"),
    "an id too large": (dict(ids=[0, 3]), IndexError, r"ids\[1\] must be .* from 0 to 2, got 3"),
    "a negative id": (dict(ids=[-1, 0]), IndexError, r"ids\[0\] must be .*got -1: .*ignore_index=-1"),
    "candidates": (dict(ids=[[0, 1], [0, 1]]), ValueError, r"ids must have shape \(2,\) .*got \(2, 2\)"),
    "ids that are no integers": (dict(ids=[0.0, 1.0]), TypeError, "ids must have an integer dtype"),
    "no ids to ignore": (dict(ignore_index=0), ValueError, "ignore_index is 0, and there are no ids"),
    "a quantile above 1": (dict(quantiles=[0.5, 1.5]), ValueError, "quantiles must be .*from 0 to 1, got 1.5"),
    "a negative quantile": (dict(quantiles=[-0.1]), ValueError, "quantiles must be .*from 0 to 1, got -0.1"),
    "NaN as a quantile": (dict(quantiles=[np.nan]), ValueError, "quantiles must be .*from 0 to 1, got nan"),
    "one quantile": (dict(quantiles=0.5), ValueError, r"quantiles must be one-dimensional, got shape \(\)"),
    "words": (dict(quantiles=["median"]), TypeError, "quantiles must be numbers from 0 to 1, got <U6"),
    "no bytes": (dict(chunk_bytes=0), ValueError, "chunk_bytes must be a positive integer, got 0"),
    "half a byte": (dict(chunk_bytes=0.5), TypeError, "chunk_bytes must be a positive integer, got 0.5"),
    "no temperature": (dict(temperature=0), ValueError, "temperature must .*got 0"),
    "no workers": (dict(workers=0), ValueError, "workers must .*got 0"),
    "no progress": (dict(progress="yes"), TypeError, "progress must .*got 'yes'"),
    "a mask of numbers": (dict(where=np.ones((2, 3))), TypeError, "where must have dtype bool, got float64"),
    "a mask of another shape": (dict(where=[True, False]), ValueError, r"where must .*\(2, 3\), got \(2,\)"),
    "complex logits": (dict(reference=X + 0j), TypeError, "reference must .*got complex128"),
    "long double": (dict(other=X.astype(np.longdouble)), TypeError, "other must .*got (long|float)"),
    "masked logits": (dict(other=np.ma.masked_array(X)), TypeError, "other must not be a masked array"),
    "no classes": (
        dict(reference=np.zeros((2, 0)), other=np.zeros((2, 0))), ValueError, "reference must have at least one class",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(given, error, message):
    calls = []
    arguments = {"reference": X, "other": X, "ids": None, "progress": lambda *done: calls.append(done), **given}
    with pytest.raises(error, match=f"^{message}"):
        compare_logits(**arguments)
    assert calls == []


# Other programs' logits: the code of docs/compare.md


PAGE = Path(__file__).parent.parent / "docs" / "compare.md"


def function_of_page(name):
    """A function that the page defines."""
    if not PAGE.exists():
        pytest.skip("tested away from the source")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if f"def {name}(" in block]
    scope = {}
    exec(code, scope)
    return scope[name]


def onnx_session(onnx, table):
    """A model whose logits are a row of the table for each word."""
    runtime = pytest.importorskip("onnxruntime")
    helper, types = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["logits"])],
        "bigrams",
        [helper.make_tensor_value_info("input_ids", types.INT64, [1, None])],
        [helper.make_tensor_value_info("logits", types.FLOAT, [1, None, table.shape[1]])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.once
def test_logits_of_onnx_runtime(tmp_path):
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    table = rng.standard_normal((20, 20), np.float32)
    coarse = np.round(table * 8) / np.float32(8)
    texts = [rng.integers(0, 20, n) for n in (7, 2, 30)]
    save_logits = function_of_page("save_logits")
    for name, weights in (("base", table), ("other", coarse)):
        ids = save_logits(tmp_path / f"{name}.npy", onnx_session(onnx, weights), texts, 20)
    before = np.concatenate([text[:-1] for text in texts])
    maps = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("base", "other"))
    assert_all_same(compare_logits(*maps, ids), compare_logits(table[before], coarse[before], ids))


def write_llama_file(path, logits, tokens):
    """As llama.cpp's perplexity.cpp does: a row's scale, its least log-probability, and steps of 16 bits."""
    texts, context = tokens.shape
    classes = logits.shape[-1]
    with open(path, "wb") as file:
        file.write(b"_logits_" + np.array([context, classes, texts], "<i4").tobytes() + tokens.astype("<i4").tobytes())
        for text in logits:
            for row in text[context // 2 : context - 1]:
                top = row.max()
                least = max(row.min(), top - 16)
                log_sum = np.log(np.exp(row - top).sum())
                scale = (top - least) / 65535
                steps = np.where(row > least, np.round((row - least) / scale), 0).astype("<u2")
                file.write(np.array([scale, least - top - log_sum], "<f4").tobytes())
                file.write(steps.tobytes() + bytes(2 * (classes % 2)))


@pytest.mark.once
@pytest.mark.parametrize("classes", [60, 61])
def test_logits_of_llama_cpp(tmp_path, classes):
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((3, 32, classes))
    tokens = rng.integers(0, classes, (3, 32))
    write_llama_file(tmp_path / "model.kld", logits, tokens)
    ids = function_of_page("convert")(tmp_path / "model.kld", tmp_path / "model.npy")
    found = compare_logits(np.load(tmp_path / "model.npy", mmap_mode="r"), logits[:, 16:31], ids)
    assert (ids == tokens[:, 17:]).all()
    assert 0 < found.kl_mean.value < 1e-8 and found.same_top_mean.value > 0.95
    np.testing.assert_allclose(found.reference_logprob, found.other_logprob, atol=1e-3)
    (tmp_path / "other.kld").write_bytes(b"GGUF" * 9)
    with pytest.raises(ValueError, match="has no log-probabilities"):
        function_of_page("convert")(tmp_path / "other.kld", tmp_path / "model.npy")
