#!/usr/bin/env bash
# Test coverage: lines of the Python layer with coverage.py, and lines of the kernels with gcov.
# tools/coverage.sh [level: baseline, v3 or v4] [arguments of pytest]
# shellcheck disable=SC1091,SC2034,SC2154 # (what is sourced reads $python and sets $work)
set -euo pipefail
level=${1:-v3}
source "$(dirname "$0")/fresh_checkout.sh"

"$work/env/bin/pip" install --quiet pytest-cov
echo "== the kernels, without optimisation and with counters"
sed -i 's/"-O[23s]"/"-O0"/' setup.py # (else a line that was compiled away counts as none)
CXENT_LINE_NUMBERS=1 CFLAGS=--coverage LDFLAGS=--coverage "$work/env/bin/python" setup.py --quiet build_ext \
    --inplace

echo "== the suite"
CXENT_ISA=$level PYTHONPATH=$PWD "$work/env/bin/python" -m pytest -q -p no:cacheprovider --cov "${@:2}"

echo "== lines of the kernels"
find build -name '*.gcda' | while read -r counts; do
    gcov --json-format --stdout --object-file "$counts" "$counts"
done > "$work/lines.json"
python3 - "$work/lines.json" << 'END'
import collections, json, pathlib, sys

reached = collections.defaultdict(dict)  # by file and line number, whether any module reached it
for report in pathlib.Path(sys.argv[1]).read_text().splitlines():
    for file in json.loads(report)["files"]:
        file_lines = reached[pathlib.Path(file["file"]).name]
        for line in file["lines"]:
            number = line["line_number"]
            file_lines[number] = file_lines.get(number, False) or line["count"] > 0
for name, lines in sorted(reached.items()):
    source = pathlib.Path("cxent/kernels") / name
    if name.endswith((".pxd", ".pyx", ".pxi", ".h")) and source.exists():
        last = len(source.read_text().splitlines())  # (what Cython adds has numbers beyond it)
        lines = {number: was_reached for number, was_reached in lines.items() if number <= last}
        missed = [number for number, was_reached in sorted(lines.items()) if not was_reached]
        share = 1 - len(missed) / len(lines)
        print(f"{name:20s} {len(lines):5d} lines, {share:6.1%} reached; not", *missed)
END
