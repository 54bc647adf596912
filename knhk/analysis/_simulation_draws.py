"""Random numbers of a simulation, reference version: a generator of its own, so that a seed means the same for ever.

The generator is xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47(4), 2021),
its state filled by splitmix64 from the seed, as its authors advise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from knhk.analysis._simulation_model import Distribution, Shape

_MASK: Final = 2**64 - 1
_TO_UNIT: Final = 1.0 / 2**53


def _splitmix64(seed: int) -> Iterator[int]:
    state = seed & _MASK
    while True:
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        word = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        word = ((word ^ word >> 27) * 0x94D049BB133111EB) & _MASK
        yield word ^ word >> 31


class Draws:
    """A stream of random numbers; `stream` tells several with one seed apart."""

    def __init__(self, seed: int, stream: int) -> None:
        words = _splitmix64(seed)
        for _ in range(4 * stream):
            next(words)
        self._state = [next(words) for _ in range(4)]

    def unit(self) -> float:
        """A number from 0, included, to 1, excluded, on a grid of 2**-53."""
        s0, s1, s2, s3 = self._state
        total = (s0 + s3) & _MASK
        word = ((total << 23 | total >> 41) + s0) & _MASK
        s2 ^= s0
        s3 ^= s1
        self._state = [s0 ^ s3, s1 ^ s2, s2 ^ (s1 << 17 & _MASK), (s3 << 45 | s3 >> 19) & _MASK]
        return (word >> 11) * _TO_UNIT

    def exponential(self, mean: float) -> float:
        """An exponential duration."""
        return -math.log(1.0 - self.unit()) * mean

    def normal(self) -> float:
        """A standard normal number (Box and Muller, 1958; the second of the pair is not used)."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.unit()))
        return radius * math.cos(2.0 * math.pi * self.unit())

    def duration(self, of: Distribution) -> float:
        """A duration in seconds; infinite for what never comes."""
        match of.shape:
            case Shape.CONSTANT:
                return of.a
            case Shape.EXPONENTIAL:
                return self.exponential(of.a)
            case Shape.UNIFORM:
                return of.a + (of.b - of.a) * self.unit()
            case Shape.TRIANGULAR:
                return self._triangular(of.a, of.b, of.c)
            case Shape.NORMAL:
                while (drawn := of.a + of.b * self.normal()) < 0.0:
                    pass
                return drawn
            case Shape.LOGNORMAL:
                return math.exp(of.a + of.b * self.normal())
            case _:
                return math.inf

    def _triangular(self, low: float, mode: float, high: float) -> float:
        """By the inverse of the distribution function."""
        share = self.unit()
        width = high - low
        if share * width < mode - low:
            return low + math.sqrt(share * width * (mode - low))
        return high - math.sqrt((1.0 - share) * width * (high - mode))
