"""The extension modules: the CPU test, and the kernels once for each dtype and instruction-set level.

Which flags a compiler knows is found out by compiling an empty file, so there is no list of compilers here. Cython
translates all modules (`translate`) once a compiler has been found.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

# IEEE arithmetic, sums in the order in which they are written, and no fused operations except explicit fma.
KERNEL_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
# The source says what must be inlined and what must be a vector. Beyond that, -O3 would make modules a third larger and
# no faster (0.96 to 1.04). Unaligned loops have 0.86 to 1.0 of the speed on a Zen 2, by
# chance; jumps need no alignment.
KERNEL_FLAGS += [
    "-fno-unswitch-loops",
    "-fno-tree-vectorize",
    "-fno-ipa-cp-clone",
    "-fno-split-paths",
    "--param=max-inline-insns-single=30",
    "--param=max-completely-peeled-insns=80",
]
KERNEL_FLAGS += ["-falign-loops=64", "-falign-jumps=1", "-falign-labels=1"]
OTHER_FLAGS = ["-Os"]
# For entry points, which are called often and have no loops. (At -Os small calls have 0.94 of the speed, at -O2 alone
# the modules are a quarter larger.)
ENTRY_FLAGS = ["-O2", "-ffp-contract=off", "-fno-tree-vectorize", "-fno-tree-pre", "-fno-gcse"]
ENTRY_FLAGS += ["-fno-code-hoisting", "-falign-functions=1", "-falign-jumps=1", "-falign-labels=1", "-falign-loops=1"]
ENTRY_FLAGS += ["--param=max-inline-insns-auto=2", "--param=max-inline-insns-single=10"]
ENTRY_FLAGS += ["--param=early-inlining-insns=0"]
COMMON_FLAGS = ["-g0", "-Wno-attributes"]  # (Cython declares functions inline that must not be inlined)
if sys.platform == "linux":
    COMMON_FLAGS += ["-fno-asynchronous-unwind-tables"]  # saves a thirtieth: no exception passes through C
LINK_FLAGS = ["-Wl,--strip-all", "-Wl,--build-id=none"] if sys.platform == "linux" else []

# For each level, its flags. v3 and v4 require their first flag.
LEVELS = {"baseline": []}
if sysconfig.get_platform().endswith(("x86_64", "amd64")):
    OTHER_FLAGS += ["-march=x86-64"]  # (by default, zig builds for this very CPU)
    ENTRY_FLAGS += ["-march=x86-64"]
    # (For CPUs before 2013: at 0.7 of the speed, the download is a seventh smaller.)
    LEVELS["baseline"] = [*OTHER_FLAGS, "-fno-move-loop-invariants"]
    LEVELS["v3"] = ["-march=x86-64-v3"]
    LEVELS["v4"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

NO_COMPILER = (
    "cxent needs a C compiler and Python's C headers, and one of them is missing. Debian, Ubuntu: apt install gcc "
    "python3-dev. Fedora: dnf install gcc python3-devel. macOS: xcode-select --install. Windows: Visual Studio Build "
    "Tools with C++ and its Clang."
)
NO_VECTORS = (
    "cxent: the kernels compute one number at a time, at an eighth to a fifth of the speed, as this compiler has no "
    "vectors for this CPU. GCC 12 or newer and Clang have them; on Windows install Clang (clang-cl) with Visual Studio."
)


class Questions:
    """Questions to a compiler: which flags it knows, and what it compiles."""

    def __init__(self, compiler):
        self.compiler = compiler
        self.usual = self.said([])
        self.answers = {}  # for each set of flags, whether it knows them

    def said(self, flags, source="int cxent;"):
        """What the compiler prints. Raises CompileError with its output if it fails."""
        printed = []

        def call(command, **_):
            path = {"PATH": self.compiler._paths} if self.compiler.compiler_type == "msvc" else {}
            try:
                done = subprocess.run(
                    command, env=os.environ | path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
                )
            except OSError as error:
                raise CompileError(str(error)) from error
            printed.append(done.stdout.decode(errors="replace"))
            if done.returncode:
                raise CompileError(printed[-1])

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "question.c")
            path.write_text(source + "\n")
            # Distutils builds the command, and passes it to `spawn` or, in newer versions, to `call`.
            self.compiler.spawn = self.compiler.call = call
            try:
                self.compiler.compile([str(path)], output_dir=folder, extra_postargs=list(flags))
            finally:
                del self.compiler.spawn, self.compiler.call
        return "".join(printed).replace(folder, "")

    def compiles(self, source):
        try:
            self.said([], source)
        except CompileError:
            return False
        return True

    def knows(self, *flags):
        """Whether it accepts these flags, and prints the same as without them: some compilers warn about flags that
        they ignore."""
        if flags not in self.answers:
            try:
                self.answers[flags] = self.said(flags) == self.usual
            except CompileError:
                self.answers[flags] = False
        return self.answers[flags]

    def known(self, flags):
        """The flags that it knows, in its spelling."""
        if self.knows(*flags):
            return list(flags)
        spelled = [next(filter(self.knows, spellings(flag)), None) for flag in flags]
        return [flag for flag in spelled if flag is not None]


def spellings(flag):
    yield flag
    yield f"/clang:{flag}"  # clang-cl
    if "x86-64" in flag:
        yield flag.replace("x86-64", "x86_64").replace("_64-v", "_64_v")  # zig cc


def use_clang_cl(compiler, plat_name):
    """Use Clang instead of MSVC, which has no vectors: the one that comes with Visual Studio, or another."""
    if not compiler.initialized:
        compiler.initialize(plat_name)
    llvm = [Path(folder, "Llvm") for folder in Path(compiler.cc).parents[5:6]]  # of Tools/MSVC/14.44/bin/HostX64/x64
    folders = [*compiler._paths.split(os.pathsep), *os.environ["PATH"].split(os.pathsep)]
    folders += [path / name for path in llvm for name in ("x64/bin", "ARM64/bin", "bin")]
    folders += [Path(os.environ.get("ProgramFiles", "C:/Program Files"), "LLVM/bin")]
    clang = shutil.which("clang-cl", path=os.pathsep.join(map(str, folders)))
    if clang is None:
        return
    msvc = compiler.cc, compiler.compile_options
    compiler.cc = clang
    compiler.compile_options = [flag for flag in msvc[1] if flag != "/GL"]  # (for MSVC's linker)
    target = {"win-amd64": "x86_64", "win-arm64": "aarch64", "win32": "i686"}[plat_name]
    compiler.compile_options.append(f"--target={target}-pc-windows-msvc")
    try:
        Questions(compiler).said([], "#include <Python.h>")
    except CompileError as error:
        print(f"cxent: {clang} cannot compile Python's headers and is not used:\n{error}")
        compiler.cc, compiler.compile_options = msvc


def has_vectors(ask):
    """Whether simd.h finds vectors: GCC, Clang and clang-cl have them for x86-64 and 64-bit Arm."""
    simd = Path(__file__).resolve().parent / "cxent/kernels/simd.h"
    return ask.compiles(
        f'#define CXENT_REAL_BITS 32\n#include "{simd.as_posix()}"\n#if CXENT_W == 1\n#error no vectors\n#endif'
    )


def fit(extensions, compiler):
    """The extensions that this compiler can build, with the flags that it knows."""
    ask = Questions(compiler)
    vectors = has_vectors(ask)
    if not vectors:
        print(NO_VECTORS)
    for level, flags in LEVELS.items():
        wanted = level != "baseline" and any(extension.level == level for extension in extensions)
        if wanted and not (vectors and ask.known(flags[:1])):
            missing = f"this compiler has no {flags[0]}" if vectors else "this compiler has no vectors"
            if "CXENT_BUILD_LEVELS" in os.environ:
                sys.exit(f"CXENT_BUILD_LEVELS has {level!r}, but {missing}")
            print(f"cxent: the kernels of {level} are left out: {missing}")
            extensions = [extension for extension in extensions if extension.level != level]
    for extension in extensions:
        extension.extra_compile_args = ask.known(extension.extra_compile_args)
    return extensions


class BuildSideBySide(build_ext):
    """Compile the modules in parallel, on all cores."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        try:
            if self.compiler.compiler_type == "msvc":
                use_clang_cl(self.compiler, self.plat_name)
            Questions(self.compiler).said([], "#include <Python.h>")
        except (CompileError, PlatformError) as error:
            print(error, flush=True)
            sys.exit(NO_COMPILER)
        self.extensions = fit(self.extensions, self.compiler)
        translate(self.extensions)
        super().build_extensions()


