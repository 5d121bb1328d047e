"""What runs at night names nobody: neither what it prints nor what it refuses; and what it writes is for its owner."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from predseg.cli import main
from tests import small

CANARY = "canary-Zq7x"
CONFIG = """\
project: quiet
sources: {orders: {path: events.csv}}
customers: {path: customers.csv, customer_id: id}
contract: {tolerance: 5%}
expectations: {events: {Order Completed: {between: {value: [0, 100000]}}}}
channels: {crm: {file: crm}}
consent: {path: no.csv}
features: {windows: [14 days, 30 days], events: {Order Completed: {value: value}}}
models: {purchase: {predict: {did: Order Completed, within_next: 20 days}, cutoffs: 4}}
segments: rules.yaml
"""
RULES = "segment: buyers\nmatch: {did: Order Completed}\non_enter: {send: crm}\n---\nsegment: likely\nmatch: {score: purchase, top: 10%}\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop in which everybody is a canary, with bad rows and somebody who said no; made with an open umask."""
    folder = tmp_path_factory.mktemp("quiet")
    lines = [re.sub(r"^c", f"{CANARY}-", line) for line in small.rows(260)]
    bad = [f"{CANARY}-{n:04d},never,Order Completed,1.0" for n in range(40)]
    small.write(folder, [*lines, *bad], CONFIG)
    (folder / "rules.yaml").write_text(RULES)
    (folder / "customers.csv").write_text(f"id,country\n{CANARY}-0001,GB\n,{CANARY}\n")
    (folder / "no.csv").write_text(f"customer_id\n{CANARY}-0002\n")
    return folder


@pytest.fixture(scope="module")
def told(shop: Path) -> dict[str, str]:
    """What the commands of a night print."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    found = {}
    before = os.umask(0)
    try:
        for command in ("train", "score", "run", "run --json", "actions", "doctor"):
            out = StringIO()
            with redirect_stdout(out), redirect_stderr(out):
                code = main([*command.split(), "-c", str(shop / "predseg.yaml")])
            assert code in (0, 1), out.getvalue()
            found[command] = out.getvalue()
    finally:
        os.umask(before)
    return found


def test_nothing_of_a_night_names_anybody(told: dict[str, str]) -> None:
    assert {name for name, text in told.items() if CANARY in text} == {"score"}, "whoever asks for scores is shown the highest"
    assert "quarantine" in told["run"] and json.loads(told["run --json"])["status"] in ("ok", "failed"), "the bad rows are counted"


def test_a_refusal_names_nobody_and_says_where_to_look(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "strict.yaml").write_text(CONFIG.replace("5%", "0%").replace("project: quiet", "project: quiet\nstore: strict"))
    for command in ("run", "train"):
        capsys.readouterr()
        assert main([command, "-c", str(shop / "strict.yaml")]) == 4
        said = capsys.readouterr()
        assert "E409" in said.err and "predseg quarantine list --source orders" in said.err and CANARY not in said.err + said.out
    assert main(["quarantine", "list", "--source", "orders", "-c", str(shop / "strict.yaml")]) == 0 and CANARY in capsys.readouterr().out


def test_the_store_with_models_and_artifacts_is_for_its_owner_whatever_the_umask(shop: Path, told: dict[str, str]) -> None:
    store = shop / "store"
    assert (store / "mlflow.db").is_file() and list((store / "mlruns").rglob("card.md"))
    assert store.stat().st_mode & 0o777 == 0o700, "nobody else can look into it"


def test_artifacts_and_parameters_of_runs_name_nobody(shop: Path, told: dict[str, str]) -> None:
    named = [
        path
        for path in (*(shop / "store" / "mlruns").rglob("*"), shop / "store" / "mlflow.db")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert named == []
    text = "".join((shop / "store" / name).read_text() for name in ("audit.jsonl", "steps.json", "kept.json"))
    assert CANARY not in text
