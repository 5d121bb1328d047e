"""The gate: what a new version must show before it speaks for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from predseg.errors import GateError

CALIBRATION_LIMIT = 0.05
"""A calibration error (mean distance of probability and frequency) up to this is calibrated."""
COMPARED = {"auc": 1, "brier": -1}
"""What must be as good as the champion's, and whether more is better."""
VALUE_LIMIT = 0.3
"""The same limit for expected values: the distance over tenths, as a share of the mean."""
VALUE_COMPARED = {"gini": 1, "deviance": -1}
"""The same for models that predict a sum."""


@dataclass(frozen=True)
class Decision:
    """What the gate said.

    Attributes:
        promoted: Whether the version becomes the champion.
        reasons: Why, in words.
        forced: Whether it becomes so although the gate refused it.
    """

    promoted: bool
    reasons: tuple[str, ...]
    forced: bool = False

    @property
    def earned(self) -> bool:
        """Whether the gate let it pass."""
        return self.promoted and not self.forced


def gate(
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    *,
    flags: Sequence[str] = (),
    allowed: Sequence[str] = (),
    worse_than: Sequence[str] = (),
    force: bool = False,
) -> Decision:
    """Decide whether a candidate becomes the champion.

    It does when there is no champion, or when forward in time its AUC is at least the low end of the champion's interval,
    its Brier score at most the high end, and its calibration error at most 0.05 or the champion's. A leak that is not
    allowed stops it either way, and so does a baseline that does better when it takes the place of a champion that cannot answer any more.

    Args:
        candidate: ``auc``, ``brier`` and ``calibration_error`` on the forward test; of an expected value ``gini``, ``deviance`` and ``off``.
        champion: The same of the champion **on the same test**; None when there is none.
        intervals: Of the champion, low and high by metric, both ends included; without one the number itself is the bound.
        flags: Names of leaks that were found.
        allowed: Names of leaks that the model's ``allow:`` accepts.
        worse_than: Baselines that do better, where the champion cannot answer.
        force: Pass whatever is found; it stays in the reasons.

    Raises:
        GateError: E620 when a leak is not allowed.

    >>> gate({"auc": 0.74, "brier": 0.16, "calibration_error": 0.02}, {"auc": 0.75, "brier": 0.16}, {"auc": (0.73, 0.77)}).promoted
    True
    """
    leaks = [f"leak {name!r} is not allowed" for name in flags if name not in allowed]
    if leaks and not force:
        names = ", ".join(name for name in flags if name not in allowed)
        raise GateError(
            "E620",
            "gate",
            f"leaks were found that are not allowed: {names}",
            f"remove what leaks; if it is harmless: `allow: [{names}]` in the model",
        )
    notes = [f"leak {name!r} is allowed by name" for name in flags if name in allowed]
    objections = leaks + [f"the baseline {name!r} does better" for name in worse_than]
    objections += [] if champion is None else _objections(candidate, champion, intervals or {})
    if objections:
        return Decision(force, (*objections, *notes, *(["forced"] if force else [])), forced=force)
    passed = "there was no champion" if champion is None else "at least as good as the champion forward in time, and calibrated"
    return Decision(True, (passed, *notes))


def _objections(candidate: Mapping[str, float], champion: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> list[str]:
    found = []
    value = "gini" in candidate
    for metric, sign in (VALUE_COMPARED if value else COMPARED).items():
        mine, its = candidate.get(metric, float("nan")), champion.get(metric, float("nan"))
        bound = intervals.get(metric, (its, its))[0 if sign > 0 else 1]
        if not sign * mine >= sign * bound:
            found.append(
                f"{metric} {mine:.4f} is {'below' if sign > 0 else 'above'} {bound:.4f}, the {'low' if sign > 0 else 'high'} end of the champion's interval around {its:.4f}"
            )
    name, most = ("off", VALUE_LIMIT) if value else ("calibration_error", CALIBRATION_LIMIT)
    error, limit = candidate.get(name, float("nan")), max(most, champion.get(name, 0.0))
    if not error <= limit:
        found.append(f"calibration error {error:.4f} is above {limit:.4f}")
    return found
