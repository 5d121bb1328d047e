"""Persons who were everywhere and are forgotten: every file is looked through for them, byte by byte."""

from __future__ import annotations

import base64
import gzip
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.trust import used_shop
from benchmarks.trust.figures import Figure, Tally
from benchmarks.trust.killing import Runs
from benchmarks.trust.used_shop import Person

TRIED = "persons in events, traits, scores, memberships, messages, exports, quarantine, live state and reports, forgotten"
PROMISED = "0 bytes of them in any file"
FULL, SMALL = 100, 6
SOURCES = ("orders.jsonl", "customers.csv", "live.jsonl", "forget.txt", "said", "said.err")
"""What is not the store's: the owner's files, and what the terminal showed."""


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally, people = Tally(), [Person(n) for n in range(cases)]
    with used_shop.used(folder, people) as (shop, runs, said):
        for one in said:
            tally.demand(one.code in (0, 1, 8) or "explain" in one.command, f"`predseg {one.command}` ended with {one.code}: {one.err[-300:]}")
        return forgotten(tally, runs, shop, people)


def forgotten(tally: Tally, runs: Runs, shop: Path, people: Sequence[Person]) -> Figure:
    """Forget everybody, and look before, after, and after another run."""
    before = naming(shop, people)
    (shop / "forget.txt").write_text("".join(f"{person.customer_id}\n" for person in people))
    done = used_shop.run(runs, shop, "forget --from forget.txt")
    tally.demand(done.code == 0, f"`predseg forget` ended with {done.code}: {done.err}")
    after = naming(shop, people)
    tally.demand(len(before) >= 12, f"they were in {len(before)} files only: nothing was tried: {sorted(before)}")
    again = used_shop.run(runs, shop, "run --as-of 2025-10-28")
    tally.demand(again.code in (0, 1, 8), f"`predseg run` ended with {again.code} afterwards: {again.err[-300:]}")
    later = naming(shop, people)
    tally.cases = len(people)
    for when, found in (("", after), (" after another run", later)):
        for file, texts in found.items():
            tally.fault(f"{file} names {len(texts)} of them{when}, such as {sorted(texts)[0]}")
    return tally.figure(f"they were named in {len(before)} files, in {len(after)} afterwards, in {len(later)} after another run")


def naming(shop: Path, people: Sequence[Person]) -> dict[str, set[str]]:
    """Each file whose bytes, or what a reader makes of them, name one of the persons: which texts."""
    texts = [text for person in people for text in person.texts]
    found = {}
    for file in sorted(shop.rglob("*")):
        if file.is_file() and file.name not in SOURCES:
            contents = list(readings(file))
            if named := {text for text in texts for content in contents if any(form in content for form in forms(text))}:
                found[file.relative_to(shop).as_posix()] = named
    return found


def forms(text: str) -> tuple[bytes, ...]:
    raw = text.encode()
    return raw, text.encode("utf-16-le"), raw.hex().encode(), base64.b64encode(raw)[:-4]


def readings(file: Path) -> Iterator[bytes]:
    """The bytes of a file, and those that its format hides."""
    content = file.read_bytes()
    yield content
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        read = pq.ParquetFile(file)
        yield repr(read.read().to_pylist()).encode() + str(read.metadata.to_dict()).encode() + repr(read.schema_arrow.metadata).encode()
    if file.suffix == ".gz":
        yield gzip.decompress(content)
    if file.suffix == ".db":
        yield from blobs(file)


def blobs(file: Path) -> Iterator[bytes]:
    """What stands packed in a database."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            for row in connection.execute(f'select * from "{table.decode()}"'):
                for value in row:
                    if isinstance(value, bytes) and value[:1] in (b"\x78", b"\x1f"):
                        try:
                            yield zlib.decompress(value, wbits=47)
                        except zlib.error:
                            continue
