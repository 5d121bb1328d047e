"""The model card: what a model says, of whom, how well, and what it must not be used for; Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

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
    parts = (_intended(project, model, facts), _data(facts), _quality(evaluation), _features(importance), _limits(facts, decision))
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


def _features(importance: Mapping[str, float]) -> Iterator[str]:
    yield "## What moves the scores most"
    yield ""
    yield from (f"{place}. `{name}` ({strength:.3f})" for place, (name, strength) in enumerate(list(importance.items())[:10], 1))


def _limits(facts: Mapping[str, Any], decision: Decision) -> Iterator[str]:
    yield "## Gate and limits"
    yield ""
    yield f"{'Champion' if decision.promoted else 'Not champion'}: {'; '.join(decision.reasons)}."
    if facts["allowed"]:
        yield f"Leak findings allowed by name: {', '.join(facts['allowed'])}."
    yield "It was tested on one stretch of time. When customers, prices or seasons change, test it again: `predseg train`."
