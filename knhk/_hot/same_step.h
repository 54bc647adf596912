/* The same step of a task for many cases at once: see knhk/_hot/batch.pyx.
 *
 * Each function works through blocks.  It computes all new words of a block without a branch, and whether any of its cases
 * refuses; if none does the block is written, else its cases are looked at one by one.  The compiler makes vector code of the
 * first part, once for each instruction set named below; which one runs is chosen when the module is loaded.
 */
#ifndef KNHK_SAME_STEP
#define KNHK_SAME_STEP

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { KNHK_BLOCK = 256 };

typedef struct {
    uint64_t inputs, busy, outputs;
} knhk_masks;

typedef size_t (*knhk_step)(const knhk_masks *, uint64_t *, const uint64_t *, size_t);

/* What one case takes, puts and refuses with; `facts` are the conditions chosen where the split leaves a choice. */
#define KNHK_TAKES_AND taken = inputs; wrong = (word & guard) ^ inputs;
#define KNHK_TAKES_XOR taken = word & inputs; wrong = (word & busy) | (0 - (uint64_t)(taken == 0)); taken &= 0 - taken;
#define KNHK_PUTS_AND put = outputs;
#define KNHK_PUTS_OR put = outputs & fact; wrong |= 0 - (uint64_t)(put == 0);
#define KNHK_PUTS_XOR KNHK_PUTS_OR put &= 0 - put;

#define KNHK_SAME(name, attributes, TAKES, PUTS, fact_of)                                                                \
    attributes static size_t name(const knhk_masks *masks, uint64_t *words, const uint64_t *facts, size_t count) {       \
        const uint64_t inputs = masks->inputs, busy = masks->busy, outputs = masks->outputs, guard = inputs | busy;      \
        uint64_t block[KNHK_BLOCK];                                                                                      \
        size_t refused = 0;                                                                                              \
        (void)facts; (void)guard; (void)busy;                                                                            \
        for (size_t begin = 0; begin < count; begin += KNHK_BLOCK) {                                                     \
            const size_t length = count - begin < KNHK_BLOCK ? count - begin : KNHK_BLOCK;                               \
            uint64_t wrongs = 0;                                                                                         \
            for (size_t each = 0; each < length; each++) {                                                               \
                const uint64_t word = words[begin + each];                                                               \
                const uint64_t fact = fact_of;                                                                           \
                uint64_t taken, put, wrong;                                                                              \
                (void)fact;                                                                                              \
                TAKES PUTS                                                                                               \
                wrongs |= wrong | ((word ^ taken) & put);                                                                \
                block[each] = (word ^ taken) | put;                                                                      \
            }                                                                                                            \
            if (wrongs == 0) {                                                                                           \
                memcpy(words + begin, block, length * sizeof(uint64_t));                                                 \
                continue;                                                                                                \
            }                                                                                                            \
            for (size_t each = 0; each < length; each++) {                                                               \
                const uint64_t word = words[begin + each];                                                               \
                const uint64_t fact = fact_of;                                                                           \
                uint64_t taken, put, wrong;                                                                              \
                (void)fact;                                                                                              \
                TAKES PUTS                                                                                               \
                if (wrong | ((word ^ taken) & put))                                                                      \
                    refused++;                                                                                           \
                else                                                                                                     \
                    words[begin + each] = block[each];                                                                   \
            }                                                                                                            \
        }                                                                                                                \
        return refused;                                                                                                  \
    }

#define KNHK_SAME_ALL(level, attributes)                                                                                 \
    KNHK_SAME(knhk_and_and_##level, attributes, KNHK_TAKES_AND, KNHK_PUTS_AND, 0)                                        \
    KNHK_SAME(knhk_and_xor_##level, attributes, KNHK_TAKES_AND, KNHK_PUTS_XOR, facts[begin + each])                      \
    KNHK_SAME(knhk_and_or_##level, attributes, KNHK_TAKES_AND, KNHK_PUTS_OR, facts[begin + each])                        \
    KNHK_SAME(knhk_xor_and_##level, attributes, KNHK_TAKES_XOR, KNHK_PUTS_AND, 0)                                        \
    KNHK_SAME(knhk_xor_xor_##level, attributes, KNHK_TAKES_XOR, KNHK_PUTS_XOR, facts[begin + each])                      \
    KNHK_SAME(knhk_xor_or_##level, attributes, KNHK_TAKES_XOR, KNHK_PUTS_OR, facts[begin + each])                        \
    static const knhk_step knhk_steps_##level[2][3] = {                                                                  \
        {knhk_and_and_##level, knhk_and_xor_##level, knhk_and_or_##level},                                               \
        {knhk_xor_and_##level, knhk_xor_xor_##level, knhk_xor_or_##level},                                               \
    };

KNHK_SAME_ALL(baseline, )

#if defined(__x86_64__) && defined(__GNUC__)
#define KNHK_X86 1
KNHK_SAME_ALL(avx2, __attribute__((target("avx2"))))
KNHK_SAME_ALL(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))))
#else
#define KNHK_X86 0
#endif

/* The highest level that this processor has: 0 baseline, 1 AVX2, 2 AVX-512. */
static int knhk_best_level(void) {
#if KNHK_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2"))
        return 1;
#endif
    return 0;
}

static knhk_step knhk_step_of(int level, int join, int split) {
#if KNHK_X86
    if (level == 2)
        return knhk_steps_avx512[join][split];
    if (level == 1)
        return knhk_steps_avx2[join][split];
#endif
    (void)level;
    return knhk_steps_baseline[join][split];
}

/* The processor's reference clock, or 0 where it cannot be read. */
static uint64_t knhk_ticks(void) {
#if KNHK_X86
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

static inline void knhk_soon(const void *address) {
#if defined(__GNUC__)
    __builtin_prefetch(address, 1);
#else
    (void)address;
#endif
}

#endif
