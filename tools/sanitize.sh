#!/usr/bin/env bash
# Run the suite with AddressSanitizer and UndefinedBehaviorSanitizer in the kernels: tools/sanitize.sh [arguments of pytest].
# Needs GCC's sanitizers, and the packages of the [test] extra. Ends with an error at the first report.
# shellcheck disable=SC1091,SC2034,SC2154 # (what is sourced reads $python and sets $work)
set -euo pipefail
source "$(dirname "$0")/fresh_checkout.sh"

echo "== the kernels, with both sanitizers, and without optimisation (else the build takes six minutes)"
sed -i 's/"-O[23s]"/"-O0"/' setup.py
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" \
    LDFLAGS="-fsanitize=address,undefined" "$work/env/bin/python" setup.py --quiet build_ext --inplace

echo "== the suite"
export PYTHONPATH=$PWD # (before an installed cxent)
# A report ends the process, so pytest must not capture output (-s).
# Python frees little at exit, so leaks are left to tools/leaks.py.
LD_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so):$(gcc -print-file-name=libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
    "$work/env/bin/python" -m pytest -p no:cacheprovider -s "$@"
