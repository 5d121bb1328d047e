"""Learning to forecast: many cutoffs, trees beside a linear model, everything chosen forward in time.

One procedure, `fit`, learns at a moment T what was known then: cutoffs whose labels were complete by T. Inside it the
newest of those cutoffs play the future for the older ones, which settles the number of trees, the share of the linear
member and the calibration. `train` runs it twice: at the last cutoff, where the forward test then tells how good the
procedure is, and at ``as_of``, which makes the champion out of all that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from predseg.errors import LabelError, UsageError
from predseg.forecast.aims import PROBABILITY, VALUE, Aim
from predseg.forecast.bags import Bag
from predseg.forecast.evaluation import auc
from predseg.forecast.fitting import choose_calibration, fit_linear, value_calibration
from predseg.forecast.forecaster import Array, Calibration, Forecaster, Linear, encode
from predseg.forecast.rhythm import fit_rhythm
from predseg.forecast.sampling import Sample, check_labels, enough, levels, no_room, sample_customers, weights
from predseg.forecast.taste import fit_taste
from predseg.forecast.visits import AS_OF, clock_of, fit_visits
from predseg.language.time import DAY, say_instant

TREES: dict[str, Any] = {
    "learning_rate": 0.03,
    "min_data_in_leaf": 30,
    "lambda_l2": 10.0,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction_bynode": 0.15,
    "max_bin": 63,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""LightGBM, shallow and regularised; the number of leaves and of members follows the number of rows."""

DATASET = {"feature_pre_filter": False, "max_bin": TREES["max_bin"], "verbose": -1}
TUNED = ("num_leaves", "min_data_in_leaf", "lambda_l2", "feature_fraction_bynode", "learning_rate")
BLENDS = (0.0, 0.25, 0.5)
"""Shares of the linear member that are tried."""
DEFAULT_ROUNDS, DEFAULT_BLEND = 150, 0.25
"""Where no older cutoff can show what is best."""
FEW_CUSTOMERS = 1_000
"""Below, the linear model alone may be chosen, and is taken where no older cutoff can show what is best."""
FEW_ROWS = 200_000
"""Below, boosters are trained side by side on one core each, and the champion chooses anew; beyond, it takes what the tested model chose."""
YEAR, NEAR = 365 * DAY, 16 * DAY
"""How far back the same season is looked for, and how near to that a cutoff must be."""
WANDER = 0.02
"""The variance over a year of a level (in the logit) that follows no season: beside it, the more levels vary the more of last year's is expected again."""
PATIENCE = 100
"""Trees without progress after which a fold stops."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        horizon: Microseconds; labels look at (cutoff, cutoff + horizon].
        as_of: The moment of training.
        seed: Of every random choice.
        tune: Trials of Optuna (0: the defaults, which need no extra).
        features: Columns to learn from, in order; empty means all of the sample.
        folds: Newest cutoffs that play the future when settings are chosen.
        rounds: The most trees.
        rows: Beyond this many rows settings are chosen on a sample of customers.
        params: LightGBM parameters that replace the defaults.
        value: Labels are sums, whose expected value is learned; below 0 they count as 0.
        event: Whose laws make features (see `predseg.forecast.rhythm` and `visits`), as it stands in column names.
        bag: Whose taste makes features (see `predseg.forecast.taste`), if any.
    """

    horizon: int
    as_of: int
    seed: int = 0
    tune: int = 0
    features: tuple[str, ...] = ()
    folds: int = 3
    rounds: int = 600
    rows: int = 100_000
    params: dict[str, Any] = field(default_factory=dict)
    value: bool = False
    event: str = ""
    bag: Bag | None = None

    @property
    def aim(self) -> Aim:
        """What is fitted."""
        return VALUE if self.value else PROBABILITY


