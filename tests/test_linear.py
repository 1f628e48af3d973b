"""Losses and scores of a linear layer's outputs, some rows at a time: against those of the whole logits."""

import builtins
import sys
import tracemalloc

import numpy as np
import pytest
from helpers import FLOATS, HALVES, central_differences, unchanged

import cxent
from cxent import linear_cross_entropy, linear_cross_entropy_with_grad, linear_token_logprobs

N, D, V = 37, 11, 83
ROW = V * 8  # bytes of a row of logits in float64
OPTIONS = {
    "plain": {},
    "class_weight": {"class_weight": True},
    "sample_weight": {"sample_weight": True},
    "ignore_index": {"ignore_index": 3},
    "label_smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 0.01},
    "softcap": {"softcap": 3.0},
    "temperature": {"temperature": 0.7},
}
OPTIONS["all"] = {name: value for options in OPTIONS.values() for name, value in options.items()}


def arrays(dtype=np.float64):
    rng = np.random.default_rng(0)
    hidden, weight, bias = rng.standard_normal((N, D)), rng.standard_normal((V, D)), rng.standard_normal(V)
    return hidden.astype(dtype), weight.astype(dtype), bias.astype(dtype), rng.integers(0, 9, N), rng.random((N, V))


def with_weights(options):
    """The options with their weights, as linear functions and as others take them."""
    rng = np.random.default_rng(1)
    given = dict(options)
    if "sample_weight" in given:
        given["sample_weight"] = rng.random(N) - 0.2
    others = dict(given)
    if "class_weight" in given:
        given["class_weight"] = rng.random(V) + 0.5
        del others["class_weight"]
        others["weight"] = given["class_weight"]
    return given, others


def by_chain_rule(hidden, matrix, bias, target, **options):
    loss, grad, lse = cxent.cross_entropy_with_grad(hidden @ matrix.T + bias, target, return_lse=True, **options)
    return loss, (grad @ matrix, grad.T @ hidden, grad.sum(0)), lse


@pytest.mark.parametrize("rows", [1, 5, 36, 37, 1000])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_losses_and_gradients(name, soft, reduction, rows):
    hidden, weight, bias, labels, q = arrays()
    options = {k: v for k, v in OPTIONS[name].items() if not (soft and k == "ignore_index")}
    given, others = with_weights(options)
    target = q if soft else labels
    with unchanged(hidden, weight, bias, target):
        loss, gradients, lse = linear_cross_entropy_with_grad(
            hidden, weight, target, bias=bias, reduction=reduction, return_lse=True, chunk_bytes=rows * ROW, **given
        )
        alone = linear_cross_entropy(
            hidden, weight, target, bias=bias, reduction=reduction, chunk_bytes=rows * ROW, **given
        )
    expected = by_chain_rule(hidden, weight, bias, target, reduction=reduction, **others)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
    np.testing.assert_allclose(alone, loss, rtol=1e-14)
    for found, wanted in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(lse, expected[2], rtol=1e-12)


def test_gradients_by_differences():
    hidden, weight, bias, labels, _ = arrays()
    hidden, weight, bias, labels = hidden[:3], weight[:9], bias[:9], labels[:3]
    _, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, bias=bias, chunk_bytes=1)
    losses = [
        (lambda h: linear_cross_entropy(h, weight, labels, bias=bias), hidden),
        (lambda w: linear_cross_entropy(hidden, w, labels, bias=bias), weight),
        (lambda b: linear_cross_entropy(hidden, weight, labels, bias=b), bias),
    ]
    for (loss, at), found in zip(losses, gradients, strict=True):
        np.testing.assert_allclose(found, central_differences(loss, at), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("weight_dtype", [*FLOATS, *HALVES])
def test_dtypes(dtype, weight_dtype, monkeypatch):
    monkeypatch.setattr("cxent._linear._BLOCK_BYTES", 10 * D * 4)  # weights in blocks of ten classes
    hidden, weight, bias, labels, _ = arrays()
    hidden, weight = hidden.astype(dtype), weight.astype(weight_dtype)
    computed = np.float64 if np.float64 in (dtype, weight_dtype) else np.float32
    loss, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, chunk_bytes=9 * ROW)
    assert loss.dtype == computed
    assert (gradients.hidden.dtype, gradients.weight.dtype, gradients.bias) == (dtype, weight_dtype, None)
    expected = by_chain_rule(hidden.astype(float), weight.astype(float), 0 * bias, labels)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    for found, wanted in zip(gradients[:2], expected[1], strict=False):
        rtol = {2: 1e-2, 4: 1e-4, 8: 1e-10}[found.itemsize]
        np.testing.assert_allclose(found.astype(float), wanted, rtol=rtol, atol=2e-6)


