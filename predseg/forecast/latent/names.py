"""What clusters are called: by their profile when they are new, as before when they are found again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from predseg.errors import LabelError, UsageError, nearest
from predseg.evaluate.block import Array
from predseg.forecast.latent.measures import Aspect, Scaling

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,63}")
DIFFERENT = 0.5
"""From here on, in units of the scale, the median of a cluster differs from the one of all."""
STRIKING = 1.5
"""From here on another measure becomes part of the name."""
REACH = 0.5
"""A cluster is found again within this share of the distance from the old one to its nearest neighbour."""
VERSION = 1


@dataclass(frozen=True)
class Known:
    """A cluster of the last run."""

    id: int
    name: str
    center: tuple[float, ...]


@dataclass(frozen=True)
class Memory:
    """What the last run found: kept in the store, so that the next one gives the same names.

    Attributes:
        as_of: Its moment.
        aspects: Fingerprints of what customers were compared by.
        offered: Fingerprints of all that could have been.
        scaling: Of the aspects.
        clusters: With centroids in that scaling.
        next_id: The id of the next new cluster.
    """

    as_of: int
    aspects: tuple[str, ...]
    offered: tuple[str, ...]
    scaling: Scaling
    clusters: tuple[Known, ...]
    next_id: int

    @property
    def centers(self) -> Array:
        """The centroids, float64 (k, d)."""
        return np.array([k.center for k in self.clusters], np.float64)

    def to_text(self) -> str:
        """Return the memory as JSON."""
        scaling = {"fill": self.scaling.fill, "center": self.scaling.center, "scale": self.scaling.scale}
        found = {
            "version": VERSION,
            "as_of": self.as_of,
            "aspects": self.aspects,
            "offered": self.offered,
            **{name: values.tolist() for name, values in scaling.items()},
            "clusters": [{"id": k.id, "name": k.name, "centroid": k.center} for k in self.clusters],
            "next_id": self.next_id,
        }
        return json.dumps(found, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str, place: str) -> Memory:
        """Return the memory of a JSON text.

        Raises:
            LabelError: E562 when it is not one.
        """
        try:
            found = json.loads(text)
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']}")
            scaling = Scaling(*(np.array(found[name], np.float64) for name in ("fill", "center", "scale")))
            clusters = tuple(Known(int(k["id"]), str(k["name"]), tuple(map(float, k["centroid"]))) for k in found["clusters"])
            aspects, offered = tuple(map(str, found["aspects"])), tuple(map(str, found["offered"]))
            if any(len(k.center) != len(aspects) for k in clusters) or not len(scaling.fill) == len(scaling.scale) == len(aspects):
                raise ValueError("lengths differ")
            return cls(int(found["as_of"]), aspects, offered, scaling, clusters, int(found["next_id"]))
        except (KeyError, TypeError, ValueError) as error:
            message = f"the memory of earlier clusters cannot be read ({error})"
            raise LabelError("E562", place, message, "put it back from a backup, or delete it: clusters are then named anew") from None


def match(centers: Array, old: Array, known: Sequence[Known]) -> dict[int, Known]:
    """Return which clusters are which of the last run: the assignment of the smallest distances, none beyond reach.

    Args:
        centers: Centroids in the scaling of the last run, float64 (k, d).
        old: Those of the last run, float64 (j, d).
        known: The clusters that they belong to.

    >>> before = [Known(1, "near", (0.0,)), Known(2, "far", (4.0,))]
    >>> found = match(np.array([[4.5], [0.1], [9.0]]), np.array([[0.0], [4.0]]), before)
    >>> {new: was.name for new, was in sorted(found.items())}
    {0: 'far', 1: 'near'}
    """
    from scipy.optimize import linear_sum_assignment

    distance = np.linalg.norm(centers[:, None] - old[None], axis=2)
    apart = np.linalg.norm(old[:, None] - old[None], axis=2) + np.diag(np.full(len(old), np.inf))
    reach = REACH * apart.min(axis=1)
    return {int(new): known[was] for new, was in zip(*linear_sum_assignment(distance), strict=True) if distance[new, was] <= reach[was]}


def call(deviations: Array, medians: Array, aspects: Sequence[Aspect], noun: str, taken: Sequence[str]) -> list[str]:
    """Return a name for each cluster, none of them twice and none that is taken.

    Args:
        deviations: How far the medians of each cluster lie from those of all, float64 (k, d).
        medians: The same in the units of the aspects.
        aspects: What the columns are.
        noun: What customers are called.
        taken: Names that stand for something else.
    """
    used, names = set(taken), []
    for deviation, median in zip(deviations, medians, strict=True):
        base = _base(deviation, median, aspects, noun)
        plain = base.removeprefix("typical_")
        others = [f"{plain}_with_{extra}" for extra in _others(deviation, aspects, DIFFERENT)]
        strong = [f"{plain}_with_{extra}" for extra in _others(deviation, aspects, STRIKING)][:1]
        numbered = (f"{base}_{n}" for n in range(2, len(used) + 3))
        name = next(n for n in (*strong, base, *others, *numbered) if n not in used)
        used.add(name)
        names.append(name)
    return names


def renamed(names: Sequence[str], renames: Mapping[str, str]) -> list[str]:
    """Return the names with some exchanged.

    Raises:
        UsageError: E231 when an old name is not there, a new one is no name, or two clusters would have the same.
    """
    for old, new in renames.items():
        if old not in names:
            raise UsageError("E231", f"--rename {old}={new}", f"there is no cluster {old!r} in this run", nearest(old, tuple(names)))
        if not NAME.fullmatch(new):
            raise UsageError(
                "E231", f"--rename {old}={new}", f"{new!r} is not a name", "begin with a letter; use letters, digits, spaces, `_` and `-`"
            )
    found = [renames.get(name, name) for name in names]
    twice = next((n for n in found if found.count(n) > 1), None)
    if twice is not None:
        raise UsageError("E231", "--rename", f"two clusters would be called {twice!r}", "choose another name")
    return found


def _base(deviation: Array, median: Array, aspects: Sequence[Aspect], noun: str) -> str:
    """Compose when, how often and for how much, such as lapsed_one_timers or frequent_big_spenders."""
    by_role: dict[str, tuple[float, float]] = {}
    for aspect, z, middle in zip(aspects, deviation.tolist(), median.tolist(), strict=True):
        by_role.setdefault(aspect.role, (z, middle))
    when = _word(by_role, "recency", "recent", "lapsed")
    when = _word(by_role, "tenure", "new", "long_standing") if when != "lapsed" and _word(by_role, "tenure", "new", "") else when
    money = _word(by_role, "value", "small", "big")
    often = _word(by_role, "frequency", "occasional", "frequent")
    once = by_role.get("frequency", (0.0, 0.0))[1] == 1 and often != "frequent"
    ending = f"{money}_spenders" if money else noun
    if once:
        often, ending = "", f"{money}_spending_one_timers" if money else "one_timers"
    if by_role.get("frequency", (0.0, 1.0))[1] == 0:
        often = ""  # that they are lapsed says it
    words = [word for word in (when, often) if word]
    return "_".join([*words, ending]) if words or money or once else f"typical_{noun}"


def _word(by_role: Mapping[str, tuple[float, float]], role: str, low: str, high: str) -> str:
    z = by_role.get(role, (0.0, 0.0))[0]
    return low if z <= -DIFFERENT else high if z >= DIFFERENT else ""


def _others(deviation: Array, aspects: Sequence[Aspect], least: float) -> list[str]:
    """Return words for what else stands out, the most first."""
    order = np.argsort(-np.abs(deviation), kind="stable")
    chosen = [i for i in order.tolist() if aspects[i].role == "other" and abs(deviation[i]) >= least]
    return [f"{'many' if deviation[i] > 0 else 'few'}_{aspects[i].short}" for i in chosen]
