"""The same project on Spark: the same answers, whatever the session's time zone, however the events are spread over files."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from predseg import Project
from predseg.cli import main
from predseg.config import Config
from predseg.errors import DataError, UsageError
from predseg.forecast.dataset import labelled, open_source
from predseg.forecast.training import Settings, fit
from predseg.history import adding, merge
from predseg.history.persons import EVERYBODY
from predseg.language.engines import Spark
from predseg.language.time import DAY
from predseg.layers import gone_in, is_recent
from predseg.live.spark import changes
from predseg.outcomes.projects import CONVERSIONS, tuned
from predseg.spark import OnSpark, session_of, spread
from predseg.store import Store
from tests import small
from tests.live.test_spark import END, Row, live_project, stream
from tests.test_real_data import laid

LONG = bool(os.environ.get("PREDSEG_LONG"))
ENGINE = 'engine: {spark: {master: "local[2]", options: {spark.sql.session.timeZone: America/New_York, spark.ui.enabled: false}}}\n'
LOCAL = Spark(
    "local[2]",
    (
        ("spark.sql.session.timeZone", "America/New_York"),
        ("spark.ui.enabled", "false"),
        ("spark.sql.shuffle.partitions", "1"),
        ("spark.python.authenticate.socketTimeout", "600s"),  # a busy machine may keep a worker waiting for more than fifteen seconds
    ),
)
SEGMENTS = """\
segment: recent
match: {all: [{did: Order Completed, sum: value, more_than: 50, within: 60 days}, {trait: {country: GB}}]}
---
segment: waiting
refresh: live
match: {did: Product Added, within: 30 days, then: {did_not: Order Completed, within: 10 days}}
---
segment: best
match: {any: [{rfv: {of: Order Completed, within: 90 days, value: [4, 5]}}, {in: waiting}]}
---
segment: quiet
match: {did_not: Order Completed, within: 40 days}
"""
CONFIG = (
    (
        small.CONFIG.replace("events.csv}", "'events*.csv'}\ncustomers: {path: customers.csv, static: true}")
        + "  traits: [country]\nsegments: rules.yaml\n"
    )
    .replace("models:\n", "  traits: [country]\n  taste: {did: Order Completed, of: product}\nmodels:\n", 1)
    .replace("cutoffs: 4}\n  traits: [country]\n", "cutoffs: 4}\n")
)


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """One Spark for all tests of the file; a skip that says why where there is none."""
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("no Java")
    session = session_of(LOCAL)
    yield session
    session.stop()


def lines() -> list[str]:
    """A shop in which one customer has a twentieth of all events, some come late, and some from visitors who log in later."""
    found = [f"{line},," for line in small.rows()]
    more = small.START + timedelta(days=150)
    for n in range(len(found) // 19):
        moment = more + timedelta(minutes=37 * n)
        found.append(f"hot,{moment:%Y-%m-%dT%H:%M:%SZ},{'Product Added' if n % 3 else 'Order Completed'},{n % 90}.25,,")
    for n in range(120):
        when = small.START + timedelta(days=200 + n % 90, seconds=n)
        late = when + timedelta(days=n % 4)
        found.append(f"c{n:04d},{when:%Y-%m-%dT%H:%M:%SZ},Product Added,,{late:%Y-%m-%dT%H:%M:%SZ},")
        visitor = "" if n % 5 else f"v{n}"
        found.append(f",{when:%Y-%m-%dT%H:%M:%SZ},Product Viewed,,,{visitor or f'w{n}'}")
        if visitor:
            found.append(f"c{n:04d},{late:%Y-%m-%dT%H:%M:%SZ},Logged In,,,{visitor}")
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project."""
    folder = tmp_path_factory.mktemp("shop")
    small.write(folder, [], CONFIG)
    rows = [f"{line},p{len(line) * n % 31}" for n, line in enumerate(lines())]
    text = "\n".join(["customer_id,event_time,event,value,received_at,anonymous_id,product", *rows]) + "\n"
    (folder / "events.csv").write_text(text, "utf-8")
    (folder / "rules.yaml").write_text(SEGMENTS, "utf-8")
    customers = [f"c{n:04d},{'GB' if n % 2 else 'FR'}" for n in range(400)]  # a hundred of them without an event
    (folder / "customers.csv").write_text("customer_id,country\n" + "\n".join(customers) + "\n", "utf-8")
    return folder


