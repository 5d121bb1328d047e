"""Where a rate changed for good: change points of a series of counts, found by halving and tested by shuffling.

Rates of mailings differ from one to the next by more than the binomial law says, so no law is assumed: a split of the series into
before and after counts when fewer than 1 of 100 shuffled series have one as clear (binary segmentation: Scott and Knott, "A cluster
analysis method for grouping means in the analysis of variance", Biometrics 30, 1974).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predseg.evaluate.block import Array

LEAST = 3
"""Points on either side of a change."""
SHUFFLES, ALPHA = 999, 0.01


@dataclass(frozen=True)
class Change:
    """The rate before the point ``at`` (a position in the series), and from it on, each up to the next change."""

    at: int
    before: float
    after: float


def changes(successes: Array, trials: Array, seed: int = 0) -> list[Change]:
    """Return the change points of a series of rates, in order; trials are at least 1.

    >>> x = np.array([50, 48, 52, 49, 51, 50, 20, 22, 19, 21, 20, 18])
    >>> [(c.at, round(c.before, 2), round(c.after, 2)) for c in changes(x, np.full(12, 1000))]
    [(6, 0.05, 0.02)]
    """
    x, n = np.asarray(successes, float), np.asarray(trials, float)
    cuts = sorted(_cuts(x, n, 0, len(x), np.random.default_rng(seed)))
    ends = [0, *cuts, len(x)]
    rates = [x[a:b].sum() / n[a:b].sum() for a, b in zip(ends, ends[1:], strict=False)]
    return [Change(cut, float(rates[i]), float(rates[i + 1])) for i, cut in enumerate(cuts)]


def _cuts(x: Array, n: Array, start: int, end: int, r: np.random.Generator) -> list[int]:
    """Return where the stretch [start, end) is cut."""
    if end - start < 2 * LEAST + 2:
        return []
    part, whole = x[start:end], n[start:end]
    gains = _gains(part[None], whole[None])[0]
    order = np.argsort(r.random((SHUFFLES, end - start)), axis=1)
    chance = (1 + np.sum(_gains(part[order], whole[order]).max(axis=1) >= gains.max())) / (1 + SHUFFLES)
    if chance > ALPHA:
        return []
    cut = start + LEAST + int(np.argmax(gains))
    return [*_cuts(x, n, start, cut, r), cut, *_cuts(x, n, cut, end, r)]


def _gains(x: Array, n: Array) -> Array:
    """Return by how much the likelihood rises when each series (rows) is cut at each point that leaves `LEAST` on both sides."""
    before, tried = np.cumsum(x, axis=1)[:, LEAST - 1 : -LEAST], np.cumsum(n, axis=1)[:, LEAST - 1 : -LEAST]
    all_x, all_n = x.sum(axis=1, keepdims=True), n.sum(axis=1, keepdims=True)
    return _likelihood(before, tried) + _likelihood(all_x - before, all_n - tried) - _likelihood(all_x, all_n)


def _likelihood(x: Array, n: Array) -> Array:
    """Return the greatest log likelihood of x of n, without its constant."""
    p = np.clip(x / n, 1e-12, 1 - 1e-12)
    return x * np.log(p) + (n - x) * np.log1p(-p)
