"""What a workspace publishes, and when it need not do so again."""

from __future__ import annotations

from pathlib import Path

import pytest

from predseg.segments import population, workspace
from predseg.segments.population import publish_rfv
from tests.segments.test_explain import NOW, ROWS, open_store, opened

RFV = """
segment: recent
match: {rfv: {of: Order, within: 30 days, recency: [4, 5]}}
"""
OTHER = RFV.replace("30 days", "40 days")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The moments at which somebody was really scored."""
    moments: list[int] = []

    def counted(files: list[Path], wanted: dict[str, object], as_of: int, *over: object) -> object:
        moments.append(as_of)
        return publish_rfv(files, wanted, as_of, *over)  # type: ignore[arg-type]

    monkeypatch.setattr(workspace, "publish_rfv", counted)
    return moments


def test_rfv_scores_are_published_again_only_when_events_or_questions_changed(tmp_path: Path, scored: list[int]) -> None:
    first = open_store(tmp_path, ROWS, RFV)
    first.run(NOW)
    first.preview("recent", NOW)
    assert scored == [NOW]
    opened(tmp_path, OTHER).run(NOW)
    assert scored == [NOW] * 2, "another window is another question"
    more = open_store(tmp_path, [*ROWS, ("dan", NOW - 1, "Order", {})], OTHER)
    assert more.run(NOW).spells["recent"].customers.tolist() == ["dan"]
    assert scored == [NOW] * 3, "an event came"
    more.run(NOW + 1)
    assert scored == [NOW] * 3 + [NOW + 1]


def test_without_such_a_rule_nobody_is_scored(tmp_path: Path, scored: list[int]) -> None:
    open_store(tmp_path, ROWS).run(NOW)
    assert not scored and not population.rfv_wanted([])
