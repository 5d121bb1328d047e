"""How many clusters there are: as many as come back in every resample, and are tighter than one cloud without clusters would give.

k-means always finds k parts, and cuts a single long cloud at the same places every time. So stability alone proves
nothing; the parts must also be tighter than those of two clouds that look like the data but have a single hump: one with the
same principal axes, one with the same measures and rank correlations. Each distribution is replaced by the nearest one
with a single hump (greatest convex minorant before the mode, least concave majorant after it; Hartigan and Hartigan,
"The dip test of unimodality", Annals of Statistics 13 (1985)). Compared are shares of variance within the parts
(Tibshirani, Walther and Hastie, "Estimating the number of clusters in a data set via the gap statistic", JRSS B 63 (2001)).

Where for some numbers every cluster is parted from its nearest neighbour by a gap (along the line that joins the two, one
hump is refuted), the largest of these is taken: what more there is are cuts through the clusters. Customers seldom
oblige; where they form a continuum the largest number that is stable and tighter than chance is taken, and the borders are
said to be soft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from predseg.evaluate.block import Array

RANGE = range(2, 9)
STABLE = 0.8
"""Mean adjusted Rand index of two resamples: 1 is the same grouping, 0 what chance gives."""
TIGHTER = 0.97
"""The variance within clusters must be less than in any cloud without them, and where there are no gaps at most this share of their mean."""
FEWEST = 0.01
"""Share of the customers below which a part is an outlier rather than a cluster."""
PAIRS, CLOUDS, TRIES = 12, 5, 8
ROWS, HELD_OUT = 1_500, 2_000
_GRID = 201
GAP = 1.0
"""Dip × √n beyond which one hump is refuted: 99 in 100 uniform samples stay below."""

Points = tuple[Array, Array]
"""What is fitted (ties spread) and what is assigned (as it is), both (n, d)."""


@dataclass(frozen=True)
class Trial:
    """What was found for one number of clusters.

    Attributes:
        clusters: The number.
        stability: Mean adjusted Rand index of pairs of resamples on customers that neither has seen.
        lowest: The worst pair.
        within: Share of the variance that is left within clusters.
        chance: The same in clouds without clusters, the more demanding kind of two.
        smallest: Share of the customers in the smallest cluster.
        stable: Whether the stability is high enough.
        better: Whether the clusters are tighter than chance gives.
        gaps: Whether there is a gap between every cluster and its nearest neighbour.
    """

    clusters: int
    stability: float
    lowest: float
    within: float
    chance: float
    smallest: float
    stable: bool
    better: bool
    gaps: bool

    @property
    def good(self) -> bool:
        """Stable, better than chance, and none of them tiny."""
        return self.stable and self.better and self.smallest >= FEWEST


def try_numbers(points: Points, numbers: Iterable[int], rng: np.random.Generator, told: Callable[[int], None] = lambda _: None) -> list[Trial]:
    """Try some numbers of clusters on points (n, d)."""
    cloud = points[0]
    rows = rng.permutation(len(cloud))[: 2 * HELD_OUT]
    sample: Points = (points[0][rows], points[1][rows])
    with _one_thread():
        kinds = [_clouds(sample[0], make, rng) for make in (along_axes, along_measures)]
        found = []
        for k in numbers:
            found.append(_try(sample, k, kinds, rng))
            told(k)
    return found


def choose(trials: Sequence[Trial], before: int | None = None) -> Trial | None:
    """Return the trial of the largest good number, with gaps when some have them; None when none is good.

    The number of the last run stays while it is one of those that could be taken.
    """
    good = [t for t in trials if t.good]
    good = [t for t in good if t.gaps] or good
    return next((t for t in good if t.clusters == before), max(good, key=lambda t: t.clusters, default=None))


def fit(points: Array, clusters: int, seed: int, start: Array | None = None) -> Array:
    """Return the centroids, float64 (clusters, d).

    Centroids found from ``start`` are taken unless others leave less than 99 % of the variance that they leave within.
    """
    with _one_thread():
        best = _kmeans(points, clusters, seed, tries=10)
        if start is not None and start.shape == (clusters, points.shape[1]):
            again = _kmeans(points, clusters, seed, start=start)
            best = again if best.inertia_ >= 0.99 * again.inertia_ else best
    return np.asarray(best.cluster_centers_, np.float64)


def assign(points: Array, centers: Array) -> Array:
    """Return int64 (n): the nearest centroid, the first of equals."""
    distance = (points**2).sum(axis=1)[:, None] - 2 * points @ centers.T + (centers**2).sum(axis=1)
    return np.argmin(distance, axis=1)


def parted(points: Array, centers: Array) -> bool:
    """Whether every cluster has a gap between itself and its nearest neighbour: along the line that joins them there are two humps."""
    label = assign(points, centers)
    distance = np.linalg.norm(centers[:, None] - centers[None], axis=2) + np.diag(np.full(len(centers), np.inf))
    for a, b in {tuple(sorted((a, int(b)))) for a, b in enumerate(distance.argmin(axis=1))}:
        along = points[(label == a) | (label == b)] @ (centers[a] - centers[b])
        if single_hump(along)[2] * np.sqrt(len(along)) < GAP:
            return False
    return True


def single_hump(values: Array) -> tuple[Array, Array, float]:
    """Return the nearest distribution with one hump: points, its distribution function there, and the greatest difference (the dip)."""
    share = np.linspace(0, 1, _GRID)
    x = np.quantile(values, share)
    x = x + np.arange(_GRID) * 1e-9 * (float(np.ptp(x)) or 1.0)
    best: tuple[float, Array] | None = None
    for mode in range(0, _GRID, 5):
        left, right = _hull(x[: mode + 1], share[: mode + 1], 1), _hull(x[mode:], share[mode:], -1)
        fitted = np.maximum.accumulate(np.concatenate([left[:-1], right]))
        dip = float(np.abs(fitted - share).max())
        if best is None or dip < best[0]:
            best = dip, fitted
    assert best is not None
    return x, best[1], best[0]


def along_axes(points: Array) -> Callable[[np.random.Generator], Array]:
    """Return a maker of clouds with the same principal axes, along each of them independent and with one hump."""
    middle = points.mean(axis=0)
    axes = np.linalg.svd(points - middle, full_matrices=False)[2]
    turned = (points - middle) @ axes.T
    humps = [_Hump(column) for column in turned.T]
    return lambda rng: np.column_stack([h.draw(rng.random(len(points))) for h in humps]) @ axes + middle


def along_measures(points: Array) -> Callable[[np.random.Generator], Array]:
    """Return a maker of clouds with the same measures, each with one hump, and the same correlations of their ranks."""
    from scipy.stats import norm, rankdata

    n, d = points.shape
    scores = norm.ppf((np.column_stack([rankdata(column, "ordinal") for column in points.T]) - 0.5) / n)
    root = np.linalg.cholesky(np.atleast_2d(np.corrcoef(scores.T)) + 1e-6 * np.eye(d))
    humps = [_Hump(column) for column in points.T]

    def make(rng: np.random.Generator) -> Array:
        shares = norm.cdf(rng.standard_normal((n, d)) @ root.T)
        return np.column_stack([h.draw(column) for h, column in zip(humps, shares.T, strict=True)])

    return make


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep sums in one order, so that the same seed gives the same digits; only what is loaded already can be told so."""
    import sklearn.cluster  # noqa: F401
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        yield


