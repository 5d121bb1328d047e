"""A model on disk: the same bits come back, and nothing that was changed is ever loaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from predseg.errors import DataError, ModelError
from predseg.forecast import bundle
from predseg.forecast.forecaster import Calibration, Forecaster
from tests.forecast.tiny import DECLARATIONS, customers, forecaster

FACTS = {"model": "purchase", "cutoffs": (1, 2), "horizon": np.int64(5), "auc": float("nan")}
KEY = b"a key of the project"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return bundle.save(forecaster(), tmp_path, name="shop-purchase", version=3, facts=FACTS, card="# Purchase\n", declarations=DECLARATIONS)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    return bundle.save(forecaster(), tmp_path, name="shop-purchase", version=3, facts=FACTS, card="# Purchase\n", key=KEY)


@pytest.fixture
def never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader of the trees does not survive damaged text: whoever reaches it with damaged text fails here."""

    def refuse(*_: object) -> None:
        raise AssertionError("a damaged bundle reached the loaders")

    monkeypatch.setattr(bundle, "_build", refuse)


def refusal(folder: Path, **how: object) -> ModelError:
    with pytest.raises(ModelError) as caught:
        bundle.load(folder, **how)  # type: ignore[arg-type]
    assert caught.value.exit_code == 7
    return caught.value


