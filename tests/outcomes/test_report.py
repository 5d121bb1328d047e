"""The report: every picture has its sentence, its text for the blind and its numbers; small groups are hidden; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predseg import Project
from predseg.cli import main
from predseg.history import adding
from predseg.language.floor import Floor
from predseg.language.time import DAY, parse_instant, say_instant
from predseg.outcomes.causes import moved
from predseg.outcomes.log import Log
from predseg.outcomes.report.data import rfv_section
from predseg.outcomes.report.page import Page, Picture, Section, render
from tests import small
from tests.outcomes.browser import browsing, opened

FLOOR = Floor()

ROOT = Path(__file__).parents[2]
END = parse_instant("2025-10-28")
SEGMENTS = """\
segment: recent
about: Bought in the last month <b>& more</b>
match: {did: Order Completed, within: 30 days}
holdout: 20%
---
segment: loyal
match: {all: [{did: Order Completed, at_least: 6, within: 100 days}, {in: recent}]}
---
segment: few
match: {did: Order Completed, sum: value, more_than: MOST, within: 365 days}
---
segment: likely
match: {score: purchase, at_least: 0.5}
"""


def write(trained: Path, folder: Path) -> Path:
    """The trained shop with segments, mailings to everybody, a year of runs, and a look at its watches."""
    file = small.copied(trained, folder)
    r = np.random.default_rng(3)
    lines = []
    for week in range(16):
        at = END - (16 - week) * 7 * DAY
        for number in range(300):
            lines.append(f"c{number:04d},{say_instant(at)},Email Delivered,,mail {week}")
            if r.random() < 0.15:
                lines.append(f"c{number:04d},{say_instant(at + DAY)},Email Link Clicked,,mail {week}")
    (folder / "mail.csv").write_text("customer_id,event_time,event,value,campaign\n" + "\n".join(lines) + "\n")
    sums: Counter[str] = Counter()
    for customer, _, _, value in (line.split(",") for line in small.rows()):
        sums[customer] += float(value)  # type: ignore[assignment]
    (folder / "segments.yaml").write_text(SEGMENTS.replace("MOST", str(int(sorted(sums.values())[-6]))))
    text = file.read_text().replace("features:", "  mail: {path: mail.csv}\nfeatures:", 1)
    file.write_text(text + "segments: segments.yaml\n")
    assert main(["segment", "-c", str(file), "--from", "2025-07-01", "--every", "30d", "-q"]) == 0
    assert main(["monitor", "-c", str(file), "-q"]) in (0, 1)
    return file


@pytest.fixture(scope="module")
def shop(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(trained, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(shop: Path) -> str:
    return Project.load(shop).report()


class Reader(HTMLParser):
    """Figures with what belongs to them, and everything that a page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: list[dict[str, Any]] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []  # type: ignore[list-item]
        self.loads += [str(given[name]) for name in ("src", "href") if given.get(name) and not str(given[name]).startswith(("#", "data:,"))]
        if tag == "figure":
            self.figures.append({"tags": [], "alt": None, "text": ""})
        if self.figures and "figure" in [*self.open, tag]:
            self.figures[-1]["tags"].append(tag)
            if given.get("role") == "img":
                self.figures[-1]["alt"] = given.get("aria-label")
        if tag not in ("meta", "link", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "figure" in self.open and "script" not in self.open:
            self.figures[-1]["text"] += data


def test_every_picture_has_a_sentence_a_text_in_its_place_and_its_numbers(html: str) -> None:
    read = Reader(html)
    assert not read.open and len(read.ids) == len(set(read.ids)) and not read.loads
    titles = (
        "Members now",
        "Members over time",
        "In exactly these",
        "Entered and left",
        "Click rate by segment",
        "Click rate over time",
        "Click rate by campaign",
    )
    titles += (
        "recent: 20% are held out",
        "Gain",
        "Lift",
        "Calibration",
        "Scores by segment",
        "Customers by recency",
        "Events a day",
        "Received rows",
        "All watches",
    )
    for title in titles:
        [figure] = [f for f in read.figures if f["text"].strip().startswith(title)]
        assert "figcaption" in figure["tags"] and "table" in figure["tags"], title
        assert figure["alt"] is None or len(figure["alt"]) > 40, title
    assert sum(figure["alt"] is not None for figure in read.figures) >= 12
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    assert {f"chart-{key}" for key in charts} <= set(read.ids)


def test_the_page_is_one_file_of_a_moderate_size(html: str) -> None:
    assert len(html.encode()) < 1_500_000
    assert "default-src 'none'" in html and "http" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL).replace("http-equiv", "")


