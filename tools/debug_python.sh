#!/usr/bin/env bash
# Run the suite on a debug build of Python, which checks reference counts and memory, and count references over many calls:
# tools/debug_python.sh [interpreter] [arguments of pytest]. Debian has the interpreter in python3-dbg.
# shellcheck disable=SC1091,SC2034,SC2154 # (what is sourced reads $python and sets $work)
set -euo pipefail
python=${1:-python3.11d}
source "$(dirname "$0")/fresh_checkout.sh"

"$work/env/bin/python" setup.py --quiet build_ext --inplace
export PYTHONPATH=$PWD
echo "== references"
"$work/env/bin/python" tools/leaks.py 100000
echo "== the suite"
"$work/env/bin/python" -m pytest -p no:cacheprovider "${@:2}"
