"""The model card: what a model says, of whom, how well, and what it must not be used for; Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from predseg.forecast.groups import wilson
from predseg.forecast.taste import say_taste

if TYPE_CHECKING:
    from predseg.forecast.gate import Decision

MEASURES = {
    "auc": "AUC (0.5 chance, 1 perfect)",
    "average_precision": "average precision",
    "brier": "Brier score (0 perfect)",
    "brier_skill": "Brier skill (share of the base rate's error that is gone)",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "lift_top_decile": "lift of the best tenth",
}
VALUE_MEASURES = {
    "gini": "Gini (0 chance, 1 perfect order)",
    "deviance": "Tweedie deviance (0 perfect)",
    "deviance_skill": "deviance skill (share of the mean's deviance that is gone)",
    "bias": "mean expected over mean real, less one",
    "off": "off by, over tenths, as a share of the mean",
    "mae": "mean absolute error",
    "lift_top_decile": "lift of the best tenth",
}


def card(
    project: str, model: str, facts: Mapping[str, Any], evaluation: Mapping[str, Any], importance: Mapping[str, float], decision: Decision
) -> str:
    """Return the card of one training."""
    parts = (
        _intended(project, model, facts),
        _data(facts),
        _quality(evaluation),
        _reliability(evaluation),
        _features(evaluation, importance),
        *_groups(evaluation),
        _limits(facts, decision),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _intended(project: str, model: str, facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {project}: {model}"
    yield ""
    yield f"{'The expected value:' if facts.get('value') else 'The calibrated probability'} {facts['statement']}."
    yield "Meant for ranking customers and for deciding whom to write to. Not meant for decisions with legal or similar weight for a person."


def _data(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Learned from"
    yield ""
    yield f"Trained as of {facts['as_of']} with nothing known later. Events: SHA-256 `{facts['fingerprint'][:16]}...`"
    yield ""
    yield f"| cutoff | rows | {'mean' if facts.get('value') else 'came true'} | role |"
    yield "|---|---:|---:|---|"
    rate = ",.2f" if facts.get("value") else ".1%"
    yield from (f"| {c['cutoff']} | {c['rows']:,} | {c['rate']:{rate}} | {c['role']} |" for c in facts["cutoffs"])
    yield ""
    yield "`train` and `test` are of the forward test; between them lies a gap of one horizon. The model itself was then refitted on all of them."


def _quality(evaluation: Mapping[str, Any]) -> Iterator[str]:
    yield f"## Forward test: {evaluation['quality']}"
    yield ""
    value = "gini" in evaluation["model"]
    told = f"{evaluation['positives']:,} with a value over 0, {evaluation['rate']:,.2f} on average"
    came = f"of whom it came true for {evaluation['positives']:,} ({evaluation['rate']:.1%})"
    yield f"{evaluation['rows']:,} customers, {told if value else came}."
    yield ""
    rivals = evaluation["baselines"]
    yield "| measure | model | 95 % interval | " + " | ".join(rivals) + " |"
    yield "|---|---:|---:|" + "---:|" * len(rivals)
    for name, says in (VALUE_MEASURES if value else MEASURES).items():
        low, high = evaluation["intervals"].get(name, (None, None))
        interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        others = " | ".join(f"{m[name]:.3f}" if name in m else "" for m in rivals.values())
        yield f"| {says} | {evaluation['model'][name]:.3f} | {interval} | {others} |"


def _reliability(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Said and came true, by tenths; the horizon of the test begins where that of the last training labels has ended."""
    value = "gini" in evaluation["model"]
    style = ",.2f" if value else ".1%"
    yield "## Calibration, one horizon ahead"
    yield ""
    yield "| customers | said | came true | 95 % interval |"
    yield "|---:|---:|---:|---:|"
    for n, said, came in evaluation["reliability"]:
        low, high = (None, None) if value else wilson(came, int(n))
        yield f"| {int(n):,} | {said:{style}} | {came:{style}} | {'' if low is None else f'{low:.1%} to {high:.1%}'} |"


def _features(evaluation: Mapping[str, Any], importance: Mapping[str, float]) -> Iterator[str]:
    measure, lost = "Gini" if "gini" in evaluation["model"] else "AUC", evaluation["permutation"]
    yield "## What the scores rest on"
    yield ""
    yield f"Moves: mean absolute contribution to the raw score. Lost: how much {measure} the forward test loses when the column is shuffled."
    yield "Features that say the same stand in for each other. The picture `dependence.png` of the run shows in which direction."
    yield ""
    yield "| feature | moves | lost |"
    yield "|---|---:|---:|"
    yield from (f"| `{name}` | {strength:.3f} | {lost[name]:+.4f} |" for name, strength in list(importance.items())[:10] if name in lost)


def _groups(evaluation: Mapping[str, Any]) -> Iterator[Iterator[str]]:
    """One table by tenure and activity, one by trait: the same figures, read for fairness."""
    kinds = {True: "Groups", False: "Fairness: traits"}
    for own in (True, False):
        found = [g for g in evaluation["groups"] if (g["by"] in ("tenure", "activity")) == own]
        if found:
            yield _group_table(kinds[own], found, "gini" in evaluation["model"])


def _group_table(title: str, found: Sequence[Mapping[str, Any]], value: bool) -> Iterator[str]:
    style = ",.2f" if value else ".1%"
    yield f"## {title}"
    yield ""
    yield "Said beside what came true, the ranking within the group, and which share of the group is in the best-ranked tenth of all."
    yield ""
    yield f"| by | group | customers | said | came true | 95 % interval | {'Gini' if value else 'AUC'} | in the top 10 % | |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---|"
    for g in found:
        low, high = g["interval"]
        line = f"| {g['by']} | {g['name']} | {g['rows']:,} | {g['said']:{style}} | {g['came']:{style}} | {low:{style}} to {high:{style}} "
        yield line + f"| {g['ranking']:.3f} | {g['top']:.1%} | {'off' if g['off'] else ''} |"


def _limits(facts: Mapping[str, Any], decision: Decision) -> Iterator[str]:
    yield "## Gate and limits"
    yield ""
    yield f"{'Champion' if decision.promoted else 'Not champion'}: {'; '.join(decision.reasons)}."
    if facts["allowed"]:
        yield f"Leak findings allowed by name: {', '.join(facts['allowed'])}."
    if "taste" in facts:
        yield say_taste(facts["taste"])
    yield from say_level(facts)
    yield "It was tested on one stretch of time. When customers, prices or seasons change, test it again: `predseg train`."


def say_level(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say what is not known of the level of the next horizon: whether it is a season of its own, and how far levels moved in the past."""
    rate, moved = float(facts["cutoffs"][-1]["rate"]), facts["chosen"].get("wander")
    if facts["chosen"].get("season") is None:
        yield f"No past moment lies a year before: whether the next {facts['horizon']} are a season of their own is not known. Trust ranks more than levels."
    if moved and rate > 0:
        low, high = (_moved(rate, way * 1.96 * moved, bool(facts.get("value"))) for way in (-1, 1))
        style = ",.2f" if facts.get("value") else ".0%"
        yield f"From one horizon to the next the level moved so much that after {rate:{style}} anything from {low:{style}} to {high:{style}} has to be expected."


def _moved(rate: float, step: float, value: bool) -> float:
    return rate * math.exp(step) if value else rate / (rate + (1 - rate) * math.exp(-step))
