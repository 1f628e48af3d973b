"""Tests run over several kernel modules, but for those marked ``once``: what these test is the same Python for all.

There are two sizes of runs. ``pytest`` leaves out what is slow. On the fastest module of this CPU it takes so many
combinations of a test's parameters that each value of each is in one of them; on every other module that the CPU can
run, one. ``pytest --full`` takes every combination. ``CXENT_ISA=v3 pytest`` runs over one module
alone. A run of all files fails unless tests passed on each of its modules.

The compiled modules are imported here, unguarded: where one is missing, nothing runs. One that this CPU cannot run is
named in the last lines. Where not all levels were built, ``CXENT_BUILD_LEVELS`` says which, as it did to the build.
"""

import inspect
import os
import sysconfig
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, settings

import cxent.kernels
from cxent import _workers
from cxent.kernels import threads

LEVELS = ["baseline"]
if sysconfig.get_platform().endswith(("x86_64", "amd64")):
    LEVELS += ["v3", "v4"]
BUILT = ["python", *(name for name in LEVELS if name in os.environ.get("CXENT_BUILD_LEVELS", ",".join(LEVELS)))]
SUPPORTED = [name for name in BUILT if name in cxent.kernels.supported()]
FORCED = os.environ.get("CXENT_ISA")
CHOSEN = [FORCED] if FORCED else SUPPORTED

for name in CHOSEN:
    cxent.kernels.load(name)

passed: Counter[str] = Counter()
left_out: Counter[str] = Counter()  # by test function

settings.register_profile(
    "cxent",
    deadline=None,  # the first call of a kernel is slower than the others
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("cxent"), max_examples=10)


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc):
    """Run over the kernel modules; of the combinations of a test's parameters, take those that this run is to have.

    (Here, before pytest makes an item of each of 30,000.)
    """
    if not metafunc.definition.get_closest_marker("once"):
        metafunc.parametrize("kernels", CHOSEN, indirect=True, scope="session")
    result = yield
    if is_quick(metafunc.config) and metafunc._calls:
        fast = [call for call in metafunc._calls if all(mark.name != "slow" for mark in call.marks)]
        kept = list(covering(fast))
        left_out[metafunc.definition.nodeid] += len(metafunc._calls) - len(kept)
        metafunc._calls[:] = kept
    return result


def is_quick(config):
    """Whether this run leaves out something: not if it is told of one test."""
    return not config.getoption("full") and not any("::" in argument for argument in config.args)


def pytest_collection_modifyitems(config, items):
    if is_quick(config):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(scope="session", autouse=True)
def kernels(request):
    """The kernels behind the public functions while the test runs; for a test marked ``once`` those of this process."""
    name = getattr(request, "param", cxent.kernels.serving.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cxent.kernels, "serving", cxent.kernels.load(name))
        yield cxent.kernels.serving


@pytest.fixture
def close_the_short_way(monkeypatch):
    """A function after which plain arrays go the general way too."""

    def close():
        for of_dtype in cxent.kernels.serving[1:]:
            owner = of_dtype if inspect.ismodule(of_dtype) else type(of_dtype)
            for name in [name for name in dir(owner) if name.startswith("plain_")]:
                monkeypatch.setattr(owner, name, lambda *_: None)

    return close


@pytest.fixture
def share_small_calls(monkeypatch):
    """A function after which calls on few numbers have parts of so many, and four CPUs to share them."""
    before = []

    def share(part_size):
        monkeypatch.setattr(_workers, "usable_cpus", lambda: 4)
        before.append(threads.set_sizes(part_size, part_size))

    yield share
    for sizes in reversed(before):
        threads.set_sizes(*sizes)


def pytest_configure(config):
    settings.load_profile("cxent" if config.getoption("full") else "quick")


def covering(calls):
    """Combinations in which each value of each parameter is: the first of all, the second of all, and so on."""
    of_modules = defaultdict(list)
    for call in calls:
        # (Of each parametrization the name of its value, which pytest shows nowhere else but in a joined name.)
        of_modules[call.params.get("kernels")].append((call, tuple(enumerate(call._idlist))))
    for module, cases in of_modules.items():
        if module not in (None, CHOSEN[-1]):
            yield cases[0][0]
            continue
        parameters = [list(dict.fromkeys(values)) for values in zip(*(values for _, values in cases), strict=True)]
        missing = {value for values in parameters for value in values}
        longest = max(map(len, parameters), default=1)
        diagonal = {tuple(values[k % len(values)] for values in parameters) for k in range(longest)}
        for call, values in sorted(cases, key=lambda case: case[1] not in diagonal):
            if missing & set(values):
                missing -= set(values)
                yield call


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="take every combination of parameters, and what is slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.passed:
        passed["once" if item.get_closest_marker("once") else item.callspec.params["kernels"]] += 1
    return report


def untested(config):
    """The kernel modules that this run should have tested, and did not."""
    chosen = config.option.keyword or config.option.collectonly
    whole = config.args_source != pytest.Config.ArgsSource.ARGS and not chosen
    return [name for name in CHOSEN if whole and not passed[name]]


def pytest_sessionfinish(session):
    if session.exitstatus == pytest.ExitCode.OK and untested(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    counts = ", ".join(f"{name} {passed[name]}" for name in SUPPORTED)
    terminalreporter.write_line(f"passed on each kernel module: {counts}; of what is tested once: {passed['once']}")
    if left_out.total():
        terminalreporter.write_line(f"left out: {left_out.total():,} combinations and slow tests, which --full takes")
    for name in untested(config):
        terminalreporter.write_line(f"FAILED: the {name} kernels went untested", red=True)
    for name in BUILT:
        if name not in SUPPORTED:
            terminalreporter.write_line(f"built and skipped: this CPU cannot run the {name} kernels")
