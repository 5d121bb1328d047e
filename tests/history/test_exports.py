"""Exported files are read again line by line as they were written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from predseg.history import exports
from predseg.store import Store

IDS = ["a\u2028b", "c\x85d", "e\x0cf", "g\r\nh", "=i"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_ids_that_hold_ends_of_lines_are_found_and_taken_out(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"out.{kind}"
    exports.export(Store(tmp_path / "store"), file, pa.table({"customer_id": IDS, "note": IDS}))
    assert len(exports.rows_of(file)) == len(IDS)
    for left, one in enumerate(IDS, 1):
        assert exports.take_out(file, [one]) == 1 and len(exports.rows_of(file)) == len(IDS) - left
