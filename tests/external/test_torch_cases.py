"""PyTorch's own cases of two-class problems: what its tests give to a function or module, from its torch.testing.

Expected is what PyTorch computes in float64 of the same numbers, and what the reference of a module case returns. The
conventions differ in five places, each of which is handled where it is named:

- `weight` broadcasts to the logits; cxent's `sample_weight` has their shape, or is one number for each row.
- The mean divides by the number of logits; cxent's by the sum of the weights.
- The loss of half precision is in half precision; cxent's is float32.
- The logistic function of integers is float32; cxent's is float64.
- That of complex numbers is a TypeError in cxent.
"""

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose

import cxent

pytestmark = [
    pytest.mark.slow,  # (importing them takes ten seconds)
    pytest.mark.filterwarnings("ignore"),  # what PyTorch warns of is its own
]

REALS = ["float64", "float32", "float16", "bfloat16"]
# Of results in that dtype; of losses and of what is half precision, which is computed in float32, by their own.
RTOL = {"float64": 1e-13, "float32": 1e-6, "float16": 2.0**-11, "bfloat16": 2.0**-8}


# torch.testing imports it, and PyTorch does not require it.
EXPECTTEST = "the cases cannot be imported: pip install expecttest"


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("expecttest", reason=EXPECTTEST)
    torch.manual_seed(0)
    return torch


@pytest.fixture(scope="module")
def operators(torch):
    """By name, what PyTorch's tests know of an operator."""
    from torch.testing._internal.common_methods_invocations import op_db

    return {operator.name: operator for operator in op_db}


@pytest.fixture(scope="module")
def modules(torch):
    from torch.testing._internal.common_modules import module_db

    return {info.module_cls.__name__: info for info in module_db}


def array(tensor):
    """The memory of a tensor, in its strides."""
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        import torch

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def assert_near(found, expected, dtype):
    """Numbers of a size of 1 or so, or larger, and what cancels among them."""
    rtol = RTOL[str(dtype).removeprefix("torch.")]
    assert_allclose(np.asarray(found).astype(np.float64), array(expected), rtol=rtol, atol=rtol)


def check_loss(torch, x, target, reduction="mean", weight=None, pos_weight=None):
    """The loss and its gradient, beside PyTorch's in float64; labels may be integers and booleans too."""
    wide = x.detach().double().requires_grad_()
    options = {"weight": weight, "pos_weight": pos_weight}
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        wide,
        target.detach().double(),
        reduction=reduction,
        **{name: None if tensor is None else tensor.double() for name, tensor in options.items()},
    )
    (expected_grad,) = torch.autograd.grad(expected.sum(), wide)
    targets = [array(target)]
    if set(target.unique().tolist()) <= {0, 1}:
        targets += [targets[0].astype(np.int64), targets[0].astype(bool)]
    divisor = x.numel() if reduction == "mean" and weight is not None else 1
    for each in targets:
        loss, grad = cxent.binary_cross_entropy_with_grad(
            array(x),
            each,
            sample_weight=None if weight is None else array(weight.broadcast_to(x.shape)),
            pos_weight=None if pos_weight is None else array(pos_weight),
            reduction=reduction if divisor == 1 else "sum",
        )
        computed = torch.float64 if x.dtype == torch.float64 else torch.float32
        assert np.asarray(loss).dtype == str(computed).removeprefix("torch.")
        assert grad.dtype == array(x).dtype
        assert_near(loss / divisor, expected.detach(), computed)
        assert_near(grad.astype(np.float64) / divisor, expected_grad, x.dtype)
    return loss / divisor


@pytest.mark.parametrize("dtype", REALS)
def test_samples_of_the_loss(torch, operators, dtype):
    operator = operators["nn.functional.binary_cross_entropy_with_logits"]
    assert operator.dtypes == {getattr(torch, name) for name in REALS}
    samples = list(operator.sample_inputs("cpu", getattr(torch, dtype), requires_grad=True))
    assert len(samples) >= 26
    for sample in samples + [sample.noncontiguous() for sample in samples]:
        check_loss(torch, sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("dtype", REALS)
def test_cases_of_the_module_of_the_loss(torch, modules, dtype):
    info = modules["BCEWithLogitsLoss"]
    cases = info.module_inputs_func(info, "cpu", getattr(torch, dtype), requires_grad=True, training=True)
    assert {case.desc for case in cases} >= {"", "reduction_sum", "reduction_none", "weights", "scalar_weights"}
    for case in cases:
        x, target = case.forward_input.args
        assert not case.constructor_input.args and not case.forward_input.kwargs
        loss = check_loss(torch, x, target, **case.constructor_input.kwargs)
        module = info.module_cls(**case.constructor_input.kwargs)
        reference = case.reference_fn(module, x.detach(), target).double()  # (it is computed in `dtype`)
        assert_allclose(loss, reference, rtol=32 * RTOL[dtype])


def test_older_cases_of_the_module(torch):
    from torch.testing._internal.common_nn import criterion_tests, get_new_module_tests

    cases = {case["fullname"]: case for case in criterion_tests + get_new_module_tests() if "fullname" in case}
    cases = {name: case for name, case in cases.items() if name.startswith("BCEWithLogitsLoss")}
    assert len(cases) == 6
    for name, case in cases.items():
        x = case["input_fn"]().double()
        if "target_fn" in case:  # (it is of any real numbers)
            check_loss(torch, x, case["target_fn"](), case["constructor"]().reduction)
        else:
            loss = check_loss(torch, x, case["cpp_var_map"]["t"], "none")
            assert_near(loss, case["reference_fn"](x, None), "float64")
            assert name.endswith(("_legacy_enum", "_no_reduce", "_no_reduce_scalar"))


@pytest.mark.parametrize(("name", "function"), [("sigmoid", "sigmoid"), ("nn.functional.logsigmoid", "log_sigmoid")])
def test_samples_of_the_logistic_function(torch, operators, name, function):
    """Of all dtypes; they are of many shapes and strides, large and small, NaN and infinite."""
    operator, ours = operators[name], getattr(cxent, function)
    dtypes = {str(dtype).removeprefix("torch.") for dtype in operator.dtypes}
    assert dtypes >= set(REALS) and (name != "sigmoid" or dtypes >= {"bool", "uint8", "int64", "complex128"})
    for dtype in operator.dtypes:
        samples = [*operator.sample_inputs("cpu", dtype), *operator.reference_inputs("cpu", dtype)]
        assert len(samples) > 30
        for sample in samples + [sample.noncontiguous() for sample in samples]:
            x = sample.input
            if dtype.is_complex:
                with pytest.raises(TypeError, match="complex"):
                    ours(array(x))
                continue
            found = ours(array(x))
            assert found.dtype == (array(x).dtype if dtype.is_floating_point else np.float64)
            assert_near(found, operator.op(x.double()), dtype if dtype.is_floating_point else "float64")


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("name", "function"), [("Sigmoid", "sigmoid"), ("LogSigmoid", "log_sigmoid")])
def test_cases_of_the_modules_of_the_logistic_function(torch, modules, name, function, dtype):
    info = modules[name]
    cases = info.module_inputs_func(info, "cpu", getattr(torch, dtype), requires_grad=False, training=True)
    assert len(cases) >= 3
    for case in cases:
        (x,) = case.forward_input.args
        assert_near(getattr(cxent, function)(array(x)), info.module_cls()(x.double()), dtype)
