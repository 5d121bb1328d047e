"""`predseg uplift` on a simulated campaign whose effects are known: those with two things in the cart are moved, the others are not."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predseg.cli import main
from predseg.language.assignment import HOLDOUT, Experiment
from predseg.language.time import DAY, parse_instant, say_instant

PROJECT = """\
project: shop
sources:
  shop: {path: events.csv}
consent: {opt_out: {Unsubscribed: email_marketing}}
features:
  windows: [30 days]
  events:
    Product Added: {}
    Product Viewed: {}
segments: segments.yaml
"""
PAGE = Path(__file__).parents[2] / "docs/outcomes.md"
RULE = "segment: carts\npurpose: email_marketing\nmatch: {did: Product Added, within: 400 days}\n"
T0 = parse_instant("2026-01-01")
CUSTOMERS = [f"c{number:04d}" for number in range(3_000)]
EFFECT = 0.3


def held_out() -> list[bool]:
    return [group == HOLDOUT for group in Experiment("carts", Decimal(50)).groups(CUSTOMERS)]


def two_things(customer: str) -> bool:
    return int(customer[1:]) % 2 == 0


def write(folder: Path, effect: float = EFFECT, customers: list[str] = CUSTOMERS, design: str = "holdout: 50%\n") -> None:
    """Who is moved looks at a product **after** the message: a feature that sees it knows the answer."""
    r = np.random.default_rng(1)
    rows = []
    for c, held in zip(CUSTOMERS, held_out(), strict=True):
        if c not in customers:
            continue
        rows.append((c, T0 - 300 * DAY, "Signed Up"))
        rows += [(c, T0 - int(day) * DAY, "Product Added") for day in r.integers(1, 25, 1 + two_things(c))]
        moved = not held and two_things(c)
        if r.random() < 0.15 + effect * moved:
            rows += [(c, T0 + 5 * DAY, "Product Viewed"), (c, T0 + 14 * DAY, "Order Completed")]
    rows.append(("late", T0 + 60 * DAY, "Signed Up"))
    lines = [f"{c},{say_instant(t)},{event}" for c, t, event in sorted(rows, key=lambda row: row[1])]
    (folder / "events.csv").write_text("customer_id,event_time,event\n" + "\n".join(lines) + "\n", "utf-8")
    (folder / "predseg.yaml").write_text(PROJECT, "utf-8")
    (folder / "segments.yaml").write_text(RULE + design, "utf-8")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    capsys.readouterr()
    assert main(["uplift", "carts", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shop(folder: Path) -> Path:
    write(folder)
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    return folder


def test_whom_the_messages_move_is_found_and_written(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "--as-of", "2026-03-01", "--out", "uplift.parquet")
    told = found["uplift"]
    assert found["status"] == "ok" and found["enough"] and told["qini_interval"][0] > 0
    assert told["average_interval"][0] < EFFECT / 2 < told["average_interval"][1]
    assert (told["customers"], told["treated"]) == (3_000, 3_000 - sum(held_out()))
    names = [mover["feature"] for mover in found["movers"]]
    assert "product_added" in names[0] and not any("product_viewed" in name for name in names), "what came after the message is not known before it"
    rows = pd.read_parquet(shop / "uplift.parquet")
    assert list(rows.columns) == ["segment", "customer_id", "as_of", "uplift", "percentile", "decile"] and len(rows) == found["members"] == 3_000
    mean = rows.groupby(rows["customer_id"].map(two_things))["uplift"].mean()
    assert mean[True] == pytest.approx(EFFECT, abs=0.08) and abs(mean[False]) < 0.06 and rows["uplift"].is_monotonic_decreasing


def test_a_person_reads_what_the_docs_show(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    capsys.readouterr()
    assert main(["uplift", "carts", "--as-of", "2026-03-01"]) == 0
    said = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    text = PAGE.read_text("utf-8")
    head, shown = text.split("$ predseg uplift carts --as-of 2026-03-01\n")
    shown, tail = shown.split("\n```", 1)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(f"{head}$ predseg uplift carts --as-of 2026-03-01\n{said}\n```{tail}", "utf-8")
        shown = said
    assert said == shown, f"{PAGE} differs; after a wanted change run UPDATE_GOLDEN=1 pytest {__file__}"


def test_while_the_watch_lasts_it_says_what_is_missing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "--as-of", "2026-01-20", "--out", "uplift.csv", code=1)
    assert found["status"] == "failed" and not found["enough"] and found["out"] is None and not (shop / "uplift.csv").exists()
    assert (found["waiting"], found["complete_at"]) == (3_000, "2026-01-31T00:00Z")
    assert found["uplift"]["lacking"] == ["0 customers are treated, 200 are needed", "0 customers are held out, 200 are needed"]
    assert main(["uplift", "carts", "--as-of", "2026-01-20", "--out", "uplift.csv"]) == 1
    said = capsys.readouterr().out
    assert "not enough evidence yet" in said and "until 2026-01-31T00:00Z" in said and "nothing was written to uplift.csv" in said


def test_a_message_that_moves_nobody_is_not_enough_evidence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, effect=0.0)
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    found = ask(capsys, "--as-of", "2026-03-01", code=1)
    low, high = found["uplift"]["average_interval"]
    assert low < 0 < high and found["movers"] == [] and len(found["uplift"]["fifths"]) == 5
    assert found["uplift"]["verdict"].startswith("not enough evidence yet that the message moves some more than others")


def test_groups_that_are_not_as_declared_teach_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, customers=[c for number, (c, held) in enumerate(zip(CUSTOMERS, held_out(), strict=True)) if not held or number % 4])
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    found = ask(capsys, "--as-of", "2026-03-01", code=1)
    assert found["withheld"] and found["uplift"] is None
    assert main(["uplift", "carts", "--as-of", "2026-03-01"]) == 1
    assert "not as large as declared" in capsys.readouterr().out


def test_a_design_that_no_run_has_seen_says_so(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(shop, design="holdout: 40%\n")
    assert ask(capsys, code=1)["since"] is None
    assert main(["uplift", "carts"]) == 1
    assert "it begins with the next `predseg segment`" in capsys.readouterr().out


def test_without_a_holdout_it_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(shop, design="split: {control: 50%, short: 50%}\n")
    assert main(["uplift", "carts"]) == 2
    assert "E225" in (error := capsys.readouterr().err) and "nobody is left alone" in error
