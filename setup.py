"""
Build the compiled kernel, where that can be done; all else is in ``pyproject.toml``.

Without a C compiler KNHK is complete all the same, with the reference kernel, and this says so.
``KNHK_NO_EXTENSION=1`` builds none; ``KNHK_REQUIRE_EXTENSION=1`` makes it an error that none can be built.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from Cython.Build import cythonize
except ImportError:  # without build isolation it may not be there
    cythonize = None

SOURCES = sorted(Path("knhk/_hot").glob("*.pyx"))
FORBIDDEN = os.environ.get("KNHK_NO_EXTENSION") == "1"
REQUIRED = os.environ.get("KNHK_REQUIRE_EXTENSION") == "1"


def say(why: str) -> None:
    """Say on the error stream that the reference kernel will be used; pip shows it with ``-v``."""
    print(f"KNHK: {why}: it will use the reference kernel, which does the same, only slower.", file=sys.stderr)


def extensions() -> list[Extension]:
    """Translate the kernel, and what is built on it, to C, if that is wanted."""
    if FORBIDDEN and REQUIRED:
        sys.exit("KNHK_NO_EXTENSION and KNHK_REQUIRE_EXTENSION contradict each other: unset one of them.")
    if FORBIDDEN:
        say("no compiled kernel, as KNHK_NO_EXTENSION=1 says")
        return []
    if cythonize is None:
        if REQUIRED:
            sys.exit("KNHK_REQUIRE_EXTENSION=1, but there is no Cython: pip install 'Cython>=3.1'.")
        say("no compiled kernel, as there is no Cython")
        return []
    options = [] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"]
    wanted = [
        Extension(f"knhk._hot.{each.stem}", [str(each)], extra_compile_args=options, include_dirs=["knhk/_hot"])
        for each in SOURCES
    ]
    translated: list[Extension] = cythonize(wanted, build_dir="build/cython")
    for extension in translated:
        # NOTE: on cythonize's result; set on what it is given, it is lost.
        extension.optional = not REQUIRED
    return translated


class BuildKernel(build_ext):
    """Builds as setuptools does; where that fails, says so and leaves no older kernel behind to run in its place."""

    def run(self) -> None:
        """Remember where the result goes: setuptools forgets while it builds."""
        self.into_sources = bool(self.inplace)
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Build one extension; setuptools goes on without an optional one that fails."""
        try:
            super().build_extension(ext)
        except Exception:
            if ext.optional:
                built = Path(self.get_ext_fullpath(ext.name))
                built.unlink(missing_ok=True)
                if self.into_sources:
                    (Path("knhk/_hot") / built.name).unlink(missing_ok=True)
                say(f"{ext.name} could not be compiled, see the compiler's messages")
            raise


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernel})
