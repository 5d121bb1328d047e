"""Consent: who must not be written to. It is no part of a rule; exports and sending leave these customers away."""

from __future__ import annotations

import csv
from pathlib import Path

from predseg.errors import DataError


def opted_out(path: Path | None, purpose: str | None) -> frozenset[str]:
    """Return the ids that opted out of a purpose.

    Args:
        path: A CSV file with the column customer_id and, if wanted, purpose; a row without a purpose is about all of them.
        purpose: The purpose of a segment. None, a segment without one, leaves away whoever opted out of anything.

    Raises:
        DataError: when the file is missing or has no column customer_id. Nobody is exported without knowing who opted out.
    """
    if path is None:
        return frozenset()
    if not path.is_file():
        raise DataError(
            "E440",
            str(path),
            "the file of opt-outs is missing, and without it nobody may be written to",
            "create it with the header `customer_id,purpose`",
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if "customer_id" not in (rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ()) or "nothing"
            raise DataError(
                "E440", str(path), f"the file of opt-outs has no column customer_id, found {found}", "write the header `customer_id,purpose`"
            )
        return frozenset(r["customer_id"].strip() for r in rows if r["customer_id"] and _applies((r.get("purpose") or "").strip(), purpose))


def _applies(named: str, purpose: str | None) -> bool:
    return not named or purpose is None or named == purpose
