"""The compiled data plane: optional, so that nodens installs everywhere.

NODENS_NO_EXT=1 leaves it out; NODENS_REQUIRE_EXT=1 fails without it; otherwise a machine without compiler or Cython
gets the pure-Python one, and is told so once.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

SOURCES = [f"agent/wire/native/{name}.c" for name in ("alias", "answer", "table", "timed", "worker")]
HEADERS = [f"agent/wire/native/{name}.h" for name in ("answer", "cookie", "hash", "page", "table", "worker")]


def is_set(name: str) -> bool:
    """Read a switch: set and neither empty nor 0."""
    return os.environ.get(name, "") not in {"", "0"}


def say(words: str) -> None:
    """Tell whoever installs."""
    sys.stderr.write(f"nodens: {words}\n")


class BuildOptional(build_ext):
    """Goes on without an optional extension, also if there is no compiler to begin with."""

    def build_extension(self, ext: Extension) -> None:
        """Compile it, or say why not."""
        try:
            super().build_extension(ext)
        except (BaseError, CCompilerError, OSError) as error:
            if not ext.optional:
                say(f"NODENS_REQUIRE_EXT is set and the compiled data plane could not be built: {error}")
                say("it takes a C compiler, Python's headers (Debian: gcc libc6-dev python3-dev) and Linux")
                raise
            say(f"the pure-Python data plane is installed, the compiled one could not be built: {error}")


def extensions() -> list[Extension]:
    """Give the extension, translated to C, or none."""
    required = is_set("NODENS_REQUIRE_EXT")
    if is_set("NODENS_NO_EXT"):
        if required:
            sys.exit("nodens: NODENS_NO_EXT and NODENS_REQUIRE_EXT contradict each other")
        return []
    try:
        from Cython.Build import cythonize
        from Cython.Compiler import Options
    except ImportError:
        if required:
            sys.exit("nodens: NODENS_REQUIRE_EXT is set and Cython is not installed")
        say("no Cython here: the pure-Python data plane is installed")
        return []
    Options.warning_errors = True
    fast = Extension(
        "agent.wire._fast",
        ["agent/wire/_fast.pyx", *SOURCES],
        include_dirs=["agent/wire"],
        depends=HEADERS,
        extra_compile_args=["-std=gnu11", "-O3", "-g0", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"],
        extra_link_args=["-pthread"],
    )
    made: list[Extension] = cythonize([fast], build_dir="build/cython", compiler_directives={"language_level": 3})
    for extension in made:
        extension.optional = not required
    return made


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOptional})
