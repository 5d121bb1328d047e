"""The sections about models: how well they ranked and how true their probabilities were, on customers they had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from predseg.evaluate.block import Array
from predseg.forecast.publishing import SCORES
from predseg.outcomes import rates
from predseg.outcomes.report import charts
from predseg.outcomes.report.page import Picture, Section
from predseg.outcomes.report.segments import Belonging
from predseg.segments.workspace import Workspace

EVERYONE = "everyone scored"
RIVALS = ("logistic RFM", "recency")


def model_section(workspace: Workspace, name: str, version: int, facts: Mapping[str, Any], belonging: Belonging, as_of: int) -> Section:
    """Return the section of one champion."""
    forward = facts.get("forward")
    statement = str(facts.get("statement", name))
    about = f"{statement[:1].upper()}{statement[1:]}. Version {version}, trained at {facts.get('as_of', '?')[:10]}."
    pictures: list[Picture] = []
    if forward is None:
        about += " It was trained by an earlier predseg, which kept no figures for pictures: train it again."
    else:
        about += f" Tested forward in time on {forward['rows']:,} customers it had not learned from"
        about += f"; quality: {forward['quality']}." if "quality" in forward else "."
        pictures += [_gain(name, forward), _lift(name, forward)]
        if "rate" in forward:
            pictures.append(_calibration(name, forward))
    scores = _scores(workspace, name, as_of)
    if scores is not None:
        pictures.append(_by_segment(workspace, name, scores, belonging, "rate" in (forward or {"rate": 0})))
    return Section(f"model-{name}".replace("_", "-"), f"Model: {name}", about, pictures)


def _rivals(forward: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    lift = forward["lift"]
    return {"this model": lift["model"], **{name: lift[name] for name in RIVALS if name in lift}}


def _gain(name: str, forward: Mapping[str, Any]) -> Picture:
    found = {who: np.append(0, np.cumsum(lifts) / 10) for who, lifts in _rivals(forward).items()}
    found["by chance"] = np.linspace(0, 1, 11)
    rows = [{"forecast": who, "share": i / 10, "hits": float(min(h, 1))} for who, curve in found.items() for i, h in enumerate(curve)]
    mine, chance = found["this model"], "by chance it would be 20 %"
    reads = f"The fifth of customers with the highest scores holds {mine[2]:.0%} of all for whom it came true; {chance}."
    table = [(f"{i * 10} %", *(f"{curve[i]:.0%}" for curve in found.values())) for i in range(1, 11)]
    return Picture(f"gain-{_id(name)}", "Gain: how many are found among the highest scores", reads, ("highest", *found), table, charts.gain(rows))


def _lift(name: str, forward: Mapping[str, Any]) -> Picture:
    lifts = forward["lift"]["model"]
    rows = [{"tenth": i, "lift": float(value)} for i, value in enumerate(lifts, 1)]
    reads = f"In the highest tenth it came true {lifts[0]:.1f} times as often as on average, in the lowest {lifts[-1]:.1f} times."
    table = [(str(i), f"{value:.2f}") for i, value in enumerate(lifts, 1)]
    chart = charts.columns(rows, "tenth", "lift", "tenth of customers, 1 has the highest scores", "times the average")
    return Picture(f"lift-{_id(name)}", "Lift by tenth", reads, ("tenth", "times the average"), table, chart)


def _calibration(name: str, forward: Mapping[str, Any]) -> Picture:
    rows, off, total = [], 0.0, 0
    for customers, said, came in forward["reliability"]:
        low, high = rates.wilson(came * customers, customers)
        rows.append({"said": said, "came": came, "low": float(low), "high": float(high), "customers": int(customers)})
        off, total = off + customers * abs(said - came), total + customers
    inside = sum(row["low"] <= row["said"] <= row["high"] for row in rows)
    reads = (
        f"Probabilities were off by {100 * off / total:.1f} points on average; {inside} of {len(rows)} groups are within chance of the dashed line."
    )
    table = [(f"{r['said']:.1%}", f"{r['came']:.1%}", f"{r['low']:.1%} to {r['high']:.1%}", f"{r['customers']:,}") for r in rows]
    most = min(1.0, 1.08 * max(max(row["high"], row["said"]) for row in rows))
    columns = ("said", "came true", "95 % interval", "customers")
    return Picture(
        f"calibration-{_id(name)}", "Calibration: did it happen as often as was said?", reads, columns, table, charts.calibration(rows, most)
    )


def _scores(workspace: Workspace, name: str, as_of: int) -> tuple[Array, Array] | None:
    """The ids and scores of the last run of a model."""
    import pyarrow.compute as pc

    store = workspace.store
    for moment in reversed([t for t in (store.partitions(SCORES) if store.exists(SCORES) else []) if t <= as_of]):
        table = store.read(SCORES, moment)
        table = table.filter(pc.equal(table["model"], name))
        if table.num_rows:
            return np.asarray(table["customer_id"].to_pylist(), object), table["probability"].to_numpy()
    return None


def _by_segment(workspace: Workspace, name: str, scores: tuple[Array, Array], belonging: Belonging, chance: bool) -> Picture:
    ids, values = scores
    floor = workspace.config.smallest_group
    groups = {EVERYONE: np.ones(len(ids), bool)} | belonging.of(ids)
    kept = {who: values[mask] for who, mask in groups.items() if floor.shown(int(mask.sum()))}
    rows: list[dict[str, Any]] = [
        {"segment": who, **_quantiles(found)} for who, found in sorted(kept.items(), key=lambda item: -float(np.median(item[1])))
    ]
    names = ("low", "quarter", "middle", "three_quarters", "high")
    say = (lambda v: f"{v:.1%}") if chance else (lambda v: f"{v:,.2f}")
    table = [(row["segment"], f"{len(kept[row['segment']]):,}", *(say(row[n]) for n in names)) for row in rows]
    first, everyone = rows[0], next(row for row in rows if row["segment"] == EVERYONE)
    reads = f"Half of all scored are above {say(everyone['middle'])}; the highest are those of {first['segment']}, half of them above {say(first['middle'])}."
    if first["segment"] == EVERYONE:
        reads = f"Half of all scored are above {say(everyone['middle'])}; no segment has higher scores."
    title = "Scores by segment" + ("" if chance else " (expected values)")
    chart = charts.spread(rows, "segment", "probability" if chance else "expected value", ".0%" if chance else "~s")
    columns = ("segment", "customers", "lowest tenth below", "a quarter below", "half below", "three quarters below", "highest tenth above")
    return Picture(f"scores-{_id(name)}", title, reads, columns, table, chart)


def _quantiles(values: Array) -> dict[str, float]:
    names = ("low", "quarter", "middle", "three_quarters", "high")
    return dict(zip(names, (float(v) for v in np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])), strict=True))


def _id(name: str) -> str:
    return name.replace("_", "-")
