"""Dask arrays in chunks of rows, of classes, and of both: against the same functions of the whole array.

The large grids are of Python that is the same for all kernels. What is computed in a chunk is that of test_sharded.py.
"""

import doctest
import functools
import os
import signal
import sys

import numpy as np
import pytest
from helpers import FLOATS, HALVES, assert_same_bits, unchanged, words

import cxent

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")
import cxent.dask as lazy  # noqa: E402 (it needs Dask)

# The shape, the class axis, and chunks of rows, of classes, and of both.
CASES = [
    ((20, 60), 1, {"rows": (7, 60), "classes": (20, 25), "both": (7, 25)}),
    ((60, 20), 0, {"rows": (60, 7), "classes": (25, 20), "both": (25, 7)}),
    ((3, 60, 7), 1, {"rows": (2, 60, 7), "classes": (3, 25, 7), "both": (2, 25, 4)}),
    ((60,), 0, {"rows": (60,), "classes": (25,)}),
]
CHUNKED = [
    (shape, axis, name, chunks) for shape, axis, all_chunks in CASES for name, chunks in all_chunks.items()
]  # fmt: skip


DTYPES = [*FLOATS, *HALVES]
REDUCTIONS = ["mean", "sum", "none"]  # each with each of the other parameters, but not with each pair of them


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def logits_and_labels(shape, axis, dtype):
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    return x, rng.integers(0, shape[axis], np.delete(shape, axis))


def compare(found, expected, same_bits):
    found, expected = np.asarray(found), np.asarray(expected)
    if same_bits:  # (but of NaN, which NumPy's sums give either sign)
        numbers = (a if a.dtype.kind == "i" else np.where(a == a, a, a.dtype.type(np.nan)) for a in (found, expected))
        assert_same_bits(*numbers)
        return
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    rtol = {8: 1e-12, 4: 2e-5, 2: 2e-2}[found.itemsize]
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize(("shape", "axis", "name", "chunks"), CHUNKED)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES, np.int16])
def test_softmax_and_logsumexp(dtype, shape, axis, name, chunks):
    x, _ = logits_and_labels(shape, axis, dtype)
    given = da.from_array(x, chunks=chunks)
    for function in ("softmax", "log_softmax", "logsumexp"):
        result = getattr(lazy, function)(given, axis - len(shape))
        expected = getattr(cxent, function)(x, axis)
        assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
        if function != "logsumexp":
            assert result.chunks == given.chunks
        compare(result.compute(), expected, same_bits=name == "rows")


