"""The registry of models: MLflow, kept inside the project's store. The only module that imports mlflow.

One experiment per project, one run per training, one registered model ``PROJECT-MODEL`` with the aliases ``champion``
and ``challenger``. A version is a bundle (see `predseg.forecast.bundle`) in two places: in MLflow's artifacts, and
exported to ``models/PROJECT-MODEL/VERSION``. Its record here has the SHA-256 of its manifest, so that neither copy can
be changed unnoticed. A version without that record is a training that was cut short: nobody sees it.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from predseg import __version__
from predseg.errors import GateError, ModelError, PredsegError
from predseg.forecast import bundle as bundles
from predseg.forecast.gate import Decision
from predseg.forecast.runs import Change, Record, Training, Version, flatten, without_passwords
from predseg.marks import Kept, hashed, mark
from predseg.store import PATIENCE, Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from predseg.forecast.forecaster import Array, Forecaster

CHAMPION, CHALLENGER = "champion", "challenger"
KEY = "PREDSEG_MODEL_KEY"
"""The environment variable with the key that signs bundles, or several with commas between: the first signs, all are accepted."""
MANIFEST, _GATE, _REASONS, _FORCED, _HISTORY = "predseg.manifest", "predseg.gate", "predseg.gate.reasons", "predseg.forced", "predseg.champions"
_REMEMBERED = 100


@dataclass(frozen=True)
class _State:
    """What the registry knows of one model: finished versions (oldest first), aliases, champions so far."""

    records: dict[int, Record] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    history: list[int] = field(default_factory=list)

    def champion(self, registry: Registry, model: str) -> int | None:
        """Return the champion's version; E721 when there is none though there are versions."""
        if self.records and CHAMPION not in self.aliases:
            help_ = f"look at `predseg models`, then `predseg promote {model} --version N`"
            raise ModelError("E721", registry.registered(model), "no version is the champion", help_)
        return self.aliases.get(CHAMPION)

    def record(self, registry: Registry, model: str, version: int | None) -> Record:
        """Return one version; E720 when there is none at all, E722 when it is not there."""
        if not self.records:
            raise ModelError("E720", f"models.{model}", f"model {model!r} is not trained yet", f"run `predseg train {model}`")
        if version not in self.records:
            what = "there is no challenger" if version is None else f"there is no version {version}"
            numbers = ", ".join(map(str, list(self.records)[-8:]))
            raise ModelError("E722", registry.registered(model), what, f"the versions are {numbers}: `predseg promote {model} --version N`")
        return self.records[version]