@pytest.mark.parametrize("rows", [1, 10, 100])
@pytest.mark.parametrize("candidates", [None, 3])
def test_scores(candidates, rows):
    hidden, weight, bias, labels, _ = arrays()
    ids = labels if candidates is None else np.stack([labels, labels + 1, labels + 50], axis=1)
    options = {"top_k": 5, "temperature": 0.8, "softcap": 20.0, "ignore_index": 4}
    found = linear_token_logprobs(hidden, weight, ids, bias=bias, chunk_bytes=rows * ROW, **options)
    expected = cxent.token_logprobs(hidden @ weight.T + bias, ids, **options)
    for value, wanted in zip(found[:6], expected[:6], strict=True):
        assert value.dtype == wanted.dtype
        np.testing.assert_allclose(value, wanted, rtol=1e-10, atol=1e-12)


MASK = np.random.default_rng(2).random(V) < 0.6
MASK[:9] = True  # the labels


def hidden_away(array):
    """Garbage for the classes that the mask leaves out."""
    garbage = array.copy()
    garbage[~MASK] = np.resize(np.array([np.nan, np.inf, -np.inf, 6e4]).astype(array.dtype), garbage[~MASK].shape)
    return garbage


@pytest.mark.parametrize("rows", [1, 5, 1000])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_masks(name, soft, reduction, rows):
    """The same answer as from the layer without the hidden classes, whatever their weights are."""
    hidden, weight, bias, labels, q = arrays()
    target = q * MASK if soft else labels
    options = {k: v for k, v in OPTIONS[name].items() if not (soft and k == "ignore_index")}
    given, others = with_weights(options)
    call = {"bias": hidden_away(bias), "where": MASK, "reduction": reduction, "chunk_bytes": rows * ROW, **given}
    loss, gradients, lse = linear_cross_entropy_with_grad(hidden, hidden_away(weight), target, return_lse=True, **call)
    np.testing.assert_allclose(linear_cross_entropy(hidden, hidden_away(weight), target, **call), loss, rtol=1e-14)
    if "weight" in others:
        others["weight"] = others["weight"][MASK]
    target = target[:, MASK] if soft else (np.cumsum(MASK) - 1)[labels]
    expected = by_chain_rule(hidden, weight[MASK], bias[MASK], target, reduction=reduction, **others)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradients.hidden, expected[1][0], rtol=1e-10, atol=1e-12)
    for found, wanted in zip(gradients[1:], expected[1][1:], strict=True):
        np.testing.assert_allclose(found[MASK], wanted, rtol=1e-10, atol=1e-12)
        assert not found[~MASK].any()
    np.testing.assert_allclose(lse, expected[2], rtol=1e-12)


@pytest.mark.parametrize("rows", [4, 1000])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("weight_dtype", [*FLOATS, *HALVES])
def test_masks_and_dtypes(dtype, weight_dtype, rows, monkeypatch):
    monkeypatch.setattr("cxent._linear._BLOCK_BYTES", 10 * D * 4)  # weights in blocks of ten classes
    hidden, weight, bias, labels, _ = arrays()
    hidden, weight = hidden.astype(dtype), weight.astype(weight_dtype)
    labels[::5] = -1
    call = {"ignore_index": -1, "chunk_bytes": rows * ROW}
    loss, gradients = linear_cross_entropy_with_grad(
        hidden, hidden_away(weight), labels, bias=hidden_away(bias), where=MASK, **call
    )
    assert (gradients.hidden.dtype, gradients.weight.dtype) == (dtype, weight_dtype)
    assert not gradients.weight[~MASK].any()
    expected, wanted = linear_cross_entropy_with_grad(
        hidden.astype(float), weight[MASK].astype(float), np.where(labels < 0, -1, (np.cumsum(MASK) - 1)[labels]),
        bias=bias[MASK], **call,
    )  # fmt: skip
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for found, exactly in ((gradients.hidden, wanted.hidden), (gradients.weight[MASK], wanted.weight)):
        rtol = {2: 1e-2, 4: 1e-4, 8: 1e-10}[found.itemsize]
        np.testing.assert_allclose(found.astype(float), exactly, rtol=rtol, atol=2e-6)


