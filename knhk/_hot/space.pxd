# cython: language_level=3
"""How a search lies in memory: the rules of a net, the states found so far, and what is known of them.

A state is a row of 64-bit words, of which there are two kinds:

- *masks*: one bit a condition and one a task that runs or drains.  A move is five masks (`Masked`, `knhk._hot.masks`).  For nets
  without weights and without partial joins that remember, as long as no condition holds two tokens; else the search says so, and
  a general one begins again.
- *general*: one byte a condition (up to 255 tokens), one a task, and bits for the inputs that a partial join has seen; the moves
  are the rules of `knhk._kernel`, written once more on bytes (`Task`, `knhk._hot.general`).
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from knhk._hot.layout cimport Arc, Span

cdef enum:  # what a search returns, as in `knhk.analysis._space`
    DONE = 0
    LIMIT = 1
    RECORD = 2
    UNSAFE = 3
    ASK = 4  # inside only: an OR-join of the next state has to be decided
    MEMORY = 5

cdef enum:  # kinds of masked moves
    PLAIN = 0
    GATED = 1
    COUNTED = 2

cdef enum:  # flags of a task
    DETACHED = 1
    JOIN_CANCELS = 2
    CANCELS_ITSELF = 4
    FUSED = 8
    DRAINS = 16
    STARTS_AT_ONCE = 32
    COMPLETES_AT_ONCE = 64

cdef enum:
    MOST = 255  # tokens of a condition in a general state
    NO_STATE = 0xFFFFFFFF

# --- the rules of a net -------------------------------------------------------------------------------------------------

cdef struct Masked:  # its masks: need, forbid, clear, put, any
    uint32_t task
    uint32_t required
    uint8_t kind
    uint8_t begins
    uint8_t urgent

cdef struct Task:
    Span inputs  # of arcs
    Span reads  # of numbers, as the next four
    Span conditions
    Span tasks
    Span join_conditions
    Span join_tasks
    Span choices  # of spans of arcs
    uint32_t required
    int32_t seen  # where its bytes for a round begin, or -1
    uint8_t join
    uint8_t flags

# --- a search -----------------------------------------------------------------------------------------------------------

cdef struct Space:
    bint general
    bint implicit
    bint some_urgent  # whether there are urgent moves, and others
    bint some_calm
    uint32_t words  # a state
    uint32_t places
    uint32_t task_count
    # masks
    Masked* moves
    uint64_t* masks
    uint32_t move_count
    uint64_t* ended_by
    uint64_t* lives_by
    uint64_t* leftover
    uint64_t* ever
    uint64_t* or_masks  # by OR-join: inputs, reads, running
    # general
    Task* tasks
    Arc* arcs
    uint32_t* numbers
    Span* choices
    Span* swallowers  # by place, of numbers: tasks
    uint8_t* sinks
    uint32_t status_at
    # OR-joins
    uint32_t* joins
    uint32_t join_count
    uint8_t* gates  # by task, what was decided for the state in hand
    bint answered
    bint blind  # nothing is known of the moves of the state in hand
    # states
    uint64_t* states
    uint32_t* before
    uint64_t* first_edge
    uint8_t* spared  # ended, or not known well enough to say that the end is out of reach
    uint32_t count
    uint32_t expanded
    uint32_t room
    uint64_t* table
    uint64_t table_mask
    uint32_t* edges
    uint64_t edge_count
    uint64_t edge_room
    uint64_t* made
    uint64_t* hashes
    uint32_t made_count
    uint32_t made_room
    uint64_t* late  # what state `pending` leads to, made and not yet looked up
    uint64_t* late_hashes
    uint32_t late_count
    uint32_t late_room
    uint32_t pending
    uint64_t* current
    # findings
    uint32_t improper
    uint32_t stuck
    uint32_t record
    uint32_t ceiling
    uint8_t* started
    uint32_t* most
    bint cut
    bint out_of_memory
