"""Beside PyTorch: the softmax functions, and the losses with every combination of options that it has.

PyTorch is large, so it is an extra of its own: ``pip install -e '.[test,torch]'``.
"""

import numpy as np
import pytest
from helpers import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import cxent

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_its_derivative(name, axis):
    x = torch.randn(3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = getattr(torch, name)(x, axis)
    g = torch.cos(expected.detach() * 9)
    (expected_grad,) = torch.autograd.grad(expected, x, g)
    found = getattr(cxent, name)(x.detach(), axis)
    assert_allclose(found, expected.detach().numpy(), rtol=1e-13)
    assert_allclose(getattr(cxent, f"{name}_backward")(g, found, axis), expected_grad.numpy(), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
def test_tensors_come_in_as_arrays(dtype):
    x = torch.tensor([[0, 1], [2, 0]], dtype=dtype)
    labels = torch.tensor([1, 0])
    assert_same_bits(cxent.softmax(x), cxent.softmax(x.numpy()))
    loss, grad = cxent.cross_entropy_with_grad(x, labels)
    expected, expected_grad = cxent.cross_entropy_with_grad(x.numpy(), labels.numpy())
    assert type(loss) is type(expected) and loss == expected
    assert_same_bits(grad, expected_grad)


def torch_loss(x, target, options):
    """The loss and its gradient by PyTorch, of arrays."""
    tensor = torch.tensor(x, requires_grad=True)
    options = {name: torch.tensor(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}
    loss = torch.nn.functional.cross_entropy(tensor, torch.tensor(target), **options)
    loss.sum().backward()
    return loss.detach().numpy(), tensor.grad.numpy()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target", ["indices", "probabilities"])
@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3), (2, 70, 3, 2), (5,)], ids=str)
def test_losses(shape, target, reduction):
    axis = min(1, len(shape) - 1)
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal(shape)
    target = rng.random(shape) if target == "probabilities" else rng.integers(0, shape[axis], np.delete(shape, axis))
    loss, grad = cxent.cross_entropy_with_grad(x, target, axis=axis, reduction=reduction)
    expected, expected_grad = torch_loss(x, np.array(target), {"reduction": reduction})
    assert_allclose(loss, expected, rtol=1e-13)
    assert_allclose(grad, expected_grad, atol=1e-14)


@given(st.data())
def test_combinations_of_options(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    classes = data.draw(st.sampled_from([2, 5, 50]))
    shape = data.draw(st.sampled_from([(7, classes), (2, classes, 3), (classes,), (2, classes, 3, 4)]))
    axis = min(1, len(shape) - 1)
    row_shape = np.delete(shape, axis)
    x = rng.standard_normal(shape)
    options = {"reduction": data.draw(st.sampled_from(["mean", "sum", "none"]))}
    if data.draw(st.booleans()):
        options["weight"] = rng.random(classes)
    if data.draw(st.booleans()):
        options["label_smoothing"] = data.draw(st.sampled_from([0.1, 1.0]))
    if data.draw(st.booleans(), label="class indices"):
        options["ignore_index"] = data.draw(st.sampled_from([-100, 1]))
        target = np.asarray(rng.integers(0, classes, row_shape))
        target[rng.random(row_shape) < 0.3] = options["ignore_index"]
    else:
        target = np.moveaxis(rng.dirichlet(np.ones(classes), row_shape), -1, axis)
    expected, expected_grad = torch_loss(x, target, options)
    loss, grad = cxent.cross_entropy_with_grad(x, target, axis=axis, **options)
    assert_allclose(loss, expected, rtol=1e-12, atol=1e-13)
    # Of a mean over nothing, PyTorch's gradient is NaN and ours 0.
    expected_grad = expected_grad if np.isfinite(expected).all() else np.zeros_like(expected_grad)
    assert_allclose(grad, expected_grad, rtol=1e-10, atol=1e-13)
