"""The console in a real browser, over a real port; run by ``make browser``, which installs what drives it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from waitress.server import create_server

from tests.served import ORDER, served, token

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `make browser` runs this")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def address() -> Iterator[str]:
    """Where a service listens that knows one workflow."""
    with served() as service:
        service.register(ORDER)
        server: Any = create_server(service.made.wsgi, host="127.0.0.1", port=0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.effective_port}"
        server.close()
        thread.join(5)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_case_from_the_login_to_its_end(address: str, width: int) -> None:
    """Somebody signs in, creates a case, does its work and plays a pattern; no page is wider than the window or breaks its policy."""
    assert CHROMIUM is not None, "no Chromium is installed: apt-get install chromium"
    said: list[str] = []
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))

        page.goto(f"{address}/console/login")
        page.fill("#token", token())
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Workflows").click()
        page.locator(".row").click()
        page.get_by_role("button", name="Create").click()
        for task in ("check", "ship"):
            page.locator(".row", has_text=task).click()
            page.get_by_role("button", name="Complete").click()
            page.get_by_role("link", name="Cases").click()
            page.locator(".list .row").click()
            assert page.locator("svg.knhk-picture").is_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            now = page.locator("svg .task.enabled")
            if now.count():
                box = now.bounding_box()
                assert 0 <= box["x"] and box["x"] + box["width"] <= width
        assert "completed" == page.locator(".heading .state").text_content()

        page.goto(f"{address}/console/patterns/4")
        page.get_by_role("button", name="Run step by step").click()
        assert 1 == page.locator(".step:visible").count()
        page.get_by_role("button", name="Last").click()
        assert "case completed" in page.locator(".step:visible").inner_text().lower()
        browser.close()
    assert [] == said
