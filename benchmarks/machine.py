"""Where a run was made: what its page says above the figures."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path

from knhk._hot import COMPILED

ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, str]:
    """Return the machine, the software, the commit and the date, by name."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "operating system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, built by {platform.python_compiler()}",
        "C compiler": _first_line("cc", "--version") or "none",
        "SQLite": sqlite3.sqlite_version,
        "kernel": "compiled" if COMPILED else "reference",
        "commit": commit(),
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load before the run": f"{os.getloadavg()[0]:.2f}",
    }


def processor(text: str | None = None) -> str:
    """Return the processor's name from the text of ``/proc/cpuinfo`` (read where None), or what Python knows."""
    if text is None:
        path = Path("/proc/cpuinfo")
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = {
        key.strip(): value.strip()
        for key, _, value in (each.partition(":") for each in text.splitlines())
        if key.strip() in {"model name", "cpu family", "model"}
    }
    name = found.get("model name") or platform.processor() or platform.machine()
    if "cpu family" not in found:
        return name
    return f"{name} (family {found['cpu family']}, model {found.get('model', '?')})"


def commit() -> str:
    """Return the commit that is checked out, with a mark where files differ from it."""
    name = _first_line("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    if not name:
        return "unknown"
    return f"{name} with changes" if _first_line("git", "-C", str(ROOT), "status", "--porcelain", "-uno") else name


def _first_line(*command: str) -> str:
    program: Sequence[str] = [shutil.which(command[0]) or "", *command[1:]]
    if not program[0]:
        return ""
    answer = subprocess.run(program, capture_output=True, text=True, check=False)  # noqa: S603 - commands of our own
    return answer.stdout.splitlines()[0].strip() if answer.returncode == 0 and answer.stdout.strip() else ""
