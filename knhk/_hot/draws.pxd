# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Random numbers and what is drawn with them, as `knhk.analysis._simulation_draws` defines it, equal to the bit."""

from libc.math cimport INFINITY, M_PI, cos, exp, log, sqrt
from libc.stdint cimport uint64_t

cdef struct Shaped:
    int shape
    double a
    double b
    double c

cdef struct Stream:
    uint64_t s0
    uint64_t s1
    uint64_t s2
    uint64_t s3


cdef inline uint64_t splitmix64(uint64_t* state) noexcept nogil:
    cdef uint64_t word
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    word = (state[0] ^ (state[0] >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    word = (word ^ (word >> 27)) * <uint64_t>0x94D049BB133111EB
    return word ^ (word >> 31)


cdef inline double unit(Stream* s) noexcept nogil:
    cdef uint64_t total = s.s0 + s.s3
    cdef uint64_t word = ((total << 23) | (total >> 41)) + s.s0
    cdef uint64_t shifted = s.s1 << 17
    s.s2 ^= s.s0
    s.s3 ^= s.s1
    s.s1 ^= s.s2
    s.s0 ^= s.s3
    s.s2 ^= shifted
    s.s3 = (s.s3 << 45) | (s.s3 >> 19)
    return <double>(word >> 11) * (1.0 / 9007199254740992.0)


cdef inline double exponential(Stream* s, double mean) noexcept nogil:
    return -log(1.0 - unit(s)) * mean


cdef inline double normal(Stream* s) noexcept nogil:
    cdef double radius = sqrt(-2.0 * log(1.0 - unit(s)))
    return radius * cos(2.0 * M_PI * unit(s))


cdef inline double triangular(Stream* s, double low, double mode, double high) noexcept nogil:
    cdef double share = unit(s), width = high - low
    if share * width < mode - low:
        return low + sqrt(share * width * (mode - low))
    return high - sqrt((1.0 - share) * width * (high - mode))


cdef inline double duration(Stream* s, const Shaped* of) noexcept nogil:
    cdef double drawn
    if of.shape == 0:
        return of.a
    if of.shape == 1:
        return exponential(s, of.a)
    if of.shape == 2:
        return of.a + (of.b - of.a) * unit(s)
    if of.shape == 3:
        return triangular(s, of.a, of.b, of.c)
    if of.shape == 4:
        drawn = of.a + of.b * normal(s)
        while drawn < 0.0:
            drawn = of.a + of.b * normal(s)
        return drawn
    if of.shape == 5:
        return exp(of.a + of.b * normal(s))
    return INFINITY
