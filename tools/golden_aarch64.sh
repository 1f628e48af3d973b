#!/usr/bin/env bash
# Run the golden test for 64-bit Arm on a Debian x86-64 machine: cross-compiled, and run under qemu-user.
# Needs gcc-aarch64-linux-gnu and qemu-user-static; run as root, since it adds arm64 to the package lists.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== Python 3.11 for aarch64, from Debian's packages, unpacked"
dpkg --add-architecture arm64
apt-get update -qq
mkdir "$work/debs" "$work/arm64"
(cd "$work/debs" && apt-get download -qq \
    python3.11-minimal:arm64 libpython3.11-minimal:arm64 libpython3.11-stdlib:arm64 libc6:arm64 libgcc-s1:arm64 \
    libstdc++6:arm64 zlib1g:arm64 libexpat1:arm64 libssl3:arm64 libffi8:arm64 libbz2-1.0:arm64 liblzma5:arm64 \
    libuuid1:arm64 libsqlite3-0:arm64)
for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/arm64"; done

echo "== NumPy and the test tools"
python3 -m venv "$work/build"
"$work/build/bin/pip" install --quiet --upgrade pip
"$work/build/bin/pip" install --quiet Cython "setuptools>=77" numpy
"$work/build/bin/pip" install --quiet --target "$work/site" --python-version 3.11 --only-binary=:all: \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    numpy ml_dtypes pytest hypothesis

echo "== the kernels, cross-compiled"
git clone --quiet "$root" "$work/cxent"
cd "$work/cxent"
CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" _PYTHON_HOST_PLATFORM=linux-aarch64 \
    "$work/build/bin/python" setup.py --quiet build_ext --inplace
for module in cxent/kernels/*.so; do mv "$module" "${module%%.*}.so"; done
file cxent/kernels/float32.so | grep --only-matching "ARM aarch64"

echo "== the golden test under qemu"
PYTHONPATH="$work/cxent:$work/site" PYTHONHOME="$work/arm64/usr" CXENT_ISA=baseline \
    qemu-aarch64-static -L "$work/arm64" "$work/arm64/usr/bin/python3.11" -m pytest -p no:cacheprovider --full tests/test_golden.py
