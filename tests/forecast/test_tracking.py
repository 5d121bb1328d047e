"""The registry: who is champion and why, what a run shows, and that MLflow stays inside the store."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predseg.errors import GateError, ModelError
from predseg.forecast import bundle
from predseg.forecast.gate import Decision
from predseg.forecast.runs import Training, flatten, without_passwords
from predseg.forecast.tracking import CHALLENGER, CHAMPION, Registry
from tests.forecast.tiny import DECLARATIONS, FEATURES, customers, forecaster

PASSED, REFUSED = Decision(True, ("better",)), Decision(False, ("auc is lower",))
FORCED = Decision(True, ("auc is lower", "forced"), forced=True)
PNG = b"\x89PNG\r\n\x1a\n"
_names = itertools.count()


def training(model: str, decision: Decision = PASSED, seed: int = 0, **more: Any) -> Training:
    made = Training(
        model=model,
        as_of="2011-09-10T00:00Z",
        forecaster=forecaster(seed),
        decision=decision,
        facts={"cutoffs": ["2011-07-01", "2011-08-01"]},
        declarations=DECLARATIONS,
        card="# Purchase\nWho buys.\n",
        params={"lightgbm": {"num_leaves": 6}, "seed": 0},
        metrics={"test": {"auc": 0.74, "interval": (0.7, 0.78), "quality": "good", "missing": float("nan")}},
        config="project: shop\nurl: postgresql://me:hunter2@db/shop\nsecret: env:HOOK\n",
        fingerprint="abc123",
        pictures={"gain.png": PNG},
    )
    return replace(made, **more)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One registry, in a folder with a blank and an umlaut, used from another current folder that must stay empty."""
    folder, elsewhere = tmp_path_factory.mktemp("Müller shop"), tmp_path_factory.mktemp("elsewhere")
    before = Path.cwd()
    os.chdir(elsewhere)
    try:
        yield Registry("shop", folder / "the store", folder / "models")
        assert list(elsewhere.iterdir()) == [], "MLflow wrote into the current folder"
    finally:
        os.chdir(before)


@pytest.fixture
def model() -> str:
    """A name that no other test uses: registries are slow to make."""
    return f"model{next(_names)}"


@pytest.fixture
def client(registry: Registry) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(registry.uri, registry.uri)


def alias_of(registry: Registry, model: str) -> dict[int, str]:
    return {v.version: v.alias for v in registry.versions(model)}


# before anything was trained


def test_asking_an_empty_project_makes_nothing(tmp_path: Path) -> None:
    empty = Registry("shop", tmp_path / "store", tmp_path / "models")
    assert empty.versions("purchase") == []
    assert empty.champion("purchase") is None
    for ask in (empty.load, empty.promote, empty.rollback):
        with pytest.raises(ModelError) as caught:
            ask("purchase")
        assert caught.value.code == "E720"
        assert "predseg train purchase" in caught.value.help
    assert list(tmp_path.iterdir()) == []


# one training


def test_the_first_version_is_the_champion_in_both_places(registry: Registry, model: str) -> None:
    assert registry.log_training(training(model)) == 1
    assert alias_of(registry, model) == {1: CHAMPION}
    found, frame = registry.load(model), customers(200, 3)
    assert found.name == f"shop-{model}"
    assert found.facts["model"] == model
    assert found.facts["fingerprint"] == "abc123"
    assert found.forecaster.raw(frame).tobytes() == forecaster(0).raw(frame).tobytes()
    assert bundle.load(registry.exports / f"shop-{model}" / "1").manifest == found.manifest
    assert not list((registry.store / ".work").iterdir())


def test_a_run_shows_all_there_is_to_know(registry: Registry, model: str, client: Any) -> None:
    registry.log_training(training(model))
    [version] = registry.versions(model)
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "shop"
    assert run.data.params == {"lightgbm/num_leaves": "6", "seed": "0"}
    assert run.data.metrics == {"test/auc": 0.74, "test/interval/low": 0.7, "test/interval/high": 0.78} == version.metrics
    tags = {k: v for k, v in run.data.tags.items() if k.startswith("predseg.")}
    assert tags == {
        "predseg.model": model,
        "predseg.as_of": "2011-09-10T00:00Z",
        "predseg.fingerprint": "abc123",
        "predseg.gate": "passed",
        "predseg.gate.reasons": '["better"]',
    }
    artifacts = Path(registry.store) / "mlruns" / version.run_id / "artifacts"
    assert {str(f.relative_to(artifacts)) for f in artifacts.rglob("*") if f.is_file()} == {
        "config.yaml",
        "card.md",
        "metrics.json",
        "facts.json",
        "pictures/gain.png",
    }
    assert (artifacts / "pictures" / "gain.png").read_bytes() == PNG
    assert json.loads((artifacts / "metrics.json").read_text())["test"]["missing"] is None
    assert "hunter2" not in (artifacts / "config.yaml").read_text()
    assert "env:HOOK" in (artifacts / "config.yaml").read_text()


