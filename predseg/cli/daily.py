"""The daily run: the steps of a deployment, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from predseg import resuming
from predseg.cli import checks, reports
from predseg.cli.artifacts import said
from predseg.cli.frame import Answer, Run, plain
from predseg.cli.scores import lacking
from predseg.cli.views import table
from predseg.errors import UsageError
from predseg.marks import Kept
from predseg.moment import clock, recordable

if TYPE_CHECKING:
    from predseg.config import Config
    from predseg.outcomes.projects import Outlook
    from predseg.project import Project

Step = tuple[str, Callable[[], Answer]]


def run_all(
    run: Run, select: list[str] | None = None, exclude: list[str] | None = None, *, full_refresh: bool = False, timings: bool = False
) -> Answer:
    """Run the daily steps; a step that is refused ends the run, a watch that is failing does not.

    Scores, segments and a report that would come out the same are left as they are, unless there is a full refresh.
    """
    recordable(run.as_of, unless=run.dry_run)
    project = run.project()
    if full_refresh and not run.dry_run:
        Kept(project.store).clear()
    answer = in_order(run, dict(_steps(run, project, *_selected(project.config, select, exclude), full_refresh)))
    return replace(answer, show=_with_timings(run, answer.show)) if timings else answer


def _with_timings(run: Run, show: Callable[[Console], None] | None) -> Callable[[Console], None]:
    def shown(console: Console) -> None:
        if show is not None:
            show(console)
        whole = sum(step.seconds for step in run.steps.done) or 1.0
        rows = [[step.step, f"{step.seconds:.1f} s", f"{step.seconds / whole:.0%}"] for step in run.steps.done]
        console.print()
        console.print(table(("step", "took", "share"), rows, ("took", "share")))

    return shown


def _selected(config: Config, select: list[str] | None, exclude: list[str] | None) -> tuple[list[str], list[str] | None]:
    """Return the models to score, and the segments to run: None for all of them."""
    if not (select or exclude):
        return list(config.models), None if config.segments else []
    from predseg.segments.definitions import load_segments
    from predseg.segments.lineage import lineage
    from predseg.segments.selection import select as selected

    nodes = lineage(config, load_segments(config))
    found = [nodes[name] for name in selected(nodes, select or (), exclude or ())]
    models, segments = ([node.name for node in found if node.kind == kind] for kind in ("model", "segment"))
    if not (models or segments):
        raise UsageError("E232", " ".join(select or exclude or ()), "selects no model and no segment", "predseg list shows what there is")
    return models, segments


def in_order(run: Run, steps: dict[str, Callable[[], Answer]]) -> Answer:
    """Run steps one after the other, each shown as soon as it is done, and return one answer for all of them."""
    from predseg.cli.frame import console

    results, answers = {}, {}
    for name, step in steps.items():
        answer = answers[name] = _taken(run, name, step, [later for later in steps if later not in answers and later != name])
        results[name] = {"status": answer.status, **plain(answer.results)}
        if not run.json and answer.show is not None:
            out = console()
            out.print(Text(f"\n== {name}", "bold"))
            answer.show(out)
    failed = [name for name, answer in answers.items() if answer.status != "ok"]
    error = next((answer.error for answer in answers.values() if answer.error is not None), None)
    code = max((answer.exit_code for answer in answers.values()), default=0)
    return Answer({"steps": results, "dry_run": run.dry_run}, lambda out: _done(out, failed), "failed" if failed else "ok", code, error)


def _taken(run: Run, name: str, step: Callable[[], Answer], later: Sequence[str]) -> Answer:
    """Take a step and note how it ended; ``later`` are the steps that are not taken when it is refused."""
    try:
        answer = step()
    except BaseException as error:
        run.steps.add(name, "interrupted" if isinstance(error, KeyboardInterrupt) else "error", {}, said(error))
        run.steps.skip(later)
        raise
    run.steps.add(name, answer.status, answer.nodes, *answer.said, *([said(answer.error)] if answer.error else ()))
    return answer


def _done(console: Console, failed: Sequence[str]) -> None:
    console.print(f"\nall steps are done, but {' and '.join(failed)} did not succeed" if failed else "\nall steps are done")


def _steps(run: Run, project: Project, models: list[str], segments: list[str] | None, fresh: bool) -> Iterator[Step]:
    from predseg.outcomes.projects import Outlook

    seen = cache(lambda: Outlook(project.segments(), project.moment(run.as_of)))
    yield "check", lambda: _check(run, project, bool(models))
    if models:
        yield resuming.SCORE, lambda: _scored(run, project, models, fresh)
    if segments is None or segments:
        deciding = _Resumable(
            resuming.SEGMENT, lambda moment: resuming.segments_made_of(project, segments, moment), lambda: _segment(run, project, segments, seen())
        )
        publishes = project.config.audience is not None  # who said no since then has to leave it
        yield deciding.name, lambda: deciding.take(run, project, fresh or publishes)
    if (segments is None or segments) and project.config.channels:
        yield "act", lambda: _act(run, project)
    yield "monitor", lambda: _monitor(run, project, seen())
    report = _Resumable(resuming.REPORT, lambda moment: resuming.report_made_of(project, moment), lambda: _report(run, project, seen()))
    yield report.name, lambda: report.take(run, project, fresh)


@dataclass(frozen=True)
class _Resumable:
    """A step that is not taken again when it would give the same, see `predseg.resuming`."""

    name: str
    made_of: Callable[[int], str]
    step: Callable[[], Answer]

    def take(self, run: Run, project: Project, fresh: bool) -> Answer:
        """Take the step unless it is up to date; a fresh one is taken in any case."""
        if run.dry_run:
            return self.step()
        made_of, store = self.made_of(project.moment(run.as_of)), project.store
        since = None if fresh else resuming.since_when(store, self.name, made_of)
        if since is not None:
            said = f"up to date since {since}: nothing that it reads has changed"
            return Answer({"up_to_date": since}, lambda out: out.print(Text(said)), said=(said,))
        answer = self.step()
        if answer.status == "ok":
            resuming.note(store, self.name, made_of, clock())
        return answer


def _check(run: Run, project: Project, scores: bool) -> Answer:
    from concurrent.futures import ThreadPoolExecutor

    report = project.check(dry_run=run.dry_run)
    with ThreadPoolExecutor(1) as beside:
        if scores and not report.up_to_date:
            beside.submit(import_module, "lightgbm")  # it takes half a second, and the next step needs it
        warnings, found = project.warnings(report), project.expectations(run.as_of, dry_run=run.dry_run)
    failing = checks.failing(found)
    without = replace(report, sources=tuple(replace(part, samples=()) for part in report.sources))  # what runs at night is kept in logs
    without = replace(without, traits=replace(report.traits, samples=())) if report.traits else without
    show = checks.after(reports.ingest(project.config.project, without, warnings, not failing, run.dry_run), found)
    results = {**plain(without), "warnings": warnings, "expectations": plain(found)}
    return Answer(results, show, "failed" if failing else "ok", int(bool(failing)), nodes=reports.accepted(report))


def _scored(run: Run, project: Project, models: list[str], fresh: bool) -> Answer:
    """Score by the models that have a champion; one that has none keeps no other step from being taken."""
    missing = project.missing(models, dry_run=run.dry_run)
    asked = [name for name in models if name not in missing]
    scoring = _Resumable(resuming.SCORE, lambda moment: resuming.scores_made_of(project, asked, moment), lambda: _score(run, project, asked))
    nothing = Answer(show=lambda console: console.print("no model is trained"))
    return lacking(scoring.take(run, project, fresh) if asked else nothing, missing)


def _score(run: Run, project: Project, models: list[str]) -> Answer:
    scored = project.score(models, run.as_of, dry_run=run.dry_run)
    return Answer(reports.summary(scored, None, run.dry_run), reports.scores(scored, None, run.dry_run, naming=False), nodes=reports.rows(scored))


def _segment(run: Run, project: Project, segments: list[str] | None, seen: Outlook) -> Answer:
    from concurrent.futures import ThreadPoolExecutor

    from predseg.cli.segments import segment

    with ThreadPoolExecutor(1) as beside:
        beside.submit(seen.begin)  # should it be refused, so is the watch that asks for it
        return segment(replace(run, config=project.config.file), segments, publish=project.config.audience is not None)


def _act(run: Run, project: Project) -> Answer:
    from predseg.cli.actions import acted

    return acted(run, project.act(run.as_of, dry_run=run.dry_run))


def _monitor(run: Run, project: Project, seen: Outlook) -> Answer:
    from concurrent.futures import ThreadPoolExecutor

    from predseg.cli.monitoring import answer

    with ThreadPoolExecutor(1) as beside:
        if seen.begun:  # then the report comes, and will ask for it
            _ = seen.ledger
            beside.submit(lambda: seen.moved)
        return answer(project.monitor(None, run.as_of, dry_run=run.dry_run, seen=seen), set())


def _report(run: Run, project: Project, seen: Outlook) -> Answer:
    from predseg.cli.report import written

    return written(run, project, project.config.store / resuming.PAGE, seen)
