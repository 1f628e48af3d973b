"""The node cases of ONNX: inputs and outputs of its reference implementation."""

import importlib
import sys
import warnings

import numpy as np
import onnx
import pytest

import cxent

OPERATORS = ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "Softmax", "LogSoftmax", "ReduceLogSumExp"]
MODULES = ["softmax_cross_entropy_loss", "negativeloglikelihoodloss", "softmax", "logsoftmax", "reduce_log_sum_exp"]


def collect():
    """The cases of one node each; those "expanded" to several nodes have the same inputs and outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in MODULES:  # (those of all operators take ten seconds)
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    cases = sys.modules["onnx.backend.test.case.node"]._NodeTestCases
    return [c for c in cases if len(c.model.graph.node) == 1 and c.model.graph.node[0].op_type in OPERATORS]


CASES = {case.name: case for case in collect()}


def run(operator, inputs, attributes, outputs):
    """What a node of that many outputs gives."""
    if operator == "SoftmaxCrossEntropyLoss":
        return [loss(*inputs, **attributes), cxent.log_softmax(inputs[0], 1)][:outputs]
    if operator == "NegativeLogLikelihoodLoss":
        return [negative_log_likelihood(*inputs, **attributes)]
    if operator == "ReduceLogSumExp":
        x, axes = inputs
        return [cxent.logsumexp(x, tuple(axes.tolist()) or None, keepdims=bool(attributes["keepdims"]))]
    return [{"Softmax": cxent.softmax, "LogSoftmax": cxent.log_softmax}[operator](*inputs, **attributes)]


def loss(x, labels, weight=None, *, reduction, ignore_index=None, **more):
    return cxent.cross_entropy(
        x, labels, axis=1, weight=weight, ignore_index=ignore_index, reduction=reduction.decode(), **more
    )


def negative_log_likelihood(x, labels, weight=None, *, reduction, ignore_index=None):
    """-w_y x_y for any numbers x: a loss of logits without its logsumexp."""
    rows, lse = loss(x, labels, weight, reduction=b"none", ignore_index=ignore_index, return_lse=True)
    counts = labels != ignore_index
    weights = counts if weight is None else np.where(counts, weight[np.where(counts, labels, 0)], 0)
    rows = rows - weights * lse
    return {b"none": rows, b"sum": rows.sum(), b"mean": rows.dtype.type(rows.sum() / weights.sum())}[reduction]


def test_there_are_cases():
    assert {case.model.graph.node[0].op_type for case in CASES.values()} == set(OPERATORS)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case):
    node = case.model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        results = run(node.op_type, inputs, attributes, len(node.output))
        for found, expected in zip(results, outputs, strict=True):
            assert np.shape(found) == expected.shape and np.asarray(found).dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
