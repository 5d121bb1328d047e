"""From stored events to a registered model: the order of the steps of a training.

Cutoffs back from as_of → features and labels at each → learn, test forward in time → look for leaks → compare with the
baselines and with the champion → the gate → MLflow run, registered version and exported bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg import __version__
from predseg.config import Config, Model
from predseg.errors import LabelError, ModelError
from predseg.forecast import dataset, groups, influence, leaks, recalibrating, value
from predseg.forecast.card import card
from predseg.forecast.drift import reference
from predseg.forecast.evaluation import Forecast, baselines, bootstrap, evaluate, importance, interval, measures, rfm_columns
from predseg.forecast.gate import Decision, gate
from predseg.forecast.pictures import dependence, draw
from predseg.forecast.reasons import declare
from predseg.forecast.runs import Training
from predseg.forecast.sampling import Sample, choose_cutoffs
from predseg.forecast.taste import about
from predseg.forecast.training import Settings, Trained, train
from predseg.forecast.traits import trait_columns
from predseg.history.privacy import NOBODY, OptedOut
from predseg.language.conditions import Did
from predseg.language.english import say_condition, say_events
from predseg.language.measures import Events, Window, slug
from predseg.language.time import say_duration, say_instant

if TYPE_CHECKING:
    import pandas as pd

    from predseg.forecast.bundle import Bundle
    from predseg.forecast.dataset import Source
    from predseg.forecast.forecaster import Forecaster
    from predseg.forecast.tracking import Registry
    from predseg.store import Store

SAMPLED = 30_000
"""About so many events of whole customers get their features computed again with events of the future appended, at every training."""
GATED = ("auc", "brier", "calibration_error")
GATED_VALUE = ("gini", "deviance", "off")


@dataclass(frozen=True, eq=False)
class TrainingReport:
    """What a training did.

    Attributes:
        model: Its name in the project.
        version: Registered as; None when nothing was registered.
        as_of: The moment of training (microseconds).
        decision: What the gate said, and whether this version is the champion now.
        evaluation: The forward test, see `predseg.forecast.evaluation.evaluate`.
        rival: The champion it was compared with.
        leaks: Findings of the leak detectors; each says whether it is allowed by name, the others were forced.
        importance: How far each feature moves the logit on average, largest first.
        facts: What the bundle says of itself: statement, horizon, cutoffs, rows, settings, fingerprint of the data.
        card: The model card, Markdown.
    """

    model: str
    version: int | None
    as_of: int
    decision: Decision
    evaluation: Mapping[str, Any]
    rival: Rival
    leaks: tuple[leaks.Leak, ...]
    importance: Mapping[str, float] = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    card: str = field(repr=False)


def learn(
    config: Config,
    store: Store,
    model: Model,
    as_of: int,
    registry: Registry,
    *,
    without: OptedOut = NOBODY,
    force: bool = False,
    register: bool = True,
    recalibrate: bool = False,
) -> TrainingReport:
    """Train one model at a moment, using nothing known later, and register it.

    Args:
        config: The project.
        store: Its events, up to date.
        model: What is predicted, of whom.
        as_of: The moment of training (microseconds).
        registry: Where champion and challenger are.
        without: Who must not be learned from.
        force: Pass the gate.
        register: Whether to log the run and register the version.
        recalibrate: Learn the calibration alone: the rest is the champion's, see `predseg.forecast.recalibrating`.

    Raises:
        LabelError: E501 to E507 when nothing can be learned.
        GateError: E601 when a leak is found that the model does not allow.
    """
    source = dataset.open_source(config, store, without)
    horizon = model.predict.horizon
    first, last = dataset.span(source.files, as_of)
    cutoffs = choose_cutoffs(first, last, as_of, horizon, model.cutoffs, model.every)
    champion = _same_question(registry.load(model.name), model) if recalibrate else None
    if champion is not None:
        cutoffs = recalibrating.matured(cutoffs, int(champion.facts["as_of_micros"]), horizon, model.name)
    sample = dataset.labelled(source, model, cutoffs, as_of, dataset.count_customers(source.files))
    settings = Settings(horizon, as_of, model.seed, model.tune, value=model.value, event=_event(model), bag=source.features.bag)
    if champion is not None:
        trained, found = recalibrating.recalibrate(sample, champion.forecaster, champion.facts, settings), []
    else:
        trained = train(sample, settings)
        found = leaks.judge(model.name, detect(source, model, trained, sample), model.allow, force)
    evaluation, rival = test(trained, model), find_rival(registry, model, trained)
    weight = importance(trained.tested, trained.test.X)
    evaluation |= look_closer(trained, model, source, list(weight), config.features.traits)
    names = sorted({leak.name for leak in found})
    given = (_gated(evaluation["model"]), rival.measures, rival.intervals)
    decision = gate(*given, flags=names, allowed=model.allow, worse_than=_better(evaluation) if rival.silent else (), force=force)
    if rival.measures is None and not decision.forced:
        decision = replace(decision, reasons=(rival.how, *decision.reasons[int(decision.promoted) :]))
    facts = describe(model, as_of, trained, dataset.fingerprint(source.files))
    if source.features.bag:
        facts["taste"] = about(trained.forecaster.taste, source.features.bag)
    if champion is not None:
        facts["recalibrated"] = champion.version
    report = TrainingReport(
        model.name,
        None,
        as_of,
        decision,
        evaluation,
        rival,
        tuple(found),
        weight,
        facts,
        card(config.project, model.name, facts, evaluation, weight, decision),
    )
    if not register:
        return report
    return replace(report, version=registry.log_training(_for_registry(config, source, trained, report)))


def _same_question(champion: Bundle, model: Model) -> Bundle:
    if champion.facts.get("statement") != statement(model):
        raise LabelError(
            "E507", model.name, f"version {champion.version} predicts something else: {champion.facts.get('statement')}", "train it anew"
        )
    return champion


def _forward(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return of the forward test what pictures are made of."""
    lifts = {"model": found["model"], **found["baselines"]}
    whole = {name: found[name] for name in ("rows", "positives", "rate", "quality", "reliability") if name in found}
    return {**whole, "lift": {name: measures["lift_by_decile"] for name, measures in lifts.items() if "lift_by_decile" in measures}}


