"""Compile all modules for Linux (glibc, musl), macOS and Windows, on x86-64 and 64-bit Arm. Warnings are errors.

In a checkout: `pip install Cython setuptools ziglang`, then `python tools/compile_everywhere.py [target ...]`. ziglang
is a Clang with the headers of all these systems. Nothing is linked or run.
"""

import os
import runpy
import shutil
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from distutils.ccompiler import new_compiler
from pathlib import Path

from setuptools.errors import CompileError

TARGETS = [
    f"{cpu}-{system}" for system in ("linux-gnu", "linux-musl", "macos", "windows-gnu") for cpu in ("x86_64", "aarch64")
]
# The errors to find need no optimiser: invalid C, non-constants, or instructions that this level does not have.
FLAGS = ["-O0", "-fno-sanitize=all", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-Wno-unused", "-Wno-unused-parameter"]  # Cython emits names that not every module uses
FLAGS += ["-Wno-unused-command-line-argument"]  # zig itself passes an unused one

# Python's headers are the same everywhere except this one, which is generated when Python is built.
PYCONFIG = """
#ifndef Py_PYCONFIG_H
#define Py_PYCONFIG_H
#define _GNU_SOURCE 1
#define SIZEOF_INT __SIZEOF_INT__
#define SIZEOF_LONG __SIZEOF_LONG__
#define SIZEOF_LONG_LONG __SIZEOF_LONG_LONG__
#define SIZEOF_SIZE_T __SIZEOF_SIZE_T__
#define SIZEOF_VOID_P __SIZEOF_POINTER__
#define SIZEOF_UINTPTR_T __SIZEOF_POINTER__
#define SIZEOF_WCHAR_T __SIZEOF_WCHAR_T__
#define SIZEOF_PID_T 4
#define SIZEOF_TIME_T 8
#define SIZEOF__BOOL 1
#define ALIGNOF_MAX_ALIGN_T 16
#define HAVE_STDDEF_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_WCHAR_H 1
#define Py_ENABLE_SHARED 1
#ifdef _WIN32
#define MS_WINDOWS 1
#define MS_WIN64 1
#define HAVE_DECLSPEC_DLL 1
#define NT_THREADS 1
typedef long long Py_ssize_t;
#define HAVE_PY_SSIZE_T 1
#define PY_SSIZE_T_MAX 0x7fffffffffffffffLL
#else
#define HAVE_SSIZE_T 1
#define HAVE_PTHREAD_H 1
#define SIZEOF_PTHREAD_T 8
#define HAVE_CLOCK_GETTIME 1
#define HAVE_SYS_TIME_H 1
#endif
#endif
"""


# For Windows, zig's Clang has to look like clang-cl, which claims to be MSVC and not GNU C.
LIKE_CLANG_CL = """
#include <Python.h>
#include <intrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#undef __GNUC__
#define _MSC_VER 1940
"""


def main(targets: list[str]) -> int:
    setup = runpy.run_path("setup.py")
    every = setup["modules"](setup["LEVELS"])
    setup["translate"](every)
    sources = {module.name: module.sources for module in every}
    failed = False
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        include = Path(folder, "include")
        shutil.copytree(sysconfig.get_path("include"), include)
        (include / "pyconfig.h").write_text(PYCONFIG)
        (include / "like_clang_cl.h").write_text(LIKE_CLANG_CL)
        for target in targets:
            begun = time.perf_counter()
            command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-I", str(include), *FLAGS]
            if "windows" in target:
                command += ["-fms-extensions", "-include", "like_clang_cl.h"]
            compiler = new_compiler(compiler="unix")
            compiler.set_executables(compiler_so=command)
            levels = setup["LEVELS"] if target.startswith("x86_64") else ["baseline"]
            modules = setup["fit"](setup["modules"](levels), compiler)
            if len(modules) < 3 + 2 * len(levels) or not setup["has_vectors"](setup["Questions"](compiler)):
                failed = True
                print(f"{target}: no vectors, or a level is left out")

            def compile_one(module, compiler=compiler, output=str(Path(folder, target))):
                compiler.compile(
                    sources[module.name],
                    output_dir=output,
                    macros=module.define_macros,
                    include_dirs=module.include_dirs,
                    extra_postargs=[*module.extra_compile_args, *FLAGS],
                )

            errors = 0
            for result in [pool.submit(compile_one, module) for module in modules]:
                try:
                    result.result()
                except CompileError:
                    errors += 1
            failed |= errors > 0
            outcome = f"{errors} of {len(modules)} modules FAILED" if errors else f"{len(modules)} modules"
            print(f"{target:20s} {outcome}, {time.perf_counter() - begun:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or TARGETS))
