"""The shorter way of plain arrays gives what the general way gives, and leaves to that all that is not plain."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from helpers import FLOATS, HALVES, assert_same_bits

import cxent
from cxent import _cross_entropy, _divergence, _from_probs, _scoring, _softmax
from cxent._options import kl_options, loss_options

SHAPES = [(1,), (10,), (1, 10), (3, 1), (2, 3), (17, 10), (64, 48), (65, 7), (4, 49), (3, 300), (1, 5000), (30, 1000)]
SHAPES += [(2, 3, 4), (2, 1, 5, 7), (700, 100)]
LAYOUTS = [(shape, -1, "C") for shape in SHAPES] + [((17, 10), 1, "C"), ((2, 3, 4), 2, "C")]  # and class axes
LAYOUTS += [((17, 10), 0, "C"), ((64, 64), 0, "C"), ((300, 3), 0, "C"), ((2, 3, 4), 1, "C"), ((2, 140, 3, 7), 1, "C")]
LAYOUTS += [((17, 10), -1, "F"), ((64, 64), 1, "F"), ((10, 17), 0, "F"), ((3, 300), -1, "F"), ((700, 100), -1, "F")]
LAYOUTS += [((17, 10), 1, "every other"), ((300, 3), 0, "every other"), ((3, 300), -1, "every other")]
LAYOUTS += [((10,), 0, "every other"), ((5000,), 0, "reversed"), ((17, 10), 1, "reversed"), ((64, 64), 0, "reversed")]
LAYOUTS += [((9, 30), 1, "columns"), ((70, 20), 0, "columns"), ((9, 30), 1, "rows"), ((3, 300), 1, "turned and apart")]
LAYOUTS += [
    ((2, 3, 10), 2, "a half"),
    ((2, 5, 4, 3), 1, "a half"),
    ((2, 3, 4, 9), 3, "a half"),
    ((4, 3, 5), 2, "turned"),
]
LAYOUTS += [((2, 3, 10), 1, "every other"), ((2, 3, 4, 5), -1, "reversed"), ((4, 3, 5), 0, "F")]
LAYOUTS += [((1, 10), 1, "every other"), ((10, 1), 1, "every other"), ((10, 1), 0, "columns")]
TOO_MANY = 1 << 23  # numbers of float32


def rows_of(shape, axis):
    """The shape of the rows of logits."""
    return tuple(np.delete(shape, axis))


def in_order(array, order):
    """A copy with these strides."""
    if order in ("C", "F"):
        return np.array(array, order=order)
    if order == "turned":
        copy = np.zeros(array.shape[::-1], array.dtype).T[:, ::-1]
        copy[...] = array
        return copy
    if order == "a half":  # of the longest axis
        axis = int(np.argmax(array.shape))
        copy = np.split(np.repeat(array, 2, axis), 2, axis)[0]
        copy[...] = array
        return copy
    steps = {
        "every other": [slice(None, None, 2)] * array.ndim,
        "reversed": [slice(None, None, -1)] * array.ndim,
        "columns": [slice(None), slice(None, None, 3)],
        "rows": [slice(None, None, -3), slice(None)],
        "turned and apart": [slice(None, None, 2), slice(None, None, -2)],
    }[order]
    whole = np.zeros([3 * n for n in array.shape], array.dtype, order="F" if order == "turned and apart" else "C")
    copy = whole[tuple(steps)][tuple(map(slice, array.shape))]
    copy[...] = array
    return copy


def softmax_results(x, axis):
    """What the softmax functions give, by its name."""
    rows = rows_of(x.shape, axis)
    by_row = np.linspace(0.5, 2, math.prod(rows)).reshape(rows)
    by_row = by_row.astype(np.float64 if x.dtype == np.float64 else np.float32)
    of_last_axis = np.arange(x.shape[-1]) % 5 != 1
    for function in (cxent.softmax, cxent.log_softmax):
        yield f"{function.__name__}, out", function(x, axis, out=np.empty_like(x))
        yield f"{function.__name__}", function(x, axis)
        yield f"{function.__name__}, masked", function(x, axis, where=x > 0)
        yield f"{function.__name__}, last axis masked", function(x, axis, where=of_last_axis)
        yield f"{function.__name__}, divided", function(x, axis, temperature=0.7)
        yield f"{function.__name__}, both", function(x, axis, temperature=3.0, where=x > 0)
        yield f"{function.__name__}, by row", function(x, axis, temperature=by_row)
    yield "logsumexp", cxent.logsumexp(x, axis)


def loss_results(x, labels, q, axis):
    """What the losses give, by its name."""
    loss, grad = cxent.cross_entropy_with_grad(x, labels, axis=axis, out=np.empty_like(x))
    yield "loss, out", loss
    yield "gradient, out", grad
    for target_name, target in (("indices", labels), ("probabilities", q)):
        for reduction in ("mean", "sum", "none"):
            name = f"{target_name}, {reduction}"
            yield f"loss alone, {name}", cxent.cross_entropy(x, target, axis=axis, reduction=reduction)
            loss, grad = cxent.cross_entropy_with_grad(x, target, axis=axis, reduction=reduction)
            yield f"loss, {name}", loss
            yield f"gradient, {name}", grad
    scores = cxent.token_logprobs(x, labels, axis=axis, top_k=min(3, x.shape[axis]))
    yield from ((f"scores, {k}", of_rows) for k, of_rows in enumerate(scores) if of_rows is not None)


@pytest.mark.parametrize("dtype", [*HALVES, *FLOATS])
@pytest.mark.parametrize("shape, axis, order", LAYOUTS, ids=str)
def test_same_results_as_the_general_way(shape, axis, order, dtype, close_the_short_way):
    rng = np.random.default_rng(0)
    x = in_order((3 * rng.standard_normal(shape)).astype(dtype), order)
    labels = np.array(rng.integers(0, shape[axis], rows_of(shape, axis)))
    q = in_order(rng.random(shape).astype(dtype), order)
    short = dict([*softmax_results(x, axis), *loss_results(x, labels, q, axis)])
    close_the_short_way()
    for name, expected in [*softmax_results(x, axis), *loss_results(x, labels, q, axis)]:
        assert type(short[name]) is type(expected), name
        assert np.shape(short[name]) == np.shape(expected), name
        assert getattr(short[name], "strides", ()) == getattr(expected, "strides", ()), name
        assert_same_bits(short[name], expected, name)


@pytest.mark.parametrize("of_others", ["C", "F", "every other", "reversed", "turned and apart"])
@pytest.mark.parametrize("order", ["C", "F", "every other", "columns", "turned and apart"])
@pytest.mark.parametrize("shape, axis", [((17, 10), 1), ((300, 3), 0), ((5, 300), 1)], ids=str)
def test_arrays_of_several_orders(shape, axis, order, of_others, close_the_short_way):
    rng = np.random.default_rng(0)
    x = in_order(rng.standard_normal(shape).astype(np.float32), order)
    q = in_order(rng.random(shape).astype(np.float32), of_others)
    (rows,) = rows_of(shape, axis)
    labels = np.repeat(rng.integers(0, shape[axis], rows), 2)[::-2]
    mask = q > 0.2

    def results():
        out = in_order(np.zeros_like(x), of_others)
        yield from cxent.cross_entropy_with_grad(x, labels, axis=axis, where=mask, out=out)
        yield from cxent.cross_entropy_with_hess(x, q, axis=axis, where=mask)
        yield from cxent.kl_divergence_with_grad(q, x, axis=axis, where=mask, out=out)
        yield cxent.softmax(x, axis, where=mask, out=out)
        yield cxent.softmax_backward(x, q, axis, where=mask, out=out)
        yield cxent.sigmoid(x, out=out)
        yield cxent.sigmoid(x)
        yield from cxent.binary_cross_entropy_with_grad(x, q, out=out)
        yield from cxent.token_logprobs(x, labels, axis=axis, where=mask)[:4]

    short = [np.array(result) for result in results()]
    close_the_short_way()
    for given, expected in zip(short, results(), strict=True):
        assert_same_bits(given, expected)


X = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
LABELS_OF_X = np.array([4, 0, 2, 1])
CONVERTED = {  # logits, labels, probabilities
    "lists": (X.tolist(), LABELS_OF_X.tolist(), abs(X).tolist()),
    "one row": (X[0].tolist(), 3, abs(X[0]).tolist()),
    "tuples, and numbers of NumPy": (tuple(X[0]), np.int16(3), tuple(abs(X[0]))),
    "integers": ((4 * X).astype(int), LABELS_OF_X.astype("u1"), abs(4 * X).astype(float)),
    "float64 beside float32": (X, LABELS_OF_X, abs(X).astype(float)),
    "float32 beside float64": (X.astype(float), LABELS_OF_X, abs(X)),
    "half precision": (X.astype(np.float16), LABELS_OF_X.tolist(), abs(X)),
    "another byte order": (X.astype(">f4"), LABELS_OF_X.astype(">i8"), abs(X).astype(">f8")),
    "a subclass": (X.view(np.recarray), LABELS_OF_X, abs(X)),
    "one-hot rows": (X, np.eye(5, dtype=int)[LABELS_OF_X], abs(X)),
}
CONVERTED_OPTIONS = {
    "none": {},
    "lists": {"weight": [1, 2, 3, 4, 5], "sample_weight": [1, 2, 0, 1], "where": [True, True, False, True, True]},
    "numbers": {"sample_weight": 2, "ignore_index": 2, "reduction": "none"},
}


def converted_results(x, labels, q, options):
    """What functions give, by name."""
    rows = {name: value for name, value in options.items() if name in ("where", "ignore_index")}
    where = {name: value for name, value in options.items() if name == "where"}
    for target, of_target in ((labels, options), (q, {k: v for k, v in options.items() if k != "ignore_index"})):
        of_probs = {name: value for name, value in of_target.items() if name != "where"}
        yield from cxent.cross_entropy_with_grad(x, target, return_lse=True, **of_target)
        yield cxent.cross_entropy(x, target, **of_target)
        yield from cxent.cross_entropy_with_hess(x, target, **of_target)
        yield from cxent.cross_entropy_from_probs_with_grad(np.exp(np.asarray(x)).tolist(), target, **of_probs)
    if np.ndim(labels) < np.ndim(x):
        yield from cxent.token_logprobs(x, labels, top_k=2, **rows)[:6]
        yield from cxent.perplexity(x, labels, **rows)
    of_rows = {name: value for name, value in options.items() if name in ("where", "sample_weight", "reduction")}
    yield from cxent.kl_divergence_with_grad(q, x, **of_rows)
    yield cxent.softmax(x, **where)
    yield cxent.log_softmax(x, temperature=[0.5, 1, 2, 3][: len(x)] if np.ndim(x) == 2 else 0.5, **where)
    yield cxent.logsumexp(x)
    yield cxent.softmax_backward(q, x, **where)
    yield cxent.log_softmax_backward(x, q, **where)


@pytest.mark.parametrize("options", CONVERTED_OPTIONS.values(), ids=CONVERTED_OPTIONS)
@pytest.mark.parametrize("x, labels, q", CONVERTED.values(), ids=CONVERTED)
def test_what_is_converted_first(x, labels, q, options, close_the_short_way):
    options = dict(options)
    if np.ndim(x) == 1:
        options["sample_weight"] = 2
    if np.ndim(labels) == np.ndim(x):
        options.pop("ignore_index", None)
    short = list(converted_results(x, labels, q, options))
    close_the_short_way()
    for given, expected in zip(short, converted_results(x, labels, q, options), strict=True):
        assert type(given) is type(expected)
        assert getattr(given, "strides", ()) == getattr(expected, "strides", ())
        assert_same_bits(given, expected)


def test_small_lists_go_the_short_way(kernels, monkeypatch):
    """Once they are arrays: then nothing is laid out."""
    if kernels.name == "python":
        pytest.skip("the pure kernels have no shorter way")
    for module in (_softmax, _cross_entropy, _from_probs, _divergence, _scoring):
        monkeypatch.delattr(module, "lay_out")
    for name, options in itertools.product(("lists", "one row", "integers"), ("none", "lists")):
        if (name, options) != ("one row", "lists"):
            list(converted_results(*CONVERTED[name], CONVERTED_OPTIONS[options]))


def test_results_in_the_memory_of_the_temperatures():
    x = np.random.default_rng(0).standard_normal((2000, 3)).astype(np.float32)  # several batches
    for function in (cxent.softmax, cxent.log_softmax):
        memory = np.linspace(0.5, 2, x.size, dtype=np.float32)
        temperatures = memory[2000:4000]
        expected = function(x, temperature=temperatures.copy())
        assert_same_bits(function(x, temperature=temperatures, out=memory.reshape(x.shape)), expected)


OPTIONS = {
    "none": {},
    "reduction": {"reduction": "none"},
    "class weights": {"weight": True},
    "row weights": {"sample_weight": True},
    "ignored labels": {"ignore_index": 1},
    "a label that is never there": {"ignore_index": -100},
    "smoothing": {"label_smoothing": 0.1},
    "smoothing, weights": {"label_smoothing": 0.1, "weight": True, "sample_weight": True, "reduction": "sum"},
    "z loss": {"z_loss": 0.1, "reduction": "none"},
    "softcap": {"softcap": 2.0},
    "temperature": {"temperature": 0.5},
    "all": {
        "weight": True,
        "sample_weight": True,
        "ignore_index": 1,
        "label_smoothing": 0.1,
        "z_loss": 0.1,
        "softcap": 2.0,
        "temperature": 0.5,
    },
}


def option_results(x, target, axis, options):
    """What the losses give with options, by its name."""
    rng = np.random.default_rng(1)
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    sizes = {"weight": x.shape[axis], "sample_weight": rows_of(x.shape, axis)}
    options = {"axis": axis} | {
        name: rng.standard_normal(sizes[name]).astype(dtype) if name in sizes else value
        for name, value in options.items()
    }
    out = np.empty_like(x)
    yield "loss, lse", cxent.cross_entropy(x, target, return_lse=True, **options)
    yield "loss, gradient", cxent.cross_entropy_with_grad(x, target, **options, out=out)
    yield "loss, gradient, lse", cxent.cross_entropy_with_grad(x, target, return_lse=True, **options)
    if not {"z_loss", "softcap"} & set(options):
        yield "loss, gradient, Hessian", cxent.cross_entropy_with_hess(x, target, **options)
    if not {"z_loss", "softcap", "temperature", "label_smoothing"} & set(options):
        p = cxent.softmax(x, axis)
        yield "of probabilities", [cxent.cross_entropy_from_probs(p, target, **options)]
        yield "of probabilities, gradient", cxent.cross_entropy_from_probs_with_grad(p, target, **options, out=p)


@pytest.mark.parametrize("target", ["int64", "int32", "uint64", "uint8", "probs"])
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "shape, axis, order",
    [((17, 5), 1, "C"), ((300, 7), 0, "C"), ((17, 5), 1, "F"), ((17, 5), 1, "every other"), ((17, 5), 0, "reversed")],
    ids=str,
)
def test_same_results_as_the_general_way_with_options(shape, axis, order, options, dtype, target, close_the_short_way):
    x = in_order((3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype), order)
    if target == "probs":
        options = {name: value for name, value in options.items() if name != "ignore_index"}
        labels = cxent.softmax(-x, axis)
    else:
        labels = np.arange(rows_of(shape, axis)[0]).astype(target) % 5
    short = dict(option_results(x, labels, axis, options))
    close_the_short_way()
    for name, general in option_results(x, labels, axis, options):
        for given, expected in zip(short[name], general, strict=True):
            assert type(given) is type(expected), name
            assert_same_bits(given, expected, name)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis, order", [(1, "C"), (0, "C"), (1, "F"), (1, "reversed"), (0, "columns")], ids=str)
@pytest.mark.parametrize("function", [cxent.softmax_backward, cxent.log_softmax_backward])
def test_same_gradients_through_the_softmax_as_the_general_way(function, axis, order, dtype, close_the_short_way):
    g, p = (in_order(a.astype(dtype), order) for a in np.random.default_rng(0).random((2, 17, 5)))
    short = function(g, p, axis), function(g, p.copy("K"), axis, out=in_order(g, order))
    close_the_short_way()
    for given in short:
        assert_same_bits(given, function(g, p, axis))


def divergence_results(q, p, axis, mask, weights):
    """What the divergences give, by name."""
    options = [{}, {"temperature": 2.0}, {"where": mask}, {"sample_weight": weights}]
    options += [{"reduction": reduction, "sample_weight": weights, "where": mask} for reduction in ("sum", "none")]
    for direction in ("forward", "reverse"):
        for given in options:
            given = {"axis": axis, "direction": direction} | given
            yield f"loss, {given}", (cxent.kl_divergence(p, q, **given),)
            yield f"gradient, {given}", cxent.kl_divergence_with_grad(p, q, **given, out=np.empty_like(q))
            for name in "pq":
                copies = {"p": p.copy("K"), "q": q.copy("K")}
                in_place = cxent.kl_divergence_with_grad(*copies.values(), **given, out=copies[name])
                yield f"in the place of {name}, {given}", in_place
    yield "Jensen-Shannon", (cxent.js_divergence(p, q, axis=axis),)
    yield "gradient, Jensen-Shannon", cxent.js_divergence_with_grad(p, q, axis=axis, beta=0.3, reduction="sum")


@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
@pytest.mark.parametrize("shape, axis, order", LAYOUTS[1::3], ids=str)
def test_same_divergences_as_the_general_way(shape, axis, order, dtype, close_the_short_way):
    rng = np.random.default_rng(0)
    q, p = (in_order(rng.standard_normal(shape).astype(dtype), order) for _ in "qp")
    mask = in_order(rng.random(shape) < 0.7, order)
    weights = rng.random(rows_of(shape, axis)).astype(np.float64 if q.itemsize == 8 else np.float32)
    short = dict(divergence_results(q, p, axis, mask, weights))
    close_the_short_way()
    for name, general in divergence_results(q, p, axis, mask, weights):
        for given, expected in zip(short[name], general, strict=True):
            assert type(given) is type(expected), name
            assert_same_bits(given, expected, name)


def short_divergence(kernels, p, q, where=None, weights=None, out=None):
    options = kl_options("forward", -1, "mean", 1.0, 1)
    return kernels.of(q.dtype).plain_divergence(p, q, where, weights, options, out, out is not None)


def test_plain_divergences_go_the_short_way(kernels):
    if kernels.name == "python":
        pytest.skip("the pure kernels have no shorter way")
    out = np.empty_like(PLAIN)
    assert short_divergence(kernels, PLAIN, PLAIN, PLAIN > 0, WEIGHTS[:4], out)[1] is out
    p, q = PLAIN.copy(), PLAIN.copy()
    assert short_divergence(kernels, p, q, out=p)[1] is p
    assert short_divergence(kernels, p, q, out=q)[1] is q
    for others in (
        {"p": PLAIN.astype(np.float64)},
        {"p": PLAIN[1:]},
        {"p": PLAIN.tolist()},
        {"p": MEMORY[4:44].reshape(4, 10), "out": MEMORY[:40].reshape(4, 10)},
        {"where": np.ones((4, 10), np.uint8)},
        {"where": (memory := np.ones((4, 10), np.float32)).view(bool).reshape(-1)[:40].reshape(4, 10), "out": memory},
        {"weights": WEIGHTS[:3]},
        {"weights": memory[0, :4], "out": memory},
        {"weights": np.zeros(4, np.float32)},
    ):
        assert short_divergence(kernels, **{"p": PLAIN, "q": PLAIN} | others) is None


@pytest.mark.parametrize("way", ["short", "general"])
def test_losses_too_large_for_the_dtype(way, close_the_short_way):
    if way == "general":
        close_the_short_way()
    x = np.array([[3e38, -3e38]] * 3, np.float32)
    assert cxent.cross_entropy(x, np.ones(3, int), reduction="sum") == np.inf


def short_loss(
    kernels, x, target, weight=None, row_weight=None, axis=-1, out=None, with_grad=True, where=None, **options
):
    """What the short way gives of a loss, and of its gradient; None where it leaves a call to the general way."""
    kernels = kernels.of(x.dtype) if isinstance(x, np.ndarray) else kernels.float32
    checked = loss_options(-1, options.pop("reduction", "mean"), options.pop("ignore_index", None), 1, **options)
    given = x, target, where, weight, row_weight, checked._replace(axis=axis), out
    results = kernels.plain_cross_entropy(*given, 1, False, with_grad, False)
    return None if results is None else results[:2]


def short(kernels, x, target=None, axis=-1, out=None, where=None):
    """What the short way gives: None where it leaves a call to the general way."""
    if target is not None:
        return [short_loss(kernels, x, target, axis=axis, out=out, with_grad=with_grad) for with_grad in (True, False)]
    kernels = kernels.of(x.dtype) if isinstance(x, np.ndarray) else kernels.float32
    given = x, axis, 1.0, where, out, 1
    results = [kernels.plain_softmax(*given), kernels.plain_log_softmax(*given)]
    return results if out is not None else [*results, kernels.plain_logsumexp(x, axis, 1)]


class Named(np.ndarray):
    """A subclass, whose methods may do anything."""


PLAIN = np.ones((4, 10), np.float32)
NOT_PLAIN = {
    "a list": PLAIN.tolist(),
    "a scalar": np.float32(1),
    "no dimension": PLAIN[0, 0, ...],
    "five axes": PLAIN[np.newaxis, np.newaxis, np.newaxis],
    "no rows": PLAIN[:0],
    "no classes": PLAIN[:, :0],
    "rows that are not evenly spaced": np.ones((2, 4, 10), np.float32)[:, :3],
    "three axes in F order": np.ones((2, 4, 10), np.float32, order="F"),
    "byte-swapped": PLAIN.astype(PLAIN.dtype.newbyteorder()),
    "misaligned": np.zeros(161, np.uint8)[1:].view(np.float32).reshape(4, 10),
    "integers": np.ones((4, 10), np.int64),
    "booleans": PLAIN.astype(bool),
    "bfloat16, byte-swapped": (bfloat16 := PLAIN.astype(ml_dtypes.bfloat16)).astype(bfloat16.dtype.newbyteorder()),
    "float8": PLAIN.astype(ml_dtypes.float8_e5m2),
    "complex": PLAIN.astype(complex),
    "objects": PLAIN.astype(object),
    "a subclass": PLAIN.view(Named),
    "masked": np.ma.masked_array(PLAIN),
    "large": np.ones((1024, TOO_MANY // 1024), np.float32),
}


@pytest.mark.parametrize("x", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_goes_the_general_way(kernels, x):
    assert not any(short(kernels, x)) and not any(short(kernels, x, np.zeros(4, int))) and not any(short(kernels, x, x))
    assert short(kernels, PLAIN.copy(), out=x) == [None, None]
    assert short(kernels, PLAIN.copy(), np.zeros(4, int), out=x)[0] is None


@pytest.mark.parametrize("axis", [-2, 2, 2**70, None, (1,), 1.0, True, np.int64(1), "last"], ids=str)
def test_other_axes_go_the_general_way(kernels, axis):
    assert not any(short(kernels, PLAIN, axis=axis)) and not any(short(kernels, PLAIN, np.zeros(4, int), axis=axis))


TARGETS = {
    "too few labels": np.zeros(3, int),
    "a label too large": np.array([0, 0, 10, 0]),
    "a negative label": np.array([0, -1, 0, 0]),
    "labels as a column": np.zeros((4, 1), int),
    "labels of two rows": np.zeros((2, 2), int),
    "byte-swapped labels": np.zeros(4, ">i4"),
    "booleans": np.zeros(4, bool),
    "labels that are not integers": np.zeros(4, np.float32),
    "integers in the shape of probabilities": np.ones((4, 10), int),
    "another dtype": np.ones((4, 10)),
    "another shape": np.ones((10, 4), np.float32),
    "another shape, strided": np.ones((4, 20), np.float32)[:, :9],
    "a list": [0, 0, 0, 0],
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_other_targets_go_the_general_way(kernels, target):
    assert not any(short(kernels, PLAIN, target))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[-1] <= 300], ids=str)
def test_same_jacobians_as_the_general_way(shape, dtype, close_the_short_way):
    p = np.random.default_rng(0).random(shape).astype(dtype)
    short = cxent.softmax_jacobian(p), cxent.softmax_jacobian(p, p.ndim - 1)
    close_the_short_way()
    for given in short:
        assert_same_bits(given, cxent.softmax_jacobian(p))


LABELS = np.zeros(4, int)
WEIGHTS = np.ones(10, np.float32)
OTHER_OPTIONS = {
    "a list": {"weight": [1.0] * 10},
    "another dtype": {"weight": np.ones(10)},
    "too few": {"weight": WEIGHTS[1:]},
    "infinite": {"weight": np.full(10, np.inf, np.float32)},
    "a column": {"weight": WEIGHTS[:, np.newaxis]},
    "one for all rows": {"row_weight": np.float32(1)},
    "NaN": {"row_weight": np.full(4, np.nan, np.float32)},
    "too few rows": {"row_weight": WEIGHTS[:3]},
    "rows of another dtype": {"row_weight": np.ones(4)},
    "a sum of 0": {"row_weight": np.zeros(4, np.float32)},
    "a sum too small": {"row_weight": np.full(4, 1e-30, np.float32)},
    "all ignored": {"ignore_index": 0},
}


@pytest.mark.parametrize("options", OTHER_OPTIONS.values(), ids=OTHER_OPTIONS)
def test_other_options_go_the_general_way(kernels, options):
    assert short_loss(kernels, PLAIN, LABELS, **options) is None


def test_labels_that_wrap_go_the_general_way(kernels):
    """In int64 the largest uint64 is -1, which is another label than the ignored."""
    labels = np.full(4, 2**64 - 1, np.uint64)
    assert short_loss(kernels, PLAIN, labels, ignore_index=-1) is None
    with pytest.raises(IndexError):
        cxent.cross_entropy(PLAIN, labels, ignore_index=-1)


@pytest.mark.parametrize("name", ["weight", "row_weight"])
def test_a_gradient_in_the_memory_of_weights_goes_the_general_way(kernels, name):
    out = PLAIN.copy()
    weights = {"weight": out[1], "row_weight": out.reshape(-1)[4:8]}
    assert short_loss(kernels, PLAIN, LABELS, out=out, **{name: weights[name]}) is None


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


MEMORY = np.ones(80, np.float32)
OTHER_OUTPUTS = {
    "read-only": read_only(PLAIN),
    "overlapping in part": MEMORY[4:44].reshape(4, 10),
    "overlapping in one number": MEMORY[39:79].reshape(4, 10),
    "the same memory in another shape": MEMORY[:40],
    "another dtype": np.ones((4, 10)),
    "another shape": np.ones((10, 4), np.float32),
    "the same memory in another order": MEMORY[:40].reshape(10, 4).T,
    "the same memory, reversed": MEMORY[:40].reshape(4, 10)[::-1],
    "every other number, from the same on": MEMORY[:40].reshape(2, 20)[:, ::2],
}


@pytest.mark.parametrize("out", OTHER_OUTPUTS.values(), ids=OTHER_OUTPUTS)
def test_other_outputs_go_the_general_way(kernels, out):
    x = MEMORY[:40].reshape(4, 10)
    assert short(kernels, x, out=out) == [None, None]
    assert short(kernels, x, np.zeros(4, int), out=out)[0] is None


def test_a_gradient_in_the_memory_of_the_target_goes_the_general_way(kernels):
    target = PLAIN.copy()
    assert short(kernels, PLAIN, target, out=target)[0] is None


MASKS = {
    "a list": (PLAIN > 0).tolist(),
    "a scalar": True,
    "one column": PLAIN[:, :1] > 0,
    "integers": np.ones((4, 10), np.int64),
    "bytes": np.ones((4, 10), np.uint8),
    "numbers": PLAIN,
    "every other class": np.ones((4, 10), bool)[:, ::2],
}


@pytest.mark.parametrize("where", MASKS.values(), ids=MASKS)
def test_other_masks_go_the_general_way(kernels, where):
    assert short(kernels, PLAIN, out=np.empty_like(PLAIN), where=where) == [None, None]


def test_a_mask_in_the_memory_of_the_results_goes_the_general_way(kernels):
    out = np.empty_like(PLAIN)
    where = out.view(bool).reshape(-1)[:40].reshape(4, 10)
    assert short(kernels, PLAIN, out=out, where=where) == [None, None]


PLAIN_ARRAYS = {
    "float32": PLAIN,
    "float64": PLAIN.astype(float),
    "float16": PLAIN.astype(np.float16),
    "bfloat16": PLAIN.astype(ml_dtypes.bfloat16),
    "some of the rows": PLAIN[1:3],
    "one row": PLAIN[0],
    "F order": np.asfortranarray(PLAIN),
    "strided": np.ones((8, 30), np.float32)[::-2, ::3],
    "some classes": np.ones((2, 3, 20), np.float32)[..., :10],
    "broadcast": np.broadcast_to(PLAIN[:1], (4, 10)),
    "four axes": PLAIN.reshape(2, 1, 2, 10),
    "the largest": np.ones((1023, TOO_MANY // 1024), np.float32),
    "read-only": read_only(PLAIN),
}


@pytest.mark.parametrize("x", PLAIN_ARRAYS.values(), ids=PLAIN_ARRAYS)
def test_plain_arrays_go_the_short_way(kernels, x):
    if kernels.name == "python":
        pytest.skip("the pure kernels have no shorter way")
    assert not any(result is None for result in short(kernels, x))
    for target in (np.zeros(x.shape[:-1], int), x):
        (loss, grad), (same_loss, no_grad) = short(kernels, x, target, axis=x.ndim - 1)
        assert np.isfinite(loss) and loss == same_loss
        assert grad.shape == x.shape and no_grad is None
    out = np.empty_like(x)
    for where in (None, x > 0):
        assert all(result is out for result in short(kernels, x, out=out, where=where))
    if x.ndim == 2 and all(x.strides):
        (loss, grad), _ = short(kernels, x, np.zeros(x.shape[1], int), axis=0)
        assert np.isfinite(loss) and grad.strides == out.strides
    in_place = x.copy("K")
    assert all(result is in_place for result in short(kernels, in_place, out=in_place))


PLAIN_OPTIONS = {
    "weights": {"weight": WEIGHTS, "row_weight": WEIGHTS[:4]},
    "an ignored label": {"ignore_index": -100},
    "numbers": {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 2.0, "temperature": 0.5},
    "focal": {"focal_gamma": 2.0},
    "mask": {"where": np.ones(PLAIN.shape, np.bool_)},
    "no reduction": {"reduction": "none"},
}


@pytest.mark.parametrize("labels", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("options", PLAIN_OPTIONS.values(), ids=PLAIN_OPTIONS)
def test_plain_options_go_the_short_way(kernels, options, labels):
    if kernels.name == "python":
        pytest.skip("the pure kernels have no shorter way")
    out = np.empty_like(PLAIN)
    loss, grad = short_loss(kernels, PLAIN, LABELS.astype(labels), out=out, **options)
    assert np.isfinite(loss).all() and grad is out
    given = PLAIN, LABELS, options.get("weight"), options.get("row_weight"), loss_options(-1, "mean", None, 1)
    assert kernels.float32.plain_from_probs(*given, out, 1, True)[1] is out


def test_plain_gradients_go_the_short_way(kernels):
    if kernels.name == "python":
        pytest.skip("the pure kernels have no shorter way")
    for function in (kernels.float32.plain_softmax_backward, kernels.float32.plain_log_softmax_backward):
        g = PLAIN.copy()
        for out in (PLAIN.copy(), g):
            assert function(g, PLAIN, -1, None, out, 1) is out
        assert function(PLAIN, PLAIN.astype(float), -1, None, None, 1) is None
        assert function(PLAIN, PLAIN[1:], -1, None, None, 1) is None
        assert function(MEMORY[:40].reshape(4, 10), PLAIN, -1, None, MEMORY[4:44].reshape(4, 10), 1) is None
        assert function(PLAIN, MEMORY[:40].reshape(4, 10), -1, None, MEMORY[4:44].reshape(4, 10), 1) is None


def two_class_results(x, target, options):
    """What the two-class losses give, by name."""
    for reduction in ("mean", "sum", "none"):
        given = {"reduction": reduction} | options
        yield f"loss, {reduction}", (cxent.binary_cross_entropy(x, target, **given),)
        yield f"gradient, {reduction}", cxent.binary_cross_entropy_with_grad(x, target, **given)
        yield f"in place, {reduction}", cxent.binary_cross_entropy_with_grad(x := x.copy(), target, out=x, **given)
        yield f"Hessian, {reduction}", cxent.binary_cross_entropy_with_hess(x, target, **given)


@pytest.mark.parametrize("target", ["bool", "int64", "uint8", "float"])
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}], ids=str)
@pytest.mark.parametrize(
    "shape, order", [((1,), "C"), ((700,), "C"), ((40, 33), "C"), ((40, 33), "F"), ((2, 3, 5), "C")], ids=str
)
def test_same_two_class_losses_as_the_general_way(shape, order, options, dtype, target, close_the_short_way):
    rng = np.random.default_rng(0)
    x = np.array(3 * rng.standard_normal(shape), dtype, order=order)
    if target == "float" and "focal_gamma" in options:
        pytest.skip("a focal loss is one of labels")
    labels = rng.random(shape) if target == "float" else rng.integers(0, 2, shape)
    labels = (
        labels.astype(np.float64 if x.itemsize == 8 else np.float32) if target == "float" else labels.astype(target)
    )
    short = dict(two_class_results(x, labels, options))
    close_the_short_way()
    for name, general in two_class_results(x, labels, options):
        for given, expected in zip(short[name], general, strict=True):
            assert type(given) is type(expected), name
            assert_same_bits(given, expected, name)


@pytest.mark.parametrize("wrong", [2, -1, 2**32])
def test_a_wrong_label_is_named_before_anything_is_written(wrong):
    x = np.zeros((3, 4), np.float32)
    target = np.zeros((3, 4), np.int64)
    target[1, 2] = wrong
    for call in (
        lambda: cxent.binary_cross_entropy(x, target),
        lambda: cxent.binary_cross_entropy_with_grad(x, target, out=x),
    ):
        with pytest.raises(ValueError, match=rf"target.*{wrong}"):
            call()
    assert (x == 0).all()