@pytest.mark.parametrize("rows", [1, 10, 100])
def test_masks_of_scores(rows):
    hidden, weight, bias, labels, _ = arrays()
    ids = np.stack([labels, labels + 1, labels + 50], axis=1)
    options = {"top_k": 5, "temperature": 0.8, "softcap": 20.0, "where": MASK}
    found = linear_token_logprobs(
        hidden, hidden_away(weight), ids, bias=hidden_away(bias), chunk_bytes=rows * ROW, **options
    )
    expected = cxent.token_logprobs(hidden @ weight.T + bias, ids, **options)
    for value, wanted in zip(found[:6], expected[:6], strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-10, atol=1e-12)


def test_masks_of_rows_without_probabilities():
    """Hidden classes have gradients of 0, also where a row has none, and a label among them an infinite loss."""
    hidden, weight, bias, labels, _ = arrays()
    hidden[5, 2] = np.nan
    call = {"bias": bias, "reduction": "none", "chunk_bytes": 4 * ROW}
    loss, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, where=MASK, **call)
    assert np.isnan(loss).tolist() == [row == 5 for row in range(N)]
    assert np.isnan(gradients.hidden).all(axis=1).tolist() == [row == 5 for row in range(N)]
    for found in gradients[1:]:
        assert np.isnan(found[MASK]).all()
        assert not found[~MASK].any()
    hidden, *_ = arrays()
    loss, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, where=np.arange(V) != labels[0], **call)
    np.testing.assert_array_equal(loss == np.inf, labels == labels[0])
    assert np.isfinite(np.concatenate([np.ravel(found) for found in gradients])).all()
    nothing = np.zeros(V, bool)
    loss, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, where=nothing, **call)
    assert np.isnan(loss).all()
    assert np.isnan(gradients.hidden).all()
    labels[3:] = -1
    loss, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, where=nothing, ignore_index=-1, **call)
    assert np.isnan(loss).tolist() == [row < 3 for row in range(N)]
    assert not gradients.hidden[3:].any()


def test_a_layer_without_rows_or_without_a_bias():
    loss, gradients = linear_cross_entropy_with_grad(np.zeros((0, 4)), np.ones((3, 4)), np.zeros(0, int))
    assert np.isnan(loss)
    assert (gradients.hidden.shape, gradients.weight.tolist(), gradients.bias) == ((0, 4), [[0] * 4] * 3, None)
    assert linear_token_logprobs(np.zeros((0, 4)), np.ones((3, 4)), np.zeros(0, int)).logprob.shape == (0,)


def test_rows_with_nan_are_alone():
    hidden, weight, _, labels, _ = arrays()
    hidden[5, 2] = np.nan
    loss, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, reduction="none", chunk_bytes=4 * ROW)
    assert np.isnan(loss).tolist() == [row == 5 for row in range(N)]
    assert np.isnan(gradients.hidden).all(axis=1).tolist() == [row == 5 for row in range(N)]


def test_progress():
    hidden, weight, _, labels, _ = arrays()
    calls = []
    linear_cross_entropy(
        hidden, weight, labels, chunk_bytes=10 * ROW, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(10, N), (20, N), (30, N), (37, N)]
    calls.clear()
    nothing = np.full_like(labels, -1)
    linear_cross_entropy(
        hidden, weight, nothing, ignore_index=-1, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(0, 0)]


def test_a_bar(capsys):
    pytest.importorskip("tqdm")
    hidden, weight, _, labels, _ = arrays()
    linear_token_logprobs(hidden, weight, labels, chunk_bytes=10 * ROW, progress=True)
    assert "37/37" in capsys.readouterr().err


def test_a_bar_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="progress=True needs tqdm"):
        linear_cross_entropy(np.zeros((2, 3)), np.zeros((4, 3)), [0, 1], progress=True)


def test_what_a_callable_raises_ends_the_call():
    def refuse(done, total):
        raise builtins.RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        linear_cross_entropy(np.zeros((2, 3)), np.zeros((4, 3)), [0, 1], progress=refuse)


