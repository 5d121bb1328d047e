"""Watching the champions of a project: present features against training, matured scores against what came true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg import __version__
from predseg.config import Config, Model
from predseg.errors import ModelError
from predseg.evaluate.block import Block
from predseg.forecast.dataset import ROWS, Source, looked_at, open_source
from predseg.forecast.drift import Advice, Matured, Move, compare, recommend
from predseg.forecast.features import block_frame
from predseg.forecast.maturing import Maturing, matured_of
from predseg.forecast.publishing import SCORES, Progress, score_models
from predseg.history.privacy import NOBODY, OptedOut
from predseg.marks import Kept, hashed, mark, marks
from predseg.store import Store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from predseg.forecast.bundle import Bundle
    from predseg.forecast.tracking import Registry

SAMPLE = 20_000
"""Customers whose features are compared with training: a PSI of 0.2 over ten groups is far beyond what chance does to fewer than these."""


@dataclass(frozen=True)
class Drift:
    """How one champion fares.

    Attributes:
        model: Its name in the project.
        version: The champion.
        as_of: The moment that was asked about (microseconds).
        customers: Eligible at that moment, of those who were looked at.
        share: Of all customers, who were looked at: a sample by a hash of the id where there are more than `SAMPLE`.
        moves: The score, then the features, farthest from training first; empty for a bundle without a reference.
        runs: Matured runs of scores, oldest first.
        advice: What to do, and why.
    """

    model: str
    version: int
    as_of: int
    customers: int
    moves: tuple[Move, ...]
    runs: tuple[Matured, ...]
    advice: Advice
    share: float = 1.0


@dataclass(frozen=True)
class Watcher:
    """Compares the champions of a project with the present; nothing later than its moment is used, and nothing is computed twice of the same.

    Attributes:
        config: The project.
        store: Where its events and scores are, and where answers are kept.
        as_of: The moment.
        customers: How many there are.
        without: Who is left out.
        keep: Whether answers are kept.
    """

    config: Config
    store: Store
    as_of: int
    customers: int
    without: OptedOut = NOBODY
    keep: bool = True

    @property
    def share(self) -> float:
        """Of all customers, who are looked at."""
        return min(1.0, SAMPLE / max(self.customers, 1))

    def drift(self, registry: Registry, models: Sequence[Model]) -> dict[str, Drift]:
        """Return how each champion fares.

        Raises:
            ModelError: when a model is not trained, was changed on disk, or does not fit the features.
        """
        made_of = {model.name: self._drift_made_of(registry, model) for model in models}
        kept = {model.name: Kept(self.store).get(f"drift {model.name}", made_of[model.name]) for model in models}
        found = {name: _drift_of(one) for name, one in kept.items() if one is not None}
        if open_ := [model for model in models if model.name not in found]:
            new = self._anew(registry, open_)
            self._put({f"drift {name}": (made_of[name], asdict(one)) for name, one in new.items()})
            found |= new
        return {model.name: found[model.name] for model in models}

    def _anew(self, registry: Registry, models: Sequence[Model]) -> dict[str, Drift]:
        bundles, source = {model.name: registry.load(model.name) for model in models}, open_source(self.config, self.store, self.without)
        said = {model.name: Kept(self.store).get(f"matured {model.name}", "") or {} for model in models}
        each = {name: _brought(bundle.facts.get("forward", {})) for name, bundle in bundles.items()}
        runs = Maturing(self.config, self.store, source, self.as_of).runs(models, said, each)
        self._put({f"matured {name}": ("", said) for name, (_, said) in runs.items()})
        return {model.name: self._drift(source, model, bundles[model.name], runs[model.name][0]) for model in models}

    def _drift_made_of(self, registry: Registry, model: Model) -> str:
        """Return a hash of what the drift of a champion is made of; the registry is not asked, only its files looked at."""
        files = (registry.exports / registry.registered(model.name)).rglob("*.*")
        return self._made_of([mark(file) for file in (registry.database, *sorted(files))], marks(self.store, [SCORES]))

    def score(self, bundles: Mapping[str, Bundle], progress: Progress | None = None) -> pa.Table:
        """Return the scores by champions, by the names of their models; how far the features that they follow from are from training is kept for `drift`."""
        scored = score_models(self.config, self.store, bundles, self.as_of, progress, self.without, self.share)
        made_of = {name: self._made_of(bundle.manifest) for name, bundle in bundles.items()}
        self._put({f"present {name}": (made_of[name], [rows, [*map(asdict, moves)]]) for name, (rows, moves) in scored.present.items()})
        return scored.table

    def _put(self, answers: Mapping[str, tuple[str, Any]]) -> None:
        if self.keep and answers:
            Kept(self.store).put(answers)

    def _made_of(self, *champion: Any) -> str:
        """Return a hash of what the comparison of a champion is made of."""
        out = sorted(one.hex() for one in self.without.persons)
        tables = marks(self.store, ["events", "customers"])
        return hashed(__version__, self.as_of, self.config.text, tables, self.share, out, champion)

    def _drift(self, source: Source, model: Model, bundle: Bundle, runs: Sequence[Matured]) -> Drift:
        remembered = bundle.facts.get("reference")
        if remembered is None:
            advice = Advice("retrain", "it was trained by an earlier predseg, which kept no reference to compare with")
            return Drift(model.name, bundle.version, self.as_of, 0, (), tuple(runs), advice)
        kept = Kept(self.store).get(f"present {model.name}", self._made_of(bundle.manifest))
        if kept is None:
            rows, moves = compare(bundle.forecaster, remembered, _present(source, model, self.as_of, self.share))
        else:
            rows, moves = kept[0], [Move(**move) for move in kept[1]]
        advice = recommend(moves, runs, bundle.version, remembered["auc"])
        return Drift(model.name, bundle.version, self.as_of, rows, tuple(moves), tuple(runs), advice, self.share)


def _brought(forward: Mapping[str, Any]) -> float:
    """Return what those who brought any value in a forward test brought on average; without end where that is not known."""
    return forward["rate"] * forward["rows"] / forward["positives"] if forward.get("positives") else np.inf


def missing(registry: Registry, models: Iterable[str]) -> dict[str, ModelError]:
    """Return which models have no champion, each with the refusal that asking for it gives."""
    found = {}
    for name in models:
        if registry.champion(name) is None:
            try:
                registry.load(name)
            except ModelError as error:
                found[name] = error
    return found


def refusal(missing: Mapping[str, ModelError]) -> ModelError | None:
    """Return one refusal for all models that have no champion; None when there are none."""
    errors = list(missing.values())
    if len(errors) < 2:
        return errors[0] if errors else None
    place, message, remedy = (join.join(getattr(e, part) for e in errors) for part, join in (("place", ", "), ("message", "; "), ("help", "; ")))
    return ModelError(errors[0].code, place, message, remedy)


def _drift_of(kept: Mapping[str, Any]) -> Drift:
    runs = tuple(map(matured_of, kept["runs"]))
    return Drift(**{**kept, "moves": tuple(Move(**move) for move in kept["moves"]), "runs": runs, "advice": Advice(**kept["advice"])})


def _present(source: Source, model: Model, as_of: int, share: float) -> Iterator[pd.DataFrame]:
    """Yield the features of who is eligible now, of a share of the customers."""
    features, traits, among = source.features, source.traits, model.among  # who is left out, and the keys that tell, stay on this machine

    def of_block(block: Block) -> pd.DataFrame:
        some = block.only(looked_at(block, share)) if share < 1 else block
        return block_frame(some, [as_of], features, among=among, traits=traits)

    yield from map(source.kept, source.over(of_block, source.files, source.properties(model), ROWS, as_of))
