"""What is held about a person can be seen and taken out, to the last byte, and does not come back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from predseg import Project
from predseg.cli import main
from predseg.errors import UsageError
from predseg.history import privacy
from predseg.history.persons import words
from tests import small

PEOPLE = [f"canary-{n}-Zq7x" for n in range(4)]
PROJECT = """\
project: rights
sources:
  orders: {path: orders.jsonl}
customers: {path: customers.csv, customer_id: id}
contract: {tolerance: 100%}
features:
  windows: [14 days, 30 days]
  events: {Order Completed: {value: value}}
models:
  purchase: {predict: {did: Order Completed, within_next: 20 days}, cutoffs: 4}
segments: rules.yaml
"""
RULES = "segment: buyers\nmatch: {did: Order Completed}\n---\nsegment: recent\nrefresh: live\nmatch: {did: Order Completed, within: 30 days}\n"


def lines(without: Sequence[str] = ()) -> list[str]:
    """Rows of the small shop, some of them of the canaries; they have anonymous ids, bad rows and lines that are no rows as well."""
    names = dict(zip([f"c{n:04d}" for n in range(len(PEOPLE))], PEOPLE, strict=True))
    rows = []
    for line in small.rows():
        customer, time, event, value = line.split(",")
        rows.append({"customer_id": names.get(customer, customer), "event_time": time, "event": event, "value": float(value)})
    for i, person in enumerate(PEOPLE):
        rows.append({"anonymous_id": f"anon-{person}", "event_time": f"2025-02-0{i + 1}T00:00:00Z", "event": "Page Viewed"})
        rows.append({"customer_id": person, "anonymous_id": f"anon-{person}", "event_time": "2025-03-01T00:00:00Z", "event": "Signed In"})
        rows.append({"customer_id": "c0100", "anonymous_id": f"anon-{person}", "event_time": f"2025-04-0{i + 1}T00:00:00Z", "event": "Signed In"})
        rows.append({"customer_id": person, "event_time": "never", "event": "Order Completed", "note": person})
    found = [json.dumps(row) for row in rows if not {row.get("customer_id") or row.get("anonymous_id")} & {*without, *(f"anon-{w}" for w in without)}]
    found = [line.replace(f'"anonymous_id": "anon-{w}", ', "") for line in found for w in [next((w for w in without if w in line), "?")]]
    return found + [f"{person}, no row" for person in PEOPLE if person not in without]


def write(folder: Path, without: Sequence[str] = ()) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "orders.jsonl").write_text("\n".join(lines(without)) + "\n")
    people = [p for p in ("c0100", *PEOPLE) if p not in without]
    (folder / "customers.csv").write_text("id,country\n" + "".join(f"{p},GB\n" for p in people) + "".join(f",{p}\n" for p in people))
    (folder / "rules.yaml").write_text(RULES)
    (folder / "predseg.yaml").write_text(PROJECT)
    return folder / "predseg.yaml"


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project that was trained, scored, segmented and exported."""
    folder = tmp_path_factory.mktemp("rights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(write(folder).parent)
        for command in ("train", "score --out scores.csv", "score --out scores.parquet", "segment --out members.jsonl", "optout add " + PEOPLE[0]):
            assert main(command.split()) == 0
    return folder


@pytest.fixture
def shop(used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import shutil

    shop = shutil.copytree(used, tmp_path / "shop")
    exports = shop / "store" / "exports.json"
    exports.write_text(exports.read_text().replace(str(used), str(shop)))
    monkeypatch.chdir(shop)
    return shop


def naming(folder: Path, texts: Sequence[str], *, outside: Sequence[str] = ()) -> list[str]:
    """The files whose bytes have one of the texts."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in outside]
    found = []
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".parquet":  # compressed: look at what a reader sees, statistics and dictionaries included
            import pyarrow.parquet as pq

            read = pq.ParquetFile(file)
            content += repr(read.read().to_pylist()).encode() + str(read.metadata.to_dict()).encode()
        found += [file.relative_to(folder).as_posix() for text in texts if text.encode() in content]
    return sorted(set(found))


SOURCES = ("orders.jsonl", "customers.csv", "no.txt")


def test_not_a_byte_of_a_forgotten_person_is_left(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = naming(shop, PEOPLE, outside=SOURCES)
    assert {"scores.csv", "scores.parquet", "members.jsonl", "store/ingest.json", "store/customers.json"} <= set(before)
    assert {p.split("/")[2] for p in before if p.startswith("store/tables")} == {"events", "customers", "quarantine", "scores", "memberships"}
    connection = sqlite3.connect("store/live.db")
    connection.execute("create table state (customer_id text, note text)")
    connection.executemany("insert into state values (?, ?)", [(p, "x" * 5000 + p) for p in (*PEOPLE, "c0100")])
    connection.commit()
    connection.close()
    (shop / "no.txt").write_text("\n".join(PEOPLE[1:]))
    capsys.readouterr()
    assert main(["forget", PEOPLE[0], "--from", "no.txt", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ids"] == 2 * len(PEOPLE) and said["rows"]["live.db/state"] == len(PEOPLE) and said["rows"]["quarantine"] == 4 * len(PEOPLE)
    assert set(said["files"]) == {str(shop / name) for name in ("scores.csv", "scores.parquet", "members.jsonl")}
    assert naming(shop, PEOPLE, outside=SOURCES) == []
    assert main(["forget", *PEOPLE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {}


def test_the_check_for_bytes_can_fail(shop: Path) -> None:
    main(["forget", *PEOPLE])
    (shop / "store" / "log.txt").write_text(f"scored {PEOPLE[2]}")
    assert naming(shop, PEOPLE, outside=SOURCES) == ["store/log.txt"]


def test_a_rebuild_equals_a_history_that_never_had_them(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from predseg.history.events import ingest
    from predseg.language.time import parse_instant

    main(["forget", *PEOPLE])
    project, alone = Project.load(shop / "predseg.yaml"), Project.load(write(tmp_path / "alone", without=PEOPLE))
    erased = (project.events().to_pylist(), project.quarantine().to_dict("records"), project.last_check())
    with project._events(False) as (store, _):
        report = ingest(project.config, store, now=parse_instant("2026-01-01"), persons=project.people.persons(), rebuild=True)
    assert report.traits is not None
    for part in (*report.sources, report.traits):
        assert part.received == part.accepted + part.duplicates + part.quarantined + part.suppressed
    assert report.sources[0].suppressed > 4 * len(PEOPLE) and report.traits.suppressed == len(PEOPLE)
    never = alone.check()
    for name in ("events", "customers"):
        assert project_rows(project, name) == project_rows(alone, name)
    assert len(project.quarantine()) == len(alone.quarantine()) + len(PEOPLE), "a bad row of nobody that has the id as its country is nobody's"
    for what in ("rows", "customers", "events", "first", "last", "visible"):
        assert getattr(report, what) == getattr(never, what) == getattr(erased[2], what)
    assert erased[0] == project.events().to_pylist()
    assert main(["check"]) == 0 and "suppressed" in capsys.readouterr().out


def project_rows(project: Project, name: str) -> list[dict[str, object]]:
    with project._events(False) as (store, _):
        return [{column: value for column, value in row.items() if value is not None} for row in store.read(name).to_pylist()]


def test_forgotten_persons_come_in_again_only_when_that_is_lifted(shop: Path) -> None:
    main(["forget", PEOPLE[1]])
    with (shop / "orders.jsonl").open("a") as file:
        file.write(json.dumps({"customer_id": PEOPLE[1], "event_time": "2025-10-30T00:00:00Z", "event": "Order Completed"}) + "\n")
    project = Project.load(shop / "predseg.yaml")
    assert PEOPLE[1] not in project.events()["customer_id"].to_pylist()
    assert main(["forget", PEOPLE[1], "--lift"]) == 0
    with (shop / "orders.jsonl").open("a") as file:
        file.write(json.dumps({"customer_id": "c0100", "event_time": "2025-10-30T00:00:00Z", "event": "Order Completed"}) + "\n")
    assert PEOPLE[1] in project.events()["customer_id"].to_pylist()


def test_an_anonymous_id_is_forgotten_with_its_customer_and_no_other(shop: Path) -> None:
    with pytest.raises(UsageError, match=f"E242.*\n.*forget {PEOPLE[0]}"):
        Project.load(shop / "predseg.yaml").forget([f"anon-{PEOPLE[0]}"])
    main(["forget", "c0100"])
    events = Project.load(shop / "predseg.yaml").events().to_pylist()
    assert {row["anonymous_id"] for row in events if row["customer_id"] == PEOPLE[0]} == {None, f"anon-{PEOPLE[0]}"}


def test_a_dry_run_says_what_would_go_and_erases_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = naming(shop, PEOPLE)
    assert main(["forget", *PEOPLE, "--dry-run"]) == 0
    assert "nothing was erased" in capsys.readouterr().out and naming(shop, PEOPLE) == before
    assert PEOPLE[0] in Project.load(shop / "predseg.yaml").events()["customer_id"].to_pylist()


def test_an_export_that_cannot_be_looked_through_is_reported(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "scores.parquet").write_text("not what was written")
    (shop / "members.jsonl").unlink()
    assert main(["forget", PEOPLE[0]]) == 1
    assert "scores.parquet" in capsys.readouterr().out


def test_everything_held_about_a_person_as_json(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["subject", "export", PEOPLE[0], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["subject"]
    assert set(found["held"]) >= {"events", "customers", "quarantine", "scores", "memberships", str(shop / "scores.csv")}
    assert found["ids"] == [PEOPLE[0], f"anon-{PEOPLE[0]}"] and found["consent"][0]["opted_out"] is True and not found["forgotten"]
    assert all(PEOPLE[0] in json.dumps(row) for rows in found["held"].values() for row in rows), "nothing of anybody else"
    assert main(["subject", "export", PEOPLE[0], "--out", "one.json"]) == 0
    assert (shop / "one.json").stat().st_mode & 0o777 == 0o600 and json.loads((shop / "one.json").read_text())["held"] == found["held"]
    main(["forget", PEOPLE[0]])
    assert naming(shop, [PEOPLE[0]], outside=(*SOURCES, "one.json")) == []
    capsys.readouterr()
    assert main(["subject", "export", PEOPLE[0], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["subject"]
    assert found["held"] == {} and found["forgotten"] and found["consent"], "a no outlasts the data"


def test_the_words_of_a_raw_row() -> None:
    assert "c1" in words('{"customer": "c1"}') & words("x;c1;y") & words('"c1",2') & words("c1") & words("a c1 b")
    assert "c1" not in words('{"customer": "c12"}') | words("c12,xc1")


def test_forgetting_survives_a_new_key(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(["forget", PEOPLE[1]])
    (shop / "predseg.yaml").write_text(PROJECT + "consent: {key: env:NEW_KEY}\n")
    monkeypatch.setenv("NEW_KEY", "n" * 20)
    with Project.load(shop / "predseg.yaml").people.consent() as (connection, keys):
        assert PEOPLE[1] in privacy.all_forgotten(connection, keys)


# what came live


LIVE = "project: live\nsources: {}\nsegments: rules.yaml\n"
STATEMENTS = """\
segment: shopper
refresh: live
match: {did: Product Added}
"""


def live_rows() -> list[dict[str, object]]:
    """Somebody who is to be forgotten, whose device another customer used as well, and rows that broke the contract."""
    ann, device = "canary-ann", "canary-device"
    rows: list[dict[str, object]] = [
        {"anonymous_id": device, "event": "Product Viewed"},
        {"customer_id": ann, "anonymous_id": device, "event": "Product Added"},
        {"customer_id": "bob", "anonymous_id": device, "event": "Product Added"},
        {"customer_id": "eve", "event": "Product Added", "note": "canaries sing"},
        {"customer_id": ann, "event": ""},
        {"event": "Product Added", "note": ann},
    ]
    return [{**row, "event_id": f"e{n}", "event_time": f"2026-03-01T10:0{n}:00Z"} for n, row in enumerate(rows)]


@pytest.mark.parametrize("handed_over", [False, True], ids=["only live", "handed over"])
def test_live_state_forgets_and_goes_on_for_everybody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed_over: bool) -> None:
    from contextlib import closing

    from predseg.language.time import parse_instant
    from predseg.live.opening import open_durable

    (tmp_path / "predseg.yaml").write_text(LIVE)
    (tmp_path / "rules.yaml").write_text(STATEMENTS)
    monkeypatch.chdir(tmp_path)
    project, now = Project.load(tmp_path), parse_instant("2026-03-01T11:00")
    with closing(open_durable(project.config, project.segments(), now)) as loop:
        verdicts = [v.kind for v in loop.feed(live_rows(), now).verdicts]
    assert verdicts == ["accepted"] * 4 + ["quarantined"] * 2
    if handed_over:
        assert project.events().num_rows == 4
    found = project.forget(["canary-ann"])
    assert found.ids == 2 and {"live.db/log", "live.db/memberships", "live.db/refused", "live.db/people", "live.db/changes"} <= set(found.rows)
    assert naming(tmp_path, ["canary-ann", "canary-device"]) == []
    with closing(open_durable(project.config, project.segments(), now)) as loop:
        assert set(loop.state.members("shopper")) == {"bob", "eve"} if loop.state else False
        assert (
            loop.feed([{"customer_id": "zoe", "event": "Product Added", "event_time": "2026-03-01T11:00:00Z"}], now + 1).changes[0].customer_id
            == "zoe"
        )
    assert sorted({*project.events()["customer_id"].to_pylist()}) == ["bob", "eve", "zoe"] and naming(tmp_path, ["canary-ann", "canary-device"]) == []


def test_a_run_goes_on_when_everybody_who_came_live_was_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was refused for want of rows."""
    from contextlib import closing

    from predseg.language.time import parse_instant
    from predseg.live.opening import open_durable

    file = small.write(tmp_path, small.rows()[:50], small.CONFIG + "segments: rules.yaml\n")
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    project, now = Project.load(file), parse_instant("2026-03-01T11:00")
    assert project.check().rows == 50
    with closing(open_durable(project.config, project.segments(), now)) as loop:
        loop.feed([{"customer_id": "canary", "event": "Order Completed", "event_time": "2026-03-01T10:00:00Z", "event_id": "e1"}], now)
    assert project.check().rows == 51
    project.forget(["canary"])
    assert project.check().rows == 50 and main(["check"]) == 0
