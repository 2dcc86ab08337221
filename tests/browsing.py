"""Pages in a browser, and what they must not do."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page


@contextmanager
def watched_page(
    browser: Browser, address: str, *, scheme: str, size: tuple[int, int], opens: str = "", expected: str
) -> Iterator[Page]:
    """A page of a server, which in the end has asked nobody else for anything and complained of nothing.

    Args:
        browser: the browser.
        address: of the server.
        scheme: "light" or "dark".
        size: width and height of the window.
        opens: what follows the address.
        expected: part of the messages that the browser itself writes about answers that the test asks for.
    """
    width, height = size
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})  # type: ignore[arg-type]
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda line: None if expected in line.text else problems.append(line.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address + opens)
    try:
        yield page
    finally:
        context.close()
    assert asked
    assert all(url.startswith((address, "blob:")) for url in asked)
    assert problems == []
