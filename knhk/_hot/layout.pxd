# cython: language_level=3
"""How a net and its state lie in memory: what the compiled kernel, and all that is built on it, agree on.

A net is compiled once.  There are two forms of its state:

- *One word*, for a net of at most 64 conditions and tasks together whose arcs all have weight 1, without partial joins that
  swallow and without instances that run on: a bit a condition, and above them a bit a task that holds its thread of control.
  A task is then one 64-byte line of masks (`WordLine`), and a step a few instructions (`knhk._hot.words`).
- *Counters*, for all others, and from the moment on at which a condition holds two tokens: a 32-bit counter a condition, and
  spans of numbers in pools that hold as much as a task needs (`TaskLine`, `knhk._hot.counts`).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef KNHK_LAYOUT
    #define KNHK_LAYOUT
    #if defined(_MSC_VER)
    #include <intrin.h>
    static CYTHON_INLINE int knhk_lowest(unsigned __int64 word) {
        unsigned long position;
        _BitScanForward64(&position, word);
        return (int)position;
    }
    #define knhk_population(word) ((int)__popcnt64(word))
    #define knhk_likely(condition) (condition)
    #else
    #define knhk_lowest(word) __builtin_ctzll(word)
    #define knhk_population(word) __builtin_popcountll(word)
    #define knhk_likely(condition) __builtin_expect(!!(condition), 1)
    #endif
    #define KNHK_ONE ((uint64_t)1)
    #define KNHK_MOST ((uint64_t)1 << 31)
    #define KNHK_NEVER ((uint32_t)0xFFFFFFFF)
    #endif
    """
    uint64_t ONE "KNHK_ONE"
    uint64_t MOST "KNHK_MOST"  # tokens that one condition may hold
    uint32_t NEVER "KNHK_NEVER"  # stands for every weight above MOST: never there, never allowed
    int lowest "knhk_lowest"(uint64_t word) noexcept nogil
    int population "knhk_population"(uint64_t word) noexcept nogil
    bint likely "knhk_likely"(bint condition) noexcept nogil

cdef enum:  # status of a task
    IDLE = 0
    BUSY = 1
    DRAINING = 2

cdef enum:  # joins and splits
    AND = 0
    XOR = 1
    OR = 2
    PARTIAL = 3

cdef enum:  # what is known of an OR-join
    WAITING = 0
    ENABLED = 1
    UNDECIDED = 2
    OPEN = 3  # the cheap tests do not tell

cdef enum:  # flags of a task
    DETACHED = 1
    JOIN_CANCELS = 2
    CANCELS = 4
    CANCELS_ITSELF = 8
    UNORDERED = 16  # an XOR-join whose flow order is not that of its conditions' numbers
    READS = 32

cdef enum:  # what came of a step on a word
    FIRED = 0
    REFUSED = 1  # the task is not enabled
    NO_CHOICE = 2  # what was chosen is no choice of the split
    UNSAFE = 3  # a condition would hold two tokens
    GENERAL = 4  # the task needs `knhk._hot.words.start_word` and its kin

# --- a net, for counters ------------------------------------------------------------------------------------------------

cdef struct Span:  # from `begin` up to, without, `end` in a pool
    uint32_t begin
    uint32_t end

cdef struct Arc:
    uint32_t place
    uint32_t weight

cdef struct TaskLine:
    Span inputs  # of arcs
    Span outputs  # of arcs
    Span reads  # of numbers, as all spans below
    Span affected  # the tasks to look at again when all inputs were taken, each once
    uint32_t required
    int32_t slot  # where a non-cancelling partial join remembers its round, or -1
    int32_t region  # what it cancels, or -1
    uint8_t join
    uint8_t split
    uint8_t flags

cdef struct Region:
    Span conditions
    Span tasks
    Span join_conditions
    Span join_tasks

cdef struct PlaceLine:
    Span consumers
    Span swallowers
    uint32_t sink

cdef struct Slot:  # of a partial join: its words of one bit an input
    uint32_t task
    uint32_t words
    uint32_t inputs

# --- a net, for one word ------------------------------------------------------------------------------------------------

cdef struct WordLine:  # 64 bytes, one line of the cache; bits of conditions and running tasks, but for `rivals` and `fed`
    uint64_t inputs
    uint64_t busy  # the task's own bit
    uint64_t outputs
    uint64_t reads
    uint64_t cancels  # what its completion removes: conditions, and the bits of running tasks
    uint64_t rivals  # tasks that take from or read an input
    uint64_t fed  # tasks that take from or read an output, and the task itself
    uint8_t join
    uint8_t split
    uint8_t flags
    uint8_t required

cdef struct WordRegion:
    uint64_t join_cancels  # what its start removes
    uint64_t looks  # tasks to look at after its completion has cancelled
    uint64_t join_looks

# --- OR-joins -----------------------------------------------------------------------------------------------------------

cdef struct Piece:  # a word of a bit set that has bits in it
    uint32_t at
    uint64_t mask

cdef struct InputView:  # an input of an OR-join (steps 1 and 2 of `knhk._orjoin`)
    uint32_t place
    uint32_t weight
    Span upstream  # of pieces
    Span escorts

cdef struct OrView:
    uint32_t task
    Span inputs  # of input views
    uint64_t relevant  # what of a word the answer depends on; 0 as long as that is not known
    uint64_t* keys
    uint8_t* answers

# --- a net --------------------------------------------------------------------------------------------------------------

cdef struct NetData:
    TaskLine* lines
    PlaceLine* places
    Arc* arcs
    uint32_t* numbers
    Region* regions
    Slot* slots
    WordLine* words
    WordRegion* word_regions
    OrView* or_joins
    InputView* inputs
    Piece* pieces
    uint64_t sinks  # for a word
    uint64_t running  # for a word: the bits of the tasks
    uint32_t place_count
    uint32_t task_count
    uint32_t slot_count
    uint32_t or_count
    uint32_t seen_words
    uint32_t ready_words
    uint32_t top_words
    uint32_t held_words
    uint32_t swallowed_at_most  # by all partial joins in one step
    bint implicit
    bint fits_word
    bint viewed  # whether `or_joins` is filled in
    # Scratch space of one step.
    uint32_t* touched
    size_t touched_room
    uint32_t* chosen
    size_t chosen_room

# --- a state ------------------------------------------------------------------------------------------------------------

cdef struct Sight:  # what is known of which tasks are ready, beside a word; a bit a task
    uint64_t ready  # as of the last look at all that was `touched` since
    uint64_t touched
    uint64_t announced  # ready when the caller was last told
    uint64_t ceased  # announced, and not ready at some moment since
    bint dirty  # whether the OR-joins must be looked at again

cdef struct Round:  # of a partial join
    uint32_t present  # whether ``seen`` has it
    uint32_t left  # how many inputs have not come

cdef struct State:
    uint32_t* counts
    uint64_t* held  # a bit a marked condition and above them a bit a running task: what an OR-join looks at first
    uint64_t* ready
    uint64_t* top  # by word of `ready`, whether it is not 0
    uint64_t* announced
    uint64_t* ceased
    uint64_t* came  # tasks that became ready since the caller was told, perhaps only for a moment
    uint64_t* news  # by word of `ready`, whether `ceased` or `came` has a bit there
    uint64_t* seen
    Round* rounds
    uint8_t* status
    void* block
    int64_t busy
    int64_t live  # conditions that are marked and feed a task
    uint32_t seen_count
    bint dirty
