"""The driver's end of a worker: start it, ask it, and end it."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self


class WorkerFailed(Exception):
    """The worker could not do it; the message says why."""


class Connection:
    """
    A running worker; a context manager.

    Args:
        command: starts it.
        root: where.
        patience: seconds that an answer may take.

    Raises:
        WorkerFailed: it does not start.
    """

    def __init__(self, command: Sequence[str], root: Path, *, patience: float = 300.0) -> None:
        self._patience = patience
        self._complaints: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(  # noqa: S603 - commands of our own
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, text=True
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.greeting = self._next()
        except WorkerFailed:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, **request: Any) -> Mapping[str, Any]:
        """
        Return the answer to a request.

        Raises:
            WorkerFailed: it answered with an error, ended, or took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerFailed(self._last_words()) from error
        answer = self._next()
        if "error" in answer:
            raise WorkerFailed(str(answer["error"]))
        return answer

    def close(self) -> None:
        """End the worker."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put("")

    def _next(self) -> Mapping[str, Any]:
        try:
            line = self._answers.get(timeout=self._patience)
        except queue.Empty:
            self._process.kill()
            raise WorkerFailed(f"no answer within {self._patience:g} s") from None
        if not line:
            self._process.wait()
            raise WorkerFailed(self._last_words())
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        """Return the last line that the worker complained with."""
        self._complaints.seek(0)
        lines = [each.strip() for each in self._complaints.read().splitlines() if each.strip()]
        return lines[-1] if lines else f"the worker ended with status {self._process.poll()}"