def test_nothing_of_the_store_is_a_pickle_or_code(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    suffixes = {f.suffix for f in (Path(registry.store) / "mlruns").rglob("*") if f.is_file()}
    assert suffixes <= {".txt", ".json", ".md", ".yaml", ".png", ""}


def test_pyfunc_returns_probabilities_by_name(registry: Registry, model: str) -> None:
    import mlflow

    registry.log_training(training(model))
    frame = customers(50, 4)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/shop-{model}@champion")
        expected = forecaster(0).probability(frame)
        shuffled = frame[["trait_country", *reversed(FEATURES[:4]), "customer_id"]]
        np.testing.assert_array_equal(loaded.predict(shuffled)["probability"], expected)
        assert loaded.metadata.signature.inputs.input_names() == list(FEATURES)
        with pytest.raises(mlflow.exceptions.MlflowException, match="days_since_order_completed"):
            loaded.predict(frame.drop(columns="days_since_order_completed"))
    finally:
        mlflow.set_tracking_uri(before)


def test_a_tampered_artifact_does_not_load_as_pyfunc(registry: Registry, model: str) -> None:
    import mlflow

    registry.log_training(training(model))
    [file] = [f for f in (Path(registry.store) / "mlruns" / "models").rglob("member-0.txt") if _is_of(f, registry, model)]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelError, match="E704"):
        mlflow.pyfunc.load_model(str(file.parents[2]))


def _is_of(file: Path, registry: Registry, model: str) -> bool:
    return json.loads((file.parent / "bundle.json").read_text())["name"] == registry.registered(model)