def put(file: Path, rows: Sequence[Row]) -> None:
    """Lay lines into a folder that is being read."""
    aside = file.with_name("." + file.name)
    aside.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    aside.rename(file)


@pytest.fixture(autouse=True)
def many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "FILE_ROWS", 700)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every pass over the events that Spark makes."""
    found: list[int] = []
    monkeypatch.setattr("predseg.spark.spread", lambda engine, work, items: (found.append(len(items)), spread(engine, work, items))[1])
    return found


def both(shop: Path, folder: Path) -> Iterator[Project]:
    """The project, and a copy of it that differs in one line."""
    for name, engine in (("here", ""), ("spark", ENGINE)):
        shutil.copytree(shop, folder / name)
        file = folder / name / "predseg.yaml"
        file.write_text(file.read_text("utf-8") + engine, "utf-8")
        yield Project.load(file)


def parted(config: Config) -> Store:
    """The store of a project with one more file that has no rows."""
    store = Store(config.store)
    files = store.files("events")
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(files[0]).slice(0, 0), files[0].with_name("part-00002a.parquet"))
    return store


def test_features_labels_the_training_sample_and_answers_are_the_same(session: Any, shop: Path, tmp_path: Path) -> None:
    sources, samples, frames = [], [], []
    for project in both(shop, tmp_path):
        end = project.moment()
        source = open_source(project.config, parted(project.config))
        assert isinstance(source.over, OnSpark) == bool(project.config.engine) and len(source.files) >= 6
        cutoffs = [end - days * 86_400_000_000 for days in (80, 50, 20)]
        sources.append(source)
        samples.append(labelled(source, project.model("purchase"), cutoffs, end, 300))
        frames.append(pd.concat(source.frames([end, cutoffs[0]]), ignore_index=True))
    one, other = samples
    pd.testing.assert_frame_equal(one.X, other.X, check_exact=True)
    assert one.y.tobytes() == other.y.tobytes() and one.cutoff.tobytes() == other.cutoff.tobytes() and (one.customer == other.customer).all()
    assert one.y.dtype == other.y.dtype and 0 < one.y.mean() < 1 and "hot" in set(one.customer)
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    model, _ = fit(one, Settings(20 * DAY, end, rounds=20, event="order_completed", bag=sources[0].features.bag))
    answers = [np.concatenate(list(source.each(model.raw, [end]))).tobytes() for source in sources]
    assert model.taste is not None and answers[0] == answers[1]


def test_segments_with_their_history_previews_and_what_rules_would_have_done_are_the_same(
    session: Any, shop: Path, tmp_path: Path, passes: list[int]
) -> None:
    histories, previews, pasts = [], [], []
    for project in both(shop, tmp_path):
        workspace, end = project.segments(), project.moment()
        assert len(workspace.files) >= 5
        for days in (9, 2, 0):
            workspace.run(end - days * 86_400_000_000)
        histories.append([file.read_bytes() for name in ("memberships", "segment_runs") for file in workspace.store.files(name)])
        previews.append([workspace.preview(name, end) for name in workspace.segments])
        passes.clear()
        pasts.append([workspace.replay("waiting", end - 30 * DAY, end, 6 * DAY)])
        pasts[-1].append(tuned(workspace, "recent", end, aim=CONVERSIONS))
        assert len(passes) == (3 if project.config.engine else 0), "with those for overlaps"
    assert histories[0] == histories[1] and previews[0] == previews[1]
    assert all(preview.members and preview.known > 400 for preview in previews[0])
    assert pasts[0] == pasts[1] and pasts[0][0].outcome and pasts[0][0].days[-1].entered and pasts[0][1].candidates


def test_rows_beside_the_base_of_the_events_are_seen_on_spark(session: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST", "SHARE"):
        monkeypatch.setattr(adding, name, 0)
    header, *rows = (shop / "events.csv").read_text("utf-8").splitlines()
    found = []
    for project in both(shop, tmp_path):
        for name, later in (("events.csv", False), ("events-later.csv", True)):
            part = [row for row in rows if ("Logged In" in row) == later]
            (project.config.root / name).write_text("\n".join([header, *part]) + "\n", "utf-8")
            project.check()
        files = Store(project.config.store).files("events")
        assert any(map(is_recent, files)) and gone_in(files), "what visitors did who log in"
        found.append((project.features(), {name: sorted(who) for name, who in project.segments().members(project.moment()).items()}))
    pd.testing.assert_frame_equal(found[0][0], found[1][0], check_exact=True)
    assert found[0][1] == found[1][1] and all(found[0][1].values())


def test_scores_and_clusters_are_the_same_with_quick_reasons_and_without_who_opted_out(
    session: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: list[int]
) -> None:
    tables, found = [], []
    monkeypatch.setattr("predseg.forecast.scoring.EXACT_WORK", 0.0)
    for project in both(trained, tmp_path):
        assert main(["optout", "add", "c0007", "c0012", "--purpose", "profiling", "-c", str(project.config.file)]) == 0
        tables.append(project.score())
        assert not {"c0007", "c0012"} & set(tables[-1]["customer_id"]) and len(tables[-1]) > 200
        passes.clear()
        found.append(project.discover(clusters=3, dry_run=True))
        assert len(passes) == (2 if project.config.engine else 0)
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert found[0] == found[1] and found[0].members == found[1].members and len(found[0].personas) == 3 and any(p.rule for p in found[0].personas)
    assert not {"c0007", "c0012"} & set(found[0].members["customer_id"].to_pylist())


def test_many_files_are_read_on_spark_into_the_same_table(session: Any, tmp_path: Path) -> None:
    """Files that differ in columns and types, rows that break the contract, repetitions in and across files, a file without rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from predseg.history import spreading

    at = [small.START + timedelta(hours=n) for n in range(40)]
    rows = {"customer_id": [f"c{n % 7}" for n in range(40)], "event": ["Order Completed"] * 40, "event_time": at}
    whole = pa.table({**rows, "value": pa.array(range(40), pa.int32()), "coupon": [None, "x"] * 20, "event_id": [f"e{n}" for n in range(40)]})
    parts = [whole.slice(0, 20), whole.slice(15).drop_columns(["coupon"]), whole.slice(0, 0), whole.slice(0, 5)]
    parts[1] = parts[1].append_column("size", pa.array(["large", "7", None, "'", "n/a"] * 5))
    parts += [
        pa.table({**rows, "value": [float("nan"), 10.25] * 20, "size": [0.25, 7.0] * 20}),
        whole.slice(30).set_column(0, "customer_id", pa.array([None, "c1"] * 5)),
    ]
    for name, line in (("here", ""), ("spark", ENGINE)):
        small.write(tmp_path / name, [], small.CONFIG.replace("events.csv", '"events/*.parquet"') + "contract: {tolerance: 50%}\n" + line)
        (tmp_path / name / "events").mkdir()
        for number, part in enumerate(parts):
            pq.write_table(part, tmp_path / name / "events" / f"{number}.parquet")
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(spreading, "fill", lambda *given, fill=spreading.fill: (read.append(1), fill(*given)))
        one, other = (Project.load(tmp_path / name) for name in ("here", "spark"))
        reports = [project.check() for project in (one, other)]
    assert read == [1] and reports[0] == reports[1]
    [source] = reports[0].sources
    assert (
        source.received == 100
        and source.quarantined == 25
        and source.duplicates >= 10
        and source.received == source.accepted + source.duplicates + 25
    )
    assert [f.read_bytes() for f in one.store.files("events")] == [f.read_bytes() for f in other.store.files("events")]
    assert {None, "7", "'7", "''", "n/a", "large"} == {*one.store.read("events")["size"].to_pylist()}, "numbers and texts"
    bad = [project.quarantine().sort_values(["raw", "reason"]).reset_index(drop=True) for project in (one, other)]
    pd.testing.assert_frame_equal(*bad)


