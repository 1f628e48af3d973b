"""One call's rows over threads: the same bits, from any thread, after a fork, at the end of the interpreter."""

import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import FLOATS, assert_all_same_bits, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

import cxent
from cxent import _validation, _workers


@pytest.fixture(autouse=True)
def many_small_parts(monkeypatch, close_the_short_way):
    """Calls of a test's size are split, over more threads than this machine may have CPUs."""
    close_the_short_way()
    monkeypatch.setattr(_workers, "_PART", 1000)
    monkeypatch.setattr(_workers, "usable_cpus", lambda: 4)


LAYOUTS = {
    "short rows": ((3000, 3), 1, "C"),
    "middling rows": ((200, 100), 1, "C"),
    "long rows": ((7, 5000), 1, "C"),
    "one row": ((1, 10_000), 1, "C"),
    "F order": ((1000, 7), 1, "F"),
    "classes in front": ((7, 900), 0, "C"),
    "classes in the middle": ((2, 21, 20, 30), 1, "C"),
    "few rows side by side": ((5, 900, 3), 1, "C"),
}


@pytest.mark.parametrize("workers", [2, 3, -1])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "axis", "order"), LAYOUTS.values(), ids=LAYOUTS)
def test_same_bits_for_any_number(shape, axis, order, dtype, workers):
    rng = np.random.default_rng(0)
    x = np.asarray(3 * rng.standard_normal(shape), dtype, order)
    labels = rng.integers(0, shape[axis], np.delete(shape, axis))
    q = rng.random(shape).astype(dtype)

    def results(workers):
        in_place = x.copy(order="K")
        found = {
            "softmax": cxent.softmax(x, axis, workers=workers),
            "log_softmax": cxent.log_softmax(x, axis, workers=workers),
            "logsumexp": cxent.logsumexp(x, axis, workers=workers),
            "in place": cxent.softmax(in_place, axis, out=in_place, workers=workers),
        }
        for name, target in (("indices", labels), ("probabilities", q)):
            for reduction in ("mean", "sum", "none"):
                loss = cxent.cross_entropy(x, target, axis=axis, reduction=reduction, workers=workers)
                found[f"{reduction} loss, {name}"] = loss
            loss, grad = cxent.cross_entropy_with_grad(x, target, axis=axis, workers=workers)
            found |= {f"loss, {name}": loss, f"gradient, {name}": grad}
        return found

    assert_all_same_bits(results(workers), results(1))


@pytest.mark.once
def test_threads_compute_at_once():
    meeting = threading.Barrier(3, timeout=60)

    def kernel(logits):
        meeting.wait()  # for two others
        return 0.0

    _workers.run(3, kernel, np.zeros((3000, 1, 1)))


def test_small_calls_stay_serial(monkeypatch):
    monkeypatch.setattr(_workers, "_PART", 1 << 18)
    monkeypatch.setattr(_workers, "_start", lambda *_: pytest.fail("a small call was split"))
    cxent.softmax(np.zeros((500, 1000), np.float32), workers=4)


@pytest.mark.once
@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([1e16, 1.0, 1.0, -1e16], 2),
        ([1.0, math.inf], math.inf),
        ([-math.inf, math.inf], math.nan),
        ([1e308, 1e308], math.inf),
    ],
    ids=str,
)
def test_sum_of_parts(values, total):
    parts = np.repeat(values, 1000)[:, np.newaxis, np.newaxis]
    assert _workers.run(1, lambda part: float(part[0, 0, 0]), parts) == pytest.approx(total, rel=0, abs=0, nan_ok=True)


@pytest.mark.once
@given(outer=st.integers(1, 300), inner=st.integers(1, 3000), parts=st.integers(2, 64))
def test_slices_cover_every_row_once(outer, inner, parts):
    rows = np.zeros((outer, inner), int)
    for where in _workers._slices(outer, inner, parts):
        assert rows[where].size
        rows[where] += 1
    assert (rows == 1).all()


