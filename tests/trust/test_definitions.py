"""Rules and project files are data, whatever stands in them; the count of attacks can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.trust import definitions
from benchmarks.trust.figures import Tally
from predseg.errors import ConfigError


def test_nothing_gets_through(tmp_path: Path) -> None:
    found = definitions.measure(definitions.SMALL, tmp_path, 1)
    assert found.faults == () and found.seen.startswith("156 attacks, 156 of them break a naive compiler, 0 predseg; 0 files read;")


def test_a_slow_a_crashing_and_a_placeless_answer_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([ValueError("x"), ConfigError("E306", "rule.yaml", "not YAML", "help"), ConfigError("E306", "rule.yaml:0:1", "not YAML", "help")])

    def read(text: str, folder: Path) -> None:
        raise next(answers)

    monkeypatch.setattr(definitions, "made", lambda r, folder: ("text", read))
    monkeypatch.setattr(definitions, "LONGEST", -1.0)
    tally = Tally()
    for _ in range(3):
        definitions.fuzzed(tally, "x", None, tmp_path)  # type: ignore[arg-type]
    assert (tally.counts["crashed"], tally.counts["nowhere"], tally.counts["slow"], len(tally.faults)) == (1, 2, 3, 6)


def test_a_member_who_should_be_none_and_a_file_that_is_read_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from predseg.segments.workspace import Workspace

    real = Workspace.members

    def leaky(self: Workspace, as_of: int) -> dict[str, set[str]]:
        (tmp_path / "canary").read_text()
        return {**real(self, as_of), "s3": {"other0"}}

    monkeypatch.setattr(Workspace, "members", leaky)
    faults = definitions.measure(1, tmp_path, 1).faults
    assert len(faults) == 2 and "members ['other0']" in faults[0] and faults[1] == "the canary was read"
