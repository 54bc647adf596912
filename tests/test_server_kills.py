"""The record of calls after kills: every change has its entry, every entry its change."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from knhk.server.chain import verify
from knhk.server.configuration import Configuration
from knhk.server.serving import AUDIT_KEY_FILE, Application, make
from tests.served import ORDER, SECRET, token
from tests.served_workers import serving_nursery, start_serving

KILLS = 50
CLIENTS = 4
_TOLD_OF = {
    "case_created": "case.create",
    "case_started": "case.start",
    "case_suspended": "case.suspend",
    "task_started": "item.start",
}
_CHANGED = {"workflow.register": 201, "case.create": 201} | dict.fromkeys(
    ("case.start", "case.suspend", "item.start"), 200
)
"""The status of a call that has changed something."""


class Client:
    """
    Somebody who creates cases and works on them, over one connection, until it breaks.

    Attributes:
        answered: how many answers he had.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
        self.answered = 0
        self._thread = threading.Thread(target=self._work)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the connection is broken."""
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()

    def ask(self, path: str, body: Any = None) -> Any:
        """Send a request; what is answered is counted, whether it was done or refused."""
        self._connection.request("POST", f"/api/v1{path}", json.dumps(body or {}), self._headers)
        answer = json.loads(self._connection.getresponse().read())
        self.answered += 1
        return answer

    def _work(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                case = self.ask("/cases", {"spec_id": "order"})["case_id"]
                # The second start is refused.
                for what in ("start", "start"):
                    self.ask(f"/cases/{case}/{what}")
                # The second registration changes nothing.
                for _ in range(2):
                    self.ask("/workflows", {"spec": {**ORDER, "id": f"of-{case}"}})
                self.ask(f"/workitems/{case}:1/start")
                self.ask(f"/cases/{case}/suspend")


def happened(made: Application) -> Counter[tuple[str, str]]:
    """What the histories of the cases tell, and what is registered, as operations on what they were about."""
    engine = made.tenants.engine("default")
    found = Counter(("workflow.register", each.spec_id) for each in engine.store.specifications())
    for header in engine.cases():
        for event in engine.case(header.case_id).history():
            operation = _TOLD_OF.get(event.kind.value)
            if operation is not None:
                about = f"{header.case_id}:1" if operation == "item.start" else header.case_id
                found[operation, about] += 1
    return found


def test_record_and_histories_agree_after_fifty_kills(tmp_path: Path) -> None:
    """
    After SIGKILL under load, fifty times, every change of a case and every registration has its one entry, every entry its change,
    and the chain is whole.
    """
    chance = random.Random(3)
    state = tmp_path / "s"
    answered = 0
    with serving_nursery() as nursery:
        for number in range(KILLS):
            worker, port = start_serving(nursery, state, DURABILITY="normal", INSTANCE_ID=f"i{number}")
            with worker:
                if not number:
                    first = Client(port)
                    first.ask("/workflows", {"spec": ORDER})
                    first.close()
                clients = [Client(port) for _ in range(CLIENTS)]
                for each in clients:
                    each.start()
                enough, pause = chance.randrange(4, 40), threading.Event()
                while sum(each.answered for each in clients) < enough:
                    pause.wait(0.001)
                worker.kill()
                for each in clients:
                    each.join()
            answered += sum(each.answered for each in clients)
    made = make(Configuration(state_path=str(state), jwt_secret=SECRET, instance_id="last"))
    try:
        audit = made.audit
        assert audit is not None
        audit.seal()
        entries = [link["entry"] for _, _, link in audit.record.links()]
        told = Counter(
            (each["operation"], each["resource"])
            for each in entries
            if _CHANGED.get(each["operation"]) == each["outcome"]
        )

        assert happened(made) == told
        assert told.total() >= answered * 0.5
        assert [] == verify(audit.record.export(), (state / AUDIT_KEY_FILE).read_bytes().strip())
    finally:
        made.close()
