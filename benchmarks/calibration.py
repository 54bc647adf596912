"""What the machine can do at this moment: an empty Python loop, a chain of dependent additions, and the time stamp counter.

The additions take one cycle each, so their rate is the core's clock; where there is no C compiler, they are left out.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.measure import loop_nanoseconds, slices

_SOURCE = """
#include <stdint.h>
#if defined(__x86_64__)
#include <x86intrin.h>
uint64_t ticks(void) { return __rdtsc(); }
#else
uint64_t ticks(void) { return 0; }
#endif
#define ADD x += step; __asm__ volatile("" : "+r"(x));
uint64_t additions(uint64_t eights, uint64_t step) {
    uint64_t x = 0;
    for (uint64_t turn = 0; turn < eights; turn++) { ADD ADD ADD ADD ADD ADD ADD ADD }
    return x;
}
"""


@attrs.frozen
class Calibration:
    """
    The machine's mood.

    Args:
        loop: one turn of an empty Python loop, in nanoseconds.
        addition: one dependent addition in C, in nanoseconds, which is one cycle of the core; None without a C compiler.
        ticks: ticks of the time stamp counter in a nanosecond; None where there is none or no C compiler.
    """

    loop: float
    addition: float | None = None
    ticks: float | None = None


def calibrate(*, compiler: Sequence[str] = ("cc", "gcc", "clang"), seconds: float = 0.2) -> Calibration:
    """Measure it; `compiler` names the C compilers to try, in order."""
    loop = loop_nanoseconds(seconds)
    found = next(filter(None, map(shutil.which, compiler)), None)
    if found is None:
        return Calibration(loop)
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "calibration.c"), Path(folder, "calibration.so")
        source.write_text(_SOURCE, encoding="utf-8")
        built = subprocess.run(  # noqa: S603 - a compiler found on the path, arguments of our own
            [found, "-O2", "-shared", "-fPIC", "-o", library, source], capture_output=True, check=False
        )
        if built.returncode:
            return Calibration(loop)
        return Calibration(loop, *_measure(ctypes.CDLL(str(library)), seconds))


def _measure(library: ctypes.CDLL, seconds: float) -> tuple[float, float | None]:
    """Return nanoseconds an addition, and ticks a nanosecond."""
    for name in ("additions", "ticks"):
        getattr(library, name).restype = ctypes.c_uint64
    library.additions.argtypes = (ctypes.c_uint64, ctypes.c_uint64)

    def work() -> int:
        if library.additions(100_000, 1) != 800_000:
            raise AssertionError("the additions were not made")
        return 800_000

    addition = slices(work, seconds=seconds)[0] * 1e9
    first, begun = library.ticks(), time.perf_counter_ns()
    if not first:
        return addition, None
    while time.perf_counter_ns() - begun < seconds * 1e9:
        pass
    last, ended = library.ticks(), time.perf_counter_ns()
    return addition, (last - first) / (ended - begun)