def chosen_levels():
    """The levels to build: all of this platform, or those named by the environment variable."""
    wanted = os.environ.get("CXENT_BUILD_LEVELS")
    names = list(LEVELS) if wanted is None else wanted.replace(" ", "").split(",")
    for name in names:
        if name not in LEVELS:
            sys.exit(f"CXENT_BUILD_LEVELS must name some of {', '.join(LEVELS)} on this platform, got {name!r}")
    return names


# Cython's code for memoryviews is in a module that all kernels share, which saves a third of the wheel and build time.
MEMORYVIEWS = "cxent.kernels.memoryviews"
HELPERS = {
    MEMORYVIEWS: "cxent/kernels/memoryviews.c",
    "cxent.kernels.cpu": "cxent/kernels/cpu.pyx",
    "cxent.kernels.threads": "cxent/kernels/threads.pyx",
}


def modules(levels):
    """The extensions of these levels and those shared by all, with all flags that a compiler might know."""
    found = []
    for name, source in HELPERS.items():
        found.append(Extension(name, [source], extra_compile_args=OTHER_FLAGS + COMMON_FLAGS))
        found[-1].level = "baseline"
    for bits in ("32", "64"):
        flags = {"": ENTRY_FLAGS} | {f"_{level}": KERNEL_FLAGS + LEVELS[level] for level in levels}
        for suffix, its_flags in flags.items():
            name = f"float{bits}{suffix}"
            found.append(Extension(f"cxent.kernels.{name}", [f"cxent/kernels/{name}.pyx"]))
            found[-1].define_macros = [("CXENT_REAL_BITS", bits)]
            found[-1].extra_compile_args = its_flags + COMMON_FLAGS
            found[-1].level = suffix[1:] or "baseline"
    for extension in found:
        extension.include_dirs = ["cxent/kernels"]
        extension.extra_link_args = LINK_FLAGS
    return found


def translate(extensions):
    """Translate the sources to C with Cython."""
    Options.docstrings = False  # (only cxent imports these modules)
    translated = cythonize(
        extensions,
        build_dir="build",
        cache="CYTHON_CACHE_DIR" in os.environ,  # where one checkout is built many times
        emit_linenums="CXENT_LINE_NUMBERS" in os.environ,  # for tools/coverage.sh
        shared_utility_qualified_name=MEMORYVIEWS,
        module_name=MEMORYVIEWS,  # of the shared module, which would otherwise be imported twice
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": True,
            "auto_pickle": False,  # (nobody pickles kernels)
            "binding": False,  # (functions of C, not those of Cython: an eighth of the entry points' size)
        },
    )
    for extension, with_c in zip(extensions, translated, strict=True):
        extension.sources = with_c.sources


if __name__ == "__main__":
    setup(cmdclass={"build_ext": BuildSideBySide}, ext_modules=modules(chosen_levels()))