def test_what_people_wrote_is_text(html: str) -> None:
    assert "Bought in the last month &lt;b&gt;&amp; more&lt;/b&gt;" in html
    evil = "</script><img src=x onerror=alert(1)>"
    page = Page(
        evil,
        evil,
        {evil: evil},
        [Section("a", evil, evil, [Picture("p", evil, evil, (evil,), ((evil,),), {"data": {"values": [{"x": evil}]}})])],
        notes=(evil,),
    )
    said = Reader(render(page))
    assert not said.loads and "img" not in said.figures[0]["tags"] and len(said.figures) == 1


def test_small_groups_are_hidden(shop: Path, html: str) -> None:
    """The segment `few` has a handful of members: nothing of the page says how many."""
    ledger = Project.load(shop).segments().ledger()
    few = len(ledger.spells("few").at(2**62))
    assert 0 < few < 10 and f"few {few}" not in " ".join(html.split())
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]

    def values(node: Any) -> Iterator[tuple[str, Any]]:
        for key, value in node.items() if isinstance(node, dict) else ():
            if isinstance(value, dict | list):
                yield from values(value)
            else:
                yield key, value
        for item in node if isinstance(node, list) else ():
            yield from values(item)

    for name, chart in charts.items():
        if not name.startswith(("daily", "lift")):
            small_counts = [v for k, v in values(chart.get("datasets", chart)) if k in ("members", "customers", "number") and 0 < abs(v) < 10]
            assert not small_counts, name
    rows = re.findall(r'<tr><th scope="row"[^>]*>few</th>(.*?)</tr>', html)
    assert len(rows) >= 3 and all(not re.search(rf">{few}<", row) for row in rows) and FLOOR.few in "".join(rows)


def test_counts_under_the_floor() -> None:
    assert [FLOOR.count(n) for n in (0, 1, 9, 10, 1_000)] == ["0", FLOOR.few, FLOOR.few, "10", "1,000"]


def test_the_grid_hides_small_cells() -> None:
    ids = np.array([f"c{n:03d}" for n in range(60)], object)
    time = np.where(np.arange(60) < 55, END - DAY, END - 300 * DAY)
    log = Log(ids, np.arange(60), time, np.zeros(60, np.int64), ("Order",), np.full(60, 50_000))
    [picture] = rfv_section("Order", log, END, FLOOR).pictures
    assert (
        picture.chart is not None
        and "55" in {cell for row in picture.rows for cell in row}
        and FLOOR.few in {cell for row in picture.rows for cell in row}
    )
    assert "5" not in {cell for row in picture.rows for cell in row[1:]}
    assert not rfv_section(
        "Order", Log(ids[:9], np.arange(9), time[:9], np.zeros(9, np.int64), ("Order",), np.zeros(9, np.int64)), END, FLOOR
    ).pictures


