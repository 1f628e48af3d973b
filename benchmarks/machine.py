"""The machine, and processes for measuring: pinned to CPUs, with set threads, allocator and instruction set."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# If CXENT_ISA limits cxent's kernels, peers are limited too where possible. They read these variables when imported.
# ONNX Runtime, scikit-learn and SciPy always use what the CPU has.
AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
LIMITS = {
    "v3": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": AVX512,
    },
}
# For time measurements, the allocator keeps freed memory, so that no contender waits for pages.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}


def limits() -> dict[str, str]:
    return LIMITS.get(os.environ.get("CXENT_ISA", ""), {})


def ask(script: str, cpus: int, keep_memory: bool = True, **arguments: Any) -> Any:
    """The result of the main function of a script, run in a process that is pinned to this many CPUs."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < cpus:
        sys.exit(f"{cpus} CPUs are needed, {len(available)} are available")
    threads = {"OMP_NUM_THREADS": str(cpus), "OPENBLAS_NUM_THREADS": str(cpus)}
    process = subprocess.run(
        [sys.executable, HERE / f"{script}.py"],
        input=json.dumps(arguments),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **limits(), **threads, **(KEEP_MEMORY if keep_memory else {})},
        preexec_fn=lambda: os.sched_setaffinity(0, available[-cpus:]),
    )
    return json.loads(process.stdout)


def answer(function: Callable[..., Any]) -> None:
    """Run in the script: the other end of ``ask``."""
    print(json.dumps(function(**json.load(sys.stdin))))


def machine(distributions: dict[str, str]) -> dict[str, Any]:
    """Everything that the measurements depend on."""
    import cxent

    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    field = {key.strip(): value.strip() for key, value in lines}
    versions = {"cxent": cxent.__version__}  # possibly from a checkout that is not installed
    for name, distribution in distributions.items():
        try:
            versions.setdefault(name, importlib.metadata.version(distribution))
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": f"{field['model name']} (family {field['cpu family']}, model {field['model']})",
        "kernels": cxent.kernels.serving.name,
        "limits": limits(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "versions": versions,
    }
