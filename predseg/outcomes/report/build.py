"""From a project to its report: which sections there are, in the order in which one reads them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from predseg.history.expectations import judge
from predseg.language.time import YEAR, say_instant
from predseg.outcomes.deliveries import DELIVERED
from predseg.outcomes.monitoring import FAILING, read_watches
from predseg.outcomes.projects import Outlook, engaged, trial
from predseg.outcomes.report.data import data_section, monitor_section, rfv_section
from predseg.outcomes.report.engagement import engagement_section, experiments_section
from predseg.outcomes.report.models import model_section
from predseg.outcomes.report.page import Page, Section
from predseg.outcomes.report.segments import Belonging, segments_section

if TYPE_CHECKING:
    from predseg.forecast.bundle import Bundle
    from predseg.history.report import IngestReport


def build(seen: Outlook, report: IngestReport | None, champions: Mapping[str, Bundle]) -> Page:
    """Return the page of a project at a moment.

    Args:
        seen: It, from that moment.
        report: The last check of its data.
        champions: By model.
    """
    workspace, as_of, ledger = seen.workspace, seen.as_of, seen.ledger
    config = workspace.config
    customers = report.customers if report is not None else 0
    watches, at = read_watches(workspace.store)
    failing = sum(w.status == FAILING for w in watches)
    belonging = Belonging.at(workspace, ledger, as_of)
    with ThreadPoolExecutor(1) as beside:  # the pass over the events of who moved has its own threads
        moves = beside.submit(lambda: seen.moved)
        others = outcome_sections(seen)
        others += [model_section(workspace, name, bundle.version, bundle.facts, belonging, as_of) for name, bundle in champions.items()]
        sections = [segments_section(workspace, ledger, belonging, as_of, customers, moves.result)] if workspace.segments else []
    sections += others
    sections.append(rfv_section(seen.goal, seen.events(), as_of, config.smallest_group))
    checks = judge(config, workspace.files, report, as_of, as_of) if report is not None else []
    sections += [data_section(report, seen.daily, as_of, checks), monitor_section(watches, at, config.smallest_group)]
    facts = {"customers": f"{customers:,}", "events": f"{report.rows if report is not None else 0:,}", "segments": f"{len(workspace.segments)}"}
    facts |= {"models": f"{len(champions)}", "watches failing": "not looked at" if at is None else f"{failing} of {len(watches)}"}
    notes = (
        f"Groups of one to {config.smallest_group.k - 1} people are not shown. Figures are aggregates; nobody is named.",
        "Everything is in this file: it loads nothing and sends nothing.",
    )
    state = "" if at is None else "failing" if failing else "ok"
    moment = say_instant(as_of)[:16].replace("T", " ")
    return Page(config.project, f"Customers, segments and forecasts at {moment} UTC", facts, sections, state, notes)


def outcome_sections(seen: Outlook) -> list[Section]:
    """Return the sections about what came of the messages and experiments of the last year."""
    workspace = seen.workspace
    floor, occurred = workspace.config.smallest_group, workspace.vocabulary.occurred or ()
    mail = engaged(seen, last=YEAR) if DELIVERED in occurred else None
    tried = [trial(seen, name) for name, s in workspace.segments.items() if s.experiment and seen.goal in occurred]
    return [engagement_section(mail, floor), experiments_section(tried, floor)]
