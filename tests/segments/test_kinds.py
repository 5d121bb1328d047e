"""Filters that nothing can pass are said, and sums of what is no number refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from predseg.cli import main
from predseg.language.documents import parse_condition
from predseg.language.yaml import read_documents
from predseg.segments.definitions import Segment
from predseg.segments.kinds import never_passed

PROPERTIES = {"any": "mixed", "price": "text", "sku": "whole", "tags": "list", "gift": "flag", "amount": "number"}
TEXTS = (
    "; a code such as 00123, or any text among traits, makes all of them texts, as any text did in a table of an earlier version, which "
    "`predseg check --rebuild` builds anew: write yours in quotes, or cast the column in a `query:`"
)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{did: O, where: {price: {more_than: 1}}}", f"`price more than 1`, because price holds texts in the data{TEXTS}"),
        ("{did: O, where: {sku: '85123'}}", "`sku 85123`, because sku holds numbers in the data; write it without quotes"),
        ("{did: O, then: {did: P, where: {gift: 1}, within: 1 days}, within: 2 days}", "`gift 1`, because gift holds true and false in the data"),
        ("{all: [{trait: {zip: 8000}}]}", f"`zip 8,000`, because zip holds texts in the data{TEXTS}"),
        ("{rfv: {of: O, where: {amount: x}, recency: [5]}}", "`amount x`, because amount holds numbers in the data; write it without quotes"),
        (
            "{did: O, where: {any: 1, price: '1', sku: [1, x], tags: x, gift: true, amount: {between: [1, 2]}, unknown: 1, value: {exists: true}}}",
            None,
        ),
    ],
)
def test_a_filter_on_values_of_another_kind_is_said(rule: str, said: str | None) -> None:
    segment = Segment("s", parse_condition(read_documents(rule)[0]), "d")
    assert never_passed([segment], PROPERTIES, {"zip": "text"}) == ([f"s: nothing passes {said}"] if said else [])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Properties with texts, flags, lists, nothing at all, numbers among texts, and numbers."""
    rows = [
        {"customer_id": "ann", "event_time": "2026-01-01T10:00Z", "amount": "12,50", "gift": True, "tags": ["x"], "code": "n/a", "price": 3},
        {"customer_id": "bob", "event_time": "2026-01-01T11:00Z", "amount": None, "gift": None, "tags": [], "code": 12, "price": None, "empty": None},
    ]
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps({"event": "Order Completed", **row}) + "\n" for row in rows))
    (tmp_path / "lines.jsonl").write_text(json.dumps({"customer_id": "ann", "event": "Order Completed", "event_time": "2026-02-01T10:00Z"}) + "\n")
    (tmp_path / "blank.csv").write_text("customer_id,event_time,event,empty\ncleo,2026-01-01T00:00Z,Order Completed,\n")
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {orders: {path: orders.jsonl}, blank: {path: blank.csv}}\nsegments: rules.yaml\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rule(shop: Path, refresh: str, aggregate: str, name: str) -> None:
    text = f"segment: s\nrefresh: {refresh}\nmatch: {{did: Order Completed, {aggregate}: {name}, at_most: 100}}\n"
    (shop / "rules.yaml").write_text(text)


@pytest.mark.parametrize("aggregate", ["sum", "avg", "min", "max"])
@pytest.mark.parametrize("name", ["amount", "gift", "tags"])
def test_what_has_no_number_is_summed_by_no_rule(shop: Path, capsys: pytest.CaptureFixture[str], aggregate: str, name: str) -> None:
    """Batch refused it once it had begun, without a place; live said 0, and so did `explain`."""
    for refresh, commands in (
        ("daily", ["segment", "run"]),
        ("live", ["segment", "live lines.jsonl", "verify --rules --events", "explain s ann", "preview s"]),
    ):
        rule(shop, refresh, aggregate, name)
        for command in commands:
            assert main(command.split()) == 4, command
            assert f"error[E432] rules.yaml:3:{33 + len(aggregate)}: {name!r} cannot be summed" in capsys.readouterr().err


@pytest.mark.parametrize(("aggregate", "name"), [("sum", "empty"), ("sum", "code"), ("sum", "price"), ("distinct", "amount")])
def test_what_may_have_numbers_is(shop: Path, capsys: pytest.CaptureFixture[str], aggregate: str, name: str) -> None:
    rule(shop, "live", aggregate, name)
    assert main(["segment", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"][0]["members"] == 3
    assert main(["verify", "--rules", "--events"]) == 0


def test_what_no_event_had_yet_is_named_by_rules_where_it_is_listed(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A live rule about what a shop is yet to send could not be served: only its first event would have made it known."""
    (shop / "rules.yaml").write_text(
        "segment: s\nrefresh: live\nmatch: {did: Order Completed, where: {plan: {not: gold}}, sum: points, at_least: 5}\n"
    )
    assert main(["segment"]) == 3
    assert "unknown property 'p" in (said := capsys.readouterr().err) and "`contract: {properties: [...]}`" in said
    with (shop / "predseg.yaml").open("a") as file:
        file.write("contract: {properties: [points, plan]}\n")
    line = {"customer_id": "ann", "event": "Order Completed", "event_time": "2026-02-01T10:00Z", "points": 7, "plan": "free"}
    (shop / "lines.jsonl").write_text(json.dumps(line) + "\n")
    for command in ("segment", "preview s"):
        assert main(command.split()) == 0
        assert "no event had the property 'points' yet" in capsys.readouterr().err
    assert main(["verify", "--rules", "--events"]) == main(["explain", "s", "ann"]) == main(["live", "lines.jsonl", "--durable"]) == 0
    assert '"change":"entered"' in capsys.readouterr().out
    assert main(["segment", "--json"]) == 0, "batch has it too"
    out, err = capsys.readouterr()
    assert json.loads(out)["segments"][0]["members"] == 1 and "no event had" not in err
