# The classes are the reference kernel's for the type checker: the same contract, which tests/test_hot.py holds them to.
# Two things it cannot say: the properties `tokens`, `status`, `seen` and `undecided` of a compiled marking are copies, and
# attributes cannot be assigned to.
from knhk._kernel import Marking as Marking
from knhk._kernel import Net as Net

COMPILED: bool