def _for_registry(config: Config, source: Source, trained: Trained, report: TrainingReport) -> Training:
    found, event = report.evaluation, report.facts["event"]
    numbers = {name: value for name, value in found["model"].items() if not isinstance(value, list)}
    deciles = {f"{decile:02d}": value for decile, value in enumerate(found["model"]["lift_by_decile"], 1)}
    rivals = {slug(name): {k: v for k, v in m.items() if not isinstance(v, list)} for name, m in found["baselines"].items()}
    return Training(
        model=report.model,
        as_of=say_instant(report.as_of),
        forecaster=trained.forecaster,
        decision=report.decision,
        facts={
            **report.facts,
            "forward": _forward(found),
            "reference": reference(
                trained.forecaster, trained.test.X, report.importance, found["intervals"]["gini" if trained.tested.predicts_value else "auc"]
            ),
        },
        declarations=declare(source.features) | {name: says for law in trained.forecaster.laws for name, says in law.declare(event).items()},
        card=report.card,
        params={k: v for k, v in report.facts.items() if k != "cutoffs"} | {"cutoffs": len(trained.cutoffs)},
        metrics={
            "test": numbers,
            "interval": found["intervals"],
            "lift": deciles,
            "baseline": rivals,
            "importance": dict(list(report.importance.items())[:20]),
        },
        config=config.text,
        fingerprint=report.facts["fingerprint"],
        pictures=_pictures(trained, report),
        tags={f"predseg.leak.{leak.name}": leak.reason for leak in report.leaks},
    )


