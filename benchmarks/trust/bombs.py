"""Small things that unpack, nest or repeat to something huge: to the collector, as sources, as YAML, as models.

Each is opened in a process of its own, after something harmless of the same kind: what counts is memory above that, and seconds
of all processors.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.trust.figures import Figure, Tally
from predseg.errors import PredsegError

TRIED = "gzip, JSON, CSV, Parquet, YAML and models that unpack, nest or repeat to something huge"
PROMISED = "all refused with a reason, under 200 MB and 2 s each"
FULL, SMALL = 28, 0
"""All of them, or one of each kind."""
MEGABYTES, SECONDS = 200, 2.0
GOOD = '{"customer_id": "ann", "event": "Look", "event_time": "2026-03-01T00:00:00Z"'
COLUMNS = "customer_id,event,event_time"
ROW = "ann,Look,2026-03-01T00:00:00Z\n"
OPEN = '{"a":'
MB = 1_000_000


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally, most, longest, kinds = Tally(), 0.0, 0.0, set()
    for kind, name, file in made(folder):
        if cases or kind not in kinds:
            kinds.add(kind)
            megabytes, seconds = opened(tally, kind, name, file)
            most, longest = max(most, megabytes), max(longest, seconds)
    return tally.figure(f"{tally.counts['refused']} refused, at most {most:.0f} MB and {longest:.1f} s")


def opened(tally: Tally, kind: str, name: str, file: Path) -> tuple[float, float]:
    tally.cases += 1
    done = subprocess.run([sys.executable, "-m", "benchmarks.trust.bombs", kind, str(file)], capture_output=True, text=True, timeout=600)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        tally.fault(f"{kind}, {name}: the process ended with {done.returncode}: {done.stderr[-300:]}")
        return 0.0, 0.0
    tally.counts["refused"] += bool(found["reason"])
    tally.demand(bool(found["reason"]), f"{kind}, {name}: not refused")
    tally.demand(found["megabytes"] < MEGABYTES, f"{kind}, {name}: {found['megabytes']:.0f} MB ({found['reason'][:80]})")
    tally.demand(found["seconds"] < SECONDS, f"{kind}, {name}: {found['seconds']:.1f} s ({found['reason'][:80]})")
    return found["megabytes"], found["seconds"]


# what is opened


def made(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Write each bomb; the files with the harmless things of each kind stand beside them."""
    (folder / "harmless.jsonl").write_text(f"{GOOD}}}\n")
    for kind, name, suffix, write in [*_collected(), *_sources(), *_texts()]:
        file = folder / f"{kind} {name}{suffix}"
        write(file)
        yield kind, name, file
        file.unlink()
    for name, change in _models():
        yield "model", name, _model(folder / f"model {name}", change)


Bomb = tuple[str, str, str, Callable[[Path], object]]


def _collected() -> list[Bomb]:
    nested = b'{"batch": [' + b"[" * 200_000 + b"]" * 200_000 + b"]}"
    texts = {
        "zeros": bytes(200 * MB),
        "gzip in gzip": gzip.compress(bytes(20 * MB), 9) * 2_000,
        "nested": nested,
        "nested behind blanks": b" " * 90_000 + nested,
        "digits": b'{"event": ' + b"9" * 400_000 + b"}",
        "quotes": b'{"batch": ["' + b'","' * 120_000 + b'"]}',
        "lists": b'{"batch": [' + b"[]," * 160_000 + b"[]]}",
        "empty parts": b"",
    }
    return [("collector", name, ".gz", partial(_packed, content=content)) for name, content in texts.items()]


def _sources() -> list[Bomb]:
    line = f"{COLUMNS}\n".encode()
    csv = {
        "one line": [line, *[b"a" * MB] * 300],
        "rows": [line, *[ROW.encode() * 33_000] * 300],
        "rows behind honest ones": [line, *[os.urandom(30_000).hex().encode() + b",a,b\n"] * 300, *[ROW.encode() * 33_000] * 300],
        "a header without an end": [b"a," * 500_000] * 300,
    }
    keys = ", ".join(f'"k{i}": {i}' for i in range(100_000))
    rows = {
        "nested lists": f'{GOOD}, "p": {"[" * 400_000}{"]" * 400_000}}}\n',
        "nested objects": f'{GOOD}, "p": {OPEN * 150_000}1{"}" * 150_000}}}\n',
        "keys": f"{GOOD}, {keys}}}\n",
    }
    return [
        *(("source", f"csv of {name}", ".csv.gz", partial(_gzip, pieces=pieces)) for name, pieces in csv.items()),
        ("source", "csv of columns", ".csv", partial(_bytes, content=f"{COLUMNS},{','.join(map(str, range(60_000)))}\n{ROW}".encode())),
        *(("source", f"jsonl of {name}", ".jsonl", partial(_bytes, content=f"{GOOD}}}\n{text}".encode())) for name, text in rows.items()),
        ("source", "parquet of rows", ".parquet", _parquet_rows),
        ("source", "parquet of zeros", ".parquet", _parquet_zeros),
        ("source", "parquet of columns", ".parquet", _parquet_columns),
    ]


