"""What is learned from: customer-moments at many cutoffs, which cutoffs, and when their labels teach nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from predseg.errors import LabelError
from predseg.forecast.forecaster import Array
from predseg.language.time import DAY, say_duration, say_instant

FEWEST = 50
"""Both answers must occur this often, in what is learned from and in the forward test."""
CUTOFFS = 12
"""Training cutoffs before the gap that are asked for by default; fewer when the history is short."""
LEVELS = 50
"""The most frequent levels of a trait that are told apart."""
DECAY = 0.97
"""Weight of a row, to the power of the months between its cutoff and the newest one."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Customer-moments to learn from or to test on; all four have one entry per row.

    Attributes:
        X: Features seen at the cutoff.
        y: int8, 1 where the prediction came true in (cutoff, cutoff + horizon]; float64, the sum, when a value is predicted.
        cutoff: int64 microseconds.
        customer: Ids.
    """

    X: pd.DataFrame
    y: Array
    cutoff: Array
    customer: Array

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Array) -> Sample:
        """Return the rows of a mask or of positions."""
        return Sample(self.X[rows] if rows.dtype == bool else self.X.iloc[rows], self.y[rows], self.cutoff[rows], self.customer[rows])

    def until(self, moment: int, horizon: int) -> Sample:
        """Return what is known at a moment: the rows with cutoff + horizon ≤ moment."""
        return self.take(self.cutoff + horizon <= moment)

    def cutoffs(self) -> list[int]:
        """The distinct cutoffs, oldest first."""
        return [int(c) for c in np.unique(self.cutoff)]


def choose_cutoffs(first_event: int, last_event: int, as_of: int, horizon: int, cutoffs: int | None = None, every: int | None = None) -> list[int]:
    """Return the moments to learn from, oldest first; the last one, ``as_of - horizon``, is the forward test.

    They go back in steps of ``every`` (by default the horizon, cut into up to four parts of at most 30 days or so),
    until ``cutoffs`` of them lie a horizon before the test, or until less history than a horizon (at least 30 days) is
    left. A short history gets shorter steps and may start after half of that.

    Raises:
        LabelError: E503 when the horizon before ``as_of`` is not complete in the data, E504 when there is no room for a
            training cutoff a horizon before the test.

    >>> [c // DAY for c in choose_cutoffs(0, 400 * DAY, 400 * DAY, 90 * DAY, cutoffs=3)]
    [160, 190, 220, 250, 280, 310]
    """
    _check_complete(last_event, as_of, horizon)
    newest, needed = as_of - horizon, max(horizon, 30 * DAY)
    steps = min(4, -(-horizon // (30 * DAY)))
    for history, finer in ((needed, 1), (needed, 2), (needed // 2, 2), (min(horizon, 7 * DAY), 2)):
        spacing = every or max(-(-horizon // (steps * finer)), 1)
        between = -(-horizon // spacing)
        known = max((newest - between * spacing - first_event - history) // spacing + 1, 0)
        if known >= min(3, cutoffs or 3):
            break
    if known < 1:
        raise no_room(first_event, as_of, horizon)
    return [newest - k * spacing for k in range(between + min(known, cutoffs or CUTOFFS) - 1, -1, -1)]


def _check_complete(last_event: int, as_of: int, horizon: int) -> None:
    late = as_of - last_event
    if late > max(DAY, horizon // 10):
        message = (
            f"the last event is of {say_instant(last_event)}, {say_duration(late)} before as_of {say_instant(as_of)}: the horizon is not complete"
        )
        raise LabelError("E503", "as_of", message, f"train with `--as-of {say_instant(last_event)}`, or load the missing events")


def no_room(first_event: int, as_of: int, horizon: int) -> LabelError:
    """Return the refusal E504 of a history too short for its horizon."""
    span = max(as_of - first_event, 0)
    need = 2 * horizon + min(horizon, 7 * DAY)
    message = (
        f"a horizon of {say_duration(horizon)} needs {say_duration(need)} of history (one to learn from, one to test on, "
        f"and some before), found {span / DAY:,.1f} days up to {say_instant(as_of)}"
    )
    best = span // DAY * 2 // 5
    remedy = f"predict at most `within_next: {best} days`, or load older events" if best else "load older events, or train later"
    return LabelError("E504", "cutoffs", message, remedy)


def enough(y: Array, value: bool = False) -> bool:
    """Whether labels can teach: 50 of either answer, or of sums 50 over 0."""
    positives = int(np.sum(y > 0))
    return positives >= FEWEST and (value or len(y) - positives >= FEWEST)


def check_labels(y: Array, place: str, value: bool = False) -> None:
    """Refuse labels that nothing can be learned from.

    Raises:
        LabelError: E505 none at all, E501 all the same, E502 fewer than 50 of either answer; of sums, fewer than 50 over 0.
    """
    positives, rows = int(np.sum(y > 0)), len(y)
    if not rows:
        raise LabelError("E505", place, "nobody is eligible", "check `among:` of the model and the event names of the data")
    if not positives or (positives == rows and not value):
        answer = "0" if value else "1 (it came true)" if positives else "0 (it never came true)"
        raise LabelError("E501", place, f"all {rows:,} are {answer}", "change what is predicted, its horizon, or who is eligible (`among:`)")
    if not enough(y, value):
        found = f"{positives:,} of {rows:,} are over 0" if value else f"{positives:,} of {rows:,} are 1 and {rows - positives:,} are 0"
        message = f"{found}: at least {FEWEST} {'are needed' if value else 'of either are needed'}"
        raise LabelError("E502", place, message, "predict a longer or shorter `within_next:`, widen `among:`, or load more customers")


def levels(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the levels of each column that is not a number: the 50 most frequent, in the order of their names."""
    found = {}
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(frame[name]):
            counts = frame[name].dropna().astype(str).value_counts()
            ranked = sorted(((-int(n), str(level)) for level, n in counts.items() if n))
            found[str(name)] = tuple(sorted(level for _, level in ranked[:LEVELS]))
    return found


def weights(cutoff: Array) -> Array:
    """Return the weight of each row: 0.97 to the power of its age in months of 30 days behind the newest.

    >>> weights(np.array([0, 30 * DAY])).tolist()
    [0.97, 1.0]
    """
    return np.asarray(DECAY ** ((cutoff.max() - cutoff) / (30 * DAY)))


def sample_customers(known: Sample, rows: int) -> Sample:
    """Return the rows of as many customers as fit, picked by a hash of their ids: all of a customer's moments or none."""
    if len(known) <= rows:
        return known
    share = rows / len(known)
    return known.take(pd.util.hash_array(np.asarray(known.customer).astype(object)) < np.uint64(share * 2.0**64))