@dataclass(frozen=True)
class Registry:
    """The registry of one project.

    Attributes:
        project: Its name.
        store: The store's folder: the database is ``mlflow.db``, the artifacts are in ``mlruns``.
        exports: The folder of exported bundles, usually ``models`` beside the project file.
        key: Signs bundles, and is asked for when they are loaded.
        keep: Whether what MLflow said is kept in the store.
    """

    project: str
    store: Path
    exports: Path
    key: bytes | None = field(default=None, repr=False)
    keep: bool = True

    @property
    def database(self) -> Path:
        """The file of the database."""
        return Path(self.store).absolute() / "mlflow.db"

    @property
    def uri(self) -> str:
        """What to give to `mlflow ui --backend-store-uri`, or to `mlflow.set_tracking_uri`."""
        return f"sqlite:///{self.database}"

    def registered(self, model: str) -> str:
        """Return what a model is called in MLflow and in the folder of exports."""
        return f"{self.project}-{model}"

    def export(self, model: str, version: int) -> Path:
        """Return the folder of the exported copy."""
        return Path(self.exports) / self.registered(model) / str(version)

    def exists(self) -> bool:
        """Whether anything was ever registered; asking makes nothing."""
        return self.database.is_file()

    # writing

    def log_training(self, training: Training) -> int:
        """Log a training as a run, register its model, export it, set the aliases, and return the version.

        The new version is the champion when the gate's decision says so, else the challenger. Cut short anywhere, the
        champion is the old one and the unfinished version is not seen.

        Raises:
            DataError: E410, E411 when the store or the exports cannot be written.
            ModelError: E726 when the registry cannot be used.
        """
        with Store(self.store, wait=PATIENCE).scratch("training") as folder, self.session() as client:
            self._register_name(client, training.model)
            run = client.create_run(self._experiment(client), run_name=f"{training.model} {training.as_of}", tags=_run_tags(training))
            try:
                _log_run(client, run, training, folder)
                version = self._register(client, run, training, folder)
            except BaseException as error:
                client.set_terminated(run.info.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
                raise
            client.set_terminated(run.info.run_id, "FINISHED")
            if training.decision.promoted:
                before = self._state(training.model).aliases.get(CHAMPION)
                self._crown(client, Change(training.model, version, before, training.decision.forced))
            else:
                client.set_registered_model_alias(self.registered(training.model), CHALLENGER, str(version))
        return version

    def promote(self, model: str, version: int | None = None, *, force: bool = False, dry_run: bool = False) -> Change:
        """Make a version the champion, by default the challenger.

        Args:
            model: Its name in the project.
            version: Which one.
            force: Pass the gate; the run and the version say so.
            dry_run: Check everything, change nothing.

        Raises:
            ModelError: E720 not trained, E722 no such version or no challenger.
            GateError: E621 when the gate refused it at its training.
        """
        state = self._state(model)
        record = state.record(self, model, state.aliases.get(CHALLENGER) if version is None else version)
        reasons, number = _reasons(record), int(record.version)
        refused = record.tags.get(_GATE) == "refused" and record.tags.get(_FORCED) != "true"
        if refused and not force:
            message = f"version {number} was refused at its training: {'; '.join(reasons)}"
            raise GateError("E621", self.registered(model), message, "train again with more data, or pass the gate with --force")
        change = Change(model, number, state.aliases.get(CHAMPION), refused, reasons)
        if not dry_run and change.version != change.before:
            with self.session() as client:
                self._crown(client, change)
        return change

    def rollback(self, model: str, *, dry_run: bool = False) -> Change:
        """Give the title back to the champion before this one; this one becomes the challenger. Works as often as there was one.

        Raises:
            ModelError: E720 not trained, E721 no champion, E724 no earlier champion.
        """
        state = self._state(model)
        current = int(state.record(self, model, state.champion(self, model)).version)
        earlier = [v for v in state.history if v != current and v in state.records]
        if not earlier:
            message = f"version {current} is the champion and there was none before it"
            raise ModelError(
                "E724", self.registered(model), message, f"choose one yourself: `predseg models`, then `predseg promote {model} --version N`"
            )
        if not dry_run:
            with self.session() as client:
                name = self.registered(model)
                client.set_registered_model_alias(name, CHAMPION, str(earlier[-1]))
                client.set_registered_model_alias(name, CHALLENGER, str(current))
                client.set_registered_model_tag(name, _HISTORY, json.dumps(earlier))
        return Change(model, earlier[-1], current, reasons=(f"rolled back from version {current}",))

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version; for champions use `promote`, which keeps their history."""
        self._state(model).record(self, model, version)
        with self.session() as client:
            client.set_registered_model_alias(self.registered(model), alias, str(version))

    # reading

    def versions(self, model: str) -> list[Version]:
        """Return the registered versions, oldest first; empty when there is none."""
        state = self._state(model)
        if not state.records:
            return []
        with self.session() as client:
            return [_describe(client, model, record, state) for record in state.records.values()]

    def champion(self, model: str) -> int | None:
        """Return the version of the champion, None when there is none."""
        return self._state(model).aliases.get(CHAMPION)

    def load(self, model: str, version: int | None = None) -> bundles.Bundle:
        """Return the bundle of a version, by default of the champion, verified.

        Every copy that is there must be the one that was registered; the exported one is used, or else the registry's.

        Raises:
            ModelError: E720 not trained, E721 no champion, E722 no such version, E725 both copies are gone, and E700 to
                E708 when a copy is not as it was saved.
        """
        state = self._state(model)
        record = state.record(self, model, state.champion(self, model) if version is None else version)
        first, *others = self.copies(model, record)
        for folder in others:
            bundles.verify(folder, key=self.key, expected=record.tags[MANIFEST])
        return bundles.load(first, key=self.key, expected=record.tags[MANIFEST])

    def champions(self, models: Iterable[str]) -> dict[str, bundles.Bundle]:
        """Return the champion of each model that has one; raises as `load` does when it is not as it was registered."""
        return {name: self.load(name) for name in models if self.champion(name) is not None}

    def copies(self, model: str, record: Record) -> list[Path]:
        """Return the folders of a version, the exported one first.

        Raises:
            ModelError: E709 when a folder lies elsewhere, E725 when there is none.
        """
        export, logged = self.export(model, int(record.version)), self._artifacts(record)
        for folder, home in ((export, Path(self.exports)), (logged, Path(self.store) / "mlruns")):
            if folder.exists() and not folder.resolve().is_relative_to(home.resolve()):
                message = f"version {record.version} of {model} is not where models are kept, {home}"
                raise ModelError("E709", str(folder), message, "models are loaded from there only: put the folder back, or train again")
        if found := [folder for folder in (export, logged) if folder.is_dir()]:
            return found
        raise ModelError(
            "E725", str(export), f"version {record.version} is registered, but its files are gone", "put the folder back, or train again"
        )

    def models(self) -> list[str]:
        """Return the models of the project that were ever registered."""
        with self.session() as client:
            return sorted(m.tags["predseg.model"] for m in client.search_registered_models() if m.tags.get("predseg.project") == self.project)

    def records(self, model: str) -> dict[int, Record]:
        """Return what is recorded of the finished versions of a model, oldest first."""
        return self._state(model).records

    def running(self) -> list[Any]:
        """Return the runs that were begun and not ended."""
        with self.session() as client:
            experiment = client.get_experiment_by_name(self.project)
            return list(client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")) if experiment is not None else []

    # inside

    def _state(self, model: str) -> _State:
        """Return what MLflow says, or said last, when its database is as it was: to load MLflow alone takes seconds."""
        if not self.exists():
            return _State()
        name, made_of, told = f"registry {self.registered(model)}", self._made_of(), None
        with suppress(PredsegError):  # a store that cannot be written, or that somebody is writing to: MLflow is asked
            told = Kept(Store(self.store)).get(name, made_of)
        if told is None:
            told = self._told(model)
            if self.keep:
                with suppress(PredsegError):
                    Kept(Store(self.store)).put({name: (made_of, told)})
        return _State({int(r["version"]): Record(**r) for r in told["records"]}, told["aliases"], told["history"])

    def _made_of(self) -> str:
        """Return a hash of what changes with every transaction: SQLite counts them in the head of its file."""
        with self.database.open("rb") as file:
            head = file.read(100)
        beside = [mark(self.database.with_name(self.database.name + end)) for end in ("-wal", "-journal")]
        return hashed(__version__, head.hex(), mark(self.database), beside)

    def _told(self, model: str) -> dict[str, Any]:
        with self.session() as client:
            known = client.search_registered_models(f"name = '{self.registered(model)}'")
            records = self.all_records(model) if known else []
        if not known:
            return {"records": [], "aliases": {}, "history": []}
        finished = [r for r in sorted(records, key=lambda r: int(r.version)) if MANIFEST in r.tags]
        plain = [Record(str(r.version), r.source, r.run_id, r.creation_timestamp, dict(r.tags)) for r in finished]
        aliases = {alias: int(version) for alias, version in known[0].aliases.items() if str(version) in {r.version for r in plain}}
        return {"records": [asdict(r) for r in plain], "aliases": aliases, "history": [int(v) for v in json.loads(known[0].tags.get(_HISTORY, "[]"))]}

    def all_records(self, model: str) -> list[ModelVersion]:
        """Return what is recorded of all versions of a model, those included that were never finished."""
        records: list[ModelVersion] = []
        token = None
        with self.session() as client:
            while token != "":
                page = client.search_model_versions(f"name = '{self.registered(model)}'", max_results=1000, page_token=token)
                records, token = [*records, *page], page.token or ""
        return records

    def _register_name(self, client: MlflowClient, model: str) -> None:
        name = self.registered(model)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, tags={"predseg.project": self.project, "predseg.model": model})

    def _experiment(self, client: MlflowClient) -> str:
        """The project's experiment. MLflow keeps absolute paths: after a move of the store the old one is set aside by name."""
        here = (Path(self.store).absolute() / "mlruns").as_uri()
        found = client.get_experiment_by_name(self.project)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found is not None and found.artifact_location != here:
            client.rename_experiment(found.experiment_id, f"{self.project} (at {found.artifact_location})")
            found = client.get_experiment_by_name(f"{self.project} (at {here})")
            if found is not None:
                client.rename_experiment(found.experiment_id, self.project)
        return str(found.experiment_id if found is not None else client.create_experiment(self.project, artifact_location=here))

    def _register(self, client: MlflowClient, run: Any, training: Training, folder: Path) -> int:
        """Register first, to know the version; save the bundle with it; the sum of its manifest makes the version count."""
        name, run_id = self.registered(training.model), run.info.run_id
        logged = client.create_logged_model(run.info.experiment_id, name=training.model, source_run_id=run_id, model_type="probability")
        record = client.create_model_version(name, logged.artifact_location, run_id, description=training.card[:5000])
        try:
            saved = self._save(training, folder, int(record.version))
            _save_pyfunc(folder / "pyfunc", saved.rename(folder / "bundle"), training.forecaster, logged.model_id, run_id)
            client.log_model_artifacts(logged.model_id, str(folder / "pyfunc"))
            client.finalize_logged_model(logged.model_id, "READY")
            exported = self._save(training, Path(self.exports), int(record.version))
            tags = {**_decision_tags(training.decision), MANIFEST: bundles.verify(exported, key=self.key).manifest}
            for tag, value in tags.items():
                client.set_model_version_tag(name, record.version, tag, value)
        except BaseException:
            client.delete_model_version(name, record.version)
            raise
        return int(record.version)

    def _save(self, training: Training, folder: Path, version: int) -> Path:
        facts = {"project": self.project, "model": training.model, "fingerprint": training.fingerprint, **training.facts}
        name, said = self.registered(training.model), training.declarations
        return bundles.save(training.forecaster, folder, name=name, version=version, facts=facts, card=training.card, declarations=said, key=self.key)

    def _crown(self, client: MlflowClient, change: Change) -> None:
        name, version, state = self.registered(change.model), str(change.version), self._state(change.model)
        history = state.history
        if change.before is not None and change.before not in history[-1:]:
            history = [*history, change.before]  # made champion by hand, in MLflow itself
        client.set_registered_model_tag(name, _HISTORY, json.dumps([*history, change.version][-_REMEMBERED:]))
        client.set_registered_model_alias(name, CHAMPION, version)
        if state.aliases.get(CHALLENGER) == change.version:
            client.delete_registered_model_alias(name, CHALLENGER)
        if change.forced:
            client.set_model_version_tag(name, version, _FORCED, "true")
            client.set_tag(state.records[change.version].run_id, _FORCED, "true")

    def _artifacts(self, record: Record) -> Path:
        """Where MLflow's copy is now, wherever the store was when it was logged."""
        inside = unquote(urlparse(record.source).path).rpartition("/mlruns/")[2]
        return Path(self.store).absolute() / "mlruns" / inside / "data" / "bundle"

    @contextmanager
    def session(self) -> Iterator[MlflowClient]:
        """Give a client of this registry and of no other; MLflow's errors come out as ours, its chatter not at all."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        with _quiet():
            try:
                yield MlflowClient(self.uri, self.uri)
            except (MlflowException, SQLAlchemyError) as error:
                said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
                raise ModelError(
                    "E726",
                    str(self.database),
                    f"the registry cannot be used: {said}",
                    "if another version of MLflow wrote it, install that one; else move the file away and train again",
                ) from error


def _describe(client: MlflowClient, model: str, record: Record, state: _State) -> Version:
    run, version = client.get_run(record.run_id), int(record.version)
    alias = next((a for a in (CHAMPION, CHALLENGER) if state.aliases.get(a) == version), "")
    passed, forced = record.tags.get(_GATE, ""), record.tags.get(_FORCED) == "true"
    as_of = run.data.tags.get("predseg.as_of", "")
    return Version(
        model, version, record.creation_timestamp * 1000, alias, passed, _reasons(record), forced, as_of, record.run_id, dict(run.data.metrics)
    )


def _reasons(record: Record) -> tuple[str, ...]:
    return tuple(json.loads(record.tags.get(_REASONS, "[]")))


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "mlflow.utils.environment")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _run_tags(training: Training) -> dict[str, str]:
    known = {"model": training.model, "as_of": training.as_of, "fingerprint": training.fingerprint}
    tags = {f"predseg.{name}": value for name, value in known.items() if value}
    return (
        tags
        | _decision_tags(training.decision)
        | {k: str(v)[:5000] for k, v in training.tags.items()}
        | {"mlflow.note.content": training.card[:5000]}
    )


def _decision_tags(decision: Decision) -> dict[str, str]:
    tags = {_GATE: "passed" if decision.earned else "refused", _REASONS: json.dumps([r[:200] for r in decision.reasons[:20]])}
    return tags | ({_FORCED: "true"} if decision.forced else {})


def _log_run(client: MlflowClient, run: Any, training: Training, folder: Path) -> None:
    from mlflow.entities import Metric, Param

    numbers = {k: v for k, v in flatten(bundles.plain(training.metrics)).items() if isinstance(v, int | float)}
    metrics = [Metric(k, float(v), run.info.start_time, 0) for k, v in numbers.items()]
    params = [Param(k, str(v)[:6000]) for k, v in flatten(training.params).items()]
    for start in range(0, max(len(metrics), len(params)), 100):
        client.log_batch(run.info.run_id, metrics[start : start + 100], params[start : start + 100])
    artifacts: dict[str, bytes] = {
        "config.yaml": without_passwords(training.config).encode(),
        "card.md": training.card.encode(),
        "metrics.json": _json(training.metrics),
        "facts.json": _json(training.facts),
        **{f"pictures/{name}": picture for name, picture in training.pictures.items()},
    }
    for name, content in artifacts.items():
        file = folder / "artifacts" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    client.log_artifacts(run.info.run_id, str(folder / "artifacts"))


def _json(value: Any) -> bytes:
    return json.dumps(bundles.plain(value), indent=1, ensure_ascii=False).encode()


def _save_pyfunc(folder: Path, bundle: Path, forecaster: Forecaster, model_id: str, run_id: str) -> None:
    """Write an MLflow model around a bundle: no pickle and no code, `_load_pyfunc` of this module reads it."""
    import lightgbm
    import mlflow
    import numpy
    import pandas
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    kinds = {"as_of": "long"} | dict.fromkeys(forecaster.categories, "string")
    inputs = [ColSpec(kinds.get(name, "double"), name, required=name not in forecaster.categories) for name in forecaster.inputs]
    inputs += [ColSpec(Array(DataType.string), forecaster.taste.bag)] if forecaster.taste else []
    signature = ModelSignature(Schema(inputs), Schema([ColSpec("double", "probability")]))
    libraries: Sequence[Any] = (lightgbm, mlflow, numpy, pandas)
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=__name__,
        data_path=str(bundle),
        mlflow_model=Model(model_id=model_id, run_id=run_id),
        signature=signature,
        pip_requirements=[f"{library.__name__}=={library.__version__}" for library in libraries],
    )


@dataclass(frozen=True, eq=False)
class _Served:
    """What `mlflow.pyfunc.load_model` gives: features in, probabilities out."""

    probability: Callable[[pd.DataFrame], Array]

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({"probability": self.probability(model_input)}, index=model_input.index)


def _load_pyfunc(path: str) -> _Served:
    """Entry point of MLflow: verify and load the bundle of an artifact."""
    key = os.environ.get(KEY)
    return _Served(bundles.load(path, key=key.encode() if key else None).forecaster.probability)
