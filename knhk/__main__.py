"""``python -m knhk`` is the command line."""

from __future__ import annotations

from knhk.cli import main

main()
