#!/usr/bin/env bash
# The suite on a debug build of Python, which checks reference counts and memory, and a count of references over many calls:
# tools/debug_python.sh [interpreter] [arguments of pytest]. Debian has the interpreter in python3-dbg.
set -euo pipefail
python=${1:-python3.11d}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git clone --quiet "$root" "$work/cxent"
cd "$work/cxent"
"$python" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --editable ".[test]"
echo "== references"
"$work/env/bin/python" tools/leaks.py 100000
echo "== the suite"
"$work/env/bin/python" -m pytest -p no:cacheprovider "${@:2}"
