"""Workers to kill: each a process of its own, forked from one that has imported everything.

Starting Python and importing costs more than what a worker does before it is killed, and fifty kills would pay it fifty times.
A worker has its own streams and arguments, and nothing is open in the process that it is forked from.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import IO, Any, Self

# What runs in the process that forks: it reads arguments and three streams, and answers with the number of the process.
_FORKS = """
import importlib, json, os, signal, socket, sys, traceback
import knhk, urllib3
for name in sys.argv[2:]:
    importlib.import_module(name)
for name in knhk.__all__:
    getattr(knhk, name)
line = socket.socket(fileno=int(sys.argv[1]))
code = compile(sys.stdin.read(), "<worker>", "exec")
while True:
    said, streams, _, _ = socket.recv_fds(line, 1 << 16, 3)
    if not said:
        break
    arguments = json.loads(said)
    if isinstance(arguments, list):
        number = os.fork()
        if number == 0:
            status = 1
            try:
                line.close()
                for target, stream in enumerate(streams):
                    os.dup2(stream, target)
                    os.close(stream)
                sys.argv = ["-c", *arguments]
                exec(code, {"__name__": "__main__"})
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        for stream in streams:
            os.close(stream)
        answer = number
    else:
        number, options = arguments["wait"], 0 if arguments["block"] else os.WNOHANG
        found, status = os.waitpid(number, options)
        answer = os.waitstatus_to_exitcode(status) if found else None
    line.send(json.dumps([answer]).encode())
"""


class Worker:
    """A process, with what tests use of `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, arguments: list[str]) -> None:
        (mine_in, theirs_in), (theirs_out, mine_out), (theirs_err, mine_err) = _pipes()
        self._nursery = nursery
        self.pid: int = nursery._ask(arguments, [theirs_in, theirs_out, theirs_err])
        for each in (theirs_in, theirs_out, theirs_err):
            os.close(each)
        self.stdin: IO[bytes] = os.fdopen(mine_in, "wb", buffering=0)
        self.stdout: IO[bytes] = os.fdopen(mine_out, "rb")
        self.stderr: IO[bytes] = os.fdopen(mine_err, "rb")
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.wait()

    def poll(self) -> int | None:
        """Return how it ended; None: it runs."""
        return self._end(block=False)

    def wait(self) -> int | None:
        """Wait for its end, close its streams, and return how it ended."""
        self._end(block=True)
        for each in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                each.close()
        return self.returncode

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        os.kill(self.pid, signal.SIGTERM)

    def wait_ready(self, *, line: bytes = b"ready\n") -> None:
        """Wait until it says that it is ready; what it says instead is the test's failure."""
        said = self.stdout.readline()
        if said != line:
            raise AssertionError(self.stderr.read().decode())

    def _end(self, *, block: bool) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery._ask({"wait": self.pid, "block": block}, [])
        return self.returncode


class Nursery:
    """
    Forks workers that all run the same program: ``with Nursery(WORKER) as nursery: nursery.start(path)``.

    Args:
        program: its text; its arguments are in ``sys.argv``.
        modules: what it imports, so that this is done once.
    """

    def __init__(self, program: str, *modules: str) -> None:
        self._asking = threading.Lock()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-c", _FORKS, str(theirs.fileno()), *modules]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()])
        if self._process.stdin is not None:
            self._process.stdin.write(program.encode())
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._line.close()
        self._process.wait()

    def start(self, *arguments: str) -> Worker:
        """Fork a worker."""
        return Worker(self, list(arguments))

    def _ask(self, said: Any, streams: list[int]) -> Any:
        with self._asking:
            socket.send_fds(self._line, [json.dumps(said).encode()], streams)
            (answer,) = json.loads(self._line.recv(1 << 16))
        return answer


def _pipes() -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return the ends of three pipes: (mine, theirs) for what it reads, (theirs, mine) for what it writes."""
    theirs_in, mine_in = os.pipe()
    mine_out, theirs_out = os.pipe()
    mine_err, theirs_err = os.pipe()
    return (mine_in, theirs_in), (theirs_out, mine_out), (theirs_err, mine_err)