def _texts() -> Iterator[list[list[dict[str, Any]]]]:
    """Rows of the files of a source, of more that are like them, and of one more, with a text among numbers."""
    at = [f"{small.START + timedelta(hours=n):%Y-%m-%dT%H:%M:%SZ}" for n in range(40)]
    rows: list[dict[str, Any]] = [{"customer_id": n % 7, "event": "Order Completed", "event_time": at[n]} for n in range(40)]
    rows = [{**row, "value": n / 4, "size": n, "code": n, "at": at[n][:10]} for n, row in enumerate(rows)]
    yield [
        [{**row, "coupon": None if n % 2 else f"x{n}", "gift": n % 3 == 0} for n, row in enumerate(rows)],
        [{**row, "size": row["size"] + 0.5, "code": f"00{row['code']}"} for row in rows[15:]],
        [{**row, "customer_id": "c1", "at": "soon", "tags": ["a"]} for row in rows[:4]] + [{**row, "event_time": "yesterday"} for row in rows[:9]],
        [{"event": "Order Completed", "event_time": at[3], "customer_id": 3, "Coupon": "y", "tags": ["b", 2.5]}],
    ]
    yield [[{**row, "customer_id": 77, "coupon": None, "gift": None} for row in rows[:5]], [{**rows[7], "size": 8}]]
    yield [[{**rows[7], "size": "large"}]]


