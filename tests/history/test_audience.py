"""The audience in a table of a real PostgreSQL server: its differences only, whole or not at all, without who said no."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from predseg.cli import main
from predseg.config import parse
from predseg.errors import ChannelError, ConfigError
from predseg.history import audience
from predseg.language.audience import Audience
from tests.history.test_databases import Server, server

__all__ = ["server"]
RULES = """\
segment: buyers
match: {did: Order Completed}
---
segment: recent
split: {control: 50%, new: 50%}
match: {did: Order Completed, within: 10 days}
"""


@dataclass
class Shop:
    folder: Path
    server: Server

    def rows(self, table: str = "audience") -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.server.url()) as connection:
            return connection.execute(f"select segment, customer_id, entered_at, variant from {table} order by 1, 2").fetchall()

    def marks(self) -> set[tuple[str, str]]:
        """What tells which transaction wrote a row, and where it lies."""
        import psycopg

        with psycopg.connect(self.server.url()) as connection:
            return {(str(a), str(b)) for a, b in connection.execute("select xmin, ctid from audience")}

    def orders(self, *rows: tuple[str, str]) -> None:
        with (self.folder / "orders.csv").open("a") as file:
            file.write("".join(f"{customer},Order Completed,{day}T00:00:00Z\n" for customer, day in rows))

    def config(self, rules: str = RULES, table: str = "audience") -> None:
        (self.folder / "rules.yaml").write_text(rules)
        text = f"project: shop\nsources: {{orders: {{path: orders.csv}}}}\nsegments: rules.yaml\naudience: {{url: '{self.server.url()}', table: {table}}}\n"
        (self.folder / "predseg.yaml").write_text(text)


@pytest.fixture
def shop(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    import psycopg

    (tmp_path / "orders.csv").write_text("customer_id,event,event_time\n")
    shop = Shop(tmp_path, server)
    shop.config()
    shop.orders(*((f"c{n}", f"2026-03-{1 + n:02d}") for n in range(12)))
    monkeypatch.chdir(tmp_path)
    yield shop
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("drop table if exists audience")


def published(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, int] | None:
    capsys.readouterr()
    assert main(["segment", "--publish", "--json", *options]) == 0
    found: dict[str, int] | None = json.loads(capsys.readouterr().out)["published"]
    return found


def test_only_differences_are_written_and_the_second_time_nothing(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert published(capsys, "--dry-run") == {"added": 22, "changed": 0, "removed": 0}
    assert published(capsys) == {"added": 22, "changed": 0, "removed": 0}
    first, marks = shop.rows(), shop.marks()
    assert [row[1] for row in first if row[0] == "buyers"] == sorted(f"c{n}" for n in range(12)) and {row[3] for row in first} == {
        None,
        "control",
        "new",
    }
    assert published(capsys) == {"added": 0, "changed": 0, "removed": 0}
    assert shop.rows() == first and shop.marks() == marks, "not a row was written again"
    shop.orders(("c99", "2026-03-14"))
    assert published(capsys) == {"added": 2, "changed": 0, "removed": 2}, "one came, two are no longer recent"
    assert len(shop.marks() - marks) == 2 and ("buyers", "c99") in {row[:2] for row in shop.rows()}
    import psycopg

    with psycopg.connect(shop.server.url(), autocommit=True) as connection:
        connection.execute("update audience set entered_at = now() where customer_id = 'c5' and segment = 'buyers'")
        connection.execute("insert into audience values ('gone', 'c1', now(), null), ('buyers', 'stranger', now(), null)")
    assert published(capsys, "buyers") == {"added": 0, "changed": 1, "removed": 1}, "of the named segment only"
    assert published(capsys) == {"added": 0, "changed": 0, "removed": 1}, "a segment that is no more"


def test_who_says_no_or_is_forgotten_leaves_the_table(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    published(capsys)
    main(["optout", "add", "c11", "-q"])
    assert published(capsys) == {"added": 0, "changed": 0, "removed": 2} and not any(row[1] == "c11" for row in shop.rows())
    capsys.readouterr()
    assert main(["subject", "export", "c10", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["subject"]["held"]["audience audience"]) == 2
    assert main(["forget", "c10"]) == 0 and not any(row[1] == "c10" for row in shop.rows()), "at once"
    assert main(["optout", "remove", "c11", "-q"]) == 0 and published(capsys) == {"added": 2, "changed": 0, "removed": 0}


def test_one_that_is_killed_leaves_the_table_as_it_was(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    published(capsys)
    before = shop.rows()
    shop.orders(*((f"new{n}", "2026-03-20") for n in range(5)))
    dying = "import os; from predseg.history import audience; from predseg.cli import main\n"
    dying += "real = audience._remove\ndef die(*given):\n    assert real(*given) > 0\n    os.kill(os.getpid(), 9)\n"
    dying += "audience._remove = die\nmain(['segment', '--publish', '-q'])\n"
    assert subprocess.run([sys.executable, "-c", dying], cwd=shop.folder, check=False).returncode == -9
    assert shop.rows() == before
    found = published(capsys)
    assert (
        found is not None
        and found["added"] == 10
        and {row[1] for row in shop.rows() if row[0] == "recent"} == {f"new{n}" for n in range(5)} | {"c10", "c11"}
    )


def test_the_past_is_not_published_and_the_daily_run_publishes(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-q"]) in (0, 1)
    main(["optout", "add", "c11", "-q"])
    assert main(["run", "-q"]) in (0, 1)
    before = shop.rows()
    assert len(before) == 20 and published(capsys, "--as-of", "2026-03-02") is None and shop.rows() == before


@pytest.mark.parametrize(
    ("table", "setup", "says"),
    [
        ("nowhere.audience", "", 'schema "nowhere" does not exist'),
        ("audience", "create table audience (a int)", "column"),
        (
            "audience",
            "create table audience (segment text, customer_id text, entered_at timestamptz, variant text)",
            "no unique or exclusion constraint",
        ),
    ],
)
def test_a_database_that_does_not_take_it_is_said_without_its_password(
    shop: Shop, capsys: pytest.CaptureFixture[str], table: str, setup: str, says: str
) -> None:
    import psycopg

    if setup:
        with psycopg.connect(shop.server.url(), autocommit=True) as connection:
            connection.execute(setup)
    shop.config(table=table)
    capsys.readouterr()
    assert main(["segment", "--publish"]) == 8
    said = capsys.readouterr().err
    assert "error[E803] audience" in said and says in said and "cret" not in said


def test_a_server_that_is_down_and_a_declaration_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(ChannelError, match="E803") as refusal:
        audience.take_out(Audience("postgresql://ann:secret@127.0.0.1:1/shop"), ["c1"])
    assert "secret" not in str(refusal.value)
    for wrong in (
        "{table: a}",
        "{url: 'mysql://a@b/c'}",
        "{url: 'postgresql://a@b/c', table: 'a; drop table b'}",
        "{url: 'postgresql://a@b/c', table: a.b.c}",
    ):
        with pytest.raises(ConfigError, match="E353"):
            parse(f"project: a\naudience: {wrong}", tmp_path / "predseg.yaml")
    (tmp_path / "predseg.yaml").write_text("project: a\nsources: {o: {path: o.csv}}\nsegments: r.yaml\n")
    (tmp_path / "r.yaml").write_text(RULES)
    (tmp_path / "o.csv").write_text("customer_id,event,event_time\nc1,Order Completed,2026-01-01\n")
    monkeypatch.chdir(tmp_path)
    assert main(["segment", "--publish"]) == 2