def _texts() -> list[Bomb]:
    laughs = "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nproject: *c\n"
    texts = {"laughs": laughs, "nested": "a: " + "[" * 200_000, "block texts": "project: p\nx:\n" + " - |\n  y\n" * 25_000, "words": "- a\n" * 65_000}
    return [("yaml", name, ".yaml", partial(_bytes, content=text.encode())) for name, text in texts.items()] + [("yaml", "a hole", ".yaml", _hole)]


def _models() -> list[tuple[str, Callable[[Path], object]]]:
    return [
        ("a manifest without an end", lambda at: os.truncate(at / "manifest.json", 10**10)),
        ("a manifest that is nested", lambda at: (at / "manifest.json").write_text("[" * 500_000)),
        ("a member that was made longer", lambda at: os.truncate(at / "member-0.txt", 10**10)),
        ("all of it long and the manifest agrees", _agreeing),
    ]


def _bytes(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _packed(file: Path, content: bytes) -> None:
    file.write_bytes(gzip.compress(content, 6) if content else gzip.compress(b"") * 20_000)


def _gzip(file: Path, pieces: list[bytes]) -> None:
    with gzip.open(file, "wb", compresslevel=1) as out:
        for piece in pieces:
            out.write(piece)


def _hole(file: Path) -> None:
    file.write_text("project: p\n")
    os.truncate(file, 10**10)


def _parquet_rows(file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    one = pa.table({name: pa.DictionaryArray.from_arrays(pa.array(bytes(2 * MB), pa.int8()), ["a"]) for name in COLUMNS.split(",")})
    with pq.ParquetWriter(file, one.schema) as out:
        for _ in range(30):
            out.write_table(one, row_group_size=len(one))


def _parquet_zeros(file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: ["\0" * 100 * MB] for name in COLUMNS.split(",")}), file, compression="zstd")


def _parquet_columns(file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({f"c{i}": [1] for i in range(40_000)}), file)


def _model(folder: Path, change: Callable[[Path], object]) -> Path:
    from predseg.forecast import bundle
    from tests.forecast.tiny import forecaster

    place = bundle.save(forecaster(), folder, name="m", version=1, facts={}, card="")
    change(place)
    return place


def _agreeing(place: Path) -> None:
    from predseg.forecast import bundle

    files = {f.name: f.read_bytes() for f in place.iterdir() if f.name != bundle.MANIFEST}
    files[bundle.BODY] = b"[" + b"0," * 30 * MB + b"0]"
    (place / bundle.BODY).write_bytes(files[bundle.BODY])
    (place / bundle.MANIFEST).write_bytes(bundle._manifest(files, None))


# how each kind is opened: the reason of the refusal, empty when there was none


def source(file: Path) -> str:
    from predseg import Project

    folder = file.parent / f"project of {file.name}"
    folder.mkdir(exist_ok=True)
    (folder / "predseg.yaml").write_text(f"project: p\ncontract: {{tolerance: 60%}}\nsources: {{e: {{path: '{file}'}}}}\n")
    [read] = Project.load(folder).check().sources
    return "; ".join(map(str, read.reasons)) if read.accepted == read.quarantined == 1 else ""


def yaml(file: Path) -> str:
    from predseg import Project

    Project.load(file)
    return ""


def model(folder: Path) -> str:
    from predseg.forecast import bundle

    bundle.load(folder)
    return ""


def collector(file: Path) -> str:
    """The reason, by a real server over HTTP in this process; a body of which each message is refused counts as refused."""
    from tests.live.serving import running

    with running() as up:
        assert up.ask("/v1/track", {"userId": "ann", "event": "Look"})[0] == 200
        begin = Peak()
        status, said, _ = up.ask("/v1/batch", file.read_bytes(), Content_Encoding="gzip")
        begin.told(said if status >= 400 else said.get("quarantined") and not said.get("accepted") and said)
        return ""


def harmless(kind: str, folder: Path) -> None:
    """Everything that the kind needs is loaded and was at work once."""
    if kind == "source":
        from predseg import Project

        (folder / "warm").mkdir(exist_ok=True)
        (folder / "warm" / "predseg.yaml").write_text("project: p\nsources: {e: {path: ../harmless.jsonl}}\n")
        assert Project.load(folder / "warm").check().rows == 1
    elif kind == "yaml":
        from predseg.config import parse

        parse("project: p\n", folder / "p.yaml")
    elif kind == "model":
        import predseg.forecast.bundle  # noqa: F401


class Peak:
    """Memory and processor time from now on."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.before, self.begin = _memory("VmRSS"), time.process_time()

    def told(self, reason: Any) -> None:
        """Say what it took; ends the process."""
        found = {"megabytes": (_memory("VmHWM") - self.before) / 1000, "seconds": time.process_time() - self.begin, "reason": str(reason or "")}
        print(json.dumps(found), flush=True)
        os._exit(0)


def _memory(what: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1])


def main() -> None:
    kind, file = sys.argv[1], Path(sys.argv[2])
    if kind == "collector":
        collector(file)
    harmless(kind, file.parent)
    peak = Peak()
    try:
        peak.told({"source": source, "yaml": yaml, "model": model}[kind](file))
    except PredsegError as error:
        peak.told(error)


if __name__ == "__main__":
    main()
