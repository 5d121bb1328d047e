"""`predseg engagement`, and `segment --from` that fills in the past for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from predseg.cli import main
from predseg.language.time import DAY, parse_instant, say_instant
from predseg.outcomes import projects, tuning
from predseg.segments import workspace

PROJECT = """\
project: shop
sources:
  shop: {path: events.csv}
segments: segments.yaml
outcomes: {campaign: mailing, within: 3 days}
"""
RULE = "segment: readers\nmatch: {did: Email Link Clicked, within: 8 days}\n"
T0 = parse_instant("2026-01-05")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty customers get a mail a week; c00 to c04 click the first one, c00 all of them and buys two days later."""
    rows = []
    for week in range(6):
        for number in range(20):
            t = T0 + week * 7 * DAY
            rows.append((t, f"c{number:02d}", "Email Delivered", "", f"mail {week}"))
            if number < 5 and (week == 0 or number == 0):
                rows.append((t + DAY, f"c{number:02d}", "Email Link Clicked", "", f"mail {week}"))
        rows.append((t + 2 * DAY, "c00", "Order Completed", "10", ""))
    lines = [f"{c},{say_instant(t)},{event},{value},{mailing}" for t, c, event, value, mailing in sorted(rows)]
    (tmp_path / "events.csv").write_text("customer_id,event_time,event,value,mailing\n" + "\n".join(lines) + "\n", "utf-8")
    (tmp_path / "predseg.yaml").write_text(PROJECT, "utf-8")
    (tmp_path / "segments.yaml").write_text(RULE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_past_is_filled_in_as_if_it_had_been_run(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "--from", "2026-01-06", "--every", "7d"]) == 0
    by_week = ask(capsys, "segment", "--on", "2026-01-13")["members"]["readers"], ask(capsys, "segment", "--on", "2026-01-20")["members"]["readers"]
    assert by_week == (["c00", "c01", "c02", "c03", "c04"], ["c00"])
    found = ask(capsys, "engagement")
    everyone, readers = found["segments"]
    assert everyone["figures"]["delivered"] == 120 and everyone["figures"]["clicked"] == 10 and everyone["figures"]["revenue"] == 60
    first, *others = readers["campaigns"]
    assert (first["campaign"], first["figures"]["delivered"], first["figures"]["clicked"]) == ("mail 1", 5, 1)
    assert [c["figures"]["delivered"] for c in others] == [1, 1, 1, 1] and readers["figures"]["orders"] == 5
    assert found["recorded"] == say_instant(T0 + 2 * DAY)
    assert ask(capsys, "engagement", "--select", "reader*")["segments"] == found["segments"]
    assert main(["engagement", "--exclude", "readers"]) == 2


@pytest.mark.parametrize("refused", [False, True])
def test_a_run_reads_the_messages_once_while_it_decides_who_belongs(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    done: list[str] = []
    read, decide = projects.read_messages, workspace.run_segments

    def reading(*given: Any, **named: Any) -> Any:
        done.append("messages")
        if refused and len(done) == 1:
            raise OSError("the disk sleeps")
        return read(*given, **named)

    monkeypatch.setattr(projects, "read_messages", reading)
    monkeypatch.setattr(workspace, "run_segments", lambda *given, **named: (decide(*given, **named), done.append("members"))[0])
    ran = ask(capsys, "run")
    assert sorted(done) == ["members", "messages", *["messages"] * refused], "what is refused is asked again by the watch"
    everyone = next(w for w in ran["steps"]["monitor"]["watches"] if w["watch"] == "ctr")
    assert everyone["value"] == "8.3% of what was delivered"


def test_what_a_user_reads(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engagement"]) == 0
    said = capsys.readouterr().out
    assert "no memberships are recorded yet" in said and "readers 0 - 0 - - 0 0 0" in " ".join(said.split())
    for by in ("campaign", "period"):
        assert main(["engagement", "readers", "--by", by, "--last", "30d"]) == 0
    said = capsys.readouterr().out
    assert "mail 5" in said and "mail 0" not in said and "from 2026-01-19" in said


def test_a_rule_with_too_little_behind_it_is_left_as_it_is(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "readers", "--as-of", "2026-03-01"]) == 0
    said = capsys.readouterr().out
    assert "readers: clicks of deliveries to members; looked for from 2026-01-05" in said and "no change holds up" in said and "as it is" in said
    found = ask(capsys, "tune", "readers", "--for", "conversions", "--within", "3d", "--last", "60d", "--as-of", "2026-03-01")
    assert found["proposal"] is None and found["searched"]["tried"] > 0


def test_the_days_that_are_looked_at_are_of_the_time_that_is_asked_about(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were spread over all of history, and those before the time left away: of a long one too few remained."""
    monkeypatch.setattr(tuning, "MOST_MOMENTS", 3)
    monkeypatch.setattr(projects, "FEWEST_MOMENTS", 3)
    found = ask(capsys, "tune", "readers", "--last", "30d", "--as-of", "2026-02-16")
    assert found["searched"]["tried"] > 0


def test_weeks_before_the_first_event_are_not_looked_at(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default a year is looked at: of a younger shop the earlier part had nobody, and nothing could be found in it."""
    found = ask(capsys, "tune", "readers", "--for", "conversions", "--within", "3d", "--as-of", "2026-03-01")
    assert found["first"] > "2026-01-05" and found["searched"]["tried"] > 0


def test_a_segment_that_nobody_entered_is_recorded_all_the_same(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "segments.yaml").write_text("segment: buyers\nmatch: {did: Order Completed, more_than: 99}\n", "utf-8")
    assert main(["segment"]) == 0 and ask(capsys, "engagement")["recorded"] == "2026-02-11T00:00Z"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("engagement --by segments", "E227"),
        ("engagement nobody", "E220"),
        ("engagement --goal Oder", "E226"),
        ("engagement --last long", "E203"),
        ("tune readers --for fun", "E229"),
        ("tune readers --last 20d", "E228"),
        ("tune readers --last 1d", "E228"),
        ("tune nobody", "E220"),
        ("tune readers --keep 2", "E204"),
        ("segment --from 2000-01-01 --every 1m", "E223"),
        ("segment --from 2026-01-01 --every never", "E203] --every"),
        ("segment --from yesterday", "E203] --from"),
        ("segment --on yesterday", "E203] --on"),
        ("replay readers --from 2026-01-01 --to now", "E203] --to"),
        ("replay readers --from once --to 2026-01-01", "E203] --from"),
        ("experiment readers --since once", "E203] --since"),
        ("uplift readers --since once", "E203] --since"),
        ("segment --as-of yesterday", "E203] --as-of"),
        ("segment --out members", "E211] members: the file ends in nothing like it"),
    ],
)
def test_what_cannot_be_asked_is_refused(shop: Path, capsys: pytest.CaptureFixture[str], command: str, code: str) -> None:
    assert main(command.split()) == 2
    assert f"error[{code}" in capsys.readouterr().err


def test_a_shop_that_sends_nothing_says_so(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "events.csv").write_text("customer_id,event_time,event\na,2026-01-01T00:00:00Z,Email Link Clicked\n")
    assert main(["engagement"]) == 2
    assert "the event 'Email Delivered' never occurred" in capsys.readouterr().err
