"""The page in a real browser: nothing on the console, nothing asked elsewhere, everything by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.serving import READ, Running
from tests.outcomes.browser import Seen, browsing, opened
from tests.page.shop import EVIL, shop


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with shop(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as found:
        yield found


def signed_in(page: Any) -> None:
    page.wait_for_selector("#key:focus")  # without a click
    page.keyboard.type(READ)
    page.keyboard.press("Enter")
    page.wait_for_selector("nav")


def clean(seen: Seen, up: Running) -> None:
    assert not seen.said and seen.asked and all(url.startswith(up.url + "/") for url in seen.asked)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_every_view_is_whole_at_its_width_and_quiet(up: Running, browser: Any, width: int, scheme: str) -> None:
    with opened(browser, f"{up.url}/page", width, scheme=scheme) as (page, seen):
        assert "/sign-in" in page.url
        signed_in(page)
        for path in (
            "",
            "/segments/shopper",
            "/segments/buyer",
            "/segments/buyer/funnel",
            "/segments/buyer/edit",
            "/new",
            "/customers",
            "/customers?id=c01&segment=buyer",
        ):
            page.goto(f"{up.url}/page{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.locator("h1").count() == 1 and page.locator("main").count() == 1
            unnamed = page.evaluate("[...document.querySelectorAll('input:not([type=hidden]),select,textarea')].filter(f => !f.labels.length).length")
            assert unnamed == 0
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert paper == ("rgb(20, 23, 28)" if scheme == "dark" else "rgb(251, 251, 250)")
        clean(seen, up)


def test_a_customer_is_looked_up_by_keyboard_alone(up: Running, browser: Any) -> None:
    with opened(browser, f"{up.url}/page") as (page, seen):
        signed_in(page)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        for _ in range(3):
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Customers"
        page.keyboard.press("Enter")
        page.wait_for_selector("#id:focus")
        page.keyboard.type(EVIL)
        page.keyboard.press("Tab")
        page.keyboard.type("buyer")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".tree")
        assert page.inner_text(".who") == EVIL and page.title() == "Look up a customer · shop"
        assert page.locator("main img, main script").count() == 0 and page.input_value("#id") == EVIL
        assert f"{EVIL} is in buyer" in page.inner_text("main")
        clean(seen, up)


def test_changes_appear_as_they_happen(up: Running, browser: Any) -> None:
    with opened(browser, f"{up.url}/page/segments/shopper") as (page, seen):
        signed_in(page)
        assert EVIL in page.inner_text("main") and page.title() == "shopper · shop"
        page.wait_for_function("performance.getEntriesByType('resource').length > 2")
        page.wait_for_timeout(300)
        up.ask("/v1/track", {"userId": "ann-of-the-browser", "event": "Product Added"})
        page.wait_for_selector("#live li.entered")
        assert "1 entered, 0 left" in page.inner_text("#live-state") and "ann" not in page.inner_text("main")
        page.goto(f"{up.url}/page/sign-in")
        clean(seen, up)


def test_counts_follow_what_is_typed(up: Running, browser: Any) -> None:
    with opened(browser, f"{up.url}/page/segments/buyer/edit") as (page, seen):
        signed_in(page)
        page.wait_for_selector("#result .ink")
        page.locator("textarea").press("Control+End")
        page.keyboard.type("x")
        page.wait_for_selector("#result pre.refused")
        assert "error[E" in page.inner_text("#result") and page.inner_text("#state") == "It is not accepted."
        assert page.locator("textarea[aria-invalid]").count() == 1 and page.evaluate("document.activeElement.id") == "text"
        page.keyboard.press("Backspace")
        page.wait_for_selector("#result .share")
        assert page.inner_text("#state") == "35 members." and "Nothing is changed yet." in page.inner_text("#result")
        page.locator("textarea").fill("segment: anybody\nabout: '<img src=https://evil.example/x onerror=alert(1)>'\nmatch: {did: Order Completed}")
        page.wait_for_selector("#result .diff .plus")
        assert page.inner_text("#state") == "40 members." and page.locator("#result img").count() == 0
        clean(seen, up)


def test_a_new_segment_is_counted_while_it_is_written(up: Running, browser: Any) -> None:
    with opened(browser, f"{up.url}/page") as (page, seen):
        signed_in(page)
        page.click("text=New segment")
        page.wait_for_selector("#result .diff .plus")
        page.locator("textarea").fill("segment: loyal\nmatch: {did: Order Completed, at_least: 2}")
        page.wait_for_selector("#state:has-text('40 members.')")
        assert "+segment: loyal" in page.inner_text("#result .diff") and page.locator("#result .refused").count() == 0
        page.click("a.home")
        page.click("th a >> text=buyer")
        page.click("text=Edit")
        page.click("text=Begin a new segment with this rule")
        page.wait_for_selector("textarea")
        assert page.input_value("textarea").startswith("segment: buyer_1")
        clean(seen, up)