BAD = {
    "hidden of one dimension": (dict(hidden=np.zeros(3)), ValueError, r"hidden must have shape \(N, D\), got \(3,\)"),
    "another D": (dict(weight=np.zeros((4, 5))), ValueError, r"weight must have shape \(V, 3\) .* got \(4, 5\)"),
    "weight of one dimension": (
        dict(weight=np.zeros(3)),
        ValueError,
        r"weight must have shape \(V, 3\) for hidden of shape",
    ),
    "another V": (dict(bias=np.zeros(3)), ValueError, r"bias must have shape \(4,\), got \(3,\)"),
    "another N": (dict(target=[0, 1, 2]), ValueError, r"\(2, 4\), got \(3,\)"),
    "a label too large": (dict(target=[0, 4]), IndexError, r"\[1\] must .*got 4"),
    "no bytes": (dict(chunk_bytes=0), ValueError, "chunk_bytes must .*got 0"),
    "half a byte": (dict(chunk_bytes=0.5), TypeError, "chunk_bytes must .*got 0.5"),
    "no progress": (dict(progress="yes"), TypeError, "progress must .*got 'yes'"),
    "complex": (dict(hidden=np.zeros((2, 3), complex)), TypeError, "hidden must .*got complex128"),
    "a mask of numbers": (dict(where=[1, 1, 0, 1]), TypeError, "where must have dtype bool, got int64"),
    "a mask of rows": (dict(where=np.ones((2, 4), bool)), ValueError, r"where must have shape \(4,\), got \(2, 4\)"),
    "one mask for all": (dict(where=True), ValueError, r"where must have shape \(4,\), got \(\)"),
    "no classes": (dict(weight=np.zeros((0, 3))), ValueError, "^logits must have at least one class"),
}