@pytest.mark.parametrize("beside", [False, True], ids=["one table", "rows beside the base"])
def test_why_members_came_and_went(beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of who enters `vips` some had spent and then came back, others came back and then spent; who leaves stayed away."""
    monkeypatch.chdir(tmp_path)
    rows = [(n, 1, 60) for n in range(30)] + [(n, 40, 10) for n in range(30)]  # spent early, back on day 40
    rows += [(n, 39, 10) for n in range(30, 45)] + [(n, 41, 90) for n in range(30, 45)]  # there already, spends on day 41
    rows += [(n, 20, 99) for n in range(45, 65)]  # leaves when the twenty days are over
    if beside:
        monkeypatch.setattr(adding, "LEAST", 0)
        monkeypatch.setattr(adding, "SHARE", 0)
    Path("segments.yaml").write_text("segment: vips\nmatch: {all: [{did: Order, sum: value, more_than: 50}, {did: Order, within: 20 days}]}\n")
    Path("predseg.yaml").write_text("project: shop\nsources: {shop: {path: 'events-*.csv'}}\nsegments: segments.yaml\n")
    for first, last in ((0, 39), (39, 42)):
        lines = [f"c{n:03d},{say_instant(END + day * DAY)},Order,{value}" for n, day, value in rows if first < day <= last]
        Path(f"events-{last}.csv").write_text("customer_id,event_time,event,value\n" + "\n".join(lines) + "\n")
        assert main(["segment", "--as-of", say_instant(END + last * DAY + DAY // 2), "-q"]) == 0
    assert len(list(Path("store/tables/events").glob("recent-*.parquet"))) == beside
    workspace = Project.load("predseg.yaml").segments()
    [found] = moved(workspace, workspace.ledger(), END + 100 * DAY)
    assert (found.entered, found.left) == (45, 20)
    assert [(cause.condition, cause.customers) for cause in found.entered_by] == [
        ("did Order in the last 20 days", 30),
        ("have a total value of Order of more than 50", 15),
    ]
    assert [(cause.condition, cause.customers) for cause in found.left_by] == [("did Order in the last 20 days", 20)]


def test_an_empty_project_has_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("events.csv").write_text("customer_id,event_time,event\na,2026-03-01,View\n")
    Path("predseg.yaml").write_text("project: shop\nsources: {shop: {path: events.csv}}\n")
    assert main(["report"]) == 0
    assert "wrote report.html" in capsys.readouterr().out
    read = Reader(Path("report.html").read_text())
    assert not read.open and "The watches have not been looked at yet" in Path("report.html").read_text()
    assert main(["report", "--dry-run", "--out", "other.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] is None and not Path("other.html").exists()
    assert main(["report", "--out", "report.pdf"]) == 2 and "E211" in capsys.readouterr().err


def test_a_model_that_was_changed_is_not_left_out_in_silence(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = small.copied(trained, tmp_path)
    [card] = tmp_path.glob("models/**/card.md")
    card.write_text(card.read_text("utf-8") + "and more", "utf-8")
    assert main(["report", "-c", str(file), "--out", str(tmp_path / "report.html")]) == 7
    assert "E70" in capsys.readouterr().err and not (tmp_path / "report.html").exists()


def test_the_vendored_script_is_the_one_whose_licences_stand_beside_it() -> None:
    folder = ROOT / "predseg" / "outcomes" / "report"
    digest = hashlib.sha256((folder / "vega.js").read_bytes()).hexdigest()
    assert f"SHA-256 of vega.js: {digest}" in (folder / "LICENSES.txt").read_text()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(html: str, tmp_path: Path, width: int, scheme: str) -> None:
    """No errors, no requests, no sideways scrolling, and every picture is drawn as wide as its frame."""
    file = tmp_path / "report.html"
    file.write_text(html, "utf-8")
    with browsing() as browser, opened(browser, file, width, scheme=scheme) as (page, seen):
        page.wait_for_function("document.documentElement.dataset.drawn === 'yes'", timeout=120_000)
        assert seen.said == [] and [url for url in seen.asked if not url.startswith(("file:", "data:"))] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        pictures = page.evaluate(
            "[...document.querySelectorAll('.chart')].map(c => [c.id, c.querySelectorAll('svg path, svg text').length,"
            " c.querySelector('svg').getBoundingClientRect().width, c.clientWidth])"
        )
        assert len(pictures) >= 12
        for name, marks, drawn, room in pictures:
            assert marks > 4 and 0.8 * room < drawn <= room + 1, name
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", colour)[:3])) > 600) == (scheme == "light")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
