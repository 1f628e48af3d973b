"""The rooms of the kernels: what stands in each, and in which order they use one another."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import FLOATS

import cxent

KERNELS = Path(__file__).parent.parent / "cxent" / "kernels"
# Each cimports from those before it alone.
ROOMS = [
    "simd", "math", "sums", "batch", "conversion", "transposition", "tiles", "traffic", "maxima", "terms",
    "selection", "ranks", "columns", "reduce", "formulas", "apply", "values", "labels", "totals", "weights", "losses",
    "threads", "binary", "call", "level", "masks", "one_row", "exponentials", "softmax", "cross_entropy", "scoring",
    "sharded", "divergence",
]  # fmt: skip


with_source = pytest.mark.skipif(not KERNELS.exists(), reason="tested away from the source")


@with_source
@pytest.mark.once
def test_rooms_are_all_there_is():
    assert sorted(ROOMS) == sorted(path.stem for path in KERNELS.glob("*.pxd"))


@with_source
@pytest.mark.once
@pytest.mark.parametrize("name", ROOMS)
def test_rooms_use_those_before_them(name):
    text = (KERNELS / f"{name}.pxd").read_text()
    used = set(re.findall(r"^from \.(\w+) cimport", text, re.MULTILINE))
    assert used <= set(ROOMS[: ROOMS.index(name)])
    assert "cimport *" not in text


@with_source
@pytest.mark.once
def test_rooms_fit_a_readers_head():
    lengths = {path.name: len(path.read_text().splitlines()) for path in [*KERNELS.glob("*.p*"), *KERNELS.glob("*.h")]}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


@with_source
@pytest.mark.once
def test_kernels_use_nothing_else_of_cxent():
    for path in KERNELS.glob("*.p*"):
        text = path.read_text()
        assert not re.search(r"^\s*(from \.\.|from cxent import|import cxent)", text, re.MULTILINE), path.name
        assert set(re.findall(r"^from (cxent\.\w+)", text, re.MULTILINE)) <= {"cxent.kernels"}, path.name


@with_source
@pytest.mark.once
def test_no_formula_is_missing_from_a_dispatch():
    """A formula that `change_block` does not know would leave the results as they are."""
    text = "\n\n\n".join((KERNELS / name).read_text() for name in ("formulas.pxd", "apply.pxd"))
    enum, transposed, block, rare = (
        set(re.findall(pattern, re.search(start + r".*?\n\n\n", text, re.DOTALL)[0], re.MULTILINE))
        for start, pattern in (
            ("cdef enum Formula", r"^    ([A-Z_]+) "),
            ("cdef inline flattened change_transposed", r"apply_transposed\(([A-Z_]+),"),
            ("cdef inline flattened change_block", r"apply\(([A-Z_]+),"),
            ("cdef inline bint is_rare", r"formula == ([A-Z_]+)"),
        )
    )
    by_name = {
        "GRADIENT",
        "GRADIENT_CLASSES",
        "GRADIENT_TARGETS",
        "HESSIAN_FOCAL",
        "COUNTED",
        "MULTIPLY",
        "LOSS_OF_PROBS",
    }  # by a variable
    kernels = [path.read_text() for path in KERNELS.glob("*.pxd")]
    named = {name for kernel in kernels for name in re.findall(r"apply_to_array\(([A-Z_]+)\b", kernel)}
    assert block == enum
    assert named | by_name == transposed | rare


ULP = {"exp": 1.1, "expm1": 1.3, "log": 1, "log1p": 1.6, "exponential": 1.1}
# The exponentials of rows are multiples of exp: in float32 that of a table of powers with little error.
MULTIPLE = {np.float32: 1.08771492767, np.float64: 1.0}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("function", ULP)
def test_functions_of_vectors(function, dtype, kernels):
    """Random arguments and the edges; `tools/sweep_math.py` takes all of them."""
    if kernels.name == "baseline" and function in ("exp", "expm1", "exponential"):
        pytest.skip("the baseline kernels may have no fused multiply-add, and round more often")
    rng = np.random.default_rng(0)
    limits = {"exp": (-87, 0), "expm1": (-87, 0), "log": (1e-30, 1e30), "log1p": (0, 1e6), "exponential": (-87, 0)}[
        function
    ]
    x = rng.uniform(*limits, 10_007).astype(dtype)
    if function.startswith("log"):
        x = np.exp(rng.uniform(np.log(1e-30), np.log(limits[1]), 10_007)).astype(dtype)
    out = np.empty_like(x)
    kernels.of(x.dtype).evaluate(function, x, out)
    exact = getattr(np, function.replace("exponential", "exp"))(x.astype(np.longdouble))
    if function == "exponential" and kernels.name != "python":
        exact *= MULTIPLE[dtype]
    assert (np.abs(out - exact) <= ULP[function] * np.spacing(np.abs(exact).astype(dtype))).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_of_functions(dtype, kernels):
    special = np.array([0, -0.0, -np.inf, np.nan, -1e30], dtype)
    out = np.empty_like(special)
    kernels.of(out.dtype).evaluate("exp", special, out)
    np.testing.assert_array_equal(out, [1, 1, 0, np.nan, 0])
    kernels.of(out.dtype).evaluate("exponential", special, out)
    np.testing.assert_array_equal(out == 0, [False, False, True, False, True])
    np.testing.assert_array_equal(np.isnan(out), [False, False, False, True, False])
    special = np.array([0, 1, np.inf, np.nan, -1, np.finfo(dtype).smallest_subnormal], dtype)
    out = np.empty_like(special)
    kernels.of(out.dtype).evaluate("log", special, out)
    expected = [-np.inf, 0, np.inf, np.nan, np.nan, np.log(np.longdouble(special[-1]))]
    np.testing.assert_allclose(out, np.array(expected, dtype), rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [1, 3, 8, 17, 64, 65])
def test_transposition_and_tails_of_every_length(rows, dtype):
    """Each number comes back in its place: where all are the largest but one, that is where 0 is."""
    for classes in [*range(1, 70), 127, 128, 129, 255, 256, 257]:
        x = np.zeros((rows, classes), dtype)
        place = np.arange(rows) % classes
        x[np.arange(rows), place] = -np.inf
        p = cxent.softmax(x) if classes > 1 else np.zeros((rows, 1), dtype)
        expected = np.where(np.arange(classes) == place[:, np.newaxis], 0, dtype(1) / dtype(max(classes - 1, 1)))
        np.testing.assert_allclose(p, expected, rtol=2 * np.finfo(dtype).eps)
