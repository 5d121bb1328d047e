"""The gate: who becomes the champion, and who not."""

from __future__ import annotations

import pytest

from predseg.errors import GateError
from predseg.forecast.gate import gate

CHAMPION = {"auc": 0.75, "brier": 0.16, "calibration_error": 0.02}
INTERVALS = {"auc": (0.73, 0.77), "brier": (0.15, 0.17)}
NAN = float("nan")


def test_the_first_version_needs_no_comparison() -> None:
    found = gate({"auc": 0.5, "brier": 0.3, "calibration_error": 0.4})
    assert (found.promoted, found.earned, found.reasons) == (True, True, ("there was no champion",))


@pytest.mark.parametrize(
    ("changed", "promoted"),
    [
        ({}, True),
        ({"auc": 0.73, "brier": 0.17, "calibration_error": 0.05}, True),  # the ends are inside
        ({"auc": 0.7299}, False),
        ({"brier": 0.1701}, False),
        ({"calibration_error": 0.0501}, False),
        ({"auc": 0.9, "brier": 0.1, "calibration_error": 0.2}, False),  # ranking alone is not enough
        ({"auc": NAN}, False),
        ({"calibration_error": NAN}, False),
    ],
)
def test_as_good_within_the_interval_and_calibrated(changed: dict[str, float], promoted: bool) -> None:
    found = gate({**CHAMPION, **changed}, CHAMPION, INTERVALS)
    assert (found.promoted, found.earned, found.forced) == (promoted, promoted, False)
    assert promoted or any(word in " ".join(found.reasons) for name in changed for word in (name, name.replace("_", " ")))


def test_in_the_place_of_a_champion_that_cannot_answer_a_version_is_judged_by_itself() -> None:
    poor = {"auc": 0.55, "brier": 0.24, "calibration_error": 0.08}
    assert gate(poor).promoted
    found = gate(poor, worse_than=["recency"])
    assert (found.promoted, found.reasons) == (False, ("the baseline 'recency' does better",))
    assert gate(poor, worse_than=["recency"], force=True).forced
    with pytest.raises(GateError):
        gate(poor, flags=["leak"])


def test_a_number_that_was_not_measured_is_not_good_enough() -> None:
    assert not gate({"auc": 0.99}, CHAMPION, INTERVALS).promoted


def test_without_intervals_the_champion_itself_is_the_bound() -> None:
    assert gate(CHAMPION, CHAMPION).promoted
    assert not gate({**CHAMPION, "auc": 0.7499}, CHAMPION).promoted


def test_no_better_calibration_is_asked_than_the_champion_has() -> None:
    poor = {**CHAMPION, "calibration_error": 0.09}
    assert gate({**CHAMPION, "calibration_error": 0.08}, poor, INTERVALS).promoted
    assert not gate({**CHAMPION, "calibration_error": 0.1}, poor, INTERVALS).promoted


def test_every_objection_is_named() -> None:
    found = gate({"auc": 0.5, "brier": 0.3, "calibration_error": 0.4}, CHAMPION, INTERVALS)
    assert len(found.reasons) == 3


@pytest.mark.parametrize("champion", [None, CHAMPION])
def test_a_leak_that_is_not_allowed_stops_it(champion: dict[str, float] | None) -> None:
    with pytest.raises(GateError) as caught:
        gate(CHAMPION, champion, flags=["days_since_x", "overlap"], allowed=["overlap"])
    assert (caught.value.code, caught.value.exit_code) == ("E620", 6)
    assert "days_since_x" in caught.value.message
    assert "overlap" not in caught.value.message


def test_an_allowed_leak_is_recorded() -> None:
    found = gate(CHAMPION, None, flags=["overlap"], allowed=["overlap", "other"])
    assert found.earned
    assert found.reasons == ("there was no champion", "leak 'overlap' is allowed by name")


def test_force_passes_everything_and_keeps_why_not() -> None:
    found = gate({**CHAMPION, "auc": 0.5}, CHAMPION, INTERVALS, flags=["x"], force=True)
    assert (found.promoted, found.earned, found.forced) == (True, False, True)
    assert "leak 'x' is not allowed" in found.reasons
    assert any(reason.startswith("auc 0.5000") for reason in found.reasons)


def test_force_that_was_not_needed_is_no_force() -> None:
    assert not gate(CHAMPION, CHAMPION, INTERVALS, force=True).forced
