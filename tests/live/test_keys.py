"""The keys of the server: named, or made once and kept for their owner alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from predseg.errors import ConfigError, DataError
from predseg.language.secrets import Secret
from predseg.language.serving import Serving
from predseg.live.keys import keys_of, presented, same


def test_keys_are_made_once_and_kept_for_the_owner_alone(tmp_path: Path) -> None:
    first = keys_of(tmp_path, Serving(), {})
    assert first.made == ("write_key", "read_key") and first.write != first.read and len(first.write) >= 32
    assert (tmp_path / "serve.json").stat().st_mode & 0o777 == 0o600
    again = keys_of(tmp_path, Serving(), {})
    assert (again.write, again.read, again.made) == (first.write, first.read, ())
    assert first.write not in repr(first) and list(tmp_path.iterdir()) == [tmp_path / "serve.json"]


def test_named_keys_win_and_are_written_nowhere(tmp_path: Path) -> None:
    serving = Serving(write_key=Secret("W"), read_key=Secret("R"))
    found = keys_of(tmp_path, serving, {"W": "w" * 16, "R": "r" * 16})
    assert (found.write, found.read, found.made) == ("w" * 16, "r" * 16, ()) and list(tmp_path.iterdir()) == []
    half = keys_of(tmp_path, Serving(write_key=Secret("W")), {"W": "w" * 16})
    assert half.made == ("read_key",) and json.loads((tmp_path / "serve.json").read_text()) == {"read_key": half.read}
    with pytest.raises(ConfigError, match="E381"):
        keys_of(tmp_path, serving, {"W": "w" * 16, "R": "short"})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"write_key": ""}', '{"write_key": 3}'])
def test_damaged_keys_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "serve.json").write_text(text)
    with pytest.raises(DataError, match="E460"):
        keys_of(tmp_path, Serving(), {})


def test_keys_are_compared_whole() -> None:
    assert same("key", "key") and not same("key", "kez") and not same("", "key") and not same("\ud800", "key")
    assert presented("basic a2V5OnNlY3JldA==") == "key" and presented("Basic é") is None and presented("Basic") == ""
