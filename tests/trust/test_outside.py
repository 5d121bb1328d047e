"""Going out: nobody makes predseg write where it should not, receivers can verify, spreadsheets run nothing; each count can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.trust import formulas, requests, webhooks
from predseg import formats
from predseg.activation import posting, web


def test_no_forged_request_arrives(tmp_path: Path) -> None:
    found = requests.measure(0, tmp_path, 1)
    assert found.faults == () and found.cases >= 200 and found.seen == f"0 reached, {found.cases} refused"


def test_an_address_that_is_not_looked_at_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "why_refused", lambda address, private: "link-local" if address.startswith("169") else None)
    assert any("connected to" in fault for fault in requests.measure(0, tmp_path, 1).faults)


def test_signatures_are_those_of_the_standard(tmp_path: Path) -> None:
    found = webhooks.measure(webhooks.SMALL, tmp_path, 1)
    assert found.faults == () and found.seen.startswith(f"{webhooks.SMALL + 1} signatures equal, {webhooks.SMALL} verified")


def test_another_signature_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "signing_key", lambda secret, name: b"another key")
    monkeypatch.setattr(webhooks, "signing_key", lambda secret, name: b"another key")
    assert {re.sub(r"^\S+ ", "", f)[:19] for f in webhooks.measure(3, tmp_path, 1).faults} >= {"it is not verified"}


def test_no_cell_is_run_and_no_number_changed(tmp_path: Path) -> None:
    found = formulas.measure(formulas.SMALL, tmp_path, 1)
    assert found.faults == () and found.seen.startswith("0 run, ")


def test_a_cell_that_is_run_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_FORMULA", r"^[=+\-@]")
    assert any("is run" in fault for fault in formulas.measure(200, tmp_path, 1).faults)
    monkeypatch.setattr(formats, "_FORMULA", r"^.")
    assert any("came back" in fault for fault in formulas.measure(200, tmp_path, 1).faults)
