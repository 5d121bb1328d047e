"""Secrets and persons are where they belong, and persons who are forgotten nowhere; one that is left anywhere is noticed."""

from __future__ import annotations

import base64
import sqlite3
import zlib
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.trust import canaries, erasure
from benchmarks.trust.figures import Tally
from benchmarks.trust.used_shop import SECRETS, Person, Said

PEOPLE = [Person(n) for n in range(3)]


def test_nobody_is_named_where_he_should_not_be(tmp_path: Path) -> None:
    found = canaries.measure(canaries.SMALL, tmp_path, 1)
    assert found.faults == () and found.seen.startswith("0 secrets, 0 persons in ")


@pytest.mark.skipif(
    "not __import__('os').environ.get('PREDSEG_LONG')", reason="trains a model; PREDSEG_LONG=1 runs it, and tests/test_rights.py asks the same"
)
def test_whoever_is_forgotten_is_nowhere(tmp_path: Path) -> None:
    found = erasure.measure(erasure.SMALL, tmp_path, 1)
    assert found.faults == () and found.seen.endswith(" files, in 0 afterwards, in 0 after another run")


def test_whoever_is_left_in_a_file_is_noticed(tmp_path: Path) -> None:
    """As text, in a compressed column, in a packed value of a database, in another coding."""
    id_, anonymous, address, name = PEOPLE[1].texts
    (tmp_path / "a.log").write_text(f"scored {id_}")
    pq.write_table(pa.table({"x": [name * 3, *["y"] * 1000]}), tmp_path / "b.parquet", compression="zstd")
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
        connection.execute("create table packed (state blob)")
        connection.execute("insert into packed values (?)", (zlib.compress(address.encode() * 20),))
        connection.commit()
    (tmp_path / "d.json").write_bytes(base64.b64encode(anonymous.encode()))
    (tmp_path / "e.txt").write_text("nobody")
    found = erasure.naming(tmp_path, PEOPLE)
    assert found == {"a.log": {id_}, "b.parquet": {name}, "c.db": {address}, "d.json": {anonymous}}


def test_a_secret_or_a_person_in_the_wrong_place_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(f"<p>{PEOPLE[0].texts[2]}</p>")
    (tmp_path / "other.json").write_text(f"{PEOPLE[0].customer_id} {SECRETS['MAIL']}")
    tally = Tally()
    assert canaries.files(tally, tmp_path, PEOPLE) == 2
    canaries.terminal(tally, Said("check", 4, SECRETS["DB"], f"error: {PEOPLE[2].customer_id}"), PEOPLE)
    canaries.terminal(tally, Said("optout list x", 0, "", PEOPLE[2].customer_id), PEOPLE)
    assert tally.counts == Counter(secrets=2, persons=2) and len(tally.faults) == 4
