"""One call's rows over threads: the same bits, from any thread, after a fork, at the end of the interpreter."""

import math
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import FLOATS, assert_all_same_bits, assert_same_bits

import cxent
from cxent import _options, _workers
from cxent.kernels import threads

usable_cpus = _workers.usable_cpus  # (which the fixture below replaces)


@pytest.fixture(autouse=True)
def many_small_parts(share_small_calls):
    """Calls of a test's size are shared, by more threads than this machine may have CPUs."""
    share_small_calls(1000)


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
    threads.start(2)
    assert threads.can_meet(3, seconds=60)


@pytest.mark.once
def test_a_call_waits_for_no_thread_that_there_is_not():
    assert not threads.can_meet(300, seconds=0.01)


def test_small_calls_stay_serial():
    threads.set_sizes(8192, 24576)
    before = threads.shared_jobs()
    cxent.softmax(np.zeros((24, 1000), np.float32), workers=4)
    assert threads.shared_jobs() == before


@pytest.mark.parametrize(
    ("rows", "loss"),
    [([[3e38, 0.0]] * 3000, 0.0), ([[0.0, 3e38]] * 3000, math.inf), ([[0.0, math.nan]] * 3000, math.nan)],
    ids=["0", "inf", "NaN"],
)
def test_sums_of_parts_that_are_no_numbers(rows, loss):
    found = cxent.cross_entropy(np.float64(rows) * (1 if math.isnan(loss) else 5e269), [0] * 3000, reduction="sum")
    assert found == pytest.approx(loss, nan_ok=True)


def test_sums_of_parts_keep_small_ones(kernels):
    """Each part's sum is the loss of its rows; those of both signs leave what is small."""
    if kernels.name == "python":
        pytest.skip("the pure kernels have no parts")
    x = np.zeros((4096, 2))
    weights = np.repeat([1e16, 1.0, 1.0, -1e16], 1024)
    total = cxent.cross_entropy(x, np.zeros(4096, int), sample_weight=weights, reduction="sum")
    assert total == pytest.approx(2048 * math.log(2), rel=1e-3)


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
@pytest.mark.parametrize("workers", [0, -5, -100])
def test_number_out_of_range(workers):
    message = rf"^workers must be positive, or from -1 \(all CPUs\) down to -4, got {workers}$"
    with pytest.raises(ValueError, match=message):
        cxent.softmax([1.0], workers=workers)
    with pytest.raises(ValueError, match=message):
        cxent.set_workers(workers)


@pytest.mark.once
@pytest.mark.parametrize("workers", [1.0, 2.5, "2"])
def test_not_a_number(workers):
    with pytest.raises(TypeError, match=r"workers must .*got .*"):
        cxent.cross_entropy([1.0, 2.0], 0, workers=workers)
    with pytest.raises(TypeError, match=r"workers must .*got .*"):
        cxent.set_workers(workers)
    with pytest.raises(TypeError, match=r"^workers must be an integer, got None$"):
        cxent.set_workers(None)


@pytest.mark.once
@pytest.mark.parametrize(
    ("workers", "threads"), [(1, 1), (3, 3), (4, 4), (5, 4), (100, 4), (-1, 4), (-2, 3), (-4, 1)], ids=str
)
def test_thread_count(workers, threads):
    assert _options.thread_count(workers) == threads
    with cxent.set_workers(workers):
        assert cxent.get_workers() == threads


def shares(**workers):
    """Whether a call that is large enough is shared."""
    before = threads.shared_jobs()
    cxent.softmax(np.zeros((100, 100)), **workers)
    return threads.shared_jobs() > before


@pytest.mark.once
def test_default_number():
    if cxent.kernels.serving.name == "python":
        pytest.skip("the pure-NumPy kernels know no threads")
    assert not shares()
    with cxent.set_workers(3):
        assert shares() and not shares(workers=1)
        with cxent.set_workers(1):
            assert not shares() and shares(workers=2)
        assert cxent.get_workers() == 3
        with pytest.raises(ZeroDivisionError), cxent.set_workers(2):
            _ = 1 / 0
        with ThreadPoolExecutor(1) as pool:  # of other threads it does not hold
            assert pool.submit(cxent.get_workers).result() == 1
        assert cxent.get_workers() == 3
    assert cxent.get_workers() == 1


def run(code, **environment):
    """What a process of its own printed: its output, and its errors."""
    environment = COMPILED | environment
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    return done.stdout, done.stderr