@pytest.mark.once
def test_an_error_in_a_part_ends_the_call():
    running = []

    def kernel(part):
        running.append(1)
        try:
            if part[0, 0, 0] == 5:
                raise MemoryError("no memory for this part")
            return 0.0
        finally:
            running.pop()

    with pytest.raises(MemoryError, match="this part"):
        _workers.run(3, kernel, np.repeat(np.arange(20.0), 1000)[:, np.newaxis, np.newaxis])
    assert not running


def test_bad_labels_leave_out_as_it_is():
    out = np.full((1000, 10), 7.0)
    with pytest.raises(IndexError, match=r"target\[999\]"):
        cxent.cross_entropy_with_grad(np.zeros((1000, 10)), np.arange(1000) // 999 * 10, out=out, workers=2)
    assert (out == 7).all()


def test_calls_from_many_threads():
    x = np.random.default_rng(0).standard_normal((1000, 50))
    expected = cxent.softmax(x)
    with ThreadPoolExecutor(20) as pool:
        for found in pool.map(lambda _: cxent.softmax(x, workers=4), range(60)):
            assert_same_bits(found, expected)


@pytest.mark.once
def test_calls_from_within_the_executor_do_not_wait_for_one_another():
    x = np.zeros((3000, 1, 1))

    def outer_kernel(logits):
        return _workers.run(4, lambda part: 1.0, x)

    assert _workers.run(4, outer_kernel, x) == 9


@pytest.mark.once
@pytest.mark.parametrize("workers", [0, -5, -100])
def test_number_out_of_range(workers):
    with pytest.raises(ValueError, match=rf"workers is {workers}; accepted are positive numbers, and -1 .* to -4"):
        cxent.softmax([1.0], workers=workers)


@pytest.mark.once
@pytest.mark.parametrize("workers", [1.0, 2.5, "2", None])
def test_not_a_number(workers):
    with pytest.raises(TypeError, match=r"workers is .*; accepted is an integer"):
        cxent.cross_entropy([1.0, 2.0], 0, workers=workers)


@pytest.mark.once
@pytest.mark.parametrize(
    ("workers", "threads"), [(1, 1), (3, 3), (4, 4), (5, 5), (100, 100), (-1, 4), (-2, 3), (-4, 1)], ids=str
)
def test_thread_count(workers, threads):
    assert _validation.thread_count(workers) == threads


@pytest.fixture
def no_quota_known():
    """The quota is looked up anew, here and afterwards."""
    _workers._cgroup_quota.cache_clear()
    yield
    _workers._cgroup_quota.cache_clear()


@pytest.mark.once
@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"a/cpu.max": "150000 100000"}, "0::/a/b", 1.5),
        ({"a/cpu.max": "max 100000", "a/b/cpu.max": "400000 100000"}, "0::/a/b", 4),
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000"}, "0::/a/b", 2),
        (
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            "2:memory:/x\n1:cpu,cpuacct:/a",
            0.5,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/", math.inf),
        ({}, "0::/", math.inf),
    ],
)
def test_cgroup_quota(tmp_path, no_quota_known, files, membership, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    assert _workers._cgroup_quota(tmp_path / "membership", tmp_path) == quota


@pytest.mark.once
def test_no_cgroups(tmp_path, no_quota_known):
    assert _workers._cgroup_quota(tmp_path / "no such file", tmp_path) == math.inf


LIFE_AND_DEATH = """
import atexit, os, sys, threading, warnings
import numpy as np
import cxent
from cxent import _validation, _workers

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is what is tested
_workers._PART, _workers.usable_cpus = 1000, lambda: 2
x = np.random.default_rng(0).standard_normal((100, 1000))
expected = cxent.softmax(x)

def check():
    assert cxent.softmax(x, workers=2).tobytes() == expected.tobytes()

check()
assert any(thread.name.startswith("cxent") for thread in threading.enumerate())
child = os.fork()
if child == 0:
    check()
    started = any(thread.name.startswith("cxent") for thread in threading.enumerate())
    os._exit(0 if started else 1)
assert os.waitpid(child, 0)[1] == 0
atexit.register(lambda: (check(), print("at exit")))
"""


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_after_a_fork_and_at_exit():
    run = subprocess.run([sys.executable, "-c", LIFE_AND_DEATH], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "at exit\n", "")