@dataclass(frozen=True)
class Chosen:
    """What the newest cutoffs settled: trees, share of the linear member, calibration, LightGBM parameters, on which evidence; and the season's shift.

    ``season`` is None where no cutoff tells of this time of the year; ``wander`` is how far the level moved from one horizon to the next (in the logit, root mean
    square), None where fewer than three pairs of cutoffs tell. ``lawful``: the linear member knows what the laws expect (`predseg.forecast.rhythm`, `visits`), and nothing else.
    """

    rounds: int
    blend: float
    calibration: Calibration
    params: dict[str, Any]
    folds: tuple[int, ...] = ()
    season: float | None = None
    lawful: bool = False
    wander: float | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of `train`.

    Attributes:
        forecaster: The champion-to-be, refitted on every cutoff known at ``as_of``.
        chosen: Its settings.
        tested: The model of the forward test, learned from what was known at the last cutoff.
        learned: What that model learned from.
        test: The forward test: the last cutoff whose horizon is complete.
        cutoffs: Per cutoff: ``cutoff``, ``rows``, ``positives``, ``rate``, ``role`` (train, gap, test).
    """

    forecaster: Forecaster
    chosen: Chosen
    tested: Forecaster
    learned: Sample
    test: Sample
    cutoffs: tuple[dict[str, Any], ...]


# --- training ------------------------------------------------------------------------------------------------------


def train(sample: Sample, settings: Settings) -> Trained:
    """Learn, test forward in time, and learn again from everything that is known.

    Same sample and settings, same scores, byte for byte, whatever the number of threads.

    Args:
        sample: Every cutoff of `choose_cutoffs`; the newest is the forward test. No label may end after ``as_of``.
        settings: How.

    Raises:
        LabelError: E501 one answer only, E502 fewer than 50 of either, E503 a label that ends after ``as_of``,
            E504 no cutoff a horizon before the test, E505 nobody is eligible.
        UsageError: E220 when ``tune`` is asked for without Optuna.
    """
    sample = _in_order(replace(sample, y=np.maximum(sample.y, 0.0)) if settings.value else sample)
    test_at = _check_sample(sample, settings)
    learned, test = sample.until(test_at, settings.horizon), sample.take(sample.cutoff == test_at)
    check_labels(learned.y, "training labels", settings.value)
    check_labels(test.y, "labels of the forward test", settings.value)
    tested, before = fit(learned, replace(settings, as_of=test_at))
    forecaster, chosen = fit(sample, settings, before if len(sample) >= FEW_ROWS else None)
    return Trained(forecaster, chosen, tested, learned, test, roles(sample, settings.horizon))


def _in_order(sample: Sample) -> Sample:
    """Rows by cutoff and customer, so that the order in which blocks arrive changes nothing."""
    order = np.lexsort((np.asarray(sample.customer).astype(str), sample.cutoff))
    return sample if (order == np.arange(len(order))).all() else sample.take(order)


def _check_sample(sample: Sample, settings: Settings) -> int:
    if not len(sample):
        raise LabelError("E505", "sample", "nobody is eligible at any cutoff", "check `among:` of the model and the event names of the data")
    test_at = int(sample.cutoff.max())
    if test_at + settings.horizon > settings.as_of:
        message = f"the labels of {say_instant(test_at)} end at {say_instant(test_at + settings.horizon)}, after as_of {say_instant(settings.as_of)}"
        raise LabelError("E503", "sample", message, "leave out cutoffs whose horizon is not complete")
    if int(sample.cutoff.min()) + settings.horizon > test_at:
        raise no_room(int(sample.cutoff.min()), settings.as_of, settings.horizon)
    return test_at


def roles(sample: Sample, horizon: int) -> tuple[dict[str, Any], ...]:
    """Return what each cutoff is for, see `Trained.cutoffs`."""
    moments = sample.cutoffs()
    found = []
    for c in moments:
        y = sample.y[sample.cutoff == c]
        role = "test" if c == moments[-1] else "train" if c + horizon <= moments[-1] else "gap"
        found.append({"cutoff": c, "rows": len(y), "positives": int((y > 0).sum()), "rate": float(y.mean()), "role": role})
    return tuple(found)


def fit(sample: Sample, settings: Settings, chosen: Chosen | None = None) -> tuple[Forecaster, Chosen]:
    """Learn at ``settings.as_of`` from the rows whose labels were complete by then, and say what was chosen (if it is not given)."""
    known = sample.until(settings.as_of, settings.horizon)
    features = settings.features or tuple(str(c) for c in known.X.columns if c != AS_OF)
    known = replace(known, X=known.X.loc[:, known.X.columns.isin([*features, AS_OF])])
    newest, clock = known.X[known.cutoff == known.cutoff.max()], clock_of(known.X, known.customer)
    rhythm, visits = fit_rhythm(newest, settings.event, settings.horizon), fit_visits(newest, settings.event, settings.horizon, clock)
    taste = fit_taste(newest, settings.bag) if settings.bag and settings.bag.name in features else None
    features = tuple(name for name in features if settings.bag is None or name != settings.bag.name)
    for law in (rhythm, visits, taste):
        if law is not None:
            known = replace(known, X=law.extend(known.X))
            features = (*features, *law.names)
    known = replace(known, X=known.X[list(features)])
    categories, expected = levels(known.X), [law.expected for law in (rhythm, visits) if law is not None]
    chosen = chosen or choose(known, settings, categories, expected)
    matrix = encode(known.X, features, categories)
    linear, level = fit_linear(known, matrix, features, categories, settings.aim)
    params = [{**chosen.params, "seed": 1000 * settings.seed + i} for i in range(_members(len(known)))]
    boosters = _boost(matrix, known, level, categories, params, chosen.rounds)
    for booster in boosters:
        _raise(booster, linear.intercept)
    if chosen.lawful:
        linear, _ = fit_linear(known, matrix, features, categories, settings.aim, expected)
    forecaster = Forecaster(features, boosters, categories, linear if chosen.blend else None, chosen.blend, chosen.calibration, rhythm, visits, taste)
    season = season_shift(forecaster, known, matrix, level, settings)
    chosen = replace(chosen, season=season, wander=wander(known.cutoff, level, settings.horizon))
    return replace(forecaster, calibration=chosen.calibration.moved(season or 0.0)), chosen


def wander(cutoff: Array, level: Array, horizon: int) -> float | None:
    """Return how far the level of a cutoff lay from that of the first one a horizon later, root mean square; None where fewer than three pairs tell.

    >>> wander(np.arange(4), np.array([0.0, 0.3, 0.0, -0.3]), 1).__round__(3), wander(np.arange(4), np.zeros(4), 2)
    (0.3, None)
    """
    cutoffs, first = np.unique(cutoff, return_index=True)
    later = np.searchsorted(cutoffs, cutoffs + horizon)
    known = later < len(cutoffs)
    moved = level[first[later[known]]] - level[first[known]]
    return float(np.sqrt(np.mean(moved**2))) if len(moved) >= 3 else None


def season_shift(forecaster: Forecaster, known: Sample, matrix: Array, level: Array, settings: Settings) -> float | None:
    """Return how far the level of the coming horizon lies from that of the newest cutoff, judged by the same time of the last year.

    The model does not know the date. Where a cutoff lies a year before ``as_of``, or half a step beside it, the share V / (V + 0.02) of what the
    model missed there is expected again, V being the variance of the levels of all cutoffs; None where there is none.
    """
    wanted = settings.as_of - YEAR
    cutoffs, first = np.unique(known.cutoff, return_index=True)
    nearest = cutoffs[np.argmin(np.abs(cutoffs - wanted))]
    then = known.cutoff == nearest
    if abs(nearest - wanted) > NEAR or not enough(known.y[then], settings.value):
        return None
    variance = float(level[first].var())
    return variance / (variance + WANDER) * settings.aim.shift(known.y[then], forecaster.raw_matrix(matrix[then]))


def _members(rows: int) -> int:
    return 5 if rows < 60_000 else 3 if rows < 200_000 else 1


def _leaves(rows: int) -> int:
    return 8 if rows < 100_000 else 16 if rows < 400_000 else 31


def _dataset(matrix: Array, known: Sample, level: Array, categories: dict[str, tuple[str, ...]]) -> Any:
    """Return rows for LightGBM that begin at the level of their cutoff: trees learn what tells its customers apart."""
    import lightgbm as lgb

    features = [str(name) for name in known.X.columns]
    columns = [f"f{i}" for i in range(len(features))]  # names of the project may hold characters that LightGBM refuses
    traits = [i for i, name in enumerate(features) if name in categories]
    weight = weights(known.cutoff)
    return lgb.Dataset(matrix, known.y, weight=weight, init_score=level, feature_name=columns, categorical_feature=traits, params=dict(DATASET))


def _raise(booster: Any, level: float) -> None:
    """Add the level that its trees do not know to a booster: to every leaf of the first."""
    for leaf in range(booster.dump_model(num_iteration=1)["tree_info"][0]["num_leaves"]):
        booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + level)


def _boost(
    matrix: Array, known: Sample, level: Array, categories: dict[str, tuple[str, ...]], params: Sequence[dict[str, Any]], rounds: int
) -> tuple[Any, ...]:
    """Train one booster per set of parameters."""
    import lightgbm as lgb

    def one(tried: dict[str, Any]) -> Any:
        return lgb.train(tried, _dataset(matrix, known, level, categories), rounds)

    return tuple(_side_by_side(one, [{"num_threads": _threads(len(known)), **p} for p in params], len(known)))


def _threads(rows: int) -> int:
    return 1 if rows < FEW_ROWS else 0


def _side_by_side(work: Callable[[Any], Any], items: Sequence[Any], rows: int) -> list[Any]:
    """Work on all items at once, each on one core, when there are few rows (where threads would wait for each other); else in turn, each on all cores."""
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=-1 if _threads(rows) == 1 else 1, prefer="threads")(delayed(work)(item) for item in items))


# --- choosing forward in time --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fold:
    """A cutoff that plays the future: what came before it, and itself."""

    past: Sample
    future: Sample


def folds(known: Sample, settings: Settings) -> list[Fold]:
    """Return up to ``settings.folds`` pairs of past and future, newest first; no label of a past ends after its future's cutoff."""
    found: list[Fold] = []
    for moment in reversed(known.cutoffs()):
        past, future = known.until(moment, settings.horizon), known.take(known.cutoff == moment)
        if len(found) < settings.folds and enough(past.y, settings.value) and enough(future.y, settings.value):
            found.append(Fold(past, future))
    return found