@pytest.mark.parametrize("function", [linear_cross_entropy, linear_cross_entropy_with_grad, linear_token_logprobs])
@pytest.mark.parametrize(("given", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(given, error, message, function):
    arguments = {"hidden": np.zeros((2, 3)), "weight": np.zeros((4, 3)), "target": [0, 1], **given}
    positional = [arguments.pop(name) for name in ("hidden", "weight", "target")]
    with pytest.raises(error, match=message):
        function(*positional, **arguments)


def test_class_weights_are_named_so():
    for given, message in (
        ([1.0, 2.0], r"class_weight must have shape \(4,\) .*got \(2,\)"),
        ([1, 1, np.nan, 1], "class_weight must .*got nan"),
    ):
        for function in (linear_cross_entropy, linear_cross_entropy_with_grad):
            with pytest.raises(ValueError, match=f"^{message}"):
                function(np.zeros((2, 3)), np.zeros((4, 3)), [0, 1], class_weight=given)


def test_rows_that_do_not_count_are_not_computed():
    hidden, weight, _, labels, _ = arrays()
    labels[::2] = -1
    calls = []
    options = {"ignore_index": -1, "chunk_bytes": 10 * (ROW + 3 * 8 * D)}
    options["progress"] = lambda done, total: calls.append((done, total))
    linear_cross_entropy(hidden, weight, labels, **options)
    assert calls == [(10, 18), (18, 18)]
    linear_cross_entropy(hidden, weight, labels, return_lse=True, **options)
    assert calls[2:] == [(10, 37), (20, 37), (30, 37), (37, 37)]


def test_no_row_counts():
    hidden, weight, bias, labels, _ = arrays()
    loss, gradients = linear_cross_entropy_with_grad(np.nan * hidden, weight, 0 * labels, bias=bias, ignore_index=0)
    assert np.isnan(loss)
    for found, given in zip(gradients, (hidden, weight, bias), strict=True):
        np.testing.assert_array_equal(found, 0 * given)


DTYPES = [(a, b) for a in (*FLOATS, *HALVES) for b in (*FLOATS, *HALVES)]
SHAPES = {"many classes": (120, 16, 10_000), "long vectors": (1000, 2000, 10)}


@pytest.mark.parametrize("masked", [False, True], ids=["all classes", "some classes"])
@pytest.mark.parametrize("without", [False, True], ids=["all rows", "not all"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtypes", DTYPES, ids=lambda pair: "-".join(np.dtype(dtype).name for dtype in pair))
def test_memory(dtypes, shape, without, masked, kernels, monkeypatch):
    """A chunk, and a block of the weights, whatever is converted: the logits, or hidden states, are many times that."""
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    n, d, classes = SHAPES[shape]
    block, chunk = 1 << 18, 1 << 20
    monkeypatch.setattr("cxent._linear._BLOCK_BYTES", block)
    hidden, weight = np.zeros((n, d), dtypes[0]), np.zeros((classes, d), dtypes[1])
    labels = np.arange(n) % 2
    options = {"chunk_bytes": chunk, "ignore_index": 1 if without else None}
    options["where"] = np.arange(classes) % 3 != 2 if masked else None

    def peak_of(function):
        tracemalloc.start()
        results = function(hidden, weight, labels, **options)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak, results

    peak, loss = peak_of(linear_cross_entropy)
    small = (1 << 17) + masked * 2 * classes * loss.dtype.itemsize  # (a kernel's copy of a long row, and of its mask)
    assert peak < chunk + block + small
    peak, (_, gradients) = peak_of(linear_cross_entropy_with_grad)
    results = gradients.hidden.nbytes + gradients.weight.nbytes
    sums = weight.size * loss.dtype.itemsize - weight.nbytes  # what they take beside the gradient of the weights
    on_top = sums if 2 * sums > chunk else 0  # as the docstring says
    moved = gradients.weight.nbytes if sums else 0  # (NumPy 2.5 copies what it shrinks, and for a moment has both)
    assert peak < results + on_top + chunk + block + small + moved
    memory = gradients.weight if gradients.weight.base is None else gradients.weight.base
    assert memory.nbytes == gradients.weight.nbytes == weight.nbytes


@pytest.mark.parametrize(
    "dtypes", [p for p in DTYPES if p[0] != p[1]], ids=lambda pair: "-".join(np.dtype(dtype).name for dtype in pair)
)
def test_no_sums_in_a_single_chunk(dtypes, kernels, monkeypatch):
    """Where nothing is added up, no gradient of the weights takes more memory than the result."""
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels work on copies")
    rng = np.random.default_rng(6)
    block, chunk = 1 << 16, 1 << 20
    monkeypatch.setattr("cxent._linear._BLOCK_BYTES", block)
    hidden = rng.normal(size=(9, 90)).astype(dtypes[0])
    weight = rng.normal(size=(9000, 90)).astype(dtypes[1])
    labels = rng.integers(0, 9000, 9)
    tracemalloc.start()
    _, gradients = linear_cross_entropy_with_grad(hidden, weight, labels, chunk_bytes=chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < gradients.hidden.nbytes + gradients.weight.nbytes + chunk + block + (1 << 17)
    whole = np.result_type(*(np.float32 if a in HALVES else a for a in dtypes))
    wide = linear_cross_entropy_with_grad(hidden.astype(whole), weight.astype(whole), labels)[1].weight
    found = gradients.weight.astype(whole)
    np.testing.assert_allclose(found, wide, rtol=2.0**-22 if weight.itemsize == 4 else 2.0**-7, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [(1, 65536), (65536, 1), (512, 128), (3, 21845)])
def test_conversion(shape, dtype, kernels):
    """Every number of half precision, in rows and in columns, with and without gaps; and back."""
    bits = np.arange(65536, dtype=np.uint16)[: shape[0] * shape[1]].reshape(shape)
    half = bits.view(dtype)
    as_bits = bits if dtype == np.float16 else bits.view(np.int16)
    expected = half.astype(np.float32)
    with np.errstate(invalid="ignore"):
        for step, axes in ((1, (0, 1)), (2, (0, 1)), (1, (1, 0))):
            given, wanted = (array.transpose(axes)[:, ::step] for array in (as_bits, expected))
            wide = np.full((wanted.shape[0], 2 * wanted.shape[1]), 7, np.float32)
            for out in (np.empty(wanted.shape, np.float32), wide[:, ::2]):
                kernels.float32.convert(given[:, :, np.newaxis], out[:, :, np.newaxis], 1)
                np.testing.assert_array_equal(out, wanted)
            assert (wide[:, 1::2] == 7).all()
            back = np.empty(given.shape, given.dtype)
            kernels.float32.convert(wanted[:, :, np.newaxis], back[:, :, np.newaxis], 2)
            np.testing.assert_array_equal(back.view(dtype).astype(np.float32), wanted)


@pytest.mark.parametrize("dtype", HALVES)
def test_conversion_rounds_as_numpy_does(dtype, kernels):
    x = np.random.default_rng(0).integers(0, 2**32, (3, 50_000), dtype=np.uint32).view(np.float32)
    found = np.empty(x.shape, np.uint16 if dtype == np.float16 else np.int16)
    kernels.float32.convert(x[:, :, np.newaxis], found[:, :, np.newaxis], 1)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found.view(dtype).astype(np.float32), x.astype(dtype).astype(np.float32))
