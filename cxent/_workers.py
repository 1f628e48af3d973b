"""How many CPUs a call may use.

The threads themselves, and how they share the rows of a call, are in `kernels/threads.pyx`. Results have the same bits
for any number of threads.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from pathlib import Path


def _of_environment() -> int:
    """The value of CXENT_WORKERS, or 1."""
    text = os.environ.get("CXENT_WORKERS") or "1"
    try:
        workers = int(text)
    except ValueError:
        workers = 0
    if workers == 0:
        raise ValueError(f"CXENT_WORKERS must be a number of threads, or -1 for all CPUs, got {text!r}")
    return workers


_of_process = _of_environment()
default: ContextVar[int] = ContextVar("workers", default=_of_process)  # for calls without `workers`

_FRESH = 1e-3  # seconds
_known = (1, -math.inf)  # number of CPUs, and when to look again


def usable_cpus() -> int:
    """The number of CPUs that this process may use, according to its affinity and the quota of its cgroup.

    Looked up at most once per millisecond, since it takes as long as a small call.
    """
    global _known
    now = time.monotonic()
    cpus, until = _known
    if now >= until:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        cpus = int(min(cpus, _own_quota()))
        _known = cpus, now + _FRESH
    return cpus


def _found_quota() -> float:
    """The quota of this process in whole CPUs, looked up once, since that takes 10 microseconds."""
    quota = _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return math.inf if quota == math.inf else math.ceil(quota)


_own_quota: Callable[[], float] = cache(_found_quota)


def _cgroup_quota(membership: Path, mount: Path) -> float:
    """The smallest quota, in CPUs, of the process's cgroup and its ancestors."""
    quotas = [math.inf]
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree, version 1 has one for each set of controllers.
        top = mount / controllers
        for group in (top / path.lstrip("/"), *(top / path.lstrip("/")).parents):
            quotas.append(_quota(group))
            if group == top:
                break
    return min(quotas)


def _quota(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file: no quota
        return math.inf
