"""The trained model as plain data and pure functions: a frame of features in, logits, probabilities and reasons out.

Nothing is fitted here (see ``training``). A row's answer depends on that row alone: never on the other rows of its
block, on their number, on the order of the columns or on the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from predseg.errors import ModelError
from predseg.forecast.rhythm import Rhythm
from predseg.forecast.taste import Taste
from predseg.forecast.trees import Members
from predseg.forecast.visits import AS_OF, Visits

if TYPE_CHECKING:
    import lightgbm as lgb

Array = np.ndarray[Any, np.dtype[Any]]


def sigmoid(logit: Array) -> Array:
    """Return 1 / (1 + exp(-logit)) without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(logit))
    return np.asarray(np.where(logit >= 0, 1.0, small) / (1.0 + small))


def signed_log(values: Array) -> Array:
    """Return sign(x) · log(1 + |x|): the scale of the linear member, defined for refunds too.

    >>> signed_log(np.array([0.0, -1.0])).round(4).tolist()
    [0.0, -0.6931]
    """
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


@dataclass(frozen=True)
class Calibration:
    """How an uncalibrated logit becomes a probability.

    Attributes:
        kind: ``identity`` is sigmoid(raw), ``sigmoid`` is sigmoid(slope · raw + intercept), ``isotonic`` is the
            straight line between the points (``x``, ``y``), flat beyond both ends. ``value`` is no probability but the
            expected value exp(raw + intercept), rounded to four places like all money.
        slope: Of ``sigmoid``.
        intercept: Of ``sigmoid`` and ``value``.
        x: Of ``isotonic``, increasing logits.
        y: Of ``isotonic``, probabilities that never decrease.

    >>> Calibration("sigmoid", slope=2.0, intercept=0.0).apply(np.array([0.0])).tolist()
    [0.5]
    """

    kind: Literal["identity", "sigmoid", "isotonic", "value"] = "identity"
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, raw: Array) -> Array:
        """Return the probabilities (or expected values) of uncalibrated outputs, never decreasing in them."""
        if self.kind == "value":
            return np.asarray(np.round(np.exp(raw + self.intercept), 4))
        if self.kind == "isotonic":
            return np.asarray(np.interp(raw, np.asarray(self.x), np.asarray(self.y)))
        return sigmoid(raw if self.kind == "identity" else self.slope * raw + self.intercept)

    def moved(self, shift: float) -> Calibration:
        """Return the calibration with a shift added to its output before the link; a curve stays as it is."""
        if not shift or self.kind == "isotonic":
            return self
        return replace(self, kind="sigmoid" if self.kind == "identity" else self.kind, intercept=self.intercept + shift)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same calibration back."""
        return {**asdict(self), "x": list(self.x), "y": list(self.y)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Return the calibration of `to_dict`."""
        return cls(values["kind"], float(values["slope"]), float(values["intercept"]), tuple(map(float, values["x"])), tuple(map(float, values["y"])))


