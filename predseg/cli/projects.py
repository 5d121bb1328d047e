"""Projects made by the command line: the empty one of `init`."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

from predseg.cli.frame import Answer, Run
from predseg.errors import UsageError

PROJECT = """\
# A predseg project. Relative paths start at this file. Everything is explained in docs/configuration.md.
project: {name}
# timezone: Europe/Berlin             # needed when the times of your data carry no offset
store: store                          # tables and models live here
sources:
  events:
    path: data/events.csv             # csv, csv.gz, parquet, jsonl, a glob; or `table:` with `url:` for a database
    columns: {{customer_id: customer_id, event_time: event_time, event: event, value: value}}
features:
  windows: [7 days, 30 days, 90 days, 180 days, 365 days]
  events:
    Order Completed: {{value: value}}   # recency, frequency and value over every window
  # visits: {{did: [Product Viewed, Order Completed], signs: [Email Opened]}}   # where events tell of visits (docs/features.md)
  # taste: {{did: Order Completed, of: product_id}}   # where orders tell of products
models:
  purchase:
    predict: {{did: Order Completed, within_next: 30 days}}
  churn:
    predict: {{did_not: Order Completed, within_next: 90 days}}
    among: {{did: Order Completed, within: 365 days}}
# segments: segments/*.yaml           # rules: who belongs, and what is sent to who enters (docs/rules.md, docs/actions.md)
channels:
  mail: {{dry: true}}                   # notes what would be sent; for more: {{webhook: "https://...", secret: "env:MAIL_SECRET"}}
"""
IGNORED = "store/\nmodels/\n"
NEXT = """
next:
  1. put your events at {data} (customer_id, event_time, event, value), or change `path` and `columns`
  2. predseg check -c {file}
  3. predseg train -c {file}
"""


def new_project(run: Run, folder: Path) -> Answer:
    """Write predseg.yaml and .gitignore into a folder that has no project yet."""
    file = folder / "predseg.yaml"
    if file.exists():
        raise UsageError("E205", str(file), "there is a project already", "choose another folder; nothing was changed")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.absolute().name).strip("_.-") or "my_shop"
    files = {file: PROJECT.format(name=name), folder / ".gitignore": IGNORED}
    written = [path for path in files if not path.exists()]
    if not run.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        for path in written:
            path.write_text(files[path], "utf-8")

    def show(console: Console) -> None:
        for path in written:
            console.print(f"{'would write' if run.dry_run else 'wrote'} {path}")
        console.print(NEXT.format(file=file, data=folder / "data" / "events.csv").rstrip())

    return Answer({"written": [str(path) for path in written], "dry_run": run.dry_run}, show)
