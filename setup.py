"""The extension modules: the CPU test, and the kernels once for each dtype and instruction-set level."""

import os
import sys
import sysconfig

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# IEEE arithmetic, every sum in the order in which it is written, and nothing fused but what is written as fma.
KERNEL_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
# What must be inlined says so in the source, and so does what must be a vector. Beside that, -O3 would make modules a
# third larger, and no faster (0.96 to 1.04). Loops that begin anywhere have 0.86 to 1.0 of the speed on a Zen 2, as
# chance has it; jumps may go anywhere.
KERNEL_FLAGS += [
    "-fno-unswitch-loops",
    "-fno-tree-vectorize",
    "-fno-ipa-cp-clone",
    "--param=max-inline-insns-single=30",
]
KERNEL_FLAGS += ["-falign-loops=64", "-falign-jumps=1", "-falign-labels=1"]
OTHER_FLAGS = ["-Os"]
COMMON_FLAGS = ["-g0", "-Wno-attributes"]  # (Cython declares inline what is not to be inlined)
LINK_FLAGS = ["-Wl,--strip-all"] if sys.platform == "linux" else []
if sys.platform == "win32":
    KERNEL_FLAGS, OTHER_FLAGS, COMMON_FLAGS = [], [], []

LEVELS = {"baseline": ("", [])}
if sysconfig.get_platform().endswith("x86_64") and sys.platform != "win32":
    LEVELS["baseline"] = ("", OTHER_FLAGS)  # of CPUs before 2013: 0.7 of the speed, a sixth less to download for all
    LEVELS["v3"] = ("_v3", ["-march=x86-64-v3"])
    LEVELS["v4"] = ("_v4", ["-march=x86-64-v4", "-mprefer-vector-width=512"])


def chosen_levels():
    """The levels that are built: all of this platform, or those that the environment variable names."""
    wanted = os.environ.get("CXENT_BUILD_LEVELS")
    names = list(LEVELS) if wanted is None else wanted.replace(" ", "").split(",")
    for name in names:
        if name not in LEVELS:
            sys.exit(f"CXENT_BUILD_LEVELS has {name!r}; accepted on this platform are: {', '.join(LEVELS)}")
    return names


class BuildSideBySide(build_ext):
    """The modules are compiled side by side, on all cores."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()


# What Cython needs for memoryviews stands in a module that all kernels share: a third of the wheel and of the time.
MEMORYVIEWS = "cxent.kernels.memoryviews"
HELPERS = {
    MEMORYVIEWS: "cxent/kernels/memoryviews.c",
    "cxent.kernels.cpu": "cxent/kernels/cpu.pyx",
    "cxent.kernels.threads": "cxent/kernels/threads.pyx",
}

extensions = [
    Extension(
        name,
        [source],
        include_dirs=["cxent/kernels"],
        extra_compile_args=OTHER_FLAGS + COMMON_FLAGS,
        extra_link_args=LINK_FLAGS,
    )
    for name, source in HELPERS.items()
]
for level in chosen_levels():
    suffix, level_flags = LEVELS[level]
    for bits in ("32", "64"):
        extensions.append(
            Extension(
                f"cxent.kernels.float{bits}{suffix}",
                [f"cxent/kernels/float{bits}{suffix}.pyx"],
                include_dirs=["cxent/kernels"],
                define_macros=[("CXENT_REAL_BITS", bits)],
                extra_compile_args=KERNEL_FLAGS + level_flags + COMMON_FLAGS,
                extra_link_args=LINK_FLAGS,
            )
        )

Options.docstrings = False  # of modules that nobody imports but cxent

setup(
    cmdclass={"build_ext": BuildSideBySide},
    ext_modules=cythonize(
        extensions,
        build_dir="build",
        emit_linenums="CXENT_LINE_NUMBERS" in os.environ,  # for tools/coverage.sh
        shared_utility_qualified_name=MEMORYVIEWS,
        module_name=MEMORYVIEWS,  # of the shared module: else it is imported a second time, by its last name alone
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": True,
        },
    ),
)