@pytest.mark.once
@pytest.mark.parametrize(("text", "workers"), [("", 1), ("1", 1), ("3", 3), ("9", 4), ("-1", 4), ("-3", 2)])
def test_default_of_the_environment(text, workers, monkeypatch):
    monkeypatch.setenv("CXENT_WORKERS", text)
    assert _options.thread_count(_workers._of_environment()) == workers


@pytest.mark.once
@pytest.mark.parametrize("text", ["0", "all", "2.5"])
def test_no_default_of_the_environment(text, monkeypatch):
    monkeypatch.setenv("CXENT_WORKERS", text)
    message = re.escape(f"CXENT_WORKERS must be a number of threads, or -1 for all CPUs, got '{text}'")
    with pytest.raises(ValueError, match=f"^{message}$"):
        _workers._of_environment()


@pytest.mark.once
def test_default_of_a_process():
    code = "import cxent; cxent._workers.usable_cpus = lambda: 4; print(cxent.get_workers())"
    assert run(code, CXENT_WORKERS="-3") == ("2\n", "")
    assert "ValueError: CXENT_WORKERS must be a number of threads" in run(code, CXENT_WORKERS="all")[1]


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only on Linux are helpers kept off a CPU")
def test_a_helper_is_woken_on_another_cpu():
    if cxent.kernels.serving.name == "python":
        pytest.skip("the pure-NumPy kernels know no threads")
    cpus = os.sched_getaffinity(0)
    if len(cpus) == 1:
        pytest.skip("there is one CPU")

    def affinities():
        """Those of all helpers, which slept."""
        assert shares(workers=2)
        time.sleep(0.1)
        assert shares(workers=len(threading.enumerate()))
        helpers = [thread for thread in threading.enumerate() if thread.name.startswith("cxent-")]
        return [os.sched_getaffinity(helper.native_id) for helper in helpers if helper.native_id is not None]

    assert any(allowed < cpus and len(allowed) == len(cpus) - 1 for allowed in affinities())
    two = set(sorted(cpus)[:2])
    try:
        for allowed in ({min(cpus)}, two):  # the process may use fewer CPUs, of which one is the caller's
            os.sched_setaffinity(0, allowed)
            found = affinities()
        assert any(helper < two for helper in found)
    finally:
        os.sched_setaffinity(0, cpus)
    affinities()
    assert any(len(helper) == len(cpus) - 1 for helper in affinities())


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
def test_cgroup_quota(tmp_path, files, membership, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    assert _workers._cgroup_quota(tmp_path / "membership", tmp_path) == quota


@pytest.mark.once
def test_no_cgroups(tmp_path):
    assert _workers._cgroup_quota(tmp_path / "no such file", tmp_path) == math.inf


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can pin a process")
def test_a_change_of_affinity_is_soon_seen():
    before = os.sched_getaffinity(0)
    usable = usable_cpus()
    try:
        os.sched_setaffinity(0, {min(before)})
        time.sleep(2 * _workers._FRESH)
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    time.sleep(2 * _workers._FRESH)
    assert usable_cpus() == usable


# The environment, but for a choice of the kernels in pure NumPy, which know no threads.
COMPILED = {name: value for name, value in os.environ.items() if (name, value) != ("CXENT_ISA", "python")}

LIFE_AND_DEATH = """
import atexit, os, sys, threading, warnings
import numpy as np
import cxent
from cxent import _workers

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is what is tested
_workers.usable_cpus = lambda: 2
cxent.kernels.threads.set_sizes(1000, 1000)
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
    assert run(LIFE_AND_DEATH) == ("at exit\n", "")


@pytest.mark.once
@pytest.mark.parametrize("spin", ["0", "50.5", "200"])
def test_time_that_threads_spin(spin):
    assert threads.spin_of(spin) == float(spin)


@pytest.mark.once
@pytest.mark.parametrize("spin", ["soon", "-1", "201", "nan"])
def test_time_that_threads_may_not_spin(spin):
    with pytest.raises(ValueError, match=f"^CXENT_SPIN must be a number of microseconds from 0 to 200, got '{spin}'$"):
        threads.spin_of(spin)


@pytest.mark.once
def test_time_that_threads_of_a_process_spin():
    code = "import numpy as np, cxent; cxent._workers.usable_cpus = lambda: 2; cxent.softmax(np.eye(500), workers=2)"
    assert run(code, CXENT_SPIN="0") == ("", "")
    assert "ValueError: CXENT_SPIN must be a number of microseconds" in run(code, CXENT_SPIN="soon")[1]
