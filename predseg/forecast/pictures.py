"""Three pictures of a forward test, as PNG bytes: gain, calibration, importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.forecast.forecaster import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MODEL, QUIET, GRID = "#1f2933", "#0b6e99", "#9aa5b1", "#e4e7eb"
OTHERS = ("#d9822b", "#7b8794", "#a66bbe", "#5aa469")


def draw(evaluation: Mapping[str, Any], importance: Mapping[str, float], y: Array, rank: Array, title: str = "") -> dict[str, bytes]:
    """Return ``gain.png``, ``calibration.png`` and ``importance.png``.

    Args:
        evaluation: The forward test, see `predseg.forecast.evaluation.evaluate`.
        importance: Strength by feature, see `predseg.forecast.evaluation.importance`.
        y: Labels of the forward test.
        rank: The model's logits of it.
        title: Named on every picture, such as ``purchase, forward test of 2011-08-11``.
    """
    value = "gini" in evaluation["model"]
    rivals = {
        name: found["lift_by_decile"] for name, found in evaluation["baselines"].items() if found.get("auc", found.get("gini")) not in (0.5, 0.0)
    }
    return {
        "gain.png": gain(y, rank, rivals, title),
        "calibration.png": (value_calibration if value else calibration)(evaluation["reliability"], title),
        "importance.png": strengths(importance, title),
    }


def gain(y: Array, rank: Array, rivals: Mapping[str, Sequence[float]], title: str = "") -> bytes:
    """Return the share of all hits that is found among the best-ranked x % of customers; rivals are drawn from their lift by decile."""
    figure, axes = _canvas("Gain: contact the best-ranked, reach how many of those who will?", title)
    for (name, lifts), colour in zip(rivals.items(), OTHERS, strict=False):
        axes.plot(np.linspace(0, 100, len(lifts) + 1), np.append(0, 100 * np.cumsum(lifts) / len(lifts)), color=colour, linewidth=1.4, label=name)
    x, found = _gain_curve(y, rank)
    axes.plot(x, found, color=MODEL, linewidth=2.6, label="this model")
    axes.plot(*_gain_curve(y, y.astype(np.float64)), color=QUIET, linewidth=1, linestyle=":", label="perfect knowledge")
    axes.plot([0, 100], [0, 100], color=QUIET, linewidth=1, linestyle="--", label="at random")
    at = float(np.interp(20, x, found))
    axes.plot([20], [at], "o", color=MODEL, markersize=7)
    axes.annotate(f"the best 20 % hold {at:.0f} %", (20, at), (26, max(at - 9, 4)), color=MODEL, fontsize=10.5)
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="customers contacted, best-ranked first (%)", ylabel="hits reached (%)")
    axes.legend(loc="lower right", frameon=False, fontsize=10)
    return _png(figure)


def _gain_curve(y: Array, rank: Array) -> tuple[Array, Array]:
    """Corners of the curve in per cent; equal ranks are one straight piece."""
    order = np.argsort(-rank, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(rank[order]) != 0, True))
    hits = np.cumsum(y[order].astype(np.float64))[ends]
    return np.append(0.0, 100 * (ends + 1) / len(y)), np.append(0.0, 100 * hits / max(float(hits[-1]), 1e-9))


def calibration(groups: Sequence[Sequence[float]], title: str = "") -> bytes:
    """Return said probability against what came true, in groups of equal count (count, mean probability, frequency), with 95 % intervals."""
    figure, axes = _canvas("Calibration: of customers given p %, how many did?", title)
    n, said, came = np.array(groups, dtype=np.float64).T
    low, high = _wilson(came, n)
    top = float(min(100.0, 108 * max(said.max(), high.max())))
    axes.plot([0, 100], [0, 100], color=QUIET, linewidth=1, linestyle="--", label="perfect")
    bars = [100 * (came - low), 100 * (high - came)]
    label = f"this model, {len(n)} groups of about {n.mean():,.0f} customers"
    axes.errorbar(100 * said, 100 * came, yerr=bars, fmt="o-", color=MODEL, markersize=6, capsize=3, linewidth=1.3, label=label)
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="probability said (%)", ylabel="came true (%)")
    axes.legend(loc="upper left", frameon=False, fontsize=10)
    return _png(figure)


def value_calibration(groups: Sequence[Sequence[float]], title: str = "") -> bytes:
    """Return expected against real mean value, in groups of equal count (count, mean expected, mean real)."""
    figure, axes = _canvas("Calibration: customers expected to bring so much, how much did they?", title)
    n, said, came = np.array(groups, dtype=np.float64).T
    top = 1.08 * max(said.max(), came.max())
    axes.plot([0, top], [0, top], color=QUIET, linewidth=1, linestyle="--", label="perfect")
    axes.plot(said, came, "o-", color=MODEL, markersize=6, linewidth=1.3, label=f"this model, {len(n)} groups of about {n.mean():,.0f} customers")
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="expected value", ylabel="real value, mean")
    axes.legend(loc="upper left", frameon=False, fontsize=10)
    return _png(figure)


def _wilson(rate: Array, n: Array) -> tuple[Array, Array]:
    z = 1.96
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return np.minimum(middle - half, rate), np.maximum(middle + half, rate)


def strengths(importance: Mapping[str, float], title: str = "", top: int = 15) -> bytes:
    """Return the strongest features as bars, in per cent of all movement of the logit."""
    figure, axes = _canvas("Importance: what moves the forecast", title)
    total = sum(importance.values()) or 1.0
    best = sorted(importance.items(), key=lambda item: (-item[1], item[0]))[:top]
    shares = [100 * value / total for _, value in best]
    widest, places = max(shares, default=0.0) or 1.0, np.arange(len(best))[::-1]
    axes.barh(places, shares, color=MODEL, height=0.7)
    for place, share in zip(places, shares, strict=True):
        axes.text(share + widest * 0.012, place, f"{share:.1f} %", va="center", fontsize=9.5, color=INK)
    axes.set_yticks(places, [_short(name) for name, _ in best], fontsize=9.5)
    axes.grid(visible=False, axis="y")
    axes.set(xlim=(0, widest * 1.16), xlabel="share of the mean absolute contribution to the logit (%)")
    return _png(figure)


def dependence(curves: Mapping[str, tuple[Array, Array]], levels: Mapping[str, Sequence[str]], title: str = "") -> bytes:
    """Return how the mean score goes with each of up to six features, all else as it is; traits are bars by level."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.6), dpi=110, layout="constrained", facecolor="white")
    grid = np.atleast_1d(figure.subplots(2, 3, sharey=True)).ravel()
    figure.suptitle(
        f"Dependence: the mean score, when all had this value\n{title}" if title else "Dependence: the mean score, when all had this value"
    )
    for axes, (name, (points, scores)) in zip(grid, curves.items(), strict=False):
        if name in levels:
            axes.bar([levels[name][int(p)][:10] for p in points], scores, color=MODEL)
        else:
            axes.plot(points, scores, "o-", color=MODEL, markersize=4)
        axes.set_xlabel(_short(name, 36), fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    return _png(figure)


def _short(name: str, length: int = 42) -> str:
    return name if len(name) <= length else f"{name[: length - 12]}...{name[-9:]}"


def _canvas(heading: str, title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 5.4), dpi=110, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_title(f"{heading}\n{title}" if title else heading, loc="left", fontsize=12.5, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    target = BytesIO()
    FigureCanvasAgg(figure).print_png(target, metadata={"Software": None})
    return target.getvalue()