@dataclass(frozen=True, eq=False)
class Known:
    """A fold as matrices, with the linear member that learned from its past, the level of the cutoff of each row of that, and the member that knows laws alone."""

    past: Sample
    matrix: Array
    future: Array
    y: Array
    linear: Linear
    level: Array
    lawful: Linear | None


@dataclass(frozen=True, eq=False)
class Trial:
    """One fold after training: loss by number of trees, the trees' raw output at any number, the linear members' (`Known`), the truth."""

    curve: Array
    booster: Any
    matrix: Array
    linear: tuple[Array, ...]
    y: Array

    def trees(self, rounds: int) -> Array:
        """Return the logits of the first ``rounds`` trees."""
        return np.asarray(self.booster.predict(self.matrix, raw_score=True, num_iteration=rounds))


def choose(known: Sample, settings: Settings, categories: dict[str, tuple[str, ...]], expected: Sequence[str] = ()) -> Chosen:
    """Return the settings under which the newest cutoffs were best foretold by the older ones; the defaults when there are none.

    Besides the linear member that knows everything one is tried that knows the ``expected`` columns of the laws alone: from few positives nothing else can be learned.
    """
    aim = settings.aim
    params = {**TREES, **aim.objective, "num_leaves": _leaves(len(known)), **settings.params}
    pairs = folds(sample_customers(known, settings.rows), settings)
    few = len(np.unique(known.customer)) < FEW_CUSTOMERS
    if not pairs:
        blend = 1.0 if few else DEFAULT_BLEND
        return Chosen(min(DEFAULT_ROUNDS, settings.rounds), blend, value_calibration([]) if settings.value else Calibration(), params)
    known_by_then = [_encoded(pair, categories, aim, expected) for pair in pairs]
    if settings.tune:
        params |= _tuned(known_by_then, settings, categories, params)
    trials = _trials(known_by_then, settings, categories, params)
    rounds = best_rounds([t.curve for t in trials])
    logits = [(t.trees(rounds), t.linear, t.y) for t in trials]
    blend, lawful = _share(logits, aim, (*BLENDS, 1.0) if few else BLENDS)
    parts = [((1 - blend) * trees + blend * linear[lawful], y) for trees, linear, y in logits]
    moments = [int(pair.future.cutoff[0]) for pair in pairs]
    apart = [part for i, part in enumerate(parts) if moments[0] - moments[i] >= i * settings.horizon]
    calibrate = value_calibration if settings.value else choose_calibration
    return Chosen(rounds, blend, calibrate(apart), params, tuple(moments), lawful=bool(lawful))


