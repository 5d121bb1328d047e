"""Another key for pseudonyms: everybody has the name that a store made with all keys from the beginning would have, and nothing else changes."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from predseg import Project
from predseg.cli import main
from predseg.history import adding, privacy, renaming
from predseg.history.keys import pseudonym, renamed
from predseg.layers import Reader, gone_in, readers
from predseg.store import Store
from tests.history.projects import LONGER
from tests.test_rights import naming

OLD, NEW, THIRD = b"the first key of the shop", b"the second key of the shop", b"the third key of the shop"
CONFIG = """\
project: names
sources: {orders: {path: 'orders*.jsonl'}}
customers: {path: customers.csv, customer_id: id}
contract: {tolerance: 100%}
consent: {path: no.csv}
channels: {crm: {file: crm}}
segments: rules.yaml
pseudonymize: [env:OLD]
"""
RULES = """\
segment: buyers
match: {did: Order Completed}
on_enter: {send: crm}
---
segment: recent
refresh: live
match: {did: Order Completed, within: 30 days}
on_leave: {send: crm}
"""
STEPS = ["_rename_table", "_rename_lists", "_begin", "_rename_events", "_rename_texts", "_rename_file"]
KEYS = "pseudonymize: [env:OLD, env:NEW]"


def orders() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"customer_id": f"c{n % 37}", "event": "Order Completed", "event_time": f"2026-03-{1 + n % 28:02d}T10:00:00Z", "value": n} for n in range(90)
    ]
    found += [{"customer_id": f"late{n}", "event": "Order Completed", "event_time": "2026-03-25T10:00:00Z"} for n in range(3)]
    found += [{"anonymous_id": f"a{n}", "event": "Product Viewed", "event_time": "2026-03-02T10:00:00Z"} for n in range(6)]
    found += [{"customer_id": f"c{n}", "anonymous_id": f"a{n}", "event": "Signed In", "event_time": "2026-03-03T10:00:00Z"} for n in range(3)]
    found += [{"customer_id": "c9", "anonymous_id": "a0", "event": "Signed In", "event_time": "2026-03-04T10:00:00Z"}]
    found += [{"customer_id": "c1", "event": "Unsubscribed", "event_time": "2026-03-05T10:00:00Z"}, {"customer_id": "bad1", "event_time": "never"}]
    return found


def live(*customers: str) -> str:
    rows = [{"customer_id": one, "event": "Order Completed", "event_time": f"2026-03-29T1{n}:00:00Z"} for n, one in enumerate(customers)]
    return "".join(json.dumps(row) + "\n" for row in [*rows, {"customer_id": "badlive", "event": ""}])


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    (folder / "predseg.yaml").write_text(CONFIG)
    (folder / "rules.yaml").write_text(RULES)
    (folder / "orders.jsonl").write_text("".join(json.dumps(row) + "\n" for row in orders()))
    (folder / "customers.csv").write_text("id,country\n" + "".join(f"c{n},GB\n" for n in range(12)) + ",FR\n")
    (folder / "no.csv").write_text("customer_id\nc2\n")
    (folder / "in.jsonl").write_text(live("c3", "lonely", "gone"))
    with pytest.MonkeyPatch.context() as patch:
        _environment(patch)
        patch.chdir(folder)
        for command in (
            "live in.jsonl --durable",
            "segment --as-of 2026-03-20",
            "act 2026-03-20",
            "segment --out members.csv",
            "segment --out members.parquet",
            "act",
            "optout add c4 lonely stranger",
            "forget gone",
        ):
            if command.startswith("act"):
                Project.load(folder).act(command[4:] or None)
            else:
                assert main([*command.split(), "-q"]) == 0, command
    return folder


def _environment(patch: pytest.MonkeyPatch) -> None:
    for name, key in (("OLD", OLD), ("NEW", NEW), ("THIRD", THIRD)):
        patch.setenv(name, key.decode())


@pytest.fixture
def shop(used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shop = shutil.copytree(used, tmp_path / "shop")
    (shop / "store" / "exports.json").write_text((shop / "store" / "exports.json").read_text().replace(str(used), str(shop)))
    _environment(monkeypatch)
    monkeypatch.chdir(shop)
    return shop


def rotate(shop: Path, keys: str = KEYS, *options: str) -> int:
    text = (shop / "predseg.yaml").read_text()
    (shop / "predseg.yaml").write_text(re.sub("pseudonymize: .*", keys, text))
    return main(["pseudonyms", "rotate", *options])


def everything(shop: Path, change: Callable[[str], str] = lambda text: text) -> dict[str, list[str]]:
    """What a store and its exports hold, row by row, ids of events that came without one left away."""
    found: dict[str, list[str]] = {}
    folders = sorted({file.parent for file in (shop / "store" / "tables").rglob("*.parquet")})
    for reader in [*(reader for folder in folders for reader in readers(sorted(folder.glob("*.parquet")))), Reader(shop / "members.parquet")]:
        name = reader.path.relative_to(shop).as_posix() if reader.path.parent == shop else reader.path.parent.relative_to(shop).as_posix()
        rows = reader.read().to_pylist()
        found.setdefault(name, []).extend(change(str({k: v for k, v in row.items() if k != "event_id"})) for row in rows)
    with closing(sqlite3.connect(shop / "store" / "live.db")) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")]
        for table in {*tables} - {*privacy_tables()}:
            found[table] = [change(str(row)) for row in connection.execute(f"select * from {table}")]
    found["members.csv"] = [change(line) for line in (shop / "members.csv").read_text().splitlines()]
    found["crm"] = [change(line) for file in sorted((shop / "crm").rglob("*.csv")) for line in file.read_text().splitlines()]
    return {name: sorted(rows) for name, rows in found.items()}


def privacy_tables() -> tuple[str, ...]:
    return ("optouts", "forgotten", "dropped", "privacy", "renaming")


def again(text: str) -> str:
    return re.sub(r"p_[0-9a-f]{32}", lambda found: renamed(found[0], [NEW]), text)


def refused(who: str, keys: tuple[bytes, ...] = (OLD, NEW)) -> bool:
    with Project.load("predseg.yaml").people.consent() as (connection, _):
        return privacy.opted_out(connection, pseudonym(who, keys), None)


def put_beside(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a file of rows, among them that of a visitor who now is somebody, beside the base of the events table."""
    for name in ("LEAST", "SHARE"):
        monkeypatch.setattr(adding, name, 0)
    Project.load(shop).check()
    rows = [{"customer_id": "c5", "anonymous_id": "a5", "event": "Signed In", "event_time": "2026-03-06T10:00:00Z"}]
    rows += [{"customer_id": f"c{n}", "event": "Order Completed", "event_time": "2026-03-07T11:00:00Z"} for n in range(30, 40)]
    (shop / "orders-more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Project.load(shop).check()
    assert gone_in(Store(shop / "store").files("events")), "rows of the visitor moved"


@pytest.mark.parametrize("beside", [False, True])
def test_everything_follows_and_nothing_else_changes(shop: Path, beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if beside:
        put_beside(shop, monkeypatch)
    before, wanted = everything(shop), everything(shop, again)
    assert {"people", "changes", "actions", "transitions", "log", "refused"} <= {name for name, rows in before.items() if rows}
    rows = Project.load("predseg.yaml").events().num_rows
    assert before["crm"] and rotate(shop) == 0
    assert everything(shop) == wanted
    events, sources = Project.load("predseg.yaml").events(), Project.load("predseg.yaml").last_check()
    assert events.num_rows == rows and sources is not None and not sum(source.new for source in sources.sources)
    assert naming(shop / "store", [pseudonym(who, [OLD]) for who in ("c3", "c30", "lonely", "a1", "bad1")]) == []
    assert main(["pseudonyms", "rotate"]) == 0 and everything(shop)["people"] == wanted["people"]


def test_the_tables_are_those_of_a_store_that_always_had_all_keys(shop: Path, used: Path, tmp_path: Path) -> None:
    assert rotate(shop) == 0
    renamed_events, customers = Project.load(shop).events(), Store(shop / "store").read("customers")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for name in ("orders.jsonl", "customers.csv", "no.csv", "rules.yaml", "in.jsonl"):
        shutil.copy(used / name, fresh)
    (fresh / "predseg.yaml").write_text((shop / "predseg.yaml").read_text())
    assert main(["live", str(fresh / "in.jsonl"), "--durable", "-c", str(fresh), "-q"]) == 0
    assert main(["forget", "gone", "-c", str(fresh), "-q"]) == 0
    columns = [name for name in renamed_events.column_names if name != "received_at"]
    assert renamed_events.select(columns).to_pylist() == Project.load(fresh).events().select(columns).to_pylist(), (
        "the ids of events too, in this order"
    )
    assert Store(shop / "store").read("customers").to_pylist() == Store(fresh / "store").read("customers").to_pylist() == customers.to_pylist()


def test_who_said_no_is_left_alone_whoever_they_are(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the file, by an event, by command; known only live, and not known at all until later."""
    assert rotate(shop, KEYS, "--json") == 0
    assert json.loads(capsys.readouterr().out)["renamed"]["waiting"] == 1
    assert [refused(who) for who in ("c1", "c2", "c4", "lonely", "c5")] == [True, True, True, True, False]
    assert not refused("stranger"), "the store does not know yet who that is"
    with (shop / "orders.jsonl").open("a") as file:
        file.write(json.dumps({"customer_id": "stranger", "event": "Order Completed", "event_time": "2026-03-28T00:00:00Z"}) + "\n")
        file.write(json.dumps({"customer_id": "gone", "event": "Order Completed", "event_time": "2026-03-28T00:00:00Z"}) + "\n")
    names = Project.load("predseg.yaml").events()["customer_id"].to_pylist()
    assert pseudonym("stranger", [OLD, NEW]) in names and refused("stranger"), "recognised when they come in"
    assert pseudonym("gone", [OLD, NEW]) not in names, "forgotten under the old name"
    assert main(["segment", "buyers", "--out", "now.csv", "-q"]) == 0
    out = (shop / "now.csv").read_text()
    assert pseudonym("c5", [OLD, NEW]) in out and not any(pseudonym(who, [OLD, NEW]) in out for who in ("c1", "c2", "c4", "stranger"))
    capsys.readouterr()
    assert main(["subject", "export", "gone", "--json"]) == 0 and json.loads(capsys.readouterr().out)["subject"]["forgotten"]
    assert main(["forget", "gone", "--lift", "--json"]) == 0 and json.loads(capsys.readouterr().out)["lifted"] == 1


@pytest.mark.parametrize("by", ["command", "live"])
def test_a_stranger_on_the_list_is_recognised_by_every_door(shop: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    assert rotate(shop) == 0
    if by == "command":
        assert main(["optout", "list", "stranger", "--json"]) == 0
    else:
        (shop / "more.jsonl").write_text(live("stranger"))
        assert main(["live", "more.jsonl", "--durable"]) == 0
    assert refused("stranger")


def test_messages_are_not_sent_twice_and_the_live_state_goes_on(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sent = len(everything(shop)["crm"])
    assert rotate(shop) == 0
    Project.load("predseg.yaml").act()
    assert len(everything(shop)["crm"]) == sent
    (shop / "more.jsonl").write_text(live("c3", "brandnew"))
    capsys.readouterr()
    assert main(["live", "more.jsonl", "--durable", "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert [c["customer_id"] for c in changes if c["change"] == "entered"] == [pseudonym("brandnew", [OLD, NEW])], "c3 is inside already"


@pytest.mark.parametrize("step", STEPS if LONGER > 1 else STEPS[:2])
def test_one_that_is_cut_short_refuses_everything_until_it_is_whole(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    wanted = everything(shop, again)
    done = getattr(renaming, step)

    def cut(*given: Any) -> Any:
        done(*given)
        raise RuntimeError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(renaming, step, cut)
        assert rotate(shop) == 70
    for keys in ("pseudonymize: [env:OLD]", KEYS):
        (shop / "predseg.yaml").write_text(re.sub("pseudonymize: .*", keys, (shop / "predseg.yaml").read_text()))
        capsys.readouterr()
        assert main(["segment"]) == 4 and "cut short" in capsys.readouterr().err
    assert rotate(shop) == 0 and everything(shop) == wanted
    assert [refused(who) for who in ("c1", "c2", "c4", "lonely", "c5")] == [True, True, True, True, False]


def test_a_second_rotation_follows_the_first(shop: Path) -> None:
    assert rotate(shop) == 0
    assert rotate(shop, "pseudonymize: [env:OLD, env:NEW, env:THIRD]") == 0
    assert refused("c4", (OLD, NEW, THIRD)) and refused("c1", (OLD, NEW, THIRD))
    assert pseudonym("c30", [OLD, NEW, THIRD]) in Project.load("predseg.yaml").events()["customer_id"].to_pylist()


def test_an_added_key_says_what_to_do_and_a_wrong_one_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "predseg.yaml").write_text(CONFIG.replace("[env:OLD]", "[env:OLD, env:NEW]"))
    assert main(["check"]) == 4 and "help: predseg pseudonyms rotate" in capsys.readouterr().err
    assert rotate(shop, "pseudonymize: [env:NEW, env:OLD]") == 2 and "E243" in capsys.readouterr().err
    assert rotate(shop, "pseudonymize: [env:OLD]") == 0 and "nothing was done" in capsys.readouterr().out
    before = everything(shop)
    assert rotate(shop, KEYS, "--dry-run") == 0 and everything(shop) == before
    assert rotate(shop, KEYS, "--map", "names.csv") == 0
    lines = (shop / "names.csv").read_text().splitlines()
    assert f"{pseudonym('c4', [OLD])},{pseudonym('c4', [OLD, NEW])}" in lines and (shop / "names.csv").stat().st_mode & 0o777 == 0o600


def test_what_is_tried_out_begins_anew_only_when_that_is_wanted(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (shop / "rules.yaml").open("a") as file:
        file.write("---\nsegment: trying\nholdout: 50%\nmatch: {did: Order Completed}\n")
    with (shop / "orders.jsonl").open("a") as file:
        file.write(json.dumps({"customer_id": "c5", "event": "Order Completed", "event_time": "2026-03-30T00:00:00Z"}) + "\n")
    assert main(["segment", "-q"]) == 0
    assert rotate(shop) == 2 and "error[E244] trying" in capsys.readouterr().err
    assert rotate(shop, KEYS, "--reassign", "--json") == 0
    assert json.loads(capsys.readouterr().out)["begun_anew"] == ["trying"]
    assert len(Store(shop / "store").read("experiments").to_pylist()) == 2
