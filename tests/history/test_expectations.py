"""What a project expects of its data: every fault is found by its check and by no other, and refuses training and scoring."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from predseg import Project
from predseg.cli import main
from predseg.config import parse
from predseg.errors import GateError
from predseg.history.expectations import Check, demand, judge
from predseg.history.report import IngestReport, SourceReport
from predseg.language.time import DAY, HOUR
from tests import small
from tests.segments.stores import Row, write_events

NOON = 1_000 * DAY
ORDER, VIEW = "Order Completed", "Product Viewed"
TEXT = f"""\
project: shop
sources: {{orders: {{path: o.csv}}}}
expectations:
  sources: {{orders: {{max_lag: 1 day, rejected: 1%}}}}
  events:
    {ORDER}: {{volume: 50%, max_lag: 2 hours, nulls: {{product: 5%, city: 0%}}, between: {{value: [0, 100]}}}}
"""
FINE = IngestReport((SourceReport("orders", received=1_000, accepted=1_000, duplicates=0, quarantined=5, last=NOON - HOUR),))


def history(days: int = 70) -> list[Row]:
    """60 orders a day and some views, the last order an hour ago."""
    rows: list[Row] = []
    for day in range(days):
        for n in range(60):
            at = NOON - day * DAY - HOUR - n * 20 * 60 * 10**6
            rows.append((f"c{n}", at, ORDER, {"value": Decimal(n), "product": f"p{n}", "city": "Bonn"}))
        rows += [(f"c{n}", NOON - day * DAY - 2 * HOUR, VIEW, {"product": "p1"}) for n in range(5)]
    return rows


def statuses(found: list[Check]) -> dict[str, str]:
    return {c.name: c.status for c in found}


def checked(folder: Path, rows: list[Row], report: IngestReport = FINE, text: str = TEXT, as_of: int = NOON, now: int = NOON) -> dict[str, str]:
    return statuses(judge(parse(text, folder / "predseg.yaml"), write_events(folder, rows), report, as_of, now))


HEALTHY = {
    "max_lag of source orders": "pass",
    "rejected of source orders": "pass",
    f"volume of {ORDER}": "pass",
    f"max_lag of {ORDER}": "pass",
    f"nulls of {ORDER}.product": "pass",
    f"nulls of {ORDER}.city": "pass",
    f"between of {ORDER}.value": "pass",
}


def test_a_healthy_history_passes(tmp_path: Path) -> None:
    assert checked(tmp_path, history()) == HEALTHY
    assert judge(parse("project: shop\n", tmp_path / "p.yaml"), [], IngestReport(), NOON, NOON) == [], "who expects nothing is not judged"


def lately(row: Row, days: float = 7) -> bool:
    return row[1] > NOON - days * DAY


def changed(row: Row, **properties: Any) -> Row:
    return (*row[:3], {name: value for name, value in {**row[3], **properties}.items() if value is not None})


Fault = Callable[[list[Row]], list[Row]]
FAULTS: dict[str, tuple[Fault, dict[str, str]]] = {
    "a third of the orders of a day": (
        lambda rows: [r for i, r in enumerate(rows) if not lately(r, 1) or r[2] == VIEW or i % 3 == 0],
        {f"volume of {ORDER}": "fail"},
    ),
    "two thirds of them": (
        lambda rows: [r for i, r in enumerate(rows) if not lately(r, 1) or r[2] == VIEW or i % 12 < 7],
        {f"volume of {ORDER}": "warn"},
    ),
    "orders three times": (lambda rows: rows + 2 * [r for r in rows if lately(r, 1) and r[2] == ORDER], {f"volume of {ORDER}": "fail"}),
    "no order for three hours": (lambda rows: [r for r in rows if not lately(r, 0.125) or r[2] == VIEW], {f"max_lag of {ORDER}": "fail"}),
    "a tenth without product": (
        lambda rows: [changed(r, product=None) if lately(r) and r[0].endswith("7") else r for r in rows],
        {f"nulls of {ORDER}.product": "fail"},
    ),
    "a few without product": (
        lambda rows: [
            changed(r, product=None) if lately(r) and r[2] == ORDER and r[0] in ("c7", "c8", "c9") and r[1] > NOON - 6.7 * DAY else r for r in rows
        ],
        {f"nulls of {ORDER}.product": "warn"},
    ),
    "one without city": (lambda rows: [changed(rows[0], city=None), *rows[1:]], {f"nulls of {ORDER}.city": "fail"}),
    "one value too high": (lambda rows: [changed(rows[0], value=Decimal("100.01")), *rows[1:]], {f"between of {ORDER}.value": "fail"}),
    "one value too low": (lambda rows: [changed(rows[0], value=Decimal("-0.0001")), *rows[1:]], {f"between of {ORDER}.value": "fail"}),
    "values at the ends": (lambda rows: [changed(rows[0], value=Decimal(100)), changed(rows[1], value=Decimal(0)), *rows[2:]], {}),
    "an old sin": (lambda rows: [changed(r, value=Decimal(500)) if not lately(r, 8) and r[2] == ORDER else r for r in rows], {}),
    "no views any more": (lambda rows: [r for r in rows if not lately(r) or r[2] == ORDER], {f"vanished of {VIEW}": "fail"}),
    "views without product": (
        lambda rows: [changed(r, product=None) if lately(r) and r[2] == VIEW else r for r in rows],
        {f"vanished of {VIEW}.product": "fail"},
    ),
    "a new event": (lambda rows: [*rows, ("c1", NOON - HOUR, "Coupon Used", {})], {"new of Coupon Used": "warn"}),
    "a new property": (lambda rows: [changed(rows[0], coupon="x"), *rows[1:]], {f"new of {ORDER}.coupon": "warn"}),
    "known only later": (lambda rows: [*rows, ("c1", NOON - HOUR, ORDER, {"value": Decimal(999), "city": "x", "received_at": NOON + 1})], {}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_check_and_by_no_other(tmp_path: Path, name: str) -> None:
    fault, found = FAULTS[name]
    assert checked(tmp_path, fault(history())) == HEALTHY | found


@pytest.mark.parametrize(
    ("quarantined", "last", "found"),
    [
        (11, NOON, {"rejected of source orders": "fail"}),
        (10, NOON, {"rejected of source orders": "warn"}),
        (0, NOON - 2 * DAY, {"max_lag of source orders": "fail"}),
        (0, None, {"max_lag of source orders": "skipped"}),
    ],
)
def test_sources(tmp_path: Path, quarantined: int, last: int | None, found: dict[str, str]) -> None:
    report = IngestReport((SourceReport("orders", received=1_000, accepted=900, duplicates=0, quarantined=quarantined, last=last),))
    assert checked(tmp_path, history(), report) == HEALTHY | found


def test_a_short_history_is_not_judged_by_what_is_usual(tmp_path: Path) -> None:
    found = checked(tmp_path, [*history(20), ("c1", NOON - HOUR, "Coupon Used", {})])
    assert found == HEALTHY | {f"volume of {ORDER}": "skipped"}
    never = checked(tmp_path, [("c1", NOON - HOUR, VIEW, {})])
    assert never[f"max_lag of {ORDER}"] == "fail" and never[f"between of {ORDER}.value"] == never[f"nulls of {ORDER}.city"] == "skipped"


def typed(rows: list[Row], values: Callable[[int, bool], str | None]) -> list[Row]:
    """Orders with a size that is a text of some kind; the table has texts as soon as one value is no number."""
    return [(*row[:3], {**row[3], "size": values(n, lately(row))} if row[2] == ORDER else row[3]) for n, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (lambda n, late: str(n), None),
        (lambda n, late: f"{n}.5" if late else str(n), None),
        (lambda n, late: "XL" if late and n < 40 else str(n), "40 of 420 in 7 days are texts"),
        (lambda n, late: "XL" if not late else str(n), "420 of 420 in 7 days are numbers"),
        (lambda n, late: ("XL" if n % 2 else str(n)) if not late else "M", None),
        (lambda n, late: "7" if late and n == 3 else "XL", None),
        (lambda n, late: ["true", "false"][n % 2] if not late else "yes", "420 of 420 in 7 days are texts"),
        (lambda n, late: "2026-01-01" if not late else "01.01.2026", "420 of 420 in 7 days are texts"),
        (lambda n, late: (None if n % 40 else "1") if not late else "XL", None),
    ],
    ids=[
        "numbers stay",
        "fractions are numbers",
        "some texts",
        "all numbers now",
        "mixed before",
        "one text like a number",
        "flags",
        "dates",
        "too few before",
    ],
)
def test_values_of_another_kind_than_before(tmp_path: Path, values: Callable[[int, bool], str | None], found: str | None) -> None:
    config = parse(TEXT, tmp_path / "predseg.yaml")
    checks = {c.name: c for c in judge(config, write_events(tmp_path, typed(history(), values)), FINE, NOON, NOON)}
    check = checks.get(f"types of {ORDER}.size")
    assert (check.found if check else None) == found and (check is None or check.status == "warn")
    assert check is None or "as in the four weeks before" in check.limit


def test_another_kind_fails_or_is_not_looked_at_where_that_is_declared(tmp_path: Path) -> None:
    rows = typed(history(), lambda n, late: "XL" if late else str(n))
    assert checked(tmp_path, rows, text=TEXT + "  types: fail\n")[f"types of {ORDER}.size"] == "fail"
    assert f"types of {ORDER}.size" not in checked(tmp_path, rows, text=TEXT + "  types: off\n")
    allowed = parse(TEXT + f"  types: fail\n  allow: [types of {ORDER}.size]\n", tmp_path / "predseg.yaml")
    demand(allowed, write_events(tmp_path, rows), FINE, NOON, NOON)


def test_the_events_are_read_once_and_only_what_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    read: list[str] = []
    real = pq.ParquetFile.read_row_group

    def noted(self: pq.ParquetFile, i: int, columns: list[str] | None = None, **more: Any) -> Any:
        read.extend(columns or ["everything"])
        return real(self, i, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    for name in ("read_table", "read_pandas"):
        monkeypatch.setattr(pq, name, lambda *given, **more: pytest.fail("read again"))
    rows = [(*row[:3], {**row[3], "unasked": "x"}) for row in history()]
    narrow = TEXT + "  vanished: off\n  new: off\n  types: off\n"
    assert checked(tmp_path, rows, text=narrow) == HEALTHY
    assert sorted(read) == sorted(["event", "event_time", "received_at", "value", "product", "city"])
    read.clear()
    checked(tmp_path, rows)
    assert read.count("unasked") == 1 and read.count("event_time") == 1


def test_how_new_and_vanished_are_taken_is_declared(tmp_path: Path) -> None:
    rows = [*FAULTS["no views any more"][0](history()), ("c1", NOON - HOUR, "Coupon Used", {})]
    off = checked(tmp_path, rows, text=TEXT + "  vanished: off\n  new: fail\n")
    assert off == HEALTHY | {"new of Coupon Used": "fail"}
    assert checked(tmp_path, rows, text=TEXT + "  within: 14 days\n  new: off\n") == HEALTHY, "there were views two weeks ago"


def test_what_fails_is_refused_unless_it_is_allowed_by_name(tmp_path: Path) -> None:
    rows = FAULTS["one value too high"][0](history())
    files = write_events(tmp_path, rows)
    with pytest.raises(GateError, match=r"E630.*between of Order Completed.value: 1 of 420 outside, such as 100.01 \(expected 0 to 100\)"):
        demand(parse(TEXT, tmp_path / "p.yaml"), files, FINE, NOON, NOON)
    demand(parse(TEXT + f"  allow: between of {ORDER}.value\n", tmp_path / "p.yaml"), files, FINE, NOON, NOON)


# the commands


EXPECTED = "expectations: {events: {Order Completed: {between: {value: [0, 50]}}}, sources: {orders: {max_lag: 1 day}}}\n"
AT = "2025-10-20T00:00Z"


def test_commands_are_refused_and_the_table_says_why(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small.copied(trained, tmp_path)
    monkeypatch.chdir(tmp_path)
    right = file.read_text()
    file.write_text(right + EXPECTED)
    assert main(["check", "--as-of", AT, "--junit", "data.xml"]) == 1
    said = capsys.readouterr().out
    assert "refused" in said and "is in order" not in said and "between of Order Completed.value" in said
    cases = {case.get("name"): [child.tag for child in case] for case in ElementTree.parse("data.xml").getroot().iter("testcase")}
    assert cases == {"between of Order Completed.value": ["failure"], "max_lag of source orders": ["system-out"]}
    for command in (["train", "--as-of", AT, "--dry-run"], ["score", "--as-of", AT], ["run", "--as-of", AT]):
        assert main(command) == 6 and "E630" in capsys.readouterr().err
    file.write_text(right + EXPECTED.replace("}}\n", "}, allow: between of Order Completed.value}\n"))
    assert main(["check", "--as-of", AT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["expectations"]
    assert [(c["kind"], c["status"], c["allowed"]) for c in found] == [("max_lag", "pass", False), ("between", "fail", True)]
    assert main(["score", "--as-of", AT]) == 0 and main(["report", "--as-of", AT, "--out", "report.html"]) == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "1 of 2 checks fail: between of Order Completed.value." in page and "such as" not in page.split("As expected")[1].split("</table>")[0]
    assert main(["check", "--dry-run"]) == 1, "by the clock the source is years old"
    assert [c.status for c in Project.load(file).expectations(AT)] == ["pass", "fail"]
