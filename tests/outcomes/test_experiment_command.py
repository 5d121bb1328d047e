"""`predseg experiment`, as a user meets it: from declaring a holdout to reading what it shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from predseg.cli import main
from predseg.language.assignment import HOLDOUT, Experiment
from predseg.language.time import DAY, parse_instant, say_instant

PROJECT = """\
project: shop
sources:
  shop: {path: events.csv}
consent: {opt_out: {Unsubscribed: email_marketing}}
segments: segments.yaml
"""
RULE = "segment: carts\npurpose: email_marketing\nmatch: {did: Product Added, within: 400 days}\n"
T0 = parse_instant("2026-01-01")
CUSTOMERS = [f"c{number:04d}" for number in range(1_200)]


def write(folder: Path, design: str, rows: list[tuple[str, int, str, str]]) -> None:
    lines = [f"{c},{say_instant(t)},{event},{value}" for c, t, event, value in sorted(rows, key=lambda row: row[1])]
    (folder / "events.csv").write_text("customer_id,event_time,event,value\n" + "\n".join(lines) + "\n", "utf-8")
    (folder / "predseg.yaml").write_text(PROJECT, "utf-8")
    (folder / "segments.yaml").write_text(RULE + design, "utf-8")


def held_out() -> list[bool]:
    from decimal import Decimal

    return [group == HOLDOUT for group in Experiment("carts", Decimal(50)).groups(CUSTOMERS)]


def history(doubled: bool = True) -> list[tuple[str, int, str, str]]:
    """Everybody adds on the first day; of who is contacted twice as many order, two weeks later, and some of them unsubscribe."""
    r = np.random.default_rng(1)
    rows = [(c, T0 - DAY, "Product Added", "") for c in CUSTOMERS]
    for number, (c, held) in enumerate(zip(CUSTOMERS, held_out(), strict=True)):
        if r.random() < (0.15 if held or not doubled else 0.3):
            rows.append((c, T0 + 14 * DAY + number, "Order Completed", "20"))
        if not held and r.random() < 0.2:
            rows.append((c, T0 + 2 * DAY, "Unsubscribed", ""))
    return [*rows, ("late", T0 + 60 * DAY, "Signed Up", "")]


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, "holdout: 50%\n", history())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_holdout_to_what_it_shows(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "experiment", "carts")["since"] is None
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    waiting = ask(capsys, "experiment", "carts", "--as-of", "2026-01-30")
    assert waiting["result"]["waiting"] == 1_200 and waiting["plan"] is None
    found = ask(capsys, "experiment", "carts", "--as-of", "2026-03-01")
    groups = {group["name"]: group for group in found["result"]["groups"]}
    assert groups["holdout"]["customers"] == sum(held_out()) and groups["contacted"]["customers"] == 1_200 - sum(held_out())
    [comparison] = found["result"]["comparisons"]
    assert comparison["did"]["interval"][0] > 0.1 and comparison["did"]["always"][0] > 0.05
    assert found["plan"]["rate"] == groups["holdout"]["rate"]
    assert main(["experiment", "carts", "--as-of", "2026-03-01"]) == 0
    said = capsys.readouterr().out
    assert "contacted does better than holdout, and that holds however often one looks" in said and "as large as declared" in said


def test_who_unsubscribes_later_stays_in_the_comparison(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Leaving them away would leave away what the messages did; who had opted out before was never in it."""
    rows = history()
    before = CUSTOMERS[:100]
    write(shop, "holdout: 50%\n", [*rows, *((c, T0 - 2 * DAY, "Unsubscribed", "") for c in before)])
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    found = ask(capsys, "experiment", "carts", "--as-of", "2026-03-01")["result"]
    unsubscribed = {c for c, _, event, _ in rows if event == "Unsubscribed"} & set(before)
    assert unsubscribed and sum(group["customers"] for group in found["groups"]) == 1_200 - len(set(before) - unsubscribed)
    assert not found["withheld"]


def test_a_set_up_that_loses_customers_is_withheld(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = {c for number, (c, held) in enumerate(zip(CUSTOMERS, held_out(), strict=True)) if held and number % 2}
    write(shop, "holdout: 50%\n", [row for row in history() if row[0] not in lost])
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    found = ask(capsys, "experiment", "carts", "--as-of", "2026-03-01", code=1)
    assert found["status"] == "failed" and found["result"]["withheld"] and found["result"]["comparisons"] == []
    assert main(["experiment", "carts", "--as-of", "2026-03-01"]) == 1
    assert "no" in capsys.readouterr().out


def test_a_changed_design_begins_anew(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    write(shop, "holdout: 40%\n", history())
    assert ask(capsys, "experiment", "carts")["since"] is None
    assert main(["segment", "--as-of", "2026-01-20"]) == 0
    found = ask(capsys, "experiment", "carts", "--as-of", "2026-03-01")
    assert found["since"] == "2026-01-20T00:00Z" and found["result"]["comparisons"][0]["did"]["difference"] == 0  # the orders came before
    (shop / "segments.yaml").write_text(RULE)
    assert main(["segment", "--as-of", "2026-02-01"]) == 0
    write(shop, "holdout: 40%\n", history())
    assert ask(capsys, "experiment", "carts")["since"] is None


def test_with_on_enter_only_who_enters_counts(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "predseg.yaml").write_text(PROJECT + "channels: {mail: {file: out}}\n")
    (shop / "segments.yaml").write_text(RULE)
    assert main(["segment", "--as-of", "2026-01-01"]) == 0
    (shop / "segments.yaml").write_text(RULE + "holdout: 50%\non_enter: {send: mail}\n")
    assert main(["segment", "--as-of", "2026-01-02"]) == 0
    assert ask(capsys, "experiment", "carts", "--as-of", "2026-03-01")["result"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["other"], "E220", "no such segment"),
        (["carts", "--within", "soon"], "E203", "--within"),
        (["carts", "--detect", "0.1"], "E204", "10%"),
        (["carts", "--goal", "Order Complete"], "E226", "did you mean 'Order Completed'?"),
        (["carts", "--since", "2025-01-01"], "E225", "no run has seen"),
    ],
)
def test_what_cannot_be_asked_is_refused(shop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str, said: str) -> None:
    assert main(["experiment", *arguments]) == 2
    error = capsys.readouterr().err
    assert f"error[{code}]" in error and said in error


def test_a_segment_without_an_experiment_says_so(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "segments.yaml").write_text(RULE)
    assert main(["experiment", "carts"]) == 2
    assert "E225" in capsys.readouterr().err
