"""Recalibration: the champion ranks as before, and what it says becomes probabilities by what came true since it was trained.

It needs one horizon after the training: what is asked there was decided by outcomes that the trees never saw. With two horizons or
more the newest one judges a calibration that knew only the older ones; with one, half of the customers judge what the others taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from predseg.errors import LabelError
from predseg.forecast.aims import log_shift
from predseg.forecast.dataset import sampled
from predseg.forecast.fitting import fit_sigmoid
from predseg.forecast.forecaster import Calibration, Forecaster
from predseg.forecast.sampling import Sample, check_labels, enough
from predseg.forecast.training import Chosen, Settings, Trained, roles
from predseg.language.time import say_instant


def matured(cutoffs: list[int], trained_at: int, horizon: int, model: str) -> list[int]:
    """Return the cutoffs after a training, of those that are complete.

    Raises:
        LabelError: E506 when there is none.
    """
    found = [cutoff for cutoff in cutoffs if cutoff >= trained_at]
    if not found:
        ready = say_instant(trained_at + horizon)
        message = f"its champion was trained at {say_instant(trained_at)}, and what it would be measured by is complete at {ready}"
        raise LabelError("E506", model, message, f"recalibrate with `--as-of {ready}` or later, or train it anew")
    return found


def recalibrate(sample: Sample, champion: Forecaster, facts: Mapping[str, Any], settings: Settings) -> Trained:
    """Return the champion with another calibration, and the one that is judged on rows that it did not learn from.

    Args:
        sample: Rows of `matured` cutoffs.
        champion: The model.
        facts: Those of its bundle.
        settings: Horizon, and whether it is a value.

    Raises:
        LabelError: E501, E502, E505 when the labels of either part can teach nothing.
    """
    sample = replace(sample, y=np.maximum(sample.y, 0.0)) if settings.value else sample
    newest = sample.cutoff == sample.cutoff.max(initial=0)
    older = sample.until(int(sample.cutoff.max(initial=0)), settings.horizon)
    if enough(older.y, settings.value):
        learned, test = older, sample.take(newest)
    else:
        half = sampled(sample.customer, 0.5)
        learned, test = sample.take(half), sample.take(newest & ~half)
    check_labels(learned.y, "labels to recalibrate with", settings.value)
    check_labels(test.y, "labels of the test", settings.value)
    chosen = dict(facts["chosen"])
    known = {name: chosen.pop(name) for name in ("trees", "linear_share", "linear_member", "season", "wander", "calibration") if name in chosen}
    calibrated = _calibrated(champion, sample, settings.value)
    return Trained(
        calibrated,
        Chosen(
            known["trees"],
            known["linear_share"],
            calibrated.calibration,
            chosen,
            season=known.get("season"),
            lawful=known.get("linear_member") == "laws",
            wander=known.get("wander"),
        ),
        _calibrated(champion, learned, settings.value),
        learned,
        test,
        roles(sample, settings.horizon),
    )


def _calibrated(champion: Forecaster, part: Sample, value: bool) -> Forecaster:
    raw = champion.raw(part.X)
    return replace(champion, calibration=Calibration("value", intercept=log_shift(part.y, raw)) if value else fit_sigmoid(raw, part.y))
