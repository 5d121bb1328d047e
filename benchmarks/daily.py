"""A day's events into two years of history: what it costs against reading everything anew, and that it comes out the same.

    python -m benchmarks.daily [--run] [--customers 100000] [--keep FOLDER] [--small]

The shop of the demo; what it learned of in its last days lies in files of their own, which come in one after the other. FOLDER
keeps the shop: a second call simulates nothing. Whole processes are timed, and features are computed of both tables in turns.

With --run the whole daily run is timed, with the seconds of each of its steps, against doing everything again: the scores, the
memberships and the report must come out the same. The models of FOLDER are taken, or else trained first.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.commands import kept_shop, timed
from benchmarks.timing import medians, table
from predseg import Project
from predseg.engine import engine_in, literal
from predseg.forecast.dataset import open_source
from predseg.history.merge import scan
from predseg.history.report import IngestReport
from predseg.layers import gone_in, is_recent, rows_in
from predseg.store import Store

DAYS = 3
LIMIT, RUN_LIMIT = 8, 20.0
_HEARD = re.compile(r'"receivedAt": "(\d{4}-\d\d-\d\d)')
STEPS = ("check", "score", "segment", "monitor", "report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--small", action="store_true", help="a shop of 1,000")
    parser.add_argument("--run", action="store_true", help="the whole daily run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        shop = kept_shop(options.keep or Path(temporary) / "shop", 1_000 if options.small else options.customers)
        if options.run:
            lines, usual = runs(shop, Path(temporary))
            print(table(["predseg run", "seconds", *STEPS], lines))
            sys.exit(f"a day's run takes more than {RUN_LIMIT:.0f} s" if usual > RUN_LIMIT and not options.small else 0)
        rows, share = measured(shop, Path(temporary))
    print(table(["step", "seconds", "rows"], rows))
    if share * LIMIT > 1 and not options.small:
        sys.exit(f"a day costs more than an eighth of everything: {share:.2f}")


def measured(shop: Path, temporary: Path) -> tuple[list[list[str]], float]:
    """Lines of the table, and the seconds of a day over those of everything."""
    daily, anew = temporary / "daily", temporary / "anew"
    waiting = split(shop, daily, temporary / "days")
    lines = [["everything but the last days", f"{timed(daily, 'check'):.1f}", f"{rows_in(files(daily)):,}"]]
    slowest = 0.0
    for day in waiting:
        before = report(daily)
        arrive(day, daily)
        slowest = max(slowest, seconds := timed(daily, "check"))
        lines.append([f"the day {day.name}", f"**{seconds:.1f}**", f"{report(daily).rows - before.rows:,}"])
    write_project_over(daily, anew)
    whole = timed(anew, "check")
    lines.append(["everything anew", f"{whole:.1f}", f"{report(anew).rows:,}"])
    same(daily, anew)
    found, _ = medians({"features, rows beside the base": lambda: features(daily), "features, base alone": lambda: features(anew)}, 3)
    lines += [
        [name, f"{spent:.1f}", f"{sum(map(is_recent, files(daily if 'beside' in name else anew)))} files beside"] for name, spent in found.items()
    ]
    return lines, slowest / whole


def runs(shop: Path, temporary: Path) -> tuple[list[list[str]], float]:
    """Lines of the table of whole runs, and the median seconds of a day's."""
    daily = temporary / "daily"
    waiting = split(shop, daily, temporary / "days")
    if (shop / "models").exists():
        shutil.copytree(shop / "models", daily / "models")
        shutil.copytree(shop / "store" / "mlruns", daily / "store" / "mlruns")
        shutil.copy(shop / "store" / "mlflow.db", daily / "store")
    else:
        timed(daily, "train")
    lines = [ran(daily, "the first")]
    for day in waiting:
        arrive(day, daily)
        lines.append(ran(daily, f"the day {day.name}"))
    usual = median(float(line[1]) for line in lines[1:])
    lines.append(ran(daily, "nothing new"))
    gave = given(daily)
    lines.append(ran(daily, "everything again", "--full-refresh"))
    assert given(daily) == gave, "other scores, memberships or another report"
    return lines, usual


def ran(folder: Path, name: str, *options: str) -> list[str]:
    """A line of the table: the whole process, and each of its steps."""
    seconds = timed(folder, "run", *options)
    steps = {step["step"]: step["seconds"] for step in json.loads((folder / "target" / "run_results.json").read_text("utf-8"))["results"]}
    return [name, f"{seconds:.1f}", *(f"{steps[step]:.1f}" for step in STEPS)]