def _pictures(trained: Trained, report: TrainingReport) -> dict[str, bytes]:
    model, matrix = trained.tested, trained.tested.encode(trained.test.X)
    curves = {name: influence.dependence(model, matrix, name, report.facts["seed"]) for name in list(report.evaluation["permutation"])[:6]}
    drawn = draw(report.evaluation, report.importance, trained.test.y, model.raw_matrix(matrix))
    return drawn | {"dependence.png": dependence(curves, model.categories)}


def look_closer(trained: Trained, model: Model, source: Source, names: list[str], traits: Sequence[str]) -> dict[str, Any]:
    """Return ``groups`` (see `predseg.forecast.groups`) and ``permutation`` (see `influence`) of the forward test."""
    held, tested = trained.test, trained.tested
    keys = _keys(held)
    told = {t: column.to_numpy() for t, column in zip(traits, trait_columns(traits, source.traits, keys).values(), strict=True)}
    parts = groups.divisions(held.X, _rfm(held, model), told)
    matrix = tested.encode(held.X)
    return {
        "groups": [vars(group) for group in groups.by_group(held.y, _forecast(tested, held), parts, model.value)],
        "permutation": influence.permutation(tested, matrix, held.y, names, model.seed),
    }


def _rfm(held: Sample, model: Model) -> list[str]:
    return rfm_columns([str(name) for name in held.X.columns], _event(model))


def _event(model: Model) -> str:
    """What the predicted event is called in the names of columns."""
    return "_or_".join(slug(name) for name in model.predict.measure.events.names)


def detect(source: Source, model: Model, trained: Trained, sample: Sample) -> list[leaks.Leak]:
    """Run every leak detector on the data at hand."""
    block = next(source.blocks(model, SAMPLED), None)
    moments = sample.cutoffs()
    future = [] if block is None else leaks.future_leaks(block, [moments[0], moments[-1]], source.features, model.seed)
    columns = [str(name) for name in trained.test.X.columns if source.features.bag is None or name != source.features.bag.name]
    alone = leaks.single_feature_leaks(trained.test.X, (trained.test.y > 0).astype(np.int8), columns)
    return [*future, *alone, *leaks.overlap_leaks(_keys(trained.learned), _keys(trained.test), model.predict.horizon)]


def _keys(part: Sample) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"customer_id": part.customer, "as_of": part.cutoff})


def test(trained: Trained, model: Model) -> dict[str, Any]:
    """Return the forward test of the model that knew nothing of it, beside the baselines that learned from the same rows."""
    learned, held = trained.learned, trained.test
    columns = _rfm(held, model)
    if model.value:
        others = value.baselines(learned, held.X, columns, model.predict.horizon, _event(model))
        return value.evaluate(held.y, _forecast(trained.tested, held), others, seed=model.seed)
    return evaluate(held.y, _forecast(trained.tested, held), baselines(learned.X, learned.y, held.X, columns), seed=model.seed)


def _forecast(forecaster: Forecaster, held: Sample) -> Forecast:
    raw = forecaster.raw(held.X)
    return Forecast(raw, forecaster.calibrate(raw))


@dataclass(frozen=True)
class Rival:
    """The champion to beat: its measures, their intervals, and how they were found.

    ``measures`` is None when there is nothing to compare with, and ``how`` says why; ``silent`` is a champion that cannot answer any more.
    """

    how: str
    measures: Mapping[str, float] | None = None
    intervals: Mapping[str, tuple[float, float]] | None = None
    silent: bool = False


