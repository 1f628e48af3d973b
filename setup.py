"""The extension modules: the CPU test, and the kernels once for every instruction-set level."""

import sys
import sysconfig

from Cython.Build import cythonize
from setuptools import Extension, setup

# Vectors without -ffast-math: IEEE arithmetic, the order of every sum as written; only a * b + c may be fused.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-g0"]
if sys.platform == "win32":
    FLAGS = []

LEVELS = {"cxent._kernels": []}
if sysconfig.get_platform() == "linux-x86_64":
    LEVELS["cxent._kernels_v3"] = ["-march=x86-64-v3"]
    LEVELS["cxent._kernels_v4"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

extensions = [Extension("cxent._cpu", ["cxent/_cpu.pyx"], extra_compile_args=FLAGS)]
for name, level in LEVELS.items():
    extensions.append(Extension(name, [name.replace(".", "/") + ".pyx"], extra_compile_args=FLAGS + level))

setup(
    ext_modules=cythonize(
        extensions,
        build_dir="build",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": True,
        },
    )
)
