"""Secrets and persons, looked for where neither belongs: what commands say on stderr, reports, MLflow, logs, and for secrets everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.trust import used_shop
from benchmarks.trust.erasure import forms, readings
from benchmarks.trust.figures import Figure, Tally
from benchmarks.trust.used_shop import SECRETS, Person, Said

TRIED = "secrets and persons of a shop on which every command was at work, those that fail as well"
PROMISED = "0 in logs, errors, reports, MLflow; secrets nowhere else either"
FULL, SMALL = 100, 2
OURS = ("orders.jsonl", "customers.csv", "live.jsonl", "forget.txt")
PERSONS_IN = ("report.html", "mlruns", "mlflow.db", "audit.jsonl", "monitor.json", "models", "target", "docs", "said.err")
"""Files and folders in which nobody is named."""
SILENT = ("explain", "optout", "subject", "forget")
"""Commands about the persons who are named to them."""


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally, people = Tally(), [Person(n) for n in range(cases)]
    tally.cases = cases + len(SECRETS)
    with used_shop.used(folder, people) as (shop, runs, said):
        return looked_for(tally, runs, shop, people, said)


def looked_for(tally: Tally, runs: used_shop.Runs, shop: Path, people: Sequence[Person], said: list[Said]) -> Figure:
    """Let some more commands fail, and look through everything."""
    said = said + failing(runs, shop)
    looked = files(tally, shop, people)
    for one in said:
        terminal(tally, one, people)
    counts = tally.counts
    tally.demand((looked > 40 or len(people) <= used_shop.FEW) and len(said) > 25, f"only {looked} files and {len(said)} commands were looked at")
    return tally.figure(f"{counts['secrets']} secrets, {counts['persons']} persons in {looked} files and what {len(said)} commands said")


def failing(runs: used_shop.Runs, shop: Path) -> list[Said]:
    """Commands that are refused because of bad rows, of secrets that are none, of databases and models that are not there."""
    said, config = [], (shop / "predseg.yaml").read_text()
    hook, database = SECRETS["HOOK"], f"postgresql://shop:{SECRETS['DB']}@127.0.0.1:1/shop"
    wrong = {
        "tolerance": config.replace("tolerance: 100%", "tolerance: 0%"),
        "a secret written out": config.replace('secret: "env:HOOK"', f'secret: "{hook}"'),
        "a key written out": config.replace('key: "env:CONSENT"', f'key: "{SECRETS["CONSENT"]}"'),
        "a secret that is none": config.replace('secret: "env:HOOK"', 'secret: "env:EVENTS"'),
        "a database": config.replace("orders: {path: orders.jsonl}", f'orders: {{url: "{database}", table: orders}}'),
        "an address with a password": config.replace("https://localhost:1/in", f"https://shop:{SECRETS['DB']}@localhost:1/in"),
        "a query": config.replace("orders: {path: orders.jsonl}", "orders: {path: orders.jsonl, query: 'select customer_id::int from source'}"),
    }
    for text in wrong.values():
        (shop / "predseg.yaml").write_text(text)
        said += [used_shop.run(runs, shop, command) for command in ("check", "run --as-of 2025-10-29", "run --as-of 2025-10-29 --debug")]
    (shop / "predseg.yaml").write_text(config)
    bundles = {file: file.read_bytes() for file in (shop / "models").rglob("bundle.json")}
    for file, content in bundles.items():
        file.write_bytes(content + b" ")
    said += [used_shop.run(runs, shop, command) for command in ("score", "score -v --debug", "models verify", "promote purchase")]
    for file, content in bundles.items():
        file.write_bytes(content)
    return said


def files(tally: Tally, shop: Path, people: Sequence[Person]) -> int:
    looked = 0
    for file in sorted(shop.rglob("*")):
        if not file.is_file() or file.name in OURS:
            continue
        looked += 1
        where, contents = file.relative_to(shop), list(readings(file))
        for name, secret in SECRETS.items():
            if any(form in content for form in forms(secret) for content in contents):
                tally.counts["secrets"] += 1
                tally.fault(f"the secret {name} is in {where}")
        if set(where.parts) & set(PERSONS_IN) and file.name != "said.err":
            named(tally, str(where), contents, people)
    return looked


def terminal(tally: Tally, one: Said, people: Sequence[Person]) -> None:
    """What a command said: no secret at all, and on stderr nobody."""
    for name, secret in SECRETS.items():
        if secret in one.out or secret in one.err:
            tally.counts["secrets"] += 1
            tally.fault(f"`predseg {one.command}` shows the secret {name}")
    if one.command.split()[0] not in SILENT:
        named(tally, f"stderr of `predseg {one.command}`", [one.err.encode()], people)


def named(tally: Tally, where: str, contents: Sequence[bytes], people: Sequence[Person]) -> None:
    for person in people:
        for text in person.texts:
            if any(form in content for form in forms(text) for content in contents):
                tally.counts["persons"] += 1
                tally.fault(f"{text} is in {where}")
