"""The layered segment of the sample project: behaviour, value, another segment and a prediction. Each clause alone decides."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from predseg.language import conditions as c
from predseg.language.time import DAY, HOUR
from predseg.segments.facts import Facts
from predseg.segments.memberships import Ledger
from predseg.segments.population import members_at
from predseg.segments.runs import run_segments
from tests.segments.stores import Row, Tables, rules, write_events

RULES = (Path(__file__).parents[2] / "configs/demo/segments/carts.yaml").read_text("utf-8")
AS_OF = 200 * DAY
ADDED = AS_OF - 25 * HOUR
LUXURY = {"category": "Luxury Watches"}
MEMBER: list[Row] = [
    ("ada", AS_OF - 100 * DAY, "Order Completed", {"value": Decimal("5000.01")}),
    ("ada", AS_OF - 30 * HOUR, "Product Viewed", LUXURY),
    ("ada", ADDED, "Product Added", LUXURY),
]
OTHERS: list[Row] = [(f"other{i}", AS_OF - DAY, "Product Viewed", {"category": "Shoes"}) for i in range(19)]


def members(folder: Path, rows: list[Row], churn: float = 0.9, rule: c.Condition | None = None) -> list[str]:
    tables = Tables()
    tables.score("churn", AS_OF - DAY, {"ada": churn, **{f"other{i}": 0.3 + i / 100 for i in range(19)}})
    segments = rules(RULES, "churn")
    if rule is not None:
        segments["luxury_watch_recovery"] = replace(segments["luxury_watch_recovery"], match=rule)
    return list(members_at(write_events(folder, rows), segments, AS_OF, Facts(tables))["luxury_watch_recovery"])


def test_who_fulfils_all_clauses_is_in(tmp_path: Path) -> None:
    assert members(tmp_path, MEMBER + OTHERS) == ["ada"]


@pytest.mark.parametrize("clause", range(4))
def test_each_clause_flipped_alone_removes_the_customer(tmp_path: Path, clause: int) -> None:
    match = rules(RULES, "churn")["luxury_watch_recovery"].match
    assert isinstance(match, c.All) and len(match.of) == 4
    parts = [c.NoneOf((p,)) if i == clause else p for i, p in enumerate(match.of)]
    assert "ada" not in members(tmp_path, MEMBER + OTHERS, rule=c.All(tuple(parts)))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: [(*r[0][:3], {"value": Decimal(5000)}), *r[1:]],  # exactly 5,000 is not more
        lambda r: [r[0], (r[1][0], AS_OF - 48 * HOUR, *r[1][2:]), r[2]],  # exactly 48 hours ago is out
        lambda r: [*r, ("ada", ADDED + 24 * HOUR, "Order Completed", {"value": Decimal(1)})],  # the order just in time
        lambda r: [*r[:2], ("ada", AS_OF - 24 * HOUR + 1, "Product Added", LUXURY)],  # one microsecond too fresh
    ],
)
def test_a_customer_just_beyond_a_boundary_is_not(tmp_path: Path, change: object) -> None:
    assert callable(change)
    assert members(tmp_path, change(MEMBER) + OTHERS) == []


def test_the_tenth_by_rank_not_by_probability(tmp_path: Path) -> None:
    assert members(tmp_path, MEMBER + OTHERS, churn=0.49) == ["ada"]  # the highest of 20
    assert members(tmp_path, MEMBER + OTHERS, churn=0.475) == ["ada"]  # the second of 20: 100 h = 100 < 200
    assert members(tmp_path, MEMBER + OTHERS, churn=0.465) == []  # the third: 200 < 200 is false


def test_the_run_records_it(tmp_path: Path) -> None:
    tables = Tables()
    tables.score("churn", AS_OF - DAY, {"ada": 0.9, **{f"other{i}": 0.1 for i in range(19)}})
    run = run_segments(write_events(tmp_path, MEMBER + OTHERS), rules(RULES, "churn"), AS_OF, Facts(tables), Ledger.empty())
    assert list(run.spells["luxury_watch_recovery"].customers) == ["ada"]
    assert list(run.spells["abandoned_cart"].entered) == [ADDED + 24 * HOUR]