def given(folder: Path) -> list[object]:
    """What a run left."""
    store = Store(folder / "store")
    return [*(store.read(name).to_pylist() for name in ("memberships", "segment_runs", "scores")), (store.path / "report.html").read_text("utf-8")]


def split(shop: Path, folder: Path, aside: Path) -> list[Path]:
    """Make a project of all that the shop's sources learned but in the last days, and a folder of files for each of those; return them in order."""
    (folder / "data").mkdir(parents=True)
    aside.mkdir()
    text = (shop / "predseg.yaml").read_text("utf-8")
    text = text.replace("data/events.parquet", '"data/events*.parquet"').replace("data/app.jsonl", '"data/app*.jsonl"')
    (folder / "predseg.yaml").write_text(text, "utf-8")
    for name in ("data/customers.parquet", "segments"):
        (folder / name).symlink_to((shop / name).absolute())
    with engine_in(aside, "engine") as engine:
        events = f"(select *, coalesce(received_at, event_time) as heard from read_parquet({literal(shop / 'data' / 'events.parquet')}))"
        known = f"{events} where heard < now()"
        first = f"(select date_trunc('day', max(heard)) - interval {DAYS - 1} day from {known})"
        write = "copy (select * exclude (heard) from {} where {}) to {} (format parquet)"
        engine.execute(write.format(events, f"heard < {first} or heard is null or heard >= now()", literal(folder / "data" / "events.parquet")))
        days = []
        for (day,) in engine.rows(f"select distinct strftime(heard, '%Y-%m-%d') from {known} and heard >= {first} order by all"):
            days.append(aside / day)
            days[-1].mkdir()
            mine = f"strftime(heard, '%Y-%m-%d') = '{day}' and heard < now()"
            engine.execute(write.format(events, mine, literal(days[-1] / f"events-{day}.parquet")))
    with ExitStack() as opened:
        files = {day.name: opened.enter_context((day / f"app-{day.name}.jsonl").open("w", encoding="utf-8")) for day in days}
        base = opened.enter_context((folder / "data" / "app.jsonl").open("w", encoding="utf-8"))
        for line in opened.enter_context((shop / "data" / "app.jsonl").open(encoding="utf-8")):
            heard = _HEARD.search(line)
            files.get(heard[1] if heard else "", base).write(line)
    return days


def arrive(day: Path, folder: Path) -> None:
    """Put the files of a day where the sources of a project look."""
    for file in day.iterdir():
        file.rename(folder / "data" / file.name)


def write_project_over(daily: Path, anew: Path) -> None:
    """Make another project over the same files."""
    anew.mkdir()
    for name in ("data", "segments", "predseg.yaml"):
        (anew / name).symlink_to((daily / name).absolute())


def files(folder: Path) -> list[Path]:
    return Store(folder / "store").files("events")


def report(folder: Path) -> IngestReport:
    found = Project.load(folder / "predseg.yaml").last_check()
    assert found is not None
    return found


def same(one: Path, other: Path) -> None:
    """Refuse to go on when the two stores hold different events, or counted their sources differently."""
    assert digest(one) == digest(other), "other events"
    assert told(one) == told(other), f"other counts: {told(one)} {told(other)}"


def digest(folder: Path) -> tuple[int, int]:
    """The number of events and a hash of all of them that does not depend on their order."""
    with tempfile.TemporaryDirectory() as temporary, engine_in(Path(temporary), "engine") as engine:
        rows = scan(files(folder), gone_in(files(folder)), engine.temp)
        [(number, hashed)] = engine.rows(f"select count(*), sum(hash(t)::hugeint) from {rows} t")
    return number, hashed


def told(folder: Path) -> tuple[object, ...]:
    found = report(folder)
    parts = [(p.name, p.received, p.accepted, p.duplicates, p.quarantined, p.conflicts, p.reasons) for p in found.sources]
    return found.rows, found.customers, found.events, found.first, found.last, found.refused_links, parts


def features(folder: Path) -> int:
    """Everyone's features at the end of the history."""
    config = Project.load(folder / "predseg.yaml").config
    moment = report(folder).last
    assert moment is not None
    return sum(map(len, open_source(config, Store(config.store)).frames([moment])))


if __name__ == "__main__":
    main()
