"""The scoreboard: paired bootstrap intervals over customers, one Markdown table, one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.accuracy_data import Task
from benchmarks.timing import table
from predseg.forecast.evaluation import areas, auc, calibration_error, interval

OURS, BEST = "predseg", "truth"
DRAWS, CHANCES = 500, 200


@dataclass(frozen=True, eq=False)
class Result:
    """One task: who it was asked of, what came true, and what each tool said (a rank and, where it gives one, a probability)."""

    task: Task
    customers: np.ndarray
    y: np.ndarray
    ranks: Mapping[str, np.ndarray]
    probabilities: Mapping[str, np.ndarray]

    @property
    def peers(self) -> list[str]:
        return [name for name in self.ranks if name not in (OURS, BEST)]

    def auc(self, name: str) -> float:
        return auc(self.y, self.ranks[name])

    def brier(self, name: str) -> float:
        return float(np.mean((self.probabilities[name] - self.y) ** 2)) if name in self.probabilities else float("nan")

    def off(self) -> tuple[float, float]:
        """The calibration error of predseg, and what it would be on average were every probability exact: outcomes are drawn from them."""
        p, rng = self.probabilities[OURS], np.random.default_rng(0)
        chance = [calibration_error((rng.random(len(p)) < p).astype(np.float64), p) for _ in range(CHANCES)]
        return calibration_error(self.y, p), float(np.mean(chance))

    def share(self) -> float:
        """The share of the AUC above one half that the best forecast from the history reaches, over all outcomes that may follow; NaN where it is not known."""
        if BEST not in self.ranks:
            return float("nan")
        reached, best = (expected_auc(self.ranks[BEST], self.ranks[name]) - 0.5 for name in (OURS, BEST))
        return reached / best

    def best_peer(self) -> tuple[str, str]:
        """The peer with the highest AUC, and the one with the lowest Brier score."""
        return max(self.peers, key=self.auc), min((p for p in self.peers if p in self.probabilities), key=self.brier)


def expected_auc(chance: np.ndarray, rank: np.ndarray) -> float:
    """Return the AUC of a rank where outcomes are told by their chance: who comes with 0.3 is 0.3 of a hit and 0.7 of a miss."""
    hit = np.repeat([1, 0], len(chance))
    return auc(hit, np.tile(rank, 2), np.concatenate([chance, 1 - chance]))


def draws(results: Sequence[Result], seed: int = 0) -> np.ndarray:
    """Return AUC of predseg less the best peer's, tasks × draws; tasks of one shop draw the same customers."""
    found = np.zeros((len(results), DRAWS))
    for shop in dict.fromkeys(r.task.data for r in results):
        rng = np.random.default_rng(seed)
        everyone = np.unique(np.concatenate([r.customers for r in results if r.task.data == shop]))
        counts = rng.multinomial(len(everyone), np.full(len(everyone), 1 / len(everyone)), size=DRAWS).astype(np.float64)
        for row, r in enumerate(results):
            if r.task.data == shop:
                weight = counts[:, np.searchsorted(everyone, r.customers)]
                found[row] = areas(r.y, r.ranks[OURS], weight)[0] - areas(r.y, r.ranks[r.best_peer()[0]], weight)[0]
    return found


def board(results: Sequence[Result]) -> str:
    """Return the table, and under it what holds on all tasks together."""
    drawn = draws(results)
    tools = list(dict.fromkeys(name for r in results for name in r.peers))
    rows = []
    for r, d in zip(results, drawn, strict=True):
        by_auc, by_brier = r.best_peer()
        low, high = interval(d)
        better = f"{r.auc(OURS) - r.auc(by_auc):+.4f} ({low:+.3f} to {high:+.3f})"
        cells = [f"{r.auc(t):.3f} / {r.brier(t):.3f}".replace(" / nan", "") if t in r.ranks else "-" for t in tools]
        share = f"{r.share():.0%}" if BEST in r.ranks else ""
        off = "{:.3f} ({:.3f})".format(*r.off())
        ours = f"{r.auc(OURS):.3f} / {r.brier(OURS):.3f}"
        rows.append([r.task, f"{len(r.y):,}", better, f"{r.brier(OURS) - r.brier(by_brier):+.4f}", off, ours, *cells, share])
    head = ["task", "customers", "AUC above the best peer (95 %)", "Brier above", "off by (by chance)", OURS, *tools, "of what the history can tell"]
    says = (
        "AUC / Brier score. The best peer is chosen per task and figure, after the fact. Off by: calibration error (and that of exact probabilities)."
    )
    return "\n".join([says, "", table(head, rows), "", *summary(results, drawn)])


def summary(results: Sequence[Result], drawn: np.ndarray) -> list[str]:
    """Say what holds on all tasks together, and on those of real and of simulated shops."""
    lines = []
    groups = {"all": [True] * len(results), "real": [BEST not in r.ranks for r in results], "simulated": [BEST in r.ranks for r in results]}
    for name, chosen in groups.items():
        part = [r for r, c in zip(results, chosen, strict=True) if c]
        if not part or (name != "all" and len(part) == len(results)):
            continue
        gains = [r.auc(OURS) - r.auc(r.best_peer()[0]) for r in part]
        briers = [r.brier(OURS) - r.brier(r.best_peer()[1]) for r in part]
        low, high = interval(drawn[np.array(chosen)].mean(axis=0))
        fixed = {t: np.mean([r.auc(OURS) - r.auc(t) for r in part]) for t in part[0].peers}
        lines.append(
            f"- {name}, {len(part)} tasks: AUC {np.mean(gains):+.4f} above the best peer of each ({low:+.4f} to {high:+.4f}), better on "
            f"{sum(g > 0 for g in gains)}, worst {min(gains):+.4f}; Brier {np.mean(briers):+.4f}, worst {max(briers):+.4f}; "
            + "against one peer throughout: "
            + ", ".join(f"{t} {gain:+.4f}" for t, gain in fixed.items())
        )
    return lines


def draw(results: Sequence[Result], file: Path) -> None:
    """Write the picture: per task the AUC of every tool, and predseg's lead over the best peer with its interval."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "predseg"
    places = np.arange(len(results))[::-1]
    figure = Figure(figsize=(10, 0.34 * len(results) + 1.6), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for tool, marker in zip(results[0].peers, "v^sDPX*", strict=False):
        left.plot([r.auc(tool) for r in results], places, marker, color="#9aa5b1", markersize=5, linestyle="", label=tool)
    left.plot([r.auc(OURS) for r in results], places, "o", color="#0b6e99", markersize=7, label=OURS)
    known = [(r.auc(BEST), p) for r, p in zip(results, places, strict=True) if BEST in r.ranks]
    if known:
        left.plot(*zip(*known, strict=True), "|", color="#d9822b", markersize=12, markeredgewidth=2, label="the truth allows")
    left.set_yticks(places, [str(r.task) for r in results], fontsize=9)
    left.set_xlabel("AUC, forward in time")
    left.legend(fontsize=8, frameon=False, loc="lower left")
    gains = np.array([r.auc(OURS) - r.auc(r.best_peer()[0]) for r in results])
    bounds = np.array([interval(d) for d in draws(results)])
    right.errorbar(gains, places, xerr=np.maximum(0, [gains - bounds[:, 0], bounds[:, 1] - gains]), fmt="o", color="#0b6e99", capsize=3)
    right.axvline(0, color="#1f2933", linewidth=1)
    right.set_xlabel("AUC above the best peer of the task (95 %)")
    for axes in (left, right):
        axes.grid(color="#e4e7eb")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