@dataclass(frozen=True)
class Linear:
    """A logistic regression on the logs of some features, one number of each list per column.

    A present value x adds coef · (`signed_log`(x) − mean) / scale to the logit; a missing one adds ``missing``.
    """

    columns: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefs: tuple[float, ...]
    missing: tuple[float, ...]
    intercept: float

    def terms(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Return what each column adds to the logit, from float64 columns with NaN for missing."""
        found = {}
        for name, mean, scale, coef, missing in zip(self.columns, self.means, self.scales, self.coefs, self.missing, strict=True):
            x = values[name]
            found[name] = np.where(np.isnan(x), missing, coef * ((signed_log(x) - mean) / scale))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same member back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Linear:
        """Return the linear member of `to_dict`."""
        numbers = {name: tuple(map(float, values[name])) for name in ("means", "scales", "coefs", "missing")}
        return cls(tuple(values["columns"]), intercept=float(values["intercept"]), **numbers)


def encode(frame: pd.DataFrame, features: Sequence[str], categories: Mapping[str, tuple[str, ...]]) -> Array:
    """Return the rows × features matrix (float64, C order, columns picked by name) that the trees are given.

    A trait becomes the position of its level; a level not seen in training is missing, as is an infinite number.

    Raises:
        ModelError: E710 when a feature is not in the frame (naming the missing and the extra columns),
            E711 when a feature is not a number.

    >>> encode(pd.DataFrame({"b": ["GB", "XX"], "a": [1, 2]}), ["a", "b"], {"b": ("FR", "GB")}).tolist()
    [[1.0, 1.0], [2.0, nan]]
    """
    _check_columns(frame, features)
    matrix = np.empty((len(frame), len(features)), dtype=np.float64)
    for position, name in enumerate(features):
        matrix[:, position] = _codes(frame[name], categories[name]) if name in categories else _numbers(frame[name])
    matrix[np.isinf(matrix)] = np.nan
    return matrix


def _check_columns(frame: pd.DataFrame, features: Sequence[str]) -> None:
    missing = [name for name in features if name not in frame.columns]
    if not missing:
        return
    extra = [str(name) for name in frame.columns if name not in {*features, "customer_id", "as_of", ""}]  # what travels along has no name
    message = f"the model needs {len(features)} features, {len(missing)} are missing: {_some(missing)}"
    message += f"; the frame has {len(extra)} that it does not know: {_some(extra)}" if extra else ""
    help_ = "write back the `features:` of its training, or train again"
    raise ModelError("E710", "features", message, help_)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _numbers(column: pd.Series) -> Array:
    try:
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        raise ModelError(
            "E711", f"features.{column.name}", f"expected numbers, found {column.dtype}", "declare it under `traits:`, or map it to numbers"
        ) from None


def _codes(column: pd.Series, levels: tuple[str, ...]) -> Array:
    codes, found = pd.factorize(column)
    position = {level: float(i) for i, level in enumerate(levels)}
    table = np.array([position.get(str(level), np.nan) for level in found] + [np.nan])
    return np.asarray(table[codes])


@dataclass(frozen=True, eq=False)
class Forecaster:
    """A trained model: gradient-boosted trees, a linear member, and the calibration of their mean.

    Attributes:
        features: Columns in the order that the trees know them by.
        categories: The features that are traits, with their levels; any other level is missing.
        boosters: Members that differ by seed; their logits are averaged.
        linear: The linear member, if any.
        blend: Share of the linear member in the logit, 0 to 1.
        calibration: From the logit to the probability.
        rhythm: Makes the features that follow from the customer's own rhythm, if any.
        visits: Makes those that follow from visits, if any.
        taste: Makes those that follow from what was ever bought, if any.
    """

    features: tuple[str, ...]
    boosters: tuple[lgb.Booster, ...]
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    linear: Linear | None = None
    blend: float = 0.0
    calibration: Calibration = Calibration()
    rhythm: Rhythm | None = None
    visits: Visits | None = None
    taste: Taste | None = None

    def encode(self, frame: pd.DataFrame) -> Array:
        """Return the matrix of a frame, see `encode`; what its laws add is added first."""
        for law in self.laws:
            frame = law.extend(frame)
        return encode(frame, self.features, self.categories)

    @property
    def laws(self) -> list[Rhythm | Visits | Taste]:
        """What makes features of features."""
        return [law for law in (self.rhythm, self.visits, self.taste) if law]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of numbers and traits that a frame needs to have; for a taste also its bag. ``as_of`` (microseconds) tells the shop's time."""
        added = {name for law in self.laws for name in law.names}
        timed = (AS_OF,) if self.visits and AS_OF in self.visits.sources else ()
        return (*(name for name in self.features if name not in added), *timed)

    @property
    def predicts_value(self) -> bool:
        """Whether it gives an expected value instead of a probability."""
        return self.calibration.kind == "value"

    def raw(self, frame: pd.DataFrame) -> Array:
        """Return the uncalibrated logit of each row (float64); ranks are taken on this.

        Raises:
            ModelError: E710, E711, see `encode`.
        """
        return self.raw_matrix(self.encode(frame))

    def raw_matrix(self, matrix: Array) -> Array:
        """Return the uncalibrated logits of rows already encoded (see `encode`)."""
        return self.total(self.members.margins(matrix), self.terms(matrix), len(matrix))

    def total(self, margins: Sequence[Array], terms: Mapping[str, Array], rows: int) -> Array:
        """Return the uncalibrated logits of rows from what the members and the linear member say of them."""
        total = self._mean(margins) * (1.0 - self.share) if self.boosters else np.zeros(rows)
        if self.linear:
            total += self.share * sum(terms.values(), np.full(rows, self.linear.intercept))
        return total

    def terms(self, matrix: Array) -> dict[str, Array]:
        """Return what the linear member adds to its own logit for each of its columns."""
        if not self.linear:
            return {}
        return self.linear.terms({name: np.ascontiguousarray(matrix[:, self.features.index(name)]) for name in self.linear.columns})

    def probability(self, frame: pd.DataFrame) -> Array:
        """Return the calibrated probability of each row."""
        return self.calibrate(self.raw(frame))

    def calibrate(self, raw: Array) -> Array:
        """Return the calibrated probabilities of logits."""
        return self.calibration.apply(raw)

    def contributions(self, frame: pd.DataFrame) -> Array:
        """Return what each feature adds to the logit: rows × features, which with `base_value` sum to `raw`."""
        matrix = self.encode(frame)
        return self.with_terms(self._trees(matrix)[:, :-1], matrix)

    def with_terms(self, contributions: Array, matrix: Array) -> Array:
        """Return what each feature adds to the logit, from what it adds to the margin of the trees: rows × features."""
        found: Array = contributions * (1.0 - self.share)
        for name, term in self.terms(matrix).items():
            found[:, self.features.index(name)] += self.share * term
        return found

    def base_value(self) -> float:
        """Return the logit before any feature has spoken."""
        trees = float(self._trees(np.full((1, len(self.features)), np.nan))[0, -1])
        return trees * (1.0 - self.share) + (self.share * self.linear.intercept if self.linear else 0.0)

    @cached_property
    def members(self) -> Members:
        """What answers for the boosters."""
        return Members(self.boosters)

    @property
    def share(self) -> float:
        """The share of the linear member in the logit; the trees have the rest."""
        return self.blend if self.linear and self.boosters else float(self.linear is not None)

    def _trees(self, matrix: Array) -> Array:
        if not self.boosters or not len(matrix):
            return np.zeros((len(matrix), len(self.features) + 1))
        return self._mean([np.asarray(b.predict(matrix, pred_contrib=True)) for b in self.boosters])

    @staticmethod
    def _mean(parts: Sequence[Array]) -> Array:
        return np.asarray(sum(parts[1:], parts[0])) / len(parts)
