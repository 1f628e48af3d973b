"""``python -m cxent``: which kernels are in use, whether they compute correct results, and how fast they are.

``python -m cxent compare`` compares two files of logits.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from . import _command, _selfcheck, kernels, show_config
from ._workers import usable_cpus

_DESCRIPTION = "Print which kernels are in use, whether they compute correct results, and how fast they are."


def report(checks: list[_selfcheck.Check], speeds: list[_selfcheck.Speed]) -> None:
    """Print the results for people to read."""
    show_config()
    print(f"CPU: {_selfcheck.cpu_name()}, {platform_line()}")
    if not checks:
        print("\nself-check FAILED: no compiled kernels are installed, and the pure-Python ones are many times slower")
        return
    print(f"\nself-check   worst error (promised: at most {_selfcheck.MOST_ULPS})   golden hashes")
    for check in checks:
        golden = f"{check.golden_hashes - len(check.golden_failures)} of {check.golden_hashes}"
        print(
            f"{check.kernels:8} {'ok' if check.passed else 'FAILED':>6}   {check.worst_error:5.2f} ulp   "
            f"{golden if check.golden_hashes else '(not promised: no fused multiply-add)'}"
        )
        for failure in check.golden_failures:
            print(f"    different bits: {failure}")
    print("\nmillions of logits per second, float32, one thread    cxent    NumPy")
    for speed in speeds:
        print(f"{speed.call:50} {speed.cxent:8.0f} {speed.numpy:8.0f}")


def platform_line() -> str:
    """How many CPUs a call may use."""
    cpus = usable_cpus()
    return f"{cpus} {'core' if cpus == 1 else 'cores'} usable"


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: without a command 1 if a check fails or there are no compiled kernels to check."""
    parser = argparse.ArgumentParser(prog="python -m cxent", description=_DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print a JSON object, for bug reports")
    compare = _command.add_parser(parser.add_subparsers(dest="command", metavar="command"))
    chosen = parser.parse_args(arguments)
    try:
        return _command.run(compare, chosen) if chosen.command else _check(as_json=chosen.json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _check(*, as_json: bool) -> int:
    checks = [_selfcheck.check(name) for name in kernels.available() if name != "python"]
    speeds = _selfcheck.speeds()
    if as_json:
        found = {
            **show_config(mode="dicts"),
            "cpu": _selfcheck.cpu_name(),
            "usable_cpus": usable_cpus(),
            "checks": [check._asdict() for check in checks],
            "speeds": [speed._asdict() for speed in speeds],
        }
        print(json.dumps(found, indent=2))
    else:
        report(checks, speeds)
    return 0 if checks and all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