def test_what_was_saved_comes_back(saved: Path, tmp_path: Path) -> None:
    assert saved == tmp_path / "shop-purchase" / "3"
    found = bundle.load(saved)
    assert (found.name, found.version, found.card, found.signed) == ("shop-purchase", 3, "# Purchase\n", False)
    assert found.facts == {"model": "purchase", "cutoffs": [1, 2], "horizon": 5, "auc": None}
    assert found.declarations == DECLARATIONS
    assert found.manifest == hashlib.sha256((saved / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("linear", [True, False])
def test_the_loaded_model_gives_the_same_bits(tmp_path: Path, linear: bool) -> None:
    model, frame = forecaster(linear=linear), customers(300, 5)
    found = bundle.load(bundle.save(model, tmp_path, name="m", version=1, facts={}, card="")).forecaster
    assert found.raw(frame).tobytes() == model.raw(frame).tobytes()
    assert found.probability(frame).tobytes() == model.probability(frame).tobytes()
    assert (found.features, found.categories, found.calibration, found.linear) == (model.features, model.categories, model.calibration, model.linear)


def test_a_model_without_trees_is_a_model(tmp_path: Path) -> None:
    model = Forecaster(("a",), (), calibration=Calibration("sigmoid", slope=2.0, intercept=0.1))
    assert bundle.load(bundle.save(model, tmp_path, name="m", version=1, facts={}, card="")).forecaster.calibration == model.calibration


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    a, b = (bundle.save(forecaster(), tmp_path / where, name="m", version=1, facts=FACTS, card="x") for where in "ab")
    assert bundle.load(a).manifest == bundle.load(b).manifest


def test_any_flipped_bit_is_refused_before_any_loader_runs(saved: Path, never_built: None) -> None:
    rng = np.random.default_rng(7)
    for file in sorted(saved.iterdir()):
        content = file.read_bytes()
        spots = rng.integers(0, len(content), 150) if len(content) > 150 else range(len(content))
        for spot in spots:
            damaged = bytearray(content)
            damaged[spot] ^= 1 << int(rng.integers(0, 8))
            file.write_bytes(damaged)
            assert refusal(saved).place == str(file) or file.name == "manifest.json"
        file.write_bytes(content)


def test_any_cut_or_longer_file_is_refused(saved: Path, never_built: None) -> None:
    for file in sorted(saved.iterdir()):
        content = file.read_bytes()
        for damaged in (b"", content[:-1], content[: len(content) // 2], content + b"\n", content * 2):
            file.write_bytes(damaged)
            error = refusal(saved)
            assert (error.code, error.place) == ("E705" if file.name == "manifest.json" else "E704", str(file))
        file.write_bytes(content)


def test_a_changed_file_is_named(saved: Path) -> None:
    file = saved / "member-1.txt"
    file.write_bytes(file.read_bytes().replace(b"0", b"1", 1))
    error = refusal(saved)
    assert error.code == "E701"
    assert error.place == str(file)


@pytest.mark.parametrize("name", ["member-0.txt", "bundle.json", "card.md", "manifest.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    error = refusal(saved)
    assert (error.code, error.place) == ("E702", str(saved / name))


@pytest.mark.parametrize("name", ["member-9.txt", ".hidden", "model.pkl"])
def test_an_extra_file_is_named(saved: Path, name: str) -> None:
    (saved / name).write_text("x")
    error = refusal(saved)
    assert (error.code, error.place) == ("E703", str(saved / name))


def test_links_pipes_and_folders_are_no_files(saved: Path, tmp_path: Path) -> None:
    card = saved / "card.md"
    card.rename(tmp_path / "card.md")
    for make in (lambda: card.symlink_to(tmp_path / "card.md"), lambda: os.mkfifo(card), card.mkdir):
        make()
        assert refusal(saved).code == "E702"
        card.rmdir() if card.is_dir() else card.unlink()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", "[" * 100_000, '{"files": {"../x.txt": {}}}', '{"files": {}, "files": {}}', '{"a": NaN}', "\xff"]
)
def test_what_is_no_manifest_is_refused(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_bytes(text.encode("latin-1"))
    assert refusal(saved).code == "E705"


@pytest.mark.parametrize("size", [None, -1, "5", 10**30, True])
def test_a_manifest_with_a_size_that_is_none_is_refused(saved: Path, size: object) -> None:
    """It agrees with itself, so that only its values say that something is wrong; it was a crash before."""
    sums = json.loads((saved / "manifest.json").read_bytes())["files"]
    (saved / "manifest.json").write_bytes(bundle._manifest_text({**sums, "card.md": {**sums["card.md"], "bytes": size}}, None))
    assert refusal(saved).code == ("E704" if size == 10**30 else "E705")
    (saved / "manifest.json").write_bytes(bundle._manifest_text(sums, "é"))
    assert refusal(saved, key=KEY).code == "E705"


def test_a_manifest_may_not_leave_its_folder(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("x")
    files = {f.name: f.read_bytes() for f in saved.iterdir() if f.name != "manifest.json"} | {"../../outside.txt": b"x"}
    (saved / "manifest.json").write_bytes(bundle._manifest(files, None))
    assert refusal(saved).code == "E705"


def test_no_model_here(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing").code == "E700"


def test_files_and_manifest_changed_together_are_caught_by_the_signature_or_the_record(signed: Path) -> None:
    record = bundle.load(signed, key=KEY)
    assert record.signed
    files = {f.name: f.read_bytes() for f in signed.iterdir() if f.name != "manifest.json"}
    (signed / "card.md").write_bytes(b"# Harmless\n")
    (signed / "manifest.json").write_bytes(bundle._manifest({**files, "card.md": b"# Harmless\n"}, None))
    assert bundle.load(signed).card == "# Harmless\n"  # sums alone cannot tell
    assert refusal(signed, key=KEY).code == "E708"
    assert refusal(signed, expected=record.manifest).code == "E707"
    (signed / "manifest.json").write_bytes(bundle._manifest({**files, "card.md": b"# Harmless\n"}, b"another key"))
    assert refusal(signed, key=KEY).code == "E708"


def test_an_unsigned_model_is_refused_when_a_key_is_set(saved: Path) -> None:
    assert refusal(saved, key=KEY).code == "E708"


def test_a_body_of_another_format_is_said_not_thrown(saved: Path) -> None:
    files = {f.name: f.read_bytes() for f in saved.iterdir() if f.name != "manifest.json"}
    body = json.loads(files["bundle.json"])
    for wrong in ({**body, "format": 99}, {}, [], {**body, "features": ["only_one"]}, {**body, "calibration": None}):
        files["bundle.json"] = json.dumps(wrong).encode()
        (saved / "bundle.json").write_bytes(files["bundle.json"])
        (saved / "manifest.json").write_bytes(bundle._manifest(files, None))
        error = refusal(saved)
        assert (error.code, error.place) == ("E706", str(saved / "bundle.json"))


def test_saving_again_replaces_the_whole(saved: Path) -> None:
    (saved / "stray.txt").write_text("x")
    again = bundle.save(forecaster(seed=1), saved.parents[1], name="shop-purchase", version=3, facts={}, card="second")
    assert bundle.load(again).card == "second"
    assert [p.name for p in saved.parent.iterdir()] == ["3"]


def test_an_interrupted_save_leaves_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bundle.load(saved).manifest
    real = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(DataError) as caught:
        bundle.save(forecaster(seed=1), saved.parents[1], name="shop-purchase", version=3, facts={}, card="second")
    monkeypatch.undo()
    assert caught.value.code == "E411"
    assert bundle.load(saved).manifest == before
    assert [p.name for p in saved.parent.iterdir()] == ["3"]


@pytest.mark.parametrize(("name", "version"), [("../x", 1), ("", 1), (".", 1), ("a/b", 1), ("m", 0)])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str, version: int) -> None:
    with pytest.raises(ValueError, match="name =="):
        bundle.save(forecaster(), tmp_path, name=name, version=version, facts={}, card="")


AUDIT = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" else None)
import pickle
pickle.loads(pickle.dumps(pickle.PickleError("the hook works")))
assert len(seen) > 0, "the hook does not see unpickling"
import predseg.forecast.scoring, lightgbm, pandas
from predseg.forecast.bundle import load
seen.clear()
found = load(sys.argv[1])
print(found.forecaster.probability(pandas.DataFrame({f: [1.0] for f in found.forecaster.features if f != "trait_country"} | {"trait_country": ["GB"]}))[0])
print(seen)
"""


def test_nothing_is_unpickled_on_the_load_path(saved: Path, root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", AUDIT, str(saved)], capture_output=True, text=True, env=environment, cwd=saved)
    assert done.returncode == 0, done.stderr
    probability, seen = done.stdout.split("\n")[:2]
    assert 0 < float(probability) < 1
    assert seen == "[]"


def test_nothing_but_text_is_written(saved: Path) -> None:
    assert {f.suffix for f in saved.iterdir()} == {".txt", ".json", ".md"}
    for file in saved.iterdir():
        file.read_text("utf-8")


def test_a_copy_elsewhere_loads_offline(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    assert bundle.load(tmp_path / "copy").manifest == bundle.load(saved).manifest
