"""The page without a browser: who gets in, what is hidden, and that it stays out of the way of events."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from predseg import Project
from predseg.language.time import HOUR
from predseg.page import door, people
from predseg.page.bench import WAITING
from predseg.page.site import STATIC, page
from tests.live.serving import READ, WRITE, Running
from tests.page.shop import EVIL, IMAGE, blocked, lay, shop
from tests.patience import PATIENCE, eventually

INSIDE = ("/page", "/page/segments/buyer", "/page/segments/shopper/changes", "/page/customers", "/page/customers?id=c01&segment=buyer")
"""Addresses that need the key."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with shop(tmp_path_factory.mktemp("page")) as found:
        yield found


def asked(up: Running, path: str, form: dict[str, str] | None = None, method: str = "", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Ask once, following nothing; with a form it is sent as a browser on this page would send it."""
    client = http.client.HTTPConnection("127.0.0.1", up.port, timeout=PATIENCE)
    sent = {
        "Accept": "text/html",
        **({"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"} if form is not None else {}),
    }
    client.request(
        method or ("GET" if form is None else "POST"),
        path,
        None if form is None else urlencode(form),
        {**sent, **{k.replace("_", "-"): v for k, v in headers.items()}},
    )
    answer = client.getresponse()
    found = answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}
    client.close()
    return found


def inside(up: Running) -> dict[str, str]:
    """The header of somebody who signed in."""
    return {"Cookie": f"{door.COOKIE}={door.token(READ, up.desk.clock() + HOUR)}"}


# the way in


def test_nothing_is_shown_without_the_read_key(up: Running) -> None:
    now = up.desk.clock()
    strangers: list[dict[str, str]] = [
        {},
        {"Authorization": f"Bearer {WRITE}"},
        {"Authorization": "Bearer x", **inside(up)},
        {"Cookie": f"{door.COOKIE}={READ}"},
        {"Cookie": f"{door.COOKIE}={door.token(WRITE, now + HOUR)}"},
        {"Cookie": f"{door.COOKIE}={door.token(READ, now - 1)}"},
        {"Cookie": f"{door.COOKIE}={now + HOUR}."},
        {"Cookie": f"{door.COOKIE}=²{door.token(READ, now + HOUR)}".encode().decode("latin-1")},
        {"Cookie": f"{door.COOKIE}={now + 2 * HOUR}.{door.token(READ, now + HOUR).partition('.')[2]}"},
    ]
    for path in INSIDE:
        for headers in strangers:
            status, text, got = asked(up, path, **headers)
            assert status == 303 and got["location"] == f"/page/sign-in?{urlencode({'then': path})}" and not text
        assert asked(up, path, Accept="*/*")[0] == 401
    for path in INSIDE[:2]:
        assert asked(up, path, **inside(up))[0] == asked(up, path, Authorization=f"Bearer {READ}")[0] == 200


def test_signing_in_gives_a_token_and_never_the_key(up: Running) -> None:
    status, text, got = asked(up, "/page/sign-in", {"key": f" {READ} ", "then": "/page/customers?id=a%20b"})
    assert (status, got["location"]) == (303, "/page/customers?id=a%20b")
    kept = got["set-cookie"]
    assert READ not in kept and all(word in kept for word in ("HttpOnly", "SameSite=strict", "Path=/page", "Max-Age=43200")) and "Secure" not in kept
    assert asked(up, "/page", Cookie=kept.partition(";")[0])[0] == 200
    assert "Secure" in asked(up, "/page/sign-in", {"key": READ}, X_Forwarded_Proto="https")[2]["set-cookie"]
    assert 'page=""' in asked(up, "/page/sign-out", {}, **inside(up))[2]["set-cookie"]
    for wrong in ("", WRITE, READ[:-1], READ + "x", "é"):
        status, text, got = asked(up, "/page/sign-in", {"key": wrong})
        assert status == 401 and "not the read key" in text and "set-cookie" not in got


@pytest.mark.parametrize(
    "then", ["https://evil.example", "//evil.example", "/\\evil.example", "/page\\..//evil", "/pages", "/page\n", "javascript:1", "/v1"]
)
def test_signing_in_leads_nowhere_else(up: Running, then: str) -> None:
    assert asked(up, "/page/sign-in", {"key": READ, "then": then})[2]["location"] == "/page"


def test_forms_of_other_pages_do_nothing(up: Running) -> None:
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        sent = {"Content-Type": "application/x-www-form-urlencoded", **{k.replace("_", "-"): v for k, v in headers.items()}}
        client = http.client.HTTPConnection("127.0.0.1", up.port, timeout=PATIENCE)
        client.request("POST", "/page/sign-in", urlencode({"key": READ}), sent)
        answer = client.getresponse()
        assert answer.status == 403 and answer.getheader("set-cookie") is None
        client.close()


def test_every_answer_forbids_what_it_does_not_need(up: Running) -> None:
    for path in (*INSIDE[:2], "/page/sign-in", "/page/nothing", *(f"/page/static/{name}" for name in STATIC)):
        _, text, got = asked(up, path, **inside(up))
        assert got["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in got["content-security-policy"] and got["x-content-type-options"] == "nosniff"
        assert got["cache-control"] == ("no-cache" if "static" in path else "no-store")
        assert " style=" not in text and "<style" not in text and "onclick" not in text
    assert asked(up, "/page/static/site.py")[0] == asked(up, "/page/static/..%2Fsite.py")[0] == 404
    assert asked(up, "/")[2]["location"] == "/page"
    assert asked(up, "/page", {}, **inside(up))[0] == 405


# what is shown


def test_segments_are_listed_with_small_groups_hidden(up: Running) -> None:
    text = asked(up, "/page", **inside(up))[1]
    assert "Customers who did Order Completed at least 2 times and did not do Order Refunded." in text
    assert ">35<" in text and "fresh" in text
    for number in range(3):
        up.ask("/v1/track", {"userId": f"n{number}", "event": "Product Added"})
    shown = asked(up, "/page/segments/shopper", **inside(up))[1]
    assert "under 10 entered and 0 left since the server started" in shown and 'class="entered few"' in shown and ">3<" not in shown
    for number in range(3, 12):
        up.ask("/v1/track", {"userId": f"n{number}", "event": "Product Added"})
    shown = asked(up, "/page/segments/shopper", **inside(up))[1]
    assert "12 entered and 0 left" in shown and 'class="entered"' in shown and "n11" not in shown


def test_a_daily_segment_shows_its_runs_and_every_segment_its_own_rule(up: Running) -> None:
    shown = asked(up, "/page/segments/buyer", **inside(up))[1]
    assert "35 entered and 0 left at the only run." in shown and "did_not: Order Refunded" in shown and "carts" not in shown
    shown = asked(up, "/page/segments/shopper", **inside(up))[1]
    assert "# carts" in shown and "segment: buyer" not in shown and "---" not in shown
    status, text, _ = asked(up, "/page/segments/buyr", **inside(up))
    assert status == 404 and "did you mean" in text


def test_changes_are_followed_without_names(up: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", up.port, timeout=PATIENCE)
    client.request("GET", "/page/segments/shopper/changes", headers=inside(up))
    answer = client.getresponse()
    assert answer.readline() == b": follow\n"
    up.ask("/v1/track", {"userId": "somebody-new", "event": "Product Added"})
    said = b"".join(answer.readline() for _ in range(5)).decode()
    assert "event: entered\ndata: 20" in said and "somebody" not in said
    client.close()


def test_a_customer_is_explained_and_a_stranger_is_named_as_one(up: Running) -> None:
    text = asked(up, "/page/customers?id=c02&segment=buyer", **inside(up))[1]
    assert "c02 is not in buyer" in text and "does not hold: </span>" in text and "Order Refunded" in text and "twice" in text
    text = asked(up, "/page/customers?id=c2&segment=buyer", **inside(up))[1]
    assert "no customer has this id" in text and "did you mean" in text
    assert "no such segment" in asked(up, "/page/customers?id=c02&segment=x", **inside(up))[1]


def test_a_live_membership_has_an_end_and_a_live_score_its_moment(up: Running) -> None:
    up.ask("/v1/track", {"userId": "ends", "event": "Product Added", "timestamp": "2026-01-01T00:00:00Z"})
    up.ask("/v1/track", {"userId": "ends", "event": "Product Added"})
    text = asked(up, "/page/customers?id=ends", **inside(up))[1]
    since, until = (re.findall(f'data-label="{label}[^>]*>(20[^<]*)<', text) for label in ("Since", "Until"))
    assert len(since) == len(until) == 1 and until > since
    row = {"model": "m", "probability": 0.2, "decile": 3, "reasons": ["x"], "as_of": "2026-01-01T00:00:00.000000Z", "live": None}
    live = {"probability": 0.4, "as_of": "2026-01-02T00:00:00.000000Z"}
    alone = dict.fromkeys(row) | {"model": "m", "live": live}
    assert people._score(row) == people.Score("m", "probability 0.200", "3", "by the run of 2026-01-01 00:00 UTC", ("x",))
    both = "scored live at 2026-01-02 00:00 UTC; decile and reasons by the run of 2026-01-01 00:00 UTC"
    assert people._score({**row, "live": live}) == people.Score("m", "probability 0.400", "3", both, ("x",))
    assert people._score(alone) == people.Score("m", "probability 0.400", "", "scored live at 2026-01-02 00:00 UTC", ())
    assert people._score({**alone, "live": {**live, "probability": None}}).probability == "unknown"


def test_a_live_segment_is_explained_with_what_just_came(up: Running) -> None:
    text = asked(up, "/page/customers?id=c03&segment=shopper", **inside(up))[1]
    assert "c03 is not in shopper" in text and "looked at" not in text
    up.ask("/v1/track", {"userId": "c03", "anonymousId": "visitor", "event": "Product Added", "properties": {"value": 7.25}})
    up.ask("/v1/track", {"anonymousId": "visitor", "event": "Product Added", "properties": {"value": 1}})
    up.ask("/v1/track", {"userId": "only-live", "event": "Product Added"})
    text = asked(up, "/page/customers?id=c03&segment=shopper", **inside(up))[1]
    assert "c03 is in shopper since 20" in text and "<strong>twice</strong>" in text and "{value: 7.25}" in text and "looked at" not in text
    assert "only-live is in shopper" in asked(up, "/page/customers?id=only-live&segment=shopper", **inside(up))[1]
    assert "no customer has this id" in asked(up, "/page/customers?id=only-live&segment=buyer", **inside(up))[1]


def test_what_was_handed_over_counts_once(tmp_path: Path) -> None:
    with shop(tmp_path) as up:
        up.ask("/v1/track", {"userId": "c03", "event": "Product Added"})
        path, once = "/page/customers?id=c03&segment=shopper", "<strong>once</strong>"
        assert once in asked(up, path, **inside(up))[1]
        Project.load(tmp_path).segments()
        assert once in asked(up, path, **inside(up))[1]
        up.ask("/v1/track", {"userId": "c03", "event": "Product Added"})
        assert "<strong>twice</strong>" in asked(up, path, **inside(up))[1]


def test_what_customers_call_themselves_is_text(up: Running) -> None:
    for path in ("/page", "/page/segments/shopper", "/page/segments/buyer", f"/page/customers?id={quote(EVIL)}&segment=buyer"):
        text = asked(up, path, **inside(up))[1]
        assert EVIL not in text and IMAGE not in text
    assert "&lt;script&gt;" in text
    shown = asked(up, f"/page/sign-in?then={quote('/page/' + IMAGE)}")[1]
    assert IMAGE not in shown


def test_the_document_of_the_interface_says_nothing_of_the_page(up: Running) -> None:
    assert not [path for path in up.ask("/openapi.json", key="")[1]["paths"] if "page" in path.split("/")[1:2]]


def test_outcomes_are_those_of_the_report(up: Running) -> None:
    text = asked(up, "/page/outcomes", **inside(up))[1]
    assert "Click rate by segment" in text and "46.7% of what was delivered was clicked." in text
    assert 'data-label="delivered">30<' in text and "No segment has a holdout or a split" in text


# out of the way


def test_the_page_never_reads_the_sources(tmp_path: Path) -> None:
    """That would take the processor from the events: the tables are those of the last run."""
    project = lay(tmp_path)
    project.segments()
    before, as_of = project._now()
    files = [(file, file.stat().st_mtime_ns) for file in before.files]
    with (tmp_path / "events.csv").open("a", newline="") as out:
        out.write("late,2025-06-01T00:00:00+00:00,Order Completed,1,x\r\n")
    assert project._now()[1] == as_of and [(f, f.stat().st_mtime_ns) for f in before.files] == files
    assert project.moment() > as_of and project._now()[1] == project.moment()


def test_who_asks_for_too_much_is_told_to_come_again_and_events_are_taken_meanwhile(up: Running, tmp_path: Path) -> None:
    app, go = up.server.config.app.app, tmp_path / "go"
    before = list(app.router.routes)
    app.router.routes[:] = [r for r in before if not getattr(r, "path", "").startswith("/page")]
    project = lay(tmp_path)
    page(project.segments(), partial(blocked, project, go))(app, up.desk)
    path, answers = "/page/segments/buyer/funnel", list[Any]()
    asking = [threading.Thread(target=lambda: answers.append(asked(up, path, **inside(up)))) for _ in range(WAITING + 1)]
    try:
        for thread in asking:
            thread.start()
        status, text, got = eventually(lambda: answers)[0]
        assert (status, got["retry-after"]) == (503, "5") and "come again in 5 seconds" in text
        assert up.ask("/v1/track", {"userId": "late", "event": "Product Added"})[0] == 200
        assert asked(up, "/page/segments/shopper", **inside(up))[0] == asked(up, "/page/customers?id=c01", **inside(up))[0] == 200
    finally:
        go.touch()
        for thread in asking:
            thread.join(PATIENCE)
        app.router.routes[:] = before
    assert sorted(status for status, _, _ in answers) == [*[200] * WAITING, 503]