def _lines(kind: str, rows: list[dict[str, Any]]) -> bytes:
    if kind.startswith("jsonl"):
        return "\n".join([*map(json.dumps, rows), "[1]", "no json", ""]).encode() + b"not \xff\xfe text\n"
    names, comma = list(dict.fromkeys(name for row in rows for name in row)), ";" if len(rows) % 2 else ","
    cells = [["" if row.get(name) is None else str(row[name]) for name in names] for row in rows]
    return "\n".join([comma.join(names), *map(comma.join, cells), "one cell", ""]).encode()


@pytest.mark.parametrize(("kind", "rounds"), [("csv.gz", 2), ("jsonl", 1), *([("csv", 3), ("jsonl.gz", 3)] if LONG else [])])
def test_text_has_its_types_from_all_files_wherever_they_are_read(session: Any, kind: str, rounds: int, tmp_path: Path) -> None:
    from predseg.history import spreading

    query = (
        ", query: \"select * replace (customer_id::varchar as customer_id) from source where customer_id::varchar <> '5'\""
        if kind == "csv.gz"
        else ""
    )
    config, tasks = small.CONFIG.replace("events.csv", f'"events/*.{kind}"{query}') + "contract: {tolerance: 60%}\n", []
    for name, line in (("here", ""), ("spark", ENGINE)):
        small.write(tmp_path / name, [], config + line)
        (tmp_path / name / "events").mkdir()
    one, other = (Project.load(tmp_path / name) for name in ("here", "spark"))
    for number, parts in zip(range(rounds), _texts(), strict=False):
        for file in (tmp_path / name / "events" / f"{number}-{n}.{kind}" for name in ("here", "spark") for n in range(len(parts))):
            lines = _lines(kind, parts[int(file.name[2])])
            file.write_bytes(gzip.compress(lines) if kind.endswith(".gz") else lines)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(spreading, "spread", lambda *given: (tasks.append(len(given[2])), spread(*given))[1])
            reports = [project.check() for project in (one, other)]
        assert reports[0] == reports[1] and reports[0].quarantined >= 12
        assert [f.read_bytes() for f in one.store.files("events")] == [f.read_bytes() for f in other.store.files("events")]
        bad = [project.quarantine().sort_values(["raw", "reason"]).reset_index(drop=True) for project in (one, other)]
        pd.testing.assert_frame_equal(*bad)
    looks = 2 + kind.startswith("jsonl") + kind.endswith(".gz")
    codes = kind == "csv"  # whether what is no number makes codes of the others is a look of its own, as whether more files fit
    new: list[list[int]] = [[4] * (looks + codes), [2] * (looks + 1), []]  # the first text among numbers makes no other file be read again
    assert tasks == sum(new[:rounds], [])