def find_rival(registry: Registry, model: Model, trained: Trained) -> Rival:
    """Return the champion's measures on the same test when it had not learned from it, else those of its own forward test."""
    version = registry.champion(model.name)
    if version is None:
        return Rival("there was no champion")
    try:
        bundle = registry.load(model.name, version)
        if bundle.facts.get("statement") != statement(model):
            return Rival(f"version {version} predicts something else")
        bundle.forecaster.raw(trained.test.X.iloc[:1])  # can it answer at all?
        if int(bundle.facts["as_of_micros"]) <= int(trained.test.cutoff.max()):
            y, forecast = trained.test.y, _forecast(bundle.forecaster, trained.test)
            drawn = (value.bootstrap if model.value else bootstrap)(y, {"champion": forecast}, model.seed)["champion"]
            bounds = {name: interval(values) for name, values in drawn.items()}
            return Rival(f"version {version} on the same test", _gated((value.measures if model.value else measures)(y, forecast)), bounds)
    except ModelError as error:
        if error.code in ("E706", "E710"):
            return Rival(f"version {version} cannot answer any more: {error.message}", silent=True)
        # else it is damaged: what was recorded of it still stands
    recorded = next((v.metrics for v in registry.versions(model.name) if v.version == version), {})
    names = GATED_VALUE if model.value else GATED
    bounds = {m: (recorded[f"interval/{m}/low"], recorded[f"interval/{m}/high"]) for m in names if f"interval/{m}/low" in recorded}
    return Rival(f"version {version} in its own forward test", {m: recorded[f"test/{m}"] for m in names if f"test/{m}" in recorded}, bounds)


def _better(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the baselines that rank better beyond chance, and the base rate when it gives better probabilities (or sums)."""
    found = [name for name, by in evaluation["better"].items() if by["gini" if "gini" in by else "auc"][1] < 0]
    skill = next((evaluation["model"][name] for name in ("brier_skill", "deviance_skill") if name in evaluation["model"]), 1.0)
    return found if skill > 0 else [*found, "base rate"]


def _gated(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(found[name]) for name in (GATED_VALUE if "gini" in found else GATED)}


def statement(model: Model) -> str:
    """Return what a model predicts, of whom, in words.

    >>> from predseg.config import parse
    >>> from pathlib import Path
    >>> text = "project: p\\nmodels: {churn: {predict: {did_not: Order Completed, within_next: 90 days}, among: {did: Order Completed}}}"
    >>> statement(parse(text, Path("p.yaml")).models["churn"])
    'who did not do Order Completed, within the next 90 days; asked of those who did Order Completed'
    """
    measure = replace(model.predict.measure, window=Window())
    among = f"those who {say_condition(model.among)}" if model.among else "everyone known"
    if model.predict.comparison is None:
        return f"the sum of {measure.of} over {say_events(measure.events)} within the next {say_duration(model.predict.horizon)}; asked of {among}"
    says = say_condition(Did(measure, model.predict.comparison))
    return f"who {says}, within the next {say_duration(model.predict.horizon)}; asked of {among}"


def describe(model: Model, as_of: int, trained: Trained, fingerprint: str) -> dict[str, Any]:
    """Return the facts that a bundle carries: plain values, nothing of this moment or machine."""
    rows = {role: sum(c["rows"] for c in trained.cutoffs if c["role"] == role) for role in ("train", "gap", "test")}
    return {
        "statement": statement(model),
        "as_of": say_instant(as_of),
        "as_of_micros": as_of,
        "horizon": say_duration(model.predict.horizon),
        "horizon_micros": model.predict.horizon,
        "cutoffs": [{**c, "cutoff": say_instant(c["cutoff"])} for c in trained.cutoffs],
        "rows": {**rows, "champion": sum(rows.values())},
        "value": model.value,
        "event": say_events(Events(model.predict.measure.events.names)),
        "seed": model.seed,
        "chosen": {
            "trees": trained.chosen.rounds,
            "linear_share": trained.chosen.blend,
            "linear_member": "laws" if trained.chosen.lawful else "everything",
            "calibration": trained.chosen.calibration.kind,
            "season": None if trained.chosen.season is None else round(trained.chosen.season, 4),
            "wander": None if trained.chosen.wander is None else round(trained.chosen.wander, 4),
            **trained.chosen.params,
        },
        "allowed": list(model.allow),
        "fingerprint": fingerprint,
        "versions": {"predseg": __version__, **{name: version(name) for name in ("lightgbm", "numpy", "pandas")}},
    }
