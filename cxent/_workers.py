"""One call's rows, split over threads.

A kernel releases the GIL and computes every row by itself, so parts of a call run side by side. How a call is split
depends on its shape alone, and the sums of the parts are added in one order: the results have the same bits for any
number of workers. The calling thread takes parts too, as many as no other thread has taken, so that no call waits for a
free thread: calls may come from many threads at once.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ._types import Array

# Numbers in a part: some 80 microseconds' work, many times what it takes to hand it to a thread.
_PART = 1 << 18
_MOST_PARTS = 64

_executor: ThreadPoolExecutor | None = None


def run(workers: int, kernel: Callable[..., float | None], logits: Array, *arguments: Any) -> float:
    """The kernel over all rows, on up to `workers` threads; returns the sum of what it returns.

    Logits are ``(outer, classes, inner)``. They and the other arrays are split along ``outer`` or ``inner``.
    """
    if logits.size < 2 * _PART:
        return kernel(logits, *arguments) or 0.0
    parts = min(_MOST_PARTS, logits.size // _PART)
    slices = _slices(logits.shape[0], logits.shape[2], parts)
    remaining = deque(range(len(slices)))
    sums = [0.0] * len(slices)

    def work() -> None:
        while True:
            try:
                i = remaining.popleft()
            except IndexError:
                return
            part = [a[slices[i]] if isinstance(a, np.ndarray) else a for a in (logits, *arguments)]
            sums[i] = kernel(*part) or 0.0

    threads = 1 if workers == 1 else min(workers, usable_cpus(), len(slices))
    helpers = _start(work, threads - 1)
    try:
        work()
    finally:
        remaining.clear()  # after an error: nothing is written once this call has ended
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()
    total = sum(sums)
    return math.fsum(sums) if math.isfinite(total) else total  # fsum refuses what overflows


def usable_cpus() -> int:
    """The CPUs that this process may use: by its affinity, and by the quota of its cgroup."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return math.ceil(min(cpus, quota))


@lru_cache(maxsize=1)
def _cgroup_quota(membership: Path, mount: Path) -> float:
    """The CPUs' worth of time that Linux grants the process's cgroup and those around it."""
    quotas = [math.inf]
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree; version 1 one for each set of controllers.
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
    except (OSError, ValueError):  # no such file: no quota here
        return math.inf


def _slices(outer: int, inner: int, parts: int) -> list[tuple[Any, ...]]:
    """Cuts along outer, or along inner at multiples of 64, since so many rows side by side are computed together."""
    if outer >= inner // 64:
        cuts = [outer * i // parts for i in range(parts + 1)]
        return [(slice(a, b),) for a, b in pairwise(cuts) if a < b]
    cuts = [inner * i // parts // 64 * 64 for i in range(parts)] + [inner]
    return [(Ellipsis, slice(a, b)) for a, b in pairwise(cuts) if a < b]


def _start(work: Callable[[], None], threads: int) -> list[Future[None]]:
    """Have `work` done by other threads too; by none if there can be none."""
    global _executor
    helpers: list[Future[None]] = []
    if threads > 0 and _executor is None:
        _executor = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="cxent")
    try:
        while len(helpers) < threads and _executor is not None:
            helpers.append(_executor.submit(work))
    except RuntimeError:  # the interpreter is shutting down, or the system has no more threads
        pass
    return helpers


def _forget_executor() -> None:
    """In a forked child there is the executor, but not its threads."""
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_executor)