def test_a_table_of_a_catalog_is_a_source_like_its_files(session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Instants whatever the session's time zone is, several types, traits; a table that is not there names the one that is."""
    small.write(tmp_path / "here", [*small.rows()[:600], "c0001,2099-01-01T00:00:00Z,Order Completed,5.00"])
    shown = session.read.csv(str(tmp_path / "here" / "events.csv"), header=True)
    kinds = {"event_time": "timestamp", "value": "decimal(12,2)"}
    events = shown.selectExpr(*(f"cast({name} as {kinds.get(name, 'string')}) {name}" for name in shown.columns))
    events.repartition(2).createOrReplaceTempView("shop_events")
    people = session.range(300).selectExpr("format_string('c%04d', id) customer_id", "if(id % 2 = 0, 'GB', 'FR') country")
    people.createOrReplaceTempView("shop_people")
    tables = small.CONFIG.replace("{path: events.csv}", "{table: shop_events}") + "customers: {table: shop_people}\n"
    small.write(tmp_path / "spark", [], tables + ENGINE)
    one, other = (Project.load(tmp_path / name) for name in ("here", "spark"))
    reports = [project.check() for project in (one, other)]
    assert reports[0].sources == reports[1].sources and reports[0].sources[0].accepted == 600
    assert [f.read_bytes() for f in one.store.files("events")] == [f.read_bytes() for f in other.store.files("events")]
    assert len(other.store.read("customers")) == 300
    assert session.conf.get("spark.sql.parquet.outputTimestampType") == "INT96"
    session.table("shop_events").repartition(2).write.parquet(str(tmp_path / "files" / "events"))
    small.write(
        tmp_path / "files", [], small.CONFIG.replace("events.csv", "events/*.parquet")
    )  # what Spark writes by default has no offset, and needs none
    written = Project.load(tmp_path / "files")
    assert written.check().sources[0].accepted == 600
    assert [f.read_bytes() for f in one.store.files("events")] == [f.read_bytes() for f in written.store.files("events")]
    file = other.config.file
    assert main(["quarantine", "replay", "--dry-run", "-c", str(file)]) == 0 and "1" in capsys.readouterr().out
    file.write_text(file.read_text("utf-8").replace("shop_events", "shop_event"), "utf-8")
    assert main(["check", "-c", str(file)]) == 4
    said = capsys.readouterr().err
    assert "E401" in said and "no table 'shop_event'" in said and "did you mean 'shop_events'?" in said
    file.write_text(file.read_text("utf-8").replace(ENGINE, ""), "utf-8")
    assert main(["check", "-c", str(file)]) == 3 and "`engine: {spark: ...}`" in capsys.readouterr().err


def test_what_predseg_refuses_in_a_task_is_said_as_it_is(session: Any) -> None:
    def refuse(number: int) -> list[int]:
        if number == 2:
            raise DataError("E499", "somewhere", "no", "do something")
        return [number, number]

    found = []
    with pytest.raises(DataError, match="E499"):
        for number in spread(LOCAL, refuse, [0, 1, 2, 3]):
            found.append(number)
    assert found == [0, 0, 1, 1]
    assert list(spread(LOCAL, refuse, [])) == []


def test_a_failure_of_a_task_is_one_line(session: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(OnSpark(LOCAL)(len, [tmp_path / "gone.parquet"], ()))  # type: ignore[arg-type]
    assert caught.value.code == "E415" and "gone.parquet" in caught.value.message and "\n" not in caught.value.message


def test_a_spark_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(UsageError, match="E262"):
        session_of(LOCAL)


@pytest.mark.parametrize("which", ["trained", pytest.param("demo", marks=pytest.mark.skipif(not LONG, reason="minutes; PREDSEG_LONG=1 runs it"))])
def test_one_line_moves_a_project_to_spark(
    session: Any, which: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is published has the same bytes; in the demo of two sources, with traits, late rows and visitors."""
    published, folder = [], request.getfixturevalue(which)
    for name in ("here", "spark"):
        file = small.copied(folder / "shop" if which == "demo" else folder, tmp_path / name)
        if which == "trained":
            file.write_text(file.read_text("utf-8") + "segments: rules.yaml\n", "utf-8")
            (file.parent / "rules.yaml").write_text("segment: keen\nmatch: {score: purchase, top: 20%}\n---\n" + SEGMENTS, "utf-8")
        if name == "spark":
            file.write_text(file.read_text("utf-8") + ENGINE, "utf-8")
        for command in ("score", "segment"):
            assert main([command, "-c", str(file), *(["--as-of", "2026-06-02"] if which == "demo" else [])]) == 0
        store = Store(file.parent / "store")
        published.append({f"{n} {i}": p.read_bytes() for n in ("scores", "memberships", "segment_runs") for i, p in enumerate(store.files(n))})
    capsys.readouterr()
    assert published[0] == published[1] and len(published[0]) >= 3


def streaming(tmp_path: Path) -> Project:
    live_project(tmp_path)
    with (tmp_path / "predseg.yaml").open("a") as file:
        file.write(ENGINE)
    return Project.load(tmp_path)


def told(folder: Path) -> list[str]:
    """The lines that a stream wrote into a folder."""
    return sorted(line for file in folder.glob("part-*") for line in file.read_text("utf-8").splitlines())


def test_a_stream_on_spark_has_the_log_of_predseg_live_over_stops(session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project, rows, folder, out = streaming(tmp_path), stream(3, customers=8, events=130), tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    with pytest.raises(UsageError, match="E263"):
        changes(project.segments(), EVERYBODY, session.readStream.text(str(folder)))
    end = {"clock": (END + timedelta(minutes=6)).isoformat()}
    put(tmp_path / "sorted.jsonl", [*sorted(rows, key=lambda row: row["event_time"]), end])
    assert main(["live", str(tmp_path / "sorted.jsonl"), "--new", "-c", str(tmp_path / "predseg.yaml")]) == 0
    wanted = sorted(capsys.readouterr().out.splitlines())
    command = [
        "stream",
        str(folder),
        "--checkpoint",
        str(tmp_path / "state"),
        *"--option maxFilesPerTrigger=1 -c".split(),
        str(tmp_path / "predseg.yaml"),
    ]

    put(folder / "0.jsonl", rows[:90])
    assert main([*command, "--out", str(out), "--until-caught-up"]) == 0
    before = told(out)
    put(folder / "1.jsonl", [*rows[90:], end])

    def stop() -> None:
        """Wait for the last change, and be the service manager who ends the process."""
        while told(out) != wanted and time.monotonic() < begun + 300 and not ended.wait(0.1):
            pass
        if not ended.is_set():  # else it would end this process
            os.kill(os.getpid(), signal.SIGTERM)

    begun, ended, stopper = time.monotonic(), threading.Event(), threading.Thread(target=stop)
    stopper.start()
    try:
        assert main([*command, "--out", str(out)]) == 0
    finally:
        ended.set()
        stopper.join()
    assert told(out) == wanted and 0 < len(before) < len(wanted) > 40 and time.monotonic() < begun + 300
    assert f"{len(rows) - 90:,} lines read" in capsys.readouterr().out


def test_a_stream_on_spark_prints_and_says_what_it_does_not_take(session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "in", str(streaming(tmp_path).config.file)
    folder.mkdir()
    (folder / "0.jsonl").write_text('{"customer_id": "a"}\nnot json\n', "utf-8")
    put(folder / "1.jsonl", [row for row in stream(3, customers=2, events=20) if row["customer_id"]])
    late = {"customer_id": "c0", "event": "Order Completed", "event_time": "2026-02-28T10:00:00Z", "value": 500}
    put(folder / "2.jsonl", [late, {**late, "customer_id": "new", "value": 1}])
    put(folder / "3.jsonl", [late])
    for number in range(4):
        os.utime(folder / f"{number}.jsonl", (number, number))
    command = ["stream", "--checkpoint", str(tmp_path / "state"), "--until-caught-up", "--option", "maxFilesPerTrigger=1", "-c", file]
    assert main([*command, str(folder), "--refused", str(tmp_path / "bad"), "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    lines, moments = answer["lines"], [row["at"] for row in answer["changes"]]
    assert (lines["refused"], lines["late"]) == (2, 1) and lines["rows"] > 20 and "left out: 1;" in said.err and "2 of" in said.err
    assert {row["change"] for row in answer["changes"]} == {"entered", "left"} and moments == sorted(moments)
    assert moments[0].startswith("2026-02-28"), "what came late, but before Spark's watermark did, counts"
    bad = [json.loads(line) for line in told(tmp_path / "bad")]
    assert [(row["line"], row["field"]) for row in bad] == [("not json", "line"), ('{"customer_id": "a"}', "event")]

    (tmp_path / "rules.yaml").write_text("segment: other\nrefresh: live\nmatch: {did: Product Viewed, within: 3 days}\n", "utf-8")
    (tmp_path / "out" / "_spark_metadata").mkdir(parents=True)
    assert main([*command, str(folder)]) == 2 and "other live segments" in capsys.readouterr().err
    refusals = {
        "E265": [*command, str(folder), "--checkpoint", str(tmp_path / "new"), "--out", str(tmp_path / "out")],
        "E266": [*command, "--from", "rate"],
        "E401": [*command, str(tmp_path / "nowhere")],
        "E381": [*command, "--from", "kafka", "--option", "kafka.sasl.jaas.config=env:PREDSEG_NOT_SET"],
        "E415": [*command, "--from", "kafka", "--option", "subscribe=events"],
    }
    for code, arguments in refusals.items():
        assert main(arguments) == int(code[1]) and code in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.skipif(not LONG, reason="trains twice on a real download; PREDSEG_LONG=1 runs it")
def test_a_real_shop_is_the_same_on_spark(session: Any, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features, labels, a whole training, scores and segments with their history, of orders cut into six files."""
    monkeypatch.setattr(merge, "FILE_ROWS", 4_000)
    found: list[list[Any]] = []
    for name, line in (("here", ""), ("spark", ENGINE)):
        file = laid("online_retail", real_data / "online_retail_raw.csv.gz", tmp_path / name)
        file.write_text(file.read_text("utf-8") + line, "utf-8")
        project = Project.load(file)
        trained = project.train(["purchase"], "2011-09-10")["purchase"]
        scores = project.score(["purchase"], "2011-09-10")
        frame = project.features("2011-10-01")
        for moment in ("2011-09-10", "2011-10-01"):
            project.segments().run(project.moment(moment), [n for n, s in project.segments().segments.items() if "churn" not in str(s.match)])
        store = Store(project.config.store)
        assert len(store.files("events")) == 6
        files = [p.read_bytes() for table in ("events", "scores", "memberships", "segment_runs") for p in store.files(table)]
        found.append([scores, frame, trained.evaluation, trained.facts, files])
    for one, other in zip(*(part[:2] for part in found), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert found[0][2:] == found[1][2:] and len(found[0][4]) >= 9