@pytest.mark.once
@pytest.mark.parametrize(("shape", "axis", "name", "chunks"), CHUNKED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(dtype, shape, axis, name, chunks):
    reduction = REDUCTIONS[(DTYPES.index(dtype) + CHUNKED.index((shape, axis, name, chunks))) % 3]
    x, y = logits_and_labels(shape, axis, dtype)
    rng = np.random.default_rng(1)
    given = da.from_array(x, chunks=chunks)
    options = [
        {},
        {"ignore_index": int(np.ravel(y)[0])},
        {"weight": rng.random(shape[axis]) - 0.1, "sample_weight": rng.random(y.shape) + 0.1},
        {"temperature": 0.3},
        {"label_smoothing": 0.1, "sample_weight": rng.random(y.shape) - 0.1, "temperature": 0.7},
        {"label_smoothing": 1.0, "z_loss": 0.01, "ignore_index": int(np.ravel(y)[0])},
        {"z_loss": 0.01},
    ]
    if given.numblocks[axis] == 1:
        options += [{"label_smoothing": 0.1, "softcap": 30.0}, {"weight": rng.random(shape[axis]), "z_loss": 0.01}]
    for chosen in options:
        chosen = {"axis": axis, "reduction": reduction, **chosen}
        with unchanged(x, y):
            both, alone = lazy.cross_entropy_with_grad(given, y, **chosen), lazy.cross_entropy(given, y, **chosen)
            (loss, grad), alone = dask.compute(both, alone)
        expected, expected_grad = cxent.cross_entropy_with_grad(x, y, **chosen)
        compare(loss, expected, same_bits=name == "rows" and reduction == "none")
        compare(grad, expected_grad, same_bits=name == "rows" and "weight" not in chosen)
        compare(alone, loss, same_bits=True)


@pytest.mark.once
@pytest.mark.parametrize(("shape", "axis", "name", "chunks"), CHUNKED)
@pytest.mark.parametrize("dtype", [*FLOATS, np.float16])
def test_token_logprobs(dtype, shape, axis, name, chunks):
    x, y = logits_and_labels(shape, axis, np.float32)
    x = np.round(x, 1).astype(dtype)  # with ties
    several = np.random.default_rng(2).integers(0, shape[axis], (*y.shape, 3))
    given = da.from_array(x, chunks=chunks)
    for ids, options in (
        (y, {}),
        (y, {"top_k": 5, "ignore_index": int(np.ravel(y)[0])}),
        (several, {"top_k": 1, "temperature": 0.5}),
        (np.where(several < shape[axis] // 2, -1, several), {"ignore_index": -1}),  # (all of some rows)
        (da.from_array(several, chunks=1), {}),
    ):
        found = lazy.token_logprobs(given, ids, axis=axis, **options)
        expected = cxent.token_logprobs(x, np.asarray(ids), axis=axis, **options)
        for lazily, computed, exactly in zip(found, *dask.compute(found), expected, strict=True):
            if exactly is None:
                assert lazily is None
                continue
            assert (lazily.shape, lazily.dtype) == (np.shape(exactly), np.asarray(exactly).dtype)
            compare(computed, exactly, same_bits=name == "rows" or lazily.dtype.kind == "i")


MASKS = {
    "numbers": lambda rng, shape, axis: rng.random(shape) < 0.6,
    "no class of some rows": lambda rng, shape, axis: (rng.random(shape) < 0.6) & of_rows(rng, shape, axis),
    "classes": lambda rng, shape, axis: rng.random([n if a == axis else 1 for a, n in enumerate(shape)]) < 0.6,
    "rows": lambda rng, shape, axis: of_rows(rng, shape, axis),
    "one axis": lambda rng, shape, axis: rng.random(shape[-1:]) < 0.6,
    "everything": lambda rng, shape, axis: np.array(True),
}


def of_rows(rng, shape, axis):
    return rng.random([1 if a == axis else n for a, n in enumerate(shape)]) < 0.7


@pytest.mark.once
@pytest.mark.parametrize(("shape", "axis", "name", "chunks"), CHUNKED)
@pytest.mark.parametrize(("mask", "dtype"), list(zip(MASKS, [*FLOATS, np.float16] * 2, strict=True)))
def test_masks(dtype, shape, axis, name, chunks, mask):
    """As in memory, whether the mask is of NumPy or of Dask, in other chunks, and whatever it hides."""
    x, y = logits_and_labels(shape, axis, dtype)
    several = np.random.default_rng(2).integers(0, shape[axis], (*y.shape, 3))
    mask = MASKS[mask](np.random.default_rng(3), shape, axis)
    garbage = np.where(mask, x, dtype(np.nan))
    given = da.from_array(garbage, chunks=chunks)
    for where, reductions, ids in (
        (mask, ("mean", "none"), y),
        (da.from_array(mask, chunks=2 if mask.ndim else -1), ("sum",), several),
    ):
        for function in ("softmax", "log_softmax", "logsumexp"):
            expected = getattr(cxent, function)(garbage, axis, where=mask)
            found = getattr(lazy, function)(given, axis, where=where)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            compare(found.compute(), expected, same_bits=name == "rows")
        for reduction in reductions:
            options = {"axis": axis, "reduction": reduction, "sample_weight": y % 3, "temperature": 0.7}
            options |= {"label_smoothing": 0.1, "z_loss": 0.01} if reduction == "sum" else {}
            both, alone = (
                lazy.cross_entropy_with_grad(given, y, where=where, **options),
                lazy.cross_entropy(given, y, where=where, **options),
            )
            (loss, grad), alone = dask.compute(both, alone)
            expected, expected_grad = cxent.cross_entropy_with_grad(garbage, y, where=mask, **options)
            compare(loss, expected, same_bits=name == "rows" and reduction == "none")
            compare(grad, expected_grad, same_bits=False)
            compare(alone, loss, same_bits=True)
        found = dask.compute(*lazy.token_logprobs(given, ids, axis=axis, where=where, top_k=5))
        expected = cxent.token_logprobs(garbage, ids, axis=axis, where=mask, top_k=5)
        for computed, exactly in zip(found[:6], expected[:6], strict=True):
            compare(computed, exactly, same_bits=name == "rows" or np.asarray(exactly).dtype.kind == "i")
    if given.numblocks[axis] == 1:
        q = np.where(mask, np.random.default_rng(4).random(shape), 0)
        options = {"axis": axis, "where": mask, "label_smoothing": 0.1, "softcap": 5.0}
        found = dask.compute(*lazy.cross_entropy_with_grad(given, q, **options))
        for value, exactly in zip(found, cxent.cross_entropy_with_grad(garbage, q, **options), strict=True):
            compare(value, exactly, same_bits=False)


@pytest.mark.parametrize("temperature", [0.03, 3.0, 1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_temperature_in_chunks_of_classes(dtype, temperature):
    x = (1000 + np.random.default_rng(5).integers(0, 8, (3, 40)) * 0.5).astype(dtype)
    y = np.arange(3)
    given = da.from_array(x, chunks=(3, 10))
    expected = cxent.token_logprobs(x, y, top_k=3, temperature=temperature)
    found = lazy.token_logprobs(given, y, top_k=3, temperature=temperature)
    for value, exactly in zip(found[:6], expected[:6], strict=True):
        compare(value.compute(), exactly, same_bits=exactly.dtype.kind == "i")
    loss = lazy.cross_entropy(given, y, temperature=temperature).compute()
    np.testing.assert_allclose(loss, cxent.cross_entropy(x, y, temperature=temperature), rtol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize("chunks", [(2, 10), (10, 3), (2, 3)])
@pytest.mark.parametrize("size", [1e-30, 1e-9, 1e9, 1e30])
def test_weights_of_several_sizes(chunks, size):
    rng = np.random.default_rng(6)
    x, y, s = rng.standard_normal((10, 10)).astype(np.float32), rng.integers(0, 10, 10), np.ones(10)
    s[:3] = size
    for options in ({"sample_weight": s}, {"weight": s}, {"sample_weight": s, "weight": 1 / s}):
        loss, grad = dask.compute(*lazy.cross_entropy_with_grad(da.from_array(x, chunks=chunks), y, **options))
        expected, expected_grad = cxent.cross_entropy_with_grad(x, y, **options)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("chunks", [(2, 40), (6, 15), (2, 15)])
def test_special_values(chunks):
    x = np.random.default_rng(3).standard_normal((6, 40))
    x[0, :20] = -np.inf
    x[1, 3] = np.nan
    x[2, 39] = np.inf
    x[3] = -np.inf
    y = np.full(6, 30)
    given = da.from_array(x, chunks=chunks)
    np.testing.assert_allclose(lazy.softmax(given).compute(), cxent.softmax(x), rtol=1e-12)
    np.testing.assert_allclose(lazy.logsumexp(given).compute(), cxent.logsumexp(x), rtol=1e-12)
    for ids in (y, np.where(np.arange(6) < 4, -1, y)):
        found = dask.compute(*lazy.token_logprobs(given, ids, top_k=2, ignore_index=-1))
        for value, expected in zip(found[:6], cxent.token_logprobs(x, ids, top_k=2, ignore_index=-1)[:6], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-12)
    found = dask.compute(*lazy.cross_entropy_with_grad(given, y, reduction="none"))
    for value, expected in zip(found, cxent.cross_entropy_with_grad(x, y, reduction="none"), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-16)


def test_class_probabilities_in_chunks_of_rows():
    rng = np.random.default_rng(4)
    x, q = rng.standard_normal((2, 12, 5))
    s = rng.random(12)
    loss, grad = dask.compute(
        *lazy.cross_entropy_with_grad(da.from_array(x, chunks=(5, 5)), da.from_array(q, chunks=3), sample_weight=s)
    )
    expected, expected_grad = cxent.cross_entropy_with_grad(x, q, sample_weight=s)
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-13, atol=1e-17)


# What memory does: values, errors, and that NumPy says nothing. Rows of four classes.
X = np.array([[1, 0.5, 2, -1], [1, 2, 3, 0], [-3, 0.25, 1, 2]])
WITH_NAN = np.where(np.arange(12).reshape(3, 4) == 4, np.nan, X)
WITH_INF = np.where(np.arange(12).reshape(3, 4) == 4, -np.inf, X)
SAME = [
    ("float64", X, [0, 1, 3], {"sample_weight": [1e308] * 3, "reduction": "mean"}),
    ("float64", X, [0, 1, 3], {"sample_weight": [1e308, 5e-324, -1e308], "reduction": "mean"}),
    ("float64", X, [0, 1, 3], {"sample_weight": [5e-324, 1e-323, 0]}),
    ("float64", X, [0, 1, 3], {"weight": [1e308] * 4, "reduction": "mean"}),
    ("float64", X, [0, 1, 3], {"weight": [1e-200] * 4, "sample_weight": [1e-200] * 3}),
    ("float64", X, [0, 1, 3], {"weight": [1, 1, 1, 1e308], "sample_weight": [1, 1, 1e308], "ignore_index": 3}),
    ("float32", X, [0, 1, 3], {"sample_weight": [1e-42] * 3}),
    ("float32", X, [0, 1, 3], {"sample_weight": [3e38, 1, -3e38]}),
    ("float32", X, [0, 1, 3], {"sample_weight": [1e-45] * 3, "weight": [3e38] * 4}),
    ("float32", X, [0, 1, 3], {"sample_weight": [1e30] * 3, "weight": [1e30] * 4}),
    ("float16", X, [0, 1, 3], {"sample_weight": [1e-8] * 3, "temperature": 30.0}),
    ("float64", WITH_NAN, [0, 0, 3], {"weight": [0, 1, 1, 1]}),
    ("float64", WITH_NAN, [0, 0, 3], {"sample_weight": [1, 0, 1]}),
    ("float64", WITH_NAN, [0, -1, 3], {"ignore_index": -1}),
    ("float64", WITH_INF, [0, 0, 3], {"weight": [0, 1, 1, 1]}),
    ("float64", WITH_INF, [0, 0, 3], {"weight": [0.5, 1, 1, 1]}),
    ("float64", X, [0, 1, 3], {"sample_weight": 2.0}),
    ("float64", X, [0, 1, 3], {"sample_weight": [1, -1, 0]}),
    ("float64", X, [0, 1, 3], {"sample_weight": [1e-40, 0, 1e40], "label_smoothing": 0.2, "z_loss": 1e-3}),
    ("float32", X, [0, -1, 3], {"ignore_index": -1, "label_smoothing": 0.2, "z_loss": 1e-3}),
    ("float64", X, np.array([1, 255, 0], np.uint8), {"ignore_index": 255}),
    ("float64", X, [7, 7, 7], {"ignore_index": 7}),
    ("float64", X, [0, 1, 3], {"sample_weight": [1, np.nan, 1]}),
    ("float32", X, [0, 1, 3], {"sample_weight": [1, 1e39, 1]}),
    ("float64", X, [0, 1, 3], {"sample_weight": [1, 1]}),
    ("float64", X, [0, 1, 3], {"sample_weight": ["a", "b", "c"]}),
    ("float64", X, [0, 1, 3], {"weight": [1, np.inf, 1, 1]}),
    ("float64", X, [0, 1, 4], {}),
    ("float64", X, [0, 1, -1], {}),
    ("float64", X, [0.0, 1.0, 2.0], {}),
    ("float64", X, [0, 1], {}),
    ("float64", X, X, {"ignore_index": -1}),
    ("float64", X, X + 1j, {}),
    ("float64", X[:, :0], [0, 1, 3], {}),
    ("float64", X, [0, 1, 3], {"temperature": 0}),
    ("float64", X, [0, 1, 3], {"reduction": "mode"}),
]
CHUNKS = [(1, 4), (2, 4), (3, 2), (2, 3), (1, 1)]


def outcome(call):
    """The results, or the error."""
    try:
        return call()
    except Exception as error:  # whatever it is
        return type(error), str(error)


@pytest.mark.once
@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("case", range(len(SAME)))
def test_what_memory_does(case, chunks):
    dtype, x, target, options = SAME[case]
    reduction = REDUCTIONS[(case + CHUNKS.index(chunks)) % 3]
    x = x.astype(dtype)
    options = {"reduction": reduction, **options}
    expected = outcome(lambda: cxent.cross_entropy_with_grad(x, target, **options))
    given = da.from_array(x, chunks=chunks)
    both = functools.partial(lazy.cross_entropy_with_grad, given, target, **options)
    alone = functools.partial(lazy.cross_entropy, given, target, **options)
    for state in ({}, {"all": "raise"}):
        with np.errstate(**state):
            found = outcome(lambda: dask.compute(*both()))
            loss = outcome(lambda: alone().compute())
        if isinstance(expected[0], type):
            assert found == expected
            assert loss == expected
            continue
        for value, exactly in zip((*found, loss), (*expected, expected[0]), strict=True):
            value, exactly = np.asarray(value), np.asarray(exactly)
            assert (value.dtype, value.shape) == (exactly.dtype, exactly.shape)
            rtol = 4 * float(np.finfo(dtype).eps)
            np.testing.assert_allclose(
                value.astype(float), exactly.astype(float), rtol, float(np.finfo(dtype).smallest_subnormal)
            )
            if chunks[1] == 4 and reduction == "none":
                assert_same_bits(value, exactly)


@pytest.mark.once
@pytest.mark.parametrize("chunks", [(1, 4), (3, 2)])
def test_what_memory_does_with_other_arguments(chunks):
    given = da.from_array(X, chunks=chunks)
    for name in ("softmax", "log_softmax", "logsumexp"):
        for call in (lambda m, x: m(x, 2), lambda m, x: m(x.astype(complex))):
            expected = outcome(lambda call=call, name=name: call(getattr(cxent, name), X))
            assert outcome(lambda call=call, name=name: call(getattr(lazy, name), given)) == expected
    for ids, options in (
        ([0, 1], {}), ([0, 1, 4], {}), ([0, 1, -1], {"top_k": 9}), ([0.0, 1, 2], {}), ([[0, 1]] * 2, {}),
        ([0, 1, 2], {"top_k": 5}), ([0, 1, 2], {"top_k": -1}), ([0, 1, 2], {"temperature": 1e31}),
    ):  # fmt: skip
        expected = outcome(lambda ids=ids, options=options: cxent.token_logprobs(X, ids, **options))
        assert outcome(lambda ids=ids, options=options: lazy.token_logprobs(given, ids, **options)) == expected


@pytest.mark.once
@pytest.mark.parametrize("chunks", [(1, 4), (3, 2)])
def test_weights_in_a_dask_array(chunks):
    given = da.from_array(X, chunks=chunks)
    bad = lazy.cross_entropy(given, [0, 1, 3], sample_weight=da.from_array(np.array([1, 2, np.nan]), chunks=2))
    with pytest.raises(ValueError, match=r"^sample_weight must .*got nan"):
        bad.compute()
    for wrong in (np.ones(2), np.ones(3, complex)):
        expected = outcome(lambda wrong=wrong: cxent.cross_entropy(X, [0, 1, 3], sample_weight=wrong))
        lazily = da.from_array(wrong, chunks=1)
        assert outcome(lambda lazily=lazily: lazy.cross_entropy(given, [0, 1, 3], sample_weight=lazily)) == expected
    labels = da.from_array(np.array([0.0, 1, 2]), chunks=1)
    expected = outcome(lambda: cxent.cross_entropy(X, [0.0, 1, 2]))
    assert outcome(lambda: lazy.cross_entropy(given, labels)) == expected


def test_sums_do_not_depend_on_how_numpy_adds(monkeypatch):
    """No sum, exponential or logarithm of NumPy's is in a result: their bits depend on the CPU."""
    x, y = logits_and_labels((40, 30), 1, np.float32)
    given = da.from_array(x, chunks=(7, 9))
    results = (lazy.softmax(given), *lazy.cross_entropy_with_grad(given, y, sample_weight=np.arange(40.0)),
               *lazy.token_logprobs(given, y)[:4])  # fmt: skip
    used = set()
    for name in ("exp", "log", "log1p", "expm1", "sum"):
        original = getattr(np, name)
        monkeypatch.setattr(np, name, lambda *a, _f=original, _n=name, **k: (used.add(_n), _f(*a, **k))[1])
    dask.compute(*results)
    cxent.perplexity(x, y)
    if cxent.kernels.serving.name != "python":
        assert used <= {"sum"}  # (of ranks)


def test_no_row_counts():
    given = da.zeros((4, 6), chunks=(2, 3))
    loss, grad = dask.compute(*lazy.cross_entropy_with_grad(given, np.full(4, -1), ignore_index=-1))
    assert np.isnan(loss)
    assert not grad.any()
    assert np.isnan(lazy.cross_entropy(given.rechunk((2, 6)), np.full(4, -1), ignore_index=-1).compute())


@pytest.mark.once
def test_docstrings():
    results = doctest.testmod(lazy._functions)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.once
def test_nothing_is_computed_early():
    def fail(_block):
        raise AssertionError("computed")

    x = da.zeros((4, 6), chunks=(2, 3)).map_blocks(fail, dtype=np.float64, meta=np.empty((0, 0)))
    labels = da.zeros(4, chunks=2, dtype=int).map_blocks(fail, dtype=np.int64, meta=np.empty(0, np.int64))
    mask = x > 0
    results = [lazy.softmax(x), *lazy.cross_entropy_with_grad(x, labels), *lazy.token_logprobs(x, labels, top_k=2)[:6]]
    results += [lazy.softmax(x, where=mask), *lazy.cross_entropy_with_grad(x, labels, where=mask)]
    for result in results:
        with pytest.raises(AssertionError, match="computed"):
            result.compute()


def chunks_of_tasks(array):
    """The chunks of the logits that each task has in its hands."""
    dependencies = array.__dask_graph__().get_all_dependencies()
    return {key: [k for k in others if k[0] == "logits"] for key, others in dependencies.items()}


@pytest.mark.once
@pytest.mark.parametrize("function", ["softmax", "logsumexp", "cross_entropy", "token_logprobs"])
def test_no_task_gathers_a_row(function):
    x = da.from_array(np.zeros((4, 60)), chunks=(2, 5), name="logits")
    given = (x, np.zeros(4, int)) if function in ("cross_entropy", "token_logprobs") else (x,)
    results = getattr(lazy, function)(*given)
    for result in results if isinstance(results, tuple) else (results,):
        if result is not None:
            assert max(map(len, chunks_of_tasks(result).values())) == 1


ZEROS = da.zeros((2, 4), chunks=(1, 2))
MASKED = np.ma.masked_array([0, 1], [False, True])
UNKNOWN = ZEROS[da.from_array(np.array([True, False]), chunks=1)]


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lazy.softmax(np.zeros((2, 4))), TypeError, "x ... got ndarray"),
        (lambda: lazy.log_softmax(UNKNOWN), ValueError, "x must have chunks ... compute_chunk_sizes"),
        (lambda: lazy.softmax(ZEROS, 2), np.exceptions.AxisError, "axis 2 is out of bounds"),
        (lambda: lazy.softmax(ZEROS.astype(complex)), TypeError, "x ... got complex128"),
        (lambda: lazy.cross_entropy(ZEROS, [0, 4]), IndexError, "target[1] ... got 4"),
        (lambda: lazy.cross_entropy(ZEROS, [0]), ValueError, "target ... got (1,)"),
        (lambda: lazy.logsumexp(UNKNOWN), ValueError, "x must have chunks ... compute_chunk_sizes"),
        (lambda: lazy.cross_entropy(np.zeros((2, 4)), [0, 1]), TypeError, "logits ... got ndarray"),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], weight=[1.0]),
            ValueError,
            "weight ... (4,) ... got (1,)",
        ),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], sample_weight=[1.0, 2.0, 3.0]),
            ValueError,
            "sample_weight ... got (3,)",
        ),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], softcap=30.0),
            ValueError,
            "softcap ... =30.0 with 2 chunks ... logits.rechunk({1: -1})",
        ),
        (lambda: lazy.cross_entropy(ZEROS, np.ones((2, 4))), ValueError, "target of shape (2, 4) ... 2 chunks"),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], weight=np.ones(4), z_loss=0.1),
            ValueError,
            "z_loss with class weights needs all classes in one chunk, got z_loss=0.1 with 2 chunks",
        ),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], weight=np.ones(4), label_smoothing=0.1),
            ValueError,
            "label_smoothing with class weights needs ... =0.1 with 2 chunks",
        ),
        (
            lambda: lazy.token_logprobs(ZEROS, [0, 1], softcap=3.0),
            ValueError,
            "softcap ... =3.0 with 2 chunks",
        ),
        (
            lambda: lazy.cross_entropy(ZEROS, UNKNOWN[:, 0]),
            ValueError,
            "target must have chunks ... compute_chunk_sizes",
        ),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], sample_weight=UNKNOWN[:, 0]),
            ValueError,
            "sample_weight must have chunks ... compute_chunk_sizes",
        ),
        (lambda: lazy.cross_entropy(ZEROS, MASKED), TypeError, "target must not be a masked array"),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], sample_weight=MASKED),
            TypeError,
            "sample_weight must not be a masked array",
        ),
        (
            lambda: lazy.cross_entropy(ZEROS, [0, 1], sample_weight=[1j, 2]),
            TypeError,
            "sample_weight ... got complex128",
        ),
        (lambda: lazy.cross_entropy(ZEROS, [0, 1], weight=["a"] * 4), TypeError, "weight ... got <U1"),
        (lambda: lazy.cross_entropy(ZEROS, [0, 1], reduction="max"), ValueError, "reduction ... got 'max'"),
        (lambda: lazy.token_logprobs(ZEROS, [0, 1], top_k=5), ValueError, "top_k ... got 5"),
        (lambda: lazy.softmax(ZEROS, where=[1, 0, 1, 1]), TypeError, "where must have dtype bool, got int64"),
        (lambda: lazy.logsumexp(ZEROS, where=ZEROS), TypeError, "where must have dtype bool, got float64"),
        (lambda: lazy.log_softmax(ZEROS, where=[True] * 3), ValueError, "where ... to (2, 4), got (3,)"),
        (lambda: lazy.cross_entropy(ZEROS, [0, 1], where=[True] * 3), ValueError, "where ... got (3,)"),
        (lambda: lazy.token_logprobs(ZEROS, [0, 1], where=UNKNOWN > 0), ValueError, "where must have chunks of known"),
        (lambda: lazy.token_logprobs(ZEROS, [0, 1], where=ZEROS[:1, None] > 0), ValueError, "where ... got (1, 1, 4)"),
        (lambda: lazy.token_logprobs(ZEROS, [0, -1]), IndexError, "ids[1] ... got -1"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=words(message)):
        call()