def _share(logits: Sequence[tuple[Array, tuple[Array, ...], Array]], aim: Aim, shares: Sequence[float]) -> tuple[float, int]:
    """Return the share and the number of the linear member of least loss, of those (for probabilities) that rank the futures no worse than trees alone.

    What a rule asks for are ranks.
    """
    tried = [(share, member) for member in range(len(logits[0][1])) for share in shares if share or not member]

    def blended(share: float, member: int) -> list[tuple[Array, Array]]:
        return [(y, (1 - share) * trees + share * linear[member]) for trees, linear, y in logits]

    def ranking(share: float, member: int) -> float:
        return sum(auc(y, raw) for y, raw in blended(share, member)) if aim is PROBABILITY else 0.0

    least = ranking(0.0, 0)
    return min((one for one in tried if ranking(*one) >= least), key=lambda one: sum(aim.shifted_loss(y, raw) for y, raw in blended(*one)))


def _encoded(pair: Fold, categories: dict[str, tuple[str, ...]], aim: Aim, expected: Sequence[str]) -> Known:
    features = [str(c) for c in pair.past.X.columns]
    past, future = (encode(part.X, features, categories) for part in (pair.past, pair.future))
    lawful = fit_linear(pair.past, past, features, categories, aim, expected)[0] if expected else None
    return Known(pair.past, past, future, pair.future.y, *fit_linear(pair.past, past, features, categories, aim), lawful)


