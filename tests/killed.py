"""Steps on a store whose server is killed and started again meanwhile."""

from __future__ import annotations

import signal
import threading

from servers import Server

from knhk.errors import StoreUnavailable
from knhk.ports import Store
from knhk.testing.store_conformance import ORDER, step


def acknowledged_under_kills(store: Store, server: Server, kills: int) -> list[int]:
    """Let four threads commit steps of a case each while the server is killed so often; return how many each was told of."""
    store.put_specification(ORDER)
    acknowledged = [0] * 4
    ending = threading.Event()

    def work(number: int) -> None:
        case_id = f"case {number}"
        while not ending.is_set() or acknowledged[number] < 20:
            try:
                store.commit([step(case_id, acknowledged[number])])
            except StoreUnavailable:
                # Nothing was sent, as nobody took the connection: the step is still to be done.
                continue
            acknowledged[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for kill in range(1, kills + 1):
        while min(acknowledged) < 4 * kill:
            threads[0].join(0.01)
        server.stop(signal.SIGKILL)
        server.start()
    ending.set()
    for each in threads:
        each.join()
    return acknowledged