class _Hump:
    """Draws from the nearest distribution with one hump, with the mean and deviation of the values."""

    def __init__(self, values: Array) -> None:
        self.x, self.shares, _ = single_hump(values)
        self.mean, self.deviation = float(values.mean()), float(values.std())

    def draw(self, shares: Array) -> Array:
        found = np.interp(shares, self.shares, self.x)
        return np.asarray((found - found.mean()) * (self.deviation / (found.std() or 1.0)) + self.mean)


def _hull(x: Array, y: Array, sign: int) -> Array:
    """Return at x the greatest convex minorant (sign 1) or the least concave majorant (-1) of the points."""
    xs, ys = x.tolist(), y.tolist()
    kept = [0]
    for i in range(1, len(xs)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if sign * ((ys[b] - ys[a]) * (xs[i] - xs[a]) - (ys[i] - ys[a]) * (xs[b] - xs[a])) < 0:
                break
            kept.pop()
        kept.append(i)
    return np.asarray(np.interp(x, x[kept], y[kept]))


def _clouds(points: Array, make: Callable[[Array], Callable[[np.random.Generator], Array]], rng: np.random.Generator) -> list[Array]:
    draw = make(points)
    return [draw(rng) for _ in range(CLOUDS)]


def _try(points: Points, k: int, kinds: Sequence[Sequence[Array]], rng: np.random.Generator) -> Trial:
    spread, plain = points
    within, centers = _within(spread, k)
    chances = [[_within(cloud, k)[0] for cloud in clouds] for clouds in kinds]
    chance = min(float(np.mean(c)) for c in chances)
    indices = [_agreement(points, k, rng) for _ in range(PAIRS)]
    smallest = np.bincount(assign(plain, centers), minlength=k).min() / len(plain)
    gaps = parted(spread, centers)
    better = within < min(min(c) for c in chances) and (gaps or within <= TIGHTER * chance)
    stability = float(np.mean(indices))
    return Trial(k, stability, min(indices), within, chance, float(smallest), stability >= STABLE, better, gaps)


def _agreement(points: Points, k: int, rng: np.random.Generator) -> float:
    """Return the adjusted Rand index of two resamples that share no customer, on customers that neither has seen."""
    from sklearn.metrics import adjusted_rand_score

    spread, plain = points
    order = rng.permutation(len(spread))
    held, rest = np.split(order, [min(len(order) // 3, HELD_OUT)])
    size = min(len(rest) // 2, ROWS)
    fits = [_kmeans(spread[part], k, int(rng.integers(2**31)), TRIES).cluster_centers_ for part in (rest[:size], rest[size : 2 * size])]
    return float(adjusted_rand_score(*(assign(plain[held], centers) for centers in fits)))


def _within(points: Array, k: int) -> tuple[float, Array]:
    model = _kmeans(points, k, 0, TRIES)
    return float(model.inertia_ / (((points - points.mean(axis=0)) ** 2).sum() or 1.0)), model.cluster_centers_


def _kmeans(points: Array, k: int, seed: int, tries: int = 1, start: Array | None = None) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(k, init="k-means++" if start is None else start, n_init=1 if start is not None else tries, random_state=seed, max_iter=200).fit(
        points
    )
