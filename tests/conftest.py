"""Tests run over several kernel modules, but for those marked ``once``: what these test is the same Python for all.

There are two sizes of runs. ``pytest`` takes the fastest module of this CPU and the reference, leaves out what is slow,
and of a test with many parameters takes so many combinations that each value of each parameter is in one of them.
``pytest --full`` takes every module and every combination, and fails unless each module passed tests that this CPU can
run. ``CXENT_ISA=v3 pytest`` runs over one module alone.

The compiled modules are imported here, unguarded: where one is missing, nothing runs. One that this CPU cannot run is
skipped with that reason, and named in the last lines.
"""

import os
import sysconfig
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, settings

import cxent.kernels
from cxent import _workers
from cxent.kernels import threads

BUILT = ["python", "baseline"]
if sysconfig.get_platform().endswith(("x86_64", "amd64")):
    BUILT += ["v3", "v4"]
FORCED = os.environ.get("CXENT_ISA")
CHOSEN = [FORCED] if FORCED else BUILT

SUPPORTED = [name for name in BUILT if name in cxent.kernels.supported()]

for name in CHOSEN:
    if name in SUPPORTED:
        cxent.kernels.load(name)

passed: Counter[str] = Counter()

settings.register_profile(
    "cxent",
    deadline=None,  # the first call of a kernel is slower than the others
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("cxent"), max_examples=10)


def pytest_generate_tests(metafunc):
    if not metafunc.definition.get_closest_marker("once"):
        every = FORCED or metafunc.config.getoption("full")
        names = CHOSEN if every else dict.fromkeys(["python", SUPPORTED[-1]])
        metafunc.parametrize("kernels", names, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def kernels(request):
    """The kernels behind the public functions while the test runs; for a test marked ``once`` those of this process."""
    name = getattr(request, "param", cxent.kernels.serving.name)
    if name not in SUPPORTED:
        pytest.skip(f"this CPU cannot run the {name} kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cxent.kernels, "serving", cxent.kernels.load(name))
        yield cxent.kernels.serving


@pytest.fixture
def close_the_short_way(monkeypatch):
    """A function after which plain arrays go the general way too."""

    def close():
        for module in cxent.kernels.serving[1:]:
            for name in [name for name in vars(module) if name.startswith("plain_")]:
                monkeypatch.setattr(module, name, lambda *_: None)

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


def pytest_collection_modifyitems(config, items):
    if config.getoption("full") or any("::" in argument for argument in config.args):
        return
    kept = {item.nodeid for item in covering(item for item in items if not item.get_closest_marker("slow"))}
    left_out = [item for item in items if item.nodeid not in kept]
    items[:] = [item for item in items if item.nodeid in kept]
    config.hook.pytest_deselected(items=left_out)


def covering(items):
    """Items in which each value of each parameter is: the first of all, the second of all, and so on."""
    of_functions = defaultdict(list)
    for item in items:
        # (Of each parametrization the name of its value, which pytest shows nowhere else but in a joined name.)
        values = item.callspec._idlist if hasattr(item, "callspec") else []
        module = item.callspec.params.get("kernels") if values else None
        of_functions[item.nodeid.partition("[")[0], module].append((item, tuple(enumerate(values))))
    for cases in of_functions.values():
        parameters = [list(dict.fromkeys(values)) for values in zip(*(values for _, values in cases), strict=True)]
        missing = {value for values in parameters for value in values}
        longest = max(map(len, parameters), default=1)
        diagonal = {tuple(values[k % len(values)] for values in parameters) for k in range(longest)}
        for item, values in sorted(cases, key=lambda case: case[1] not in diagonal):
            if not values or missing & set(values):
                missing -= set(values)
                yield item


def pytest_addoption(parser):
    taken = "every kernel module, every combination of parameters, and what is slow"
    parser.addoption("--full", action="store_true", help=f"take {taken}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.passed:
        passed["once" if item.get_closest_marker("once") else item.callspec.params["kernels"]] += 1
    return report


def pytest_sessionfinish(session):
    whole = session.config.getoption("full") and session.config.args_source != pytest.Config.ArgsSource.ARGS
    if whole and not all(passed[name] for name in SUPPORTED if name in CHOSEN):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    counts = ", ".join(f"{name} {passed[name]}" for name in SUPPORTED)
    terminalreporter.write_line(f"passed on each kernel module: {counts}; of what is tested once: {passed['once']}")
    for name in BUILT:
        if name not in SUPPORTED:
            terminalreporter.write_line(f"built and skipped: this CPU cannot run the {name} kernels")
