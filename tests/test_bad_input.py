"""Bad input gets one exception, before anything is written: with the name of the argument and what was found."""

import re

import numpy as np
import pytest
from numpy.exceptions import AxisError

import cxent

SOFTMAXES = [cxent.softmax, cxent.log_softmax, cxent.logsumexp]
LOSSES = [
    cxent.cross_entropy,
    cxent.cross_entropy_with_grad,
    cxent.cross_entropy_from_probs,
    cxent.cross_entropy_from_probs_with_grad,
]
WITH_GRAD = LOSSES[1::2]
X = np.zeros((2, 3))


@pytest.mark.parametrize(
    "bad",
    [
        X + 0j,
        X.astype(object),
        X.astype(str),
        X.astype("datetime64[s]"),
        np.ma.masked_array(X, X == 0),
        X.astype(np.longdouble),
        np.zeros(2, [("a", float)]),
    ],
    ids=lambda bad: type(bad).__name__ + " " + str(bad.dtype),
)
def test_types(bad):
    says = "got object: convert it" if bad.dtype == object else "masked|real"
    name = "masked" if isinstance(bad, np.ma.MaskedArray) else str(bad.dtype)
    for function in SOFTMAXES:
        with pytest.raises(TypeError, match=r"^x ") as caught:
            function(bad)
        assert name in str(caught.value) and re.search(says, str(caught.value))
    for function in LOSSES:
        with pytest.raises(TypeError, match=r"^(logits|probs) .*" + says):
            function(bad, [0, 0])
    with pytest.raises(TypeError, match=r"^grad_output .*" + says):
        cxent.softmax_backward(bad, X)
    with pytest.raises(TypeError, match=r"^output .*" + says):
        cxent.log_softmax_backward(X, bad)
    with pytest.raises(TypeError, match=r"^p .*" + says):
        cxent.softmax_jacobian(bad)
    if bad.dtype.kind != "f" or name == "masked":
        for function in LOSSES:
            with pytest.raises(TypeError, match=r"^target .*" + says):
                function(X, bad)


def test_lists_that_are_no_array():
    for function in SOFTMAXES:
        with pytest.raises(ValueError, match="inhomogeneous"):
            function([[1, 2], [3]])
        with pytest.raises(TypeError, match=r"^x must have a numeric dtype, got object"):
            function([None, 1])


def test_no_classes():
    for function in LOSSES:
        with pytest.raises(ValueError, match=r"^(logits|probs) must .*got shape \(3, 0\)"):
            function(np.empty((3, 0)), [0, 0, 0])


def test_axis_out_of_range():
    for axis in (2, -3):
        for function in SOFTMAXES:
            with pytest.raises(AxisError):
                function(X, axis)
            with pytest.raises(AxisError):
                function(X, (0, axis))
        for function in LOSSES:
            with pytest.raises(AxisError):
                function(X, [0, 0], axis=axis)
        with pytest.raises(AxisError):
            cxent.softmax_backward(X, X, axis)
    for function in SOFTMAXES:
        with pytest.raises(AxisError):
            function(5.0)
    with pytest.raises(AxisError):
        cxent.softmax_jacobian(5.0)


def test_axis_of_another_type():
    for axis in (1.0, "1", "", b"", (0, 1.0)):
        for function in SOFTMAXES:
            with pytest.raises(TypeError, match=r"^axis must .*got "):
                function(X, axis)
    for function in SOFTMAXES:
        with pytest.raises(ValueError, match=r"^axis must .*at most once"):
            function(X, (1, -1))
    for axis in (None, (0, 1), 1.0):
        for function in LOSSES:
            with pytest.raises(TypeError, match=r"^axis must be an integer, got "):
                function(X, [0, 0], axis=axis)


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("integer", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64])
def test_label_outside(function, integer):
    top = np.iinfo(integer).max
    for labels, message in (
        ([0, 3], r"^target\[1\] must .*got 3"),
        ([top, 3], rf"^target\[0\] must .*got {top}"),
    ):
        with pytest.raises(IndexError, match=message):
            function(X, np.array(labels, integer))
    if np.iinfo(integer).min < 0:  # negative labels do not wrap
        with pytest.raises(IndexError, match=r"^target\[1\] must .*got -1"):
            function(X, np.array([0, -1], integer))


@pytest.mark.parametrize("function", LOSSES)
def test_label_outside_among_other_axes(function):
    """The first one in the order of the target, whatever the order in memory."""
    labels = np.zeros((4, 5), int)
    labels[1, 3] = labels[2, 0] = 9
    for order in "CF":
        x = np.zeros((4, 3, 5), order=order)
        with pytest.raises(IndexError, match=r"^target\[1, 3\] must .*got 9"):
            function(x, np.array(labels, order=order), axis=1)
    with pytest.raises(IndexError, match=r"^target must .*got 7"):
        function(np.zeros(3), 7)


