"""The handbook of a project: complete, without people, quiet in a browser, and every arrow where it belongs."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from predseg.cli import main
from predseg.outcomes.handbook.build import card_html
from predseg.outcomes.handbook.drawing import BOX, HIGH, draw
from predseg.segments.lineage import Node
from tests import small
from tests.outcomes.browser import browsing, opened
from tests.outcomes.test_report import Reader

EVIL = "<script>document.title='broken'</script>"
RULES = f"""\
segment: recent
about: "{EVIL}"
tags: [daily]
owner: crm@example.com
match: {{did: Order Completed, within: 90 days}}
on_enter: {{send: hooks, limit: once per 7 days}}
tests:
  - it: takes one order
    events: |
      2025-03-01 10:00  Order Completed
    enters: 2025-03-01 10:00
---
segment: keen   # a comment that belongs to it
match: {{all: [{{in: recent}}, {{score: purchase, top: 20%}}]}}
---
segment: few
match: {{did: Order Completed, at_least: MOST}}
"""
MORE = """\
  later: {predict: {did: Order Completed, within_next: 21 days}}
segments: rules.yaml
channels:
  hooks: {webhook: "https://mail.example.com/hooks", secret: "env:HOOKS_SECRET"}
"""


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handbook")
    file = small.copied(trained, folder)
    file.write_text(small.CONFIG + MORE, "utf-8")
    orders = Counter(line.split(",")[0] for line in small.rows())
    (folder / "rules.yaml").write_text(RULES.replace("MOST", str(sorted(orders.values())[-4])), "utf-8")
    assert main(["segment", "-c", str(file), "-q"]) == 0
    assert main(["docs", "-c", str(file), "-q", "--out", str(folder / "docs.html")]) == 0
    return folder / "docs.html"


def entry(html: str, anchor: str) -> str:
    return html.split(f'<article id="{anchor}"')[1].split("</article>")[0]


def test_every_segment_is_said_and_shown_as_written(page: Path) -> None:
    html = page.read_text("utf-8")
    recent, keen = entry(html, "segment-recent"), entry(html, "segment-keen")
    assert "Customers who did Order Completed in the last 90 days." in recent and "hooks, once per 7 days" in recent
    assert "crm@example.com" in recent and ">daily</span>" in recent and "takes one order" in recent
    assert "segment: keen   # a comment that belongs to it" in keen and "rules.yaml:13" in keen
    assert re.findall(r"Rests on (.*?)</p>", keen) == ['<a href="#segment-recent">recent</a>, <a href="#model-purchase">purchase</a>']
    assert re.findall(r"Used by (.*?)</p>", recent) == ['<a href="#segment-keen">keen</a>, <a href="#channel-hooks">hooks</a>']
    members = int(re.findall(r"<dt>members</dt><dd>([\d,]+)</dd>", recent)[0])
    assert 100 < members < 300 and "<dd>under 10</dd>" in entry(html, "segment-few"), "small groups are hidden"


def test_models_have_their_cards_and_say_when_there_is_none(page: Path) -> None:
    html = page.read_text("utf-8")
    purchase = entry(html, "model-purchase")
    assert "<dd>version 1</dd>" in purchase and "<h4>Gate and limits</h4>" in purchase and "<table>" in purchase
    assert "not trained yet" in entry(html, "model-later") and "Model card" not in entry(html, "model-later")


def test_nothing_is_loaded_nobody_is_named_and_every_link_leads_somewhere(page: Path) -> None:
    html = page.read_text("utf-8")
    reader = Reader(html)
    assert reader.loads == [] and not re.search(r"\bc0\d{3}\b", html) and EVIL not in html
    assert len(set(reader.ids)) == len(reader.ids)
    assert not set(re.findall(r'href="#([^"]+)"', html)) - set(reader.ids)
    assert "HOOKS_SECRET" not in html and "mail.example.com" in html
    assert len(html) < 200_000


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_is_whole_at_its_width_and_quiet(page: Path, width: int, scheme: str) -> None:
    with browsing() as browser, opened(browser, page, width, scheme=scheme) as (tab, seen):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width and tab.title() == "small: handbook"
        tab.focus('.box[data-node="model.purchase"]')
        lit = tab.evaluate("[...document.querySelectorAll('.box.on')].map(box => box.dataset.node)")
        assert set(lit) == {"source.orders", "table.events", "feature", "model.purchase", "segment.keen"}
        tab.keyboard.press("Enter")
        assert tab.evaluate("location.hash") == "#model-purchase"
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == ("rgb(20, 23, 28)" if scheme == "dark" else "rgb(251, 251, 250)")
        assert not seen.said and seen.asked == [page.as_uri()]


def nodes(**uses: str) -> dict[str, Node]:
    found = [Node(*name.split("__"), definition="0" * 12, uses=tuple(used.replace("__", ".").split())) for name, used in uses.items()]
    return {node.id: node for node in found}


def test_arrows_go_from_left_to_right_and_boxes_do_not_touch() -> None:
    chain = {f"segment__s{i}": f"segment__s{i - 1} model__m" if i else "model__m" for i in range(4)}
    graph = nodes(source__a="", table__events="source__a", feature__f="table__events", feature__g="table__events", model__m="feature__f feature__g")
    found = draw(graph | nodes(**chain, segment__alone="table__events", channel__c="segment__s0 segment__s3"))
    places = {box.id: (box.x, box.y) for box in found.boxes}
    assert "feature" in places and "feature.f" not in places and len(places) == len(found.boxes) == 10
    assert all(places[arrow.start][0] + BOX < places[arrow.end][0] for arrow in found.arrows)
    assert ("segment.s3", "channel.c") in {(a.start, a.end) for a in found.arrows} and len(found.arrows) == 13
    assert len(set(places.values())) == len(places) and all(
        abs(y1 - y2) >= HIGH for x1, y1 in places.values() for x2, y2 in places.values() if x1 == x2 and y1 != y2
    )
    assert all(x + BOX <= found.width and y + HIGH <= found.height for x, y in places.values())
    assert [box.label for box in found.boxes if box.kind == "feature"] == ["2 features"]


def test_a_card_cannot_bring_html_or_pictures() -> None:
    html = card_html(
        "# t\n\n## Groups <img src=x>\n\n| a | b |\n|---|---:|\n| 1 | <b>2</b> |\n\n![x](https://evil.example/x.png) [l](javascript:alert(1))\n"
    )
    assert "<table>" in html and "<h4>Groups &lt;img src=x&gt;</h4>" in html
    assert not re.search(r"<(img|a|b|script)\b", html)


def test_json_and_a_dry_run(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "x.html"
    assert main(["docs", "-c", str(page.with_name("predseg.yaml")), "--out", str(target), "--dry-run", "--json"]) == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert found["status"] == "ok" and found["bytes"] > 10_000 and found["out"] is None and not target.exists()
