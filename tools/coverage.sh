#!/usr/bin/env bash
# How much of the source the suite reaches: lines of the Python layer by coverage.py, and lines of the kernels by gcov.
# tools/coverage.sh [level: baseline, v3 or v4] [arguments of pytest]
# shellcheck disable=SC1091,SC2034,SC2154 # (what is sourced reads $python and sets $work)
set -euo pipefail
level=${1:-v3}
source "$(dirname "$0")/fresh_checkout.sh"

"$work/env/bin/pip" install --quiet pytest-cov
echo "== the kernels, without optimisation and with counters"
levels=$([ "$level" = baseline ] && echo baseline || echo "baseline,$level") # (some tests want the baseline too)
CXENT_BUILD_LEVELS=$levels CXENT_LINE_NUMBERS=1 CFLAGS="-O0 --coverage" LDFLAGS=--coverage \
    "$work/env/bin/python" setup.py --quiet build_ext --inplace

echo "== the suite"
CXENT_ISA=$level "$work/env/bin/python" -m pytest -q -p no:cacheprovider --cov "${@:2}"

echo "== lines of the kernels"
find build -name '*.gcda' | while read -r counts; do
    gcov --object-file "$counts" --preserve-paths "$counts" > /dev/null 2>&1
    folder=$(mktemp -d "$work/report.XXXX") # of its own, for the reports of two modules have the same names
    mv ./*.gcov "$folder"
done
python3 - "$work" << 'END'
import collections, pathlib, sys

lines = collections.defaultdict(dict)  # of each room: the number of a line, and whether it was reached
for report in pathlib.Path(sys.argv[1]).glob("report.*/*.gcov"):
    for line in report.read_text(errors="replace").splitlines():
        if line.count(":") < 2:  # of a branch or a function
            continue
        count, number, text = line.split(":", 2)
        if number.strip() == "0":
            room = text.removeprefix("Source:").rsplit("/", 1)[-1] if text.startswith("Source:") else room
        elif count.strip() != "-":
            reached = not count.strip().startswith(("#", "="))
            lines[room][int(number)] = lines[room].get(int(number), False) or reached
for room in sorted(room for room in lines if room.endswith((".pxd", ".pyx", ".pxi", ".h"))):
    missed = [number for number, reached in sorted(lines[room].items()) if not reached]
    share = 1 - len(missed) / len(lines[room])
    print(f"{room:20s} {len(lines[room]):5d} lines, {share:6.1%} reached; not", *missed)
END
