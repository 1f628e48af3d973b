"""ONNX Runtime: a graph with one operator, bound to existing arrays."""

from __future__ import annotations

from typing import Any

from cases import OPERATIONS, TWO_CLASS_OPERATIONS, Call, Case, Formulations, without

NAME = "ONNX Runtime"
DISTRIBUTION = "onnxruntime"


def formulations(case: Case) -> Formulations:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    of_case = TWO_CLASS_OPERATIONS if case.two_classes else OPERATIONS
    if case.x.dtype.name == "bfloat16":
        return without("has no kernel for bfloat16", of_case)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    types = {
        "float16": TensorProto.FLOAT16,  # cast to float32 and back
        "float32": TensorProto.FLOAT,
        "float64": TensorProto.DOUBLE,
        "int64": TensorProto.INT64,
    }

    def session(operator: str, inputs: dict[str, Any], shape: tuple[int, ...], out: Any, **attributes: Any) -> Call:
        real = types[case.x.dtype.name]
        graph = helper.make_graph(
            [helper.make_node(operator, list(inputs), ["result"], **attributes)],
            operator,
            [helper.make_tensor_value_info(n, types[a.dtype.name], a.shape) for n, a in inputs.items()],
            [helper.make_tensor_value_info("result", real, shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        if case.small:
            return lambda: run.run(None, inputs)[0]
        out = np.empty(shape, case.x.dtype) if out is None else out
        binding = run.io_binding()
        for n, array in inputs.items():
            binding.bind_cpu_input(n, array)
        binding.bind_output("result", "cpu", 0, out.dtype, out.shape, out.ctypes.data)

        def call() -> Any:
            run.run_with_iobinding(binding)
            return out

        return call

    x, axis = {"x": case.x}, case.axis
    of_numbers = {"sigmoid": lambda: session("Sigmoid", x, case.x.shape, case.out)}
    of_classes = {
        "softmax": lambda: session("Softmax", x, case.x.shape, case.out, axis=axis),
        "log_softmax": lambda: session("LogSoftmax", x, case.x.shape, case.out, axis=axis),
        "logsumexp": lambda: session("ReduceLogSumExp", x, case.row_shape, None, axes=[axis], keepdims=0),
        "loss": lambda: session("SoftmaxCrossEntropyLoss", {**x, "y": case.labels}, (), None, reduction="mean"),
    }
    calls = without("has no such operator", of_case)
    for operation, make in (of_numbers if case.two_classes else of_classes).items():
        try:
            calls[operation] = [make()]
        except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
            calls[operation] = f"has no kernel for {case.x.dtype.name}"
    return calls


of_two_classes = formulations