@pytest.mark.slow
def test_mlflow_models_predict_prints_probabilities(registry: Registry, model: str, tmp_path: Path, root: Path) -> None:
    registry.log_training(training(model))
    frame = customers(3, 4).dropna()[list(FEATURES)]
    (tmp_path / "in.json").write_text(json.dumps({"dataframe_split": frame.to_dict(orient="split", index=False)}))
    environment = {**os.environ, "PYTHONPATH": str(root), "MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "predict",
        "-m",
        f"models:/shop-{model}@champion",
        "--env-manager",
        "local",
        "-i",
        "in.json",
        "-o",
        "out.json",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    printed = [row["probability"] for row in json.loads((tmp_path / "out.json").read_text())["predictions"]]
    np.testing.assert_allclose(printed, forecaster(0).probability(frame), rtol=1e-12)


def test_a_signed_model_asks_for_its_key(registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    signing = replace(registry, key=b"secret")
    signing.log_training(training(model))
    assert signing.load(model).signed
    with pytest.raises(ModelError, match="E708"):
        replace(registry, key=b"other").load(model)
    [file] = [f for f in (Path(registry.store) / "mlruns" / "models").rglob("member-0.txt") if _is_of(f, registry, model)]
    monkeypatch.setenv("PREDSEG_MODEL_KEY", "other")
    with pytest.raises(ModelError, match="E708"):
        mlflow.pyfunc.load_model(str(file.parents[2]))


# quiet, and only inside the store


def test_nothing_is_said_on_the_terminal_and_nothing_global_changes(registry: Registry, model: str, capfd: pytest.CaptureFixture[str]) -> None:
    import mlflow

    before = mlflow.get_tracking_uri(), logging.getLogger("mlflow").level, logging.getLogger().level
    registry.log_training(training(model))
    registry.promote(model, 1)
    registry.load(model)
    assert capfd.readouterr() == ("", "")
    assert (mlflow.get_tracking_uri(), logging.getLogger("mlflow").level, logging.getLogger().level) == before
    assert mlflow.active_run() is None


FRESH = """
import os, sys
from pathlib import Path
from tests.forecast.test_tracking import training
from predseg.forecast.tracking import Registry
assert "mlflow" not in sys.modules, "importing predseg imports mlflow"
registry = Registry("shop", Path("shop/store"), Path("shop/models"))
registry.log_training(training("purchase"))
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
print(registry.load("purchase").version)
"""


def test_a_fresh_store_is_made_silently_and_nowhere_else(tmp_path: Path, root: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")}
    environment |= {"PYTHONPATH": str(root), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/other.db", "HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert {p.name for p in tmp_path.iterdir()} == {"shop"}
    assert {p.name for p in (tmp_path / "shop" / "store").iterdir()} == {"mlflow.db", "mlruns", "tables", ".work", ".lock", ".swap", "kept.json"}


# champions


def test_a_refused_version_is_the_challenger(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    assert registry.log_training(training(model, REFUSED, seed=1)) == 2
    assert alias_of(registry, model) == {1: CHAMPION, 2: CHALLENGER}
    assert registry.load(model).version == 1
    assert registry.load(model, 2).version == 2
    with pytest.raises(GateError) as caught:
        registry.promote(model)
    assert (caught.value.code, caught.value.exit_code) == ("E621", 6)
    assert "auc is lower" in caught.value.message
    assert registry.champion(model) == 1


def test_force_promotes_and_the_run_says_so(registry: Registry, model: str, client: Any) -> None:
    registry.log_training(training(model))
    registry.log_training(training(model, REFUSED))
    assert registry.promote(model, force=True, dry_run=True).forced
    assert registry.champion(model) == 1
    change = registry.promote(model, force=True)
    assert (change.version, change.before, change.forced) == (2, 1, True)
    assert alias_of(registry, model) == {1: "", 2: CHAMPION}
    with pytest.raises(ModelError, match="there is no challenger"):
        registry.promote(model)
    second = registry.versions(model)[1]
    assert second.forced
    assert second.gate == "refused"
    assert client.get_run(second.run_id).data.tags["predseg.forced"] == "true"
    registry.rollback(model)
    assert not registry.promote(model, 1).forced
    registry.promote(model, 2, force=True)  # forced once is on record


def test_a_training_can_be_forced_through(registry: Registry, model: str, client: Any) -> None:
    registry.log_training(training(model))
    registry.log_training(training(model, FORCED))
    second = registry.versions(model)[1]
    assert (second.alias, second.gate, second.forced, second.reasons) == (CHAMPION, "refused", True, ("auc is lower", "forced"))
    assert client.get_run(second.run_id).data.tags["predseg.forced"] == "true"


def test_rollback_goes_back_champion_by_champion_and_says_when_there_is_none(registry: Registry, model: str) -> None:
    for version, decision in enumerate((PASSED, PASSED, REFUSED, PASSED), 1):
        assert registry.log_training(training(model, decision, seed=version)) == version
    assert registry.champion(model) == 4
    assert registry.rollback(model, dry_run=True).version == 2
    assert registry.champion(model) == 4
    assert [(c.version, c.before) for c in (registry.rollback(model), registry.rollback(model))] == [(2, 4), (1, 2)]
    with pytest.raises(ModelError) as caught:
        registry.rollback(model)
    assert caught.value.code == "E724"
    assert registry.champion(model) == 1
    registry.promote(model, 4)
    assert registry.rollback(model).version == 1


def test_a_rollback_can_be_taken_back(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    registry.log_training(training(model, seed=1))
    registry.rollback(model)
    assert alias_of(registry, model) == {1: CHAMPION, 2: CHALLENGER}
    assert registry.promote(model).version == 2
    assert registry.rollback(model).version == 1


def test_a_champion_made_in_mlflow_itself_is_respected_and_remembered(registry: Registry, model: str, client: Any) -> None:
    registry.log_training(training(model))
    registry.log_training(training(model, REFUSED, seed=1))
    registry.log_training(training(model, REFUSED, seed=2))
    client.set_registered_model_alias(f"shop-{model}", "champion", "2")
    assert registry.load(model).version == 2
    registry.promote(model, 3, force=True)
    assert registry.rollback(model).version == 2


def test_a_version_deleted_in_mlflow_is_gone_and_its_number_is_not_used_again(registry: Registry, model: str, client: Any) -> None:
    registry.log_training(training(model))
    registry.log_training(training(model, seed=1))
    client.delete_registered_model_alias(f"shop-{model}", "champion")
    client.delete_model_version(f"shop-{model}", "2")
    with pytest.raises(ModelError, match="E721"):
        registry.load(model)
    assert registry.log_training(training(model, seed=2)) == 3
    assert registry.load(model).version == 3
    assert registry.rollback(model).version == 1


def test_promoting_the_champion_again_changes_nothing(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    assert registry.promote(model, 1).before == 1
    with pytest.raises(ModelError, match="E724"):
        registry.rollback(model)


def test_versions_that_are_not_there(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    for ask in (
        lambda: registry.promote(model, 7),
        lambda: registry.load(model, 7),
        lambda: registry.promote(model),
        lambda: registry.set_alias(model, "x", 7),
    ):
        with pytest.raises(ModelError, match="E722"):
            ask()


def test_models_of_one_project_do_not_mix(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    registry.log_training(training(f"{model}_b", seed=1))
    assert registry.champion(f"{model}_b") == 1
    assert registry.load(f"{model}_b").manifest != registry.load(model).manifest


# what may go wrong


def test_a_training_cut_short_is_not_seen(registry: Registry, model: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.log_training(training(model))

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("predseg.forecast.tracking._save_pyfunc", cut)
    with pytest.raises(KeyboardInterrupt):
        registry.log_training(training(model, seed=1))
    monkeypatch.undo()
    assert alias_of(registry, model) == {1: CHAMPION}
    states = [r.info.status for r in client.search_runs(["1"], f"tags.`predseg.model` = '{model}'")]
    assert sorted(states) == ["FINISHED", "KILLED"]
    assert registry.log_training(training(model, seed=1)) == 3
    assert registry.load(model).version == 3


def test_a_version_without_its_record_is_not_seen(registry: Registry, model: str, client: Any) -> None:
    """What a training leaves that was killed, and had no time to tidy up."""
    registry.log_training(training(model))
    [first] = registry.versions(model)
    client.create_model_version(f"shop-{model}", "file:///nowhere", first.run_id)
    assert alias_of(registry, model) == {1: CHAMPION}
    with pytest.raises(ModelError, match="E722"):
        registry.promote(model, 2, force=True)
    assert registry.log_training(training(model, seed=1)) == 3
    assert registry.rollback(model).version == 1


@pytest.mark.parametrize("place", ["export", "artifact"])
def test_a_change_in_either_copy_is_refused(registry: Registry, model: str, place: str) -> None:
    registry.log_training(training(model))
    where = registry.exports if place == "export" else registry.store
    [file] = [f for f in Path(where).rglob("member-0.txt") if _is_of(f, registry, model)]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        registry.load(model)
    assert (caught.value.code, caught.value.place) == ("E701", str(file))


def test_another_model_in_the_place_of_the_registered_one_is_refused(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    bundle.save(forecaster(seed=3), registry.exports, name=registry.registered(model), version=1, facts={}, card="")
    with pytest.raises(ModelError, match="E707"):
        registry.load(model)


def test_one_copy_is_enough_and_none_is_said(registry: Registry, model: str) -> None:
    registry.log_training(training(model))
    shutil.rmtree(registry.exports / f"shop-{model}")
    assert registry.load(model).version == 1
    [copy] = [f.parent for f in Path(registry.store).rglob("bundle.json") if _is_of(f, registry, model)]
    shutil.rmtree(copy)
    with pytest.raises(ModelError, match="E725"):
        registry.load(model)


def test_a_moved_store_keeps_its_models_and_trains_on(registry: Registry, model: str, tmp_path: Path) -> None:
    registry.log_training(training(model))
    shutil.copytree(registry.store, tmp_path / "moved")
    moved = Registry("shop", tmp_path / "moved", tmp_path / "models")
    assert moved.load(model).version == 1
    before = sorted(p.name for p in (Path(registry.store) / "mlruns").iterdir())
    assert moved.log_training(training(model, seed=1)) == 2
    assert moved.load(model).version == 2
    assert sorted(p.name for p in (Path(registry.store) / "mlruns").iterdir()) == before, "the moved project wrote into the old place"


def test_a_broken_database_is_said_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database, however long it is" * 100)
    with pytest.raises(ModelError) as caught:
        Registry("shop", tmp_path, tmp_path / "models").versions("purchase")
    assert (caught.value.code, caught.value.place) == ("E726", str(tmp_path / "mlflow.db"))
    assert "\n" not in caught.value.message


# texts


def test_flatten_and_passwords() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "lift by decile": [3, 2, 1], "x%": 1}) == {"a/b/c": 1, "lift by decile": [3, 2, 1], "x_": 1}
    assert without_passwords("https://host/a:b@c") == "https://host/a:b@c"
    assert without_passwords("mysql://u:p%40@h") == "mysql://u:***@h"