@pytest.mark.parametrize("function", LOSSES)
def test_target_of_the_wrong_shape(function):
    for target in ([0], [0, 0, 0], 0, [[0, 0]], np.zeros((2, 2)), np.zeros((3, 2)), np.zeros((2, 3, 1))):
        with pytest.raises(ValueError, match=r"^target must .*\(2,\).*\(2, 3\).*got ") as caught:
            function(X, target)
        assert str(np.shape(target)) in str(caught.value)


@pytest.mark.parametrize("function", LOSSES)
def test_class_indices_that_are_not_integers(function):
    for target in ([0.0, 1.0], [True, False], np.zeros(2, np.float32)):
        with pytest.raises(TypeError, match=r"^target must have an integer dtype .* convert it with astype\(int\)"):
            function(X, target)


@pytest.mark.parametrize("function", LOSSES)
def test_unknown_reduction(function):
    for reduction in ("average", "", None, True, np.array(["mean", "sum"])):
        with pytest.raises(ValueError, match=r"^reduction must .*got .*"):
            function(X, [0, 0], reduction=reduction)


def test_shapes_of_the_backward_functions():
    for function in (cxent.softmax_backward, cxent.log_softmax_backward):
        for shape in ((3,), (2, 2), (1, 3), ()):
            with pytest.raises(ValueError, match=r"^grad_output must .*\(2, 3\), got "):
                function(np.zeros(shape), X)


CALLS_WITH_OUT = {
    "softmax": lambda out: cxent.softmax(X, out=out),
    "log_softmax": lambda out: cxent.log_softmax(X, out=out),
    "softmax_backward": lambda out: cxent.softmax_backward(X, X, out=out),
    "log_softmax_backward": lambda out: cxent.log_softmax_backward(X, X, out=out),
    **{f.__name__: lambda out, f=f: f(X, [0, 1], out=out) for f in WITH_GRAD},
}


@pytest.mark.parametrize("call", CALLS_WITH_OUT.values(), ids=CALLS_WITH_OUT)
def test_out(call):
    read_only = np.zeros((2, 3))
    read_only.flags.writeable = False
    masked = np.ma.masked_array(np.zeros((2, 3)))
    for out, error, message in (
        ([[0.0] * 3] * 2, TypeError, "^out must .*got list"),
        (masked, TypeError, "^out must .*got MaskedArray"),
        (np.zeros((2, 3), np.float32), TypeError, "^out must .*got float32"),
        (np.zeros((2, 3), int), TypeError, "^out must .*got int64"),
        (np.zeros((3, 2)), ValueError, r"^out must .*got \(3, 2\)"),
        (np.zeros(6), ValueError, r"^out must .*got \(6,\)"),
        (read_only, ValueError, "^out must be writable"),
    ):
        with pytest.raises(error, match=message):
            call(out)


@pytest.mark.parametrize("function", WITH_GRAD)
def test_nothing_is_written(function):
    """Not even the rows before the bad one, and not in place."""
    x = np.random.default_rng(0).random((3, 4))
    before = x.copy()
    bad_calls = [
        dict(target=[0, 1, 4]),
        dict(target=[0, 1, -1]),
        dict(target=[0, 1]),
        dict(target=[0.0, 1.0, 2.0]),
        dict(target=[0, 1, 2], reduction="all"),
        dict(target=[0, 1, 2], axis=2),
        dict(target=np.ma.zeros((3, 4))),
    ]
    for arguments in bad_calls:
        with pytest.raises((IndexError, ValueError, TypeError)):
            function(x, **arguments, out=x)
        assert (x == before).all()