def _trials(parts: Sequence[Known], settings: Settings, categories: dict[str, tuple[str, ...]], params: dict[str, Any]) -> list[Trial]:
    features = tuple(str(c) for c in parts[0].past.X.columns)
    found = []
    for part, (curve, booster) in zip(parts, _grow(parts, settings, categories, params), strict=True):
        _raise(booster, part.linear.intercept)
        linear = (Forecaster(features, (), categories, one).raw_matrix(part.future) for one in (part.linear, part.lawful) if one is not None)
        found.append(Trial(curve, booster, part.future, tuple(linear), part.y))
    return found


def _grow(parts: Sequence[Known], settings: Settings, categories: dict[str, tuple[str, ...]], params: dict[str, Any]) -> list[tuple[Array, Any]]:
    """Return per fold the loss of its future by number of trees (see `aims`), and the booster."""
    import lightgbm as lgb

    rows, aim = max(len(part.past) for part in parts), settings.aim

    def one(part: Known) -> tuple[Array, Any]:
        data = _dataset(part.matrix, part.past, part.level, categories)
        found: dict[str, Any] = {}
        asked = {"num_threads": _threads(rows), **params, "seed": 1000 * settings.seed, "metric": "None"}
        watched = lgb.Dataset(part.future, part.y, reference=data, params=dict(DATASET))
        stop = [lgb.record_evaluation(found), lgb.early_stopping(PATIENCE, verbose=False)]

        def loss(said: Array, _: Any) -> tuple[str, float, bool]:
            return "loss", aim.shifted_loss(part.y, aim.link(said)), False

        booster = lgb.train(asked, data, settings.rounds, valid_sets=[watched], valid_names=["future"], feval=loss, callbacks=stop)
        return np.asarray(found["future"]["loss"]), booster

    return _side_by_side(one, parts, rows)


def best_rounds(curves: Sequence[Array]) -> int:
    """Return the number of trees with the least mean log loss; a curve that stopped early goes on with its last value.

    >>> best_rounds([np.array([0.6, 0.4, 0.5]), np.array([0.6, 0.5, 0.3, 0.2])])
    4
    """
    longest = max(len(c) for c in curves)
    padded = [np.concatenate([c, np.full(longest - len(c), c[-1])]) for c in curves]
    return int(np.argmin(np.mean(padded, axis=0))) + 1


def _tuned(parts: Sequence[Known], settings: Settings, categories: dict[str, tuple[str, ...]], params: dict[str, Any]) -> dict[str, Any]:
    try:
        import optuna
    except ImportError:
        raise UsageError("E224", "tune", "tuning needs Optuna, which is not installed", "pip install 'predseg[tune]', or leave `tune:` out") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Any) -> float:
        tried = {**params, **_suggest(trial)}
        curves = [curve for curve, _ in _grow(parts, settings, categories, tried)]
        at = best_rounds(curves) - 1
        return float(np.mean([c[min(at, len(c) - 1)] for c in curves]))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=settings.seed))
    study.enqueue_trial({name: params[name] for name in TUNED})
    study.optimize(objective, n_trials=settings.tune)
    return dict(study.best_params)


def _suggest(trial: Any) -> dict[str, Any]:
    return {
        "num_leaves": trial.suggest_int("num_leaves", 4, 63, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 10, 500, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        "feature_fraction_bynode": trial.suggest_float("feature_fraction_bynode", 0.1, 1.0),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
    }