@pytest.mark.once
@pytest.mark.parametrize("chunks", [(1, 4), (1, 2)])
def test_a_bad_label_is_found_by_the_task(chunks):
    labels = da.from_array(np.array([0, 4]), chunks=1)
    with pytest.raises(IndexError, match=r"a chunk's target\[0\] must .*got 4"):
        lazy.cross_entropy(ZEROS.rechunk(chunks), labels).compute()


# A cluster of processes

MEGABYTE = 1 << 20


def on_a_cluster(test):
    return pytest.mark.once(pytest.mark.slow(pytest.mark.filterwarnings("default")(test)))


def made_block(block_info=None, *, killer=None):
    """Logits that follow from their places; where `killer` is a path that does not exist, the worker dies once."""
    rows, classes = (np.arange(*bounds, dtype=np.float32) for bounds in block_info[None]["array-location"])
    if killer is not None and not os.path.exists(killer):
        open(killer, "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return 4 * np.sin(0.37 * rows[:, np.newaxis] + 0.001 * classes * (1 + rows[:, np.newaxis] % 7))


def made_logits(shape, chunks, **options):
    return da.map_blocks(made_block, chunks=da.core.normalize_chunks(chunks, shape), dtype=np.float32,
                         meta=np.empty((0, 0), np.float32), **options)  # fmt: skip


@pytest.fixture
def cluster(tmp_path):
    with (
        dask.config.set({"scheduler": None, "distributed.worker.memory.terminate": 0.98}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, memory_limit=512 * MEGABYTE, dashboard_address=None,
            local_directory=tmp_path,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        yield client


@on_a_cluster
@pytest.mark.parametrize("chunks", [(10, 900), (30, 300), (10, 300)])
def test_a_cluster(cluster, chunks):
    given = made_logits((30, 900), chunks)
    x = given.compute(scheduler="synchronous")
    y = np.arange(30) * 7
    found = dask.compute(lazy.softmax(given), lazy.logsumexp(given), *lazy.cross_entropy_with_grad(given, y))
    expected = cxent.softmax(x), cxent.logsumexp(x), *cxent.cross_entropy_with_grad(x, y)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)
    scores = dask.compute(*lazy.token_logprobs(given, y, top_k=3))
    for a, b in zip(scores[:6], cxent.token_logprobs(x, y, top_k=3)[:6], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@on_a_cluster
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_dies(cluster, tmp_path):
    killer = tmp_path / "died"
    workers = set(cluster.scheduler_info()["workers"])
    given = made_logits((60, 20_000), (10, 2_000), killer=str(killer))
    y = np.arange(60)
    loss, grad = dask.compute(*lazy.cross_entropy_with_grad(given, y))
    assert killer.exists()
    assert set(cluster.scheduler_info()["workers"]) != workers
    x = made_logits((60, 20_000), -1).compute(scheduler="synchronous")
    expected, expected_grad = cxent.cross_entropy_with_grad(x, y)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-4, atol=1e-9)


@on_a_cluster
def test_logits_larger_than_the_memory_of_all_workers(cluster):
    rows, classes = 2_400, 128_256  # 1.2 GB, and the workers have 1.1 GB
    given = made_logits((rows, classes), (100, 16_032))
    assert given.nbytes > 2 * 512 * MEGABYTE
    y = np.arange(rows)
    losses, lse = dask.compute(lazy.cross_entropy(given, y, reduction="none"), lazy.logsumexp(given))
    some = [0, 99, 100, 1234, 2399]
    x = np.concatenate([
        made_logits((rows, classes), (1, -1)).blocks[r].compute(scheduler="synchronous") for r in some
    ])  # fmt: skip
    np.testing.assert_allclose(losses[some], cxent.cross_entropy(x, y[some], reduction="none"), rtol=1e-5)
    np.testing.assert_allclose(lse[some], cxent.logsumexp(x), rtol=1e-6)


def test_xarray():
    xarray = pytest.importorskip("xarray")
    x = np.random.default_rng(5).standard_normal((6, 40)).astype(np.float32)
    logits = xarray.DataArray(x, dims=("token", "word"))
    for given in (logits, logits.chunk(token=2)):
        found = xarray.apply_ufunc(
            cxent.softmax, given, input_core_dims=[["word"]], output_core_dims=[["word"]], dask="parallelized",
            output_dtypes=[np.float32],
        )  # fmt: skip
        assert_same_bits(found.values, cxent.softmax(x))
