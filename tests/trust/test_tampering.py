"""Changed models are refused, and the count of them can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.trust import tampering
from predseg.forecast import bundle


def test_every_changed_model_is_refused_before_a_loader(tmp_path: Path) -> None:
    found = tampering.measure(tampering.SMALL, tmp_path, 1)
    assert found.faults == () and found.cases == tampering.SMALL and found.seen == f"{tampering.SMALL} refused, 0 loaded, 0 crashes"


@pytest.mark.parametrize(
    ("name", "loose"),
    [
        ("_check_file", lambda file, entry: file.read_bytes()),
        ("_check_signature", lambda *_: None),
        ("_checked_files", lambda folder, sums: {name: (folder / name).read_bytes() for name in sums}),
    ],
)
def test_a_check_that_is_left_out_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, loose: object) -> None:
    monkeypatch.setattr(bundle, name, loose)
    assert tampering.measure(60, tmp_path, 1).faults
