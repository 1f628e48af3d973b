"""The same bits on every machine: what `golden.json` holds, every compiled level gives."""

import pytest

import cxent
from cxent import _golden as golden

EXPECTED = golden.expected()


@pytest.fixture
def fused(kernels):
    """Kernels that the promise holds for."""
    if kernels.name not in cxent.kernels.fused():
        pytest.skip(f"the {kernels.name} kernels have no fused multiply-add, and are outside the promise")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("layout", golden.LAYOUTS)
@pytest.mark.parametrize("dtype", golden.DTYPES)
def test_bits(fused, dtype, layout, workers, share_small_calls):
    share_small_calls(golden.PART_SIZE)
    found = golden.hashes(dtype, layout, workers)
    expected = EXPECTED[f"{dtype}, {layout}"]
    assert {name: value for name, value in found.items() if value != expected.get(name)} == {}
    assert found.keys() == expected.keys()


@pytest.mark.once
def test_inputs():
    """The generator itself, against its published first numbers for the seed 0."""
    first = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    assert golden.uniform((3,), 0).tolist() == [(n >> 40) * 2.0**-24 for n in first]
