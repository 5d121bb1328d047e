"""How history and forecasts read: calm tables, each number with its meaning, and the next thing to do at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from predseg.cli.frame import printable
from predseg.cli.views import Show, count, heading, table
from predseg.language.time import MINUTE, parse_instant, say_instant

if TYPE_CHECKING:
    import pandas as pd

    from predseg.forecast.learn import TrainingReport
    from predseg.forecast.runs import Change, Version
    from predseg.history.report import IngestReport
    from predseg.segments.sides import Side

_REASONS, _LONGEST, _BEST = 8, 90, 3


def ingest(project: str, report: IngestReport, warnings: Sequence[str], passed: bool, dry_run: bool) -> Show:
    """Show what became of every received row."""

    def show(console: Console) -> None:
        numbers = ("received", "accepted", "duplicates", "quarantined", *(("suppressed",) if report.suppressed else ()))
        rows = [(s.name, *(f"{getattr(s, n):,}" for n in numbers)) for s in report.sources]
        if len(rows) > 1:
            rows.append(("all", *(f"{getattr(report, n):,}" for n in numbers)))
        console.print(table(("source", *numbers), rows, numbers))
        if report.rows and report.first is not None and report.last is not None:
            about = f"{count(report.rows, 'event')} of {count(report.customers, 'customer')}"
            heading(console, f"{about}, {minute(report.first)} to {minute(report.last)}")
            console.print(table(("event", "events"), [(name, f"{n:,}") for name, n in report.events.items()], ("events",)))
        _quarantined(console, report)
        for warning in warnings:
            console.print(Text(f"\nwarning: {printable(warning)}", "yellow"))
        if report.up_to_date:
            console.print("\nno source changed since the last check; nothing was read again")
        if passed:
            console.print(f"\n{project} is in order{' (dry run: nothing was written)' if dry_run else ''}. next: predseg train")

    return show


def _quarantined(console: Console, report: IngestReport) -> None:
    if not report.quarantined:
        return
    heading(console, f"{count(report.quarantined, 'row')} in quarantine, {share(report.quarantined, report.received)} of what was received")
    shown = [(source, reason, number) for source in report.sources for reason, number in source.reasons.items()]
    for source, reason, number in sorted(shown, key=lambda item: -item[2])[:_REASONS]:
        example = next((s.raw for s in source.samples if f"{s.field} {s.reason}".strip() == reason), "")
        console.print(f"{number:>7,}  {source.name}: {printable(reason)}")
        if example:
            console.print(Text(f"         {_short(printable(example))}", "dim"), soft_wrap=True)
    if len(shown) > _REASONS:
        console.print(f"         and {count(len(shown) - _REASONS, 'more reason')}: see the table `quarantine` in the store")


def share(part: int, whole: int) -> str:
    """Return a share as a percentage that is never rounded to nothing.

    >>> share(1, 3), share(1, 10**6)
    ('33.3 %', 'less than 0.1 %')
    """
    return f"{part / whole:.1%}".replace("%", " %") if part / whole >= 0.001 else "less than 0.1 %"


def minute(instant: int) -> str:
    """Return an instant to the minute."""
    return say_instant(instant - instant % MINUTE)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def versions(found: Mapping[str, Sequence[Version]]) -> Show:
    """Show the registered versions of every model."""

    def show(console: Console) -> None:
        rows = [
            (name, v.version, v.alias, f"{v.as_of[:16]}Z", _ranking(v.metrics), _metric(v.metrics, "test/brier"), _gate(v))
            for name, all_ in found.items()
            for v in reversed(all_)
        ]
        if not rows:
            console.print("no model is trained yet. next: predseg train")
            return
        console.print(table(("model", "version", "alias", "trained at", "AUC", "Brier", "gate"), rows, ("version", "AUC", "Brier")))
        console.print("\nAUC: 0.5 is chance, 1 is perfect. Brier: 0 is perfect, lower is better. Both forward in time, on data not learned from.")
        console.print("next: predseg score; predseg promote MODEL; predseg rollback MODEL")

    return show


def _metric(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else "-"


def _ranking(metrics: Mapping[str, float]) -> str:
    return f"Gini {metrics['test/gini']:.3f}" if "test/gini" in metrics else _metric(metrics, "test/auc")


def _gate(version: Version) -> str:
    said = "; ".join(version.reasons)
    return ("forced: " if version.forced else f"{version.gate}: ") + said if said else version.gate


def champion(change: Change, dry_run: bool, moved: Sequence[Side] = (), gains: Mapping[str, tuple[float, float]] | None = None) -> Show:
    """Show who speaks for a model now, with the figures of both forward tests and who changes sides."""

    def show(console: Console) -> None:
        verb = "would be" if dry_run else "is"
        before = "there was none before" if change.before is None else f"before: version {change.before}"
        console.print(f"version {change.version} {verb} the champion of {change.model} ({before}{'; the gate was forced' if change.forced else ''})")
        for reason in change.reasons:
            console.print(f"  {reason}")
        if gains:
            rows = [(name, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}") for name, (before, after) in gains.items()]
            heading(console, "forward tests, each of its own time")
            console.print(
                table(
                    ("", f"version {change.before}", f"version {change.version}", ""),
                    rows,
                    (f"version {change.before}", f"version {change.version}", ""),
                )
            )
        _show_sides(console, moved)
        console.print("next: predseg score" if not dry_run else "dry run: nothing was changed")

    return show


def _show_sides(console: Console, moved: Sequence[Side]) -> None:
    if moved:
        heading(console, "who changes sides, at the next run")
        lines = [(s.segment, f"{s.before:,}", f"{s.after:,}", f"{len(s.enters):,}", f"{len(s.leaves):,}", _some(s)) for s in moved]
        console.print(table(("segment", "members now", "then", "enter", "leave", "for example"), lines, ("members now", "then", "enter", "leave")))


def _some(side: Side) -> str:
    return ", ".join([f"+{who}" for who in side.enters[:2]] + [f"-{who}" for who in side.leaves[:2]])


MEANINGS = (
    ("AUC", "of two customers, one who will and one who will not, how often the right one ranks first; 0.5 is chance"),
    ("Brier", "mean squared error of the probabilities; lower is better"),
    ("skill", "the share of the base rate's Brier score that is gone; 0 % is no better than knowing the overall rate"),
    ("off by", "how far probabilities are from what came true, on average, over tenths of the customers"),
    ("best tenth", "how many times more often it came true in the highest-ranked tenth than overall"),
)
VALUE_MEANINGS = (
    ("Gini", "how well customers are ordered by what they will bring; 0 is chance, 1 is perfect"),
    ("mean", "the mean expected value, to hold against the real one above"),
    ("skill of a value", "the share of the Tweedie deviance of knowing only the mean that is gone"),
    ("off by, of a value", "how far expected means are from real ones over tenths of the customers, as a share of the overall mean"),
    MEANINGS[-1],
)
_WORDS = {"poor": "no better than simple rules", "fair": "useful for ranking", "good": "ranks well", "excellent": "ranks very well"}


def training(found: Mapping[str, TrainingReport], dry_run: bool, moved: Mapping[str, Sequence[Side]] | None = None) -> Show:
    """Show what was learned, how good it is beside the baselines, what became of it, and who changes sides by it."""

    def show(console: Console) -> None:
        for number, report in enumerate(found.values()):
            if number:
                console.print()
            _trained(console, report, dry_run)
            _show_sides(console, (moved or {}).get(report.model, ()))
        console.print()
        kinds = dict.fromkeys("gini" in report.evaluation["model"] for report in found.values())
        meanings = dict(pair for value in kinds for pair in (VALUE_MEANINGS if value else MEANINGS))
        console.print(table(("", ""), [(Text(name, "dim"), Text(says, "dim")) for name, says in meanings.items()]))
        console.print("\nnext: predseg models; predseg score")

    return show


def _trained(console: Console, report: TrainingReport, dry_run: bool) -> None:
    from predseg.forecast.card import say_level
    from predseg.forecast.taste import say_taste

    found, facts = report.evaluation, report.facts
    learned = [c for c in facts["cutoffs"] if c["role"] == "train"]
    console.print(Text(f"{report.model}: {facts['statement']}", "bold"), soft_wrap=True)
    console.print(
        f"learned from {count(facts['rows']['train'], 'customer-moment')} at {count(len(learned), 'past moment')}, then tested on a later one,"
    )
    value = "gini" in found["model"]
    came = f"of whom it came true for {found['positives']:,} ({found['rate']:.0%})"
    brought = f"who brought {found['rate']:,.2f} on average, {found['positives']:,} of them anything"
    console.print(f"{facts['cutoffs'][-1]['cutoff'][:16]}Z: {count(found['rows'], 'customer')}, {brought if value else came}")
    console.print()
    rivals = [(f"baseline: {name}", measures) for name, measures in reversed(found["baselines"].items())]
    rows = [(name, *_numbers(m)) for name, m in [("this model", found["model"]), *rivals]]
    names = ("Gini", "mean", "skill", "off by", "best tenth") if value else ("AUC", "Brier", "skill", "off by", "best tenth")
    console.print(table(("", *names), rows, names))
    low, high = found["intervals"]["gini" if value else "auc"]
    console.print(
        f"\nquality: {found['quality']} ({_WORDS[found['quality']]}); its {names[0]} lies between {low:.3f} and {high:.3f} in 95 of 100 such tests"
    )
    strongest = ", ".join(list(report.importance)[:3])
    console.print(f"what moves the scores most: {strongest}", soft_wrap=True)
    if facts["chosen"]["linear_share"] == 1.0:
        console.print("few customers: the linear model alone foretold the past best, so it stands alone")
    if "taste" in facts:
        console.print(Text(say_taste(facts["taste"]), "" if facts["taste"]["values"] else "yellow"), soft_wrap=True)
    for line in say_level(facts):
        console.print(Text(line, "yellow" if facts["chosen"]["season"] is None else ""), soft_wrap=True)
    for group in found["groups"]:
        if group["off"]:
            style = ",.2f" if value else ".1%"
            said = f"said {group['said']:{style}}, came true {group['came']:{style}}"
            console.print(Text(f"off for {group['by']} {printable(group['name'])} ({group['rows']:,} customers): {said}", "yellow"), soft_wrap=True)
    for leak in report.leaks:
        console.print(Text(f"leak {'allowed by name' if leak.allowed else 'forced'}: {leak.name} {leak.reason}", "yellow"))
    console.print(_outcome(report, dry_run))


def _numbers(measures: Mapping[str, Any]) -> tuple[str, ...]:
    if "gini" in measures:
        skill = f"{measures['deviance_skill']:.0%}"
        return (
            f"{measures['gini']:.3f}",
            f"{measures['mean_value']:,.2f}",
            skill,
            f"{measures['off']:.0%}",
            f"{measures['lift_top_decile']:.1f} times",
        )
    if "brier" not in measures:
        return f"{measures['auc']:.3f}", "-", "-", "-", f"{measures['lift_top_decile']:.1f} times"
    said = (f"{measures['auc']:.3f}", f"{measures['brier']:.3f}", f"{measures['brier_skill']:.0%}", f"{measures['calibration_error']:.3f}")
    return (*said, f"{measures['lift_top_decile']:.1f} times")


def _outcome(report: TrainingReport, dry_run: bool) -> str:
    why = "; ".join(report.decision.reasons)
    if dry_run:
        return f"dry run: nothing was registered; it would be {'champion' if report.decision.promoted else 'challenger'} ({why})"
    role = "the champion" if report.decision.promoted else "a challenger, not the champion"
    return f"registered as version {report.version}, {role}: {why}"


def summary(found: pd.DataFrame, out: Path | None, dry_run: bool) -> dict[str, Any]:
    """Return what a machine wants to know of a scoring: counts and spread by model; the rows themselves are in the file or the store."""
    parts = found.groupby("model", sort=False)
    models = {
        str(model): {
            "version": int(rows["model_version"].iloc[0]),
            "customers": len(rows),
            "mean_probability": float(rows["probability"].mean()),
            "deciles": {int(decile): float(p) for decile, p in rows.groupby("decile")["probability"].mean().items()},
        }
        for model, rows in parts
    }
    return {"as_of": _as_of(found), "rows": len(found), "models": models, "out": None if dry_run else out, "dry_run": dry_run}


def _as_of(found: pd.DataFrame) -> str | None:
    return say_instant(int(found["as_of"].iloc[0].asm8.astype("datetime64[us]").astype(int))) if len(found) else None


def rows(found: pd.DataFrame) -> dict[str, int]:
    """Return how many customers each model scored, by its node."""
    return {f"model.{model}": int(number) for model, number in found["model"].value_counts(sort=False).items()}


def learned(found: Mapping[str, TrainingReport]) -> dict[str, int]:
    """Return how many customer-moments each model learned from, by its node."""
    return {f"model.{name}": int(report.facts["rows"]["train"]) for name, report in found.items()}


def accepted(report: IngestReport) -> dict[str, int]:
    """Return how many rows of each source are in the history, by its node."""
    return {f"source.{source.name}": source.accepted for source in report.sources}


def scores(found: pd.DataFrame, out: Path | None, dry_run: bool, *, naming: bool = True) -> Show:
    """Show how the scores are spread, and, when somebody may be named, the highest with their reasons."""

    def show(console: Console) -> None:
        for number, (model, rows) in enumerate(found.groupby("model", sort=False)):
            if number:
                console.print()
            _scored(console, str(model), rows, minute(parse_instant(_as_of(found) or "")))
            if naming:
                _highest(console, rows)
        console.print()
        if dry_run:
            console.print("dry run: nothing was written")
        elif out is not None:
            console.print(f"wrote {count(len(found), 'row')} to {out}, and to the table `scores` in the store")
        else:
            console.print(f"wrote {count(len(found), 'row')} to the table `scores` in the store; for a file add --out scores.csv")
        console.print("decile 1 is the highest tenth; a probability says how likely the statement of the model comes true, a value what to expect")

    return show


def _scored(console: Console, model: str, rows: pd.DataFrame, as_of: str) -> None:
    version = rows["model_version"].iloc[0]
    console.print(Text(f"{model}, version {version}: {count(len(rows), 'customer')} at {as_of}, {rows['probability'].sum():,.0f} expected", "bold"))
    tenths = rows.groupby("decile")["probability"]
    style, mean = _style(rows)
    shown = [(decile, f"{len(p):,}", f"{p.mean():{style}}", f"{p.sum():,.0f}") for decile, p in tenths]
    console.print(table(("decile", "customers", mean, "expected"), shown, ("decile", "customers", mean, "expected")))


def _style(rows: pd.DataFrame) -> tuple[str, str]:
    """How the numbers of a model are written, and what their mean is called."""
    value = bool((rows["probability"] > 1).any())  # no probability is
    return (",.2f", "mean value") if value else (".1%", "mean probability")


def _highest(console: Console, rows: pd.DataFrame) -> None:
    style = _style(rows)[0]
    console.print("\nthe highest, and why")
    for row in rows.nlargest(_BEST, "percentile").itertuples():
        console.print(
            f"  {printable(str(row.customer_id))}  {row.probability:{style}}", *(f"       {printable(reason)}" for reason in row.reasons), sep="\n"
        )
