"""Models in custody: what is not as it was registered is refused, by a new key and by an old one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from predseg import Project
from predseg.cli import main
from predseg.errors import ModelError
from predseg.forecast import bundle, custody
from tests import small

OLD, NEW = "old-key-0123456789", "new-key-0123456789"


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project.load(small.copied(trained, tmp_path))


def export(project: Project) -> Path:
    return project.registry().export("purchase", 1)


def answer(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = main([*arguments.split(), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_every_copy_of_every_version_is_verified(shop: Project, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = answer("models verify", capsys)
    assert code == 0 and said["versions"] == [{"model": "purchase", "version": 1, "copies": 2, "signed": False, "wrong": "", "help": ""}]
    [record] = shop.registry().records("purchase").values()
    for folder in shop.registry().copies("purchase", record):
        kept = (folder / "card.md").read_bytes()
        (folder / "card.md").write_bytes(kept + b"!")
        assert answer("models verify", capsys)[0] == 7
        with pytest.raises(ModelError, match="E70"):
            shop.score()
        (folder / "card.md").write_bytes(kept)
    assert answer("models verify", capsys)[0] == 0


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose one model is signed with the old key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREDSEG_MODEL_KEY", OLD)
    project = Project.load(small.write(tmp_path))
    project.train()
    return project


def test_what_is_not_signed_is_refused_once_there_is_a_key(
    shop: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREDSEG_MODEL_KEY", OLD)
    assert answer("models verify", capsys)[0] == 7
    with pytest.raises(ModelError, match="E708"):
        shop.score()


def test_a_key_is_exchanged(signed: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shop = signed
    assert answer("models verify", capsys)[0] == 0
    monkeypatch.setenv("PREDSEG_MODEL_KEY", f"{NEW},{OLD}")
    before = shop.score(dry_run=True)
    assert answer("models sign", capsys) == (0, {"command": "models", "status": "ok", "signed": ["purchase 1"]})
    assert answer("models sign", capsys)[1]["signed"] == []
    monkeypatch.setenv("PREDSEG_MODEL_KEY", NEW)
    assert answer("models verify", capsys)[0] == 0 and shop.score(dry_run=True).equals(before)
    monkeypatch.setenv("PREDSEG_MODEL_KEY", OLD)
    assert answer("models verify", capsys)[0] == 7 and main(["models", "sign"]) == 7


def test_signing_cut_short_leaves_a_model_that_loads(signed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = signed
    monkeypatch.setenv("PREDSEG_MODEL_KEY", f"{NEW},{OLD}")
    written = []

    def write(folder: Path, manifest: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(folder)
        real(folder, manifest)

    real = bundle.write_manifest
    monkeypatch.setattr(bundle, "write_manifest", write)
    with pytest.raises(KeyboardInterrupt):
        custody.sign(shop.registry())
    monkeypatch.setattr(bundle, "write_manifest", real)
    assert [k.wrong for k in custody.verify(shop.registry())] == [""]
    custody.sign(shop.registry())
    monkeypatch.setenv("PREDSEG_MODEL_KEY", NEW)
    assert [k.wrong for k in custody.verify(shop.registry())] == [""]


def test_a_model_elsewhere_is_not_loaded(shop: Project, tmp_path: Path) -> None:
    folder = export(shop)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="E709"):
        shop.registry().load("purchase")
    folder.unlink()
    with shop.registry().session() as client:
        name = shop.registry().registered("purchase")
        version = client.get_model_version(name, "1")
    version._source = f"file://{tmp_path}/store/mlruns/../../elsewhere"
    (tmp_path / "elsewhere" / "data").mkdir()
    (tmp_path / "elsewhere" / "data" / "bundle").mkdir()
    with pytest.raises(ModelError, match="E709"):
        shop.registry().copies("purchase", version)


def test_what_a_training_that_was_killed_left_is_closed(shop: Project, capsys: pytest.CaptureFixture[str]) -> None:
    registry = shop.registry()
    with registry.session() as client:
        experiment = client.get_experiment_by_name("small")
        run = client.create_run(experiment.experiment_id, run_name="cut short")
        client.create_model_version(registry.registered("purchase"), "nowhere", run.info.run_id)
    (export(shop).parent / ".2.abcdefgh").mkdir()
    (shop.config.store / ".work" / "training-1-0123abcd").mkdir(parents=True)
    code, said = answer("doctor", capsys)
    wrong = {f["what"] for f in said["findings"] if f["status"] == "broken"}  # type: ignore[attr-defined, index]
    assert code == 1 and wrong == {"leftovers", "trainings"}
    assert [v.version for v in shop.models()["purchase"]] == [1], "nobody sees it"
    code, said = answer("doctor --repair", capsys)
    assert code == 0 and len(said["repaired"]) >= 3  # type: ignore[arg-type]
    assert not list(export(shop).parent.glob(".*")) and answer("doctor", capsys)[0] == 0