LABELS = [0, 1]
PROBS = np.full((2, 3), 1 / 3)
WITH_OPTIONS = [
    cxent.cross_entropy,
    cxent.cross_entropy_with_grad,
    cxent.cross_entropy_with_hess,
    lambda logits, target, **chosen: cxent.cross_entropy_hvp(logits, target, logits, **chosen),
]


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("weight", [1.0, 2.0], ValueError, r"^weight must have shape \(3,\) .*got \(2,\)"),
        ("weight", np.ones((1, 3)), ValueError, r"^weight must have shape \(3,\) .*got \(1, 3\)"),
        ("weight", [1, -np.inf, 1], ValueError, r"^weight must .*got -inf"),
        ("weight", [1, np.nan, 1], ValueError, r"^weight must .*got nan"),
        ("weight", [1, np.inf, 1], ValueError, r"^weight must .*got inf"),
        ("weight", [1j, 1, 1], TypeError, r"^weight must .*got complex128"),
        ("weight", ["1", "1", "1"], TypeError, r"^weight must .*got <U1"),
        ("weight", np.ma.masked_array([1, 1, 1]), TypeError, r"^weight must not be a masked array"),
        (
            "sample_weight",
            [1.0] * 3,
            ValueError,
            r"^sample_weight must .*got \(3,\)",
        ),
        ("sample_weight", [[1.0, 1.0]], ValueError, r"^sample_weight must .*got \(1, 2\)"),
        ("sample_weight", np.nan, ValueError, r"^sample_weight must .*got nan"),
        ("sample_weight", [1, np.nan], ValueError, r"^sample_weight must .*got nan"),
        ("sample_weight", [1, None], TypeError, r"^sample_weight must have a numeric dtype, got object"),
        ("ignore_index", 1.0, TypeError, r"^ignore_index must .*got 1.0"),
        ("ignore_index", "1", TypeError, r"^ignore_index must .*got '1'"),
        ("label_smoothing", -0.5, ValueError, r"^label_smoothing must .*got -0.5"),
        ("label_smoothing", 1.5, ValueError, r"^label_smoothing must .*got 1.5"),
        ("label_smoothing", np.nan, ValueError, r"^label_smoothing must .*got nan"),
        ("label_smoothing", None, TypeError, r"^label_smoothing must .*got None"),
        ("label_smoothing", [0.1], TypeError, r"^label_smoothing must .*got \[0.1\]"),
        ("label_smoothing", np.array([0.1]), TypeError, r"^label_smoothing must be a number from 0 to 1, got an array"),
        ("z_loss", -1e-9, ValueError, r"^z_loss must .*got -1e-09"),
        ("z_loss", np.inf, ValueError, r"^z_loss must .*got inf"),
        ("z_loss", 10**400, ValueError, r"^z_loss must .*got 1000"),
        ("softcap", 1e31, ValueError, r"^softcap must .*got 1e\+31"),
        ("temperature", 1e-31, ValueError, r"^temperature must .*got 1e-31"),
        ("softcap", 0, ValueError, r"^softcap must .*got 0"),
        ("softcap", -30.0, ValueError, r"^softcap must .*got -30.0"),
        ("softcap", "30", TypeError, r"^softcap must .*got '30'"),
        ("temperature", 0.0, ValueError, r"^temperature must .*got 0.0"),
        ("temperature", -1, ValueError, r"^temperature must .*got -1"),
        ("temperature", np.nan, ValueError, r"^temperature must .*got nan"),
        ("temperature", 1j, TypeError, r"^temperature must .*got 1j"),
        ("reduction", "average", ValueError, r"^reduction must .*got 'average'"),
    ],
)
def test_options(option, value, error, message):
    for function in WITH_OPTIONS[: 2 if option in ("z_loss", "softcap") else 4]:
        for target in (LABELS, PROBS):
            logits = X.copy()
            with pytest.raises(error, match=message):
                function(logits, target, **{option: value})
            if function is not cxent.cross_entropy:
                with pytest.raises(error, match=message):
                    function(logits, target, out=logits, **{option: value})
            np.testing.assert_array_equal(logits, X)


def test_ignore_index_is_for_class_indices():
    for function in WITH_OPTIONS:
        with pytest.raises(ValueError, match=r"^ignore_index must .*got -100 .*\(2, 3\)"):
            function(X, PROBS, ignore_index=-100)


def test_labels_beside_ignore_index():
    with pytest.raises(IndexError, match=r"^target\[1\] must .*got 3"):
        cxent.cross_entropy(X, [-1, 3], ignore_index=-1)


def test_vectors_of_another_shape():
    with pytest.raises(ValueError, match=r"^v must .*got \(3,\)"):
        cxent.cross_entropy_hvp(X, LABELS, [1, 2, 3])


def test_what_is_no_array():
    with pytest.raises(ValueError, match=r"^x cannot be converted to an array, got list"):
        cxent.softmax([[1.0, 2.0], [3.0]])
    with pytest.raises(TypeError, match=r"^target must have a numeric dtype, got object"):
        cxent.cross_entropy(np.zeros((2, 3)), None)
    with pytest.raises(TypeError, match=r"^weight must .*got <U8"):
        cxent.cross_entropy(np.zeros((2, 3)), [0, 1], weight="balanced")


def test_negative_labels_name_ignore_index():
    message = r"^target\[1\] must .*got -100"
    for function in LOSSES:
        with pytest.raises(IndexError, match=message + r".*ignore_index=-100$"):
            function(np.ones((2, 3)), [0, -100])
