"""
pm4py: a Petri net that is played by its semantics; it has no tasks with functions, so one is called at each transition.

After https://processintelligence.solutions/pm4py/examples/petri-net-management/ and the package's own page of the API
(`pm4py.objects.petri_net.semantics`: `enabled_transitions`, `execute`): take an enabled transition, execute it, until the
final marking.
pm4py is under the AGPL; this program runs by itself and is no part of KNHK.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

from pm4py.objects.petri_net import semantics
from pm4py.objects.petri_net.obj import Marking, PetriNet
from pm4py.objects.petri_net.utils.petri_utils import add_arc_from_to

from benchmarks.peers.protocol import Run, Worker, expect, serve

NO_STORE = "it has no store"
NO_CASES = "it plays nets and keeps no cases"


class Pm4py(Worker):
    """The library."""

    name = "pm4py"
    version = version("pm4py")
    absent: ClassVar[Mapping[str, str]] = {
        "some": "a Petri net has no OR-join",
        "instances": "a Petri net has no multiple instances",
        "loop": "a Petri net has no data that could count",
        "durable": NO_STORE,
        "restart": NO_STORE,
        "idle": NO_CASES,
    }

    def sequence(self, size: int, _folder: str) -> Run:
        """Transitions in a row."""
        net = _Net()
        for number in range(size):
            net.transition(f"t{number}", [f"p{number}"], [f"p{number + 1}"])
        return net.runs("p0", f"p{size}")

    def parallel(self, size: int, _folder: str) -> Run:
        """A transition with several outputs, and one with several inputs."""
        net = _Net()
        net.transition("fork", ["start"], [f"in{number}" for number in range(size)])
        for number in range(size):
            net.transition(f"b{number}", [f"in{number}"], [f"out{number}"])
        net.transition("join", [f"out{number}" for number in range(size)], ["end"])
        return net.runs("start", "end")

    def choice(self, size: int, _folder: str) -> Run:
        """A place with several consumers; whichever comes first is taken, as there is no data to choose by."""
        net = _Net()
        net.transition("fork", ["start"], ["chosen"])
        for number in range(size):
            net.transition(f"b{number}", ["chosen"], ["merged"])
        net.transition("join", ["merged"], ["end"])
        return net.runs("start", "end")


class _Net:
    """A net in the making."""

    def __init__(self) -> None:
        self._net: Any = PetriNet("net")
        self._places: dict[str, Any] = {}

    def transition(self, name: str, inputs: list[str], outputs: list[str]) -> None:
        """Add a transition."""
        made = PetriNet.Transition(name, name)
        self._net.transitions.add(made)
        for each in inputs:
            add_arc_from_to(self._place(each), made, self._net)
        for each in outputs:
            add_arc_from_to(made, self._place(each), self._net)

    def runs(self, start: str, end: str) -> Run:
        """Return what plays the net from one place to another."""
        net, initial, final = self._net, Marking({self._place(start): 1}), Marking({self._place(end): 1})

        def run() -> None:
            marking = initial
            while marking != final:
                transition = next(iter(semantics.enabled_transitions(net, marking)))
                marking = semantics.execute(transition, net, marking)
                expect(marking is not None)
                _work(transition)

        return run

    def _place(self, name: str) -> Any:
        if name not in self._places:
            self._places[name] = PetriNet.Place(name)
            self._net.places.add(self._places[name])
        return self._places[name]


def _work(_transition: Any) -> None:
    """Do a task's work."""


if __name__ == "__main__":
    serve(Pm4py())
