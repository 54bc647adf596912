"""Draws the pictures of the documentation: ``python tools/draw_pictures.py``."""

from __future__ import annotations

from pathlib import Path

import knhk
from knhk.testing.clock import ManualClock

ROOT = Path(__file__).resolve().parent.parent
ORDER = ROOT / "examples" / "order_to_cash" / "order.json"


def pictures() -> dict[Path, str]:
    """Return the text of each picture by its file."""
    where = ROOT / "docs" / "how-to"
    order = knhk.Specification.load(ORDER)
    showcases = {
        file.with_suffix(".svg"): knhk.Specification.load(file).draw()
        for file in (ORDER, *sorted((ROOT / "examples").glob("*/*.yaml")))
    }
    return showcases | {
        where / "order-to-cash.svg": order.draw(net=""),
        where / "order-to-cash-case.svg": _waiting(order).draw(),
    }


def _waiting(order: knhk.Specification) -> knhk.RunningCase:
    """Return an order that waits for its approver and for the money."""
    engine = knhk.Engine("memory:", clock=ManualClock(0))
    engine.handler("check_credit")(lambda _: {"credit": "poor"})
    engine.register(order)
    return engine.create_case(order.id, {"amount": 500.0, "lines": []}).run()


def main() -> None:
    """Write the files."""
    for file, text in pictures().items():
        file.write_text(text, encoding="utf-8", newline="\n")
        print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
