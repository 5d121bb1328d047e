"""A project as Dagster assets: what each step makes, what it rests on, and a job for every morning and one for every week.

Try it: ``PREDSEG_CONFIG=PROJECT.yaml dagster dev -f pipelines/schedulers/dagster_assets.py`` (``pip install "predseg[dagster]"``)
"""

import os

from dagster import AssetExecutionContext, AssetSelection, Definitions, MaterializeResult, ScheduleDefinition, asset, define_asset_job

from predseg import Project
from predseg.formats import write_page


def project() -> Project:
    """Return the project that PREDSEG_CONFIG names."""
    return Project.load(os.environ.get("PREDSEG_CONFIG", "predseg.yaml"))


@asset
def events() -> MaterializeResult:
    """The history, read and validated."""
    report = project().check()
    return MaterializeResult(metadata={"accepted": report.accepted, "quarantined": report.quarantined, "customers": report.customers})


@asset(deps=[events])
def models() -> MaterializeResult:
    """The champions: trained, tested forward in time, promoted only through their gate."""
    trained = project().train()
    return MaterializeResult(metadata={name: report.evaluation["quality"] for name, report in trained.items()})


@asset(deps=[events])
def scores() -> MaterializeResult:
    """Probabilities of every eligible customer, by the champions that there are."""
    return MaterializeResult(metadata={name: len(rows) for name, rows in project().score().groupby("model")})


@asset(deps=[scores])
def memberships() -> MaterializeResult:
    """Who belongs to which segment, who entered and who left."""
    mine = project()
    return MaterializeResult(metadata={change.segment: change.members for change in mine.segments().run(mine.moment()).changes})


@asset(deps=[memberships])
def messages() -> MaterializeResult:
    """One message for each change, sent once."""
    return MaterializeResult(metadata={"sent": project().act().count("sent")})


@asset(deps=[messages])
def report(context: AssetExecutionContext) -> MaterializeResult:
    """The watches and the page of the day."""
    mine = project()
    for watch in mine.monitor().failing:
        context.log.warning("failing: %s, found %s", watch.key, watch.value)
    return MaterializeResult(metadata={"page": str(write_page(mine.config.store / "report.html", mine.report()))})


daily = define_asset_job("predseg_daily", AssetSelection.all() - AssetSelection.assets(models))
weekly = define_asset_job("predseg_weekly", AssetSelection.assets(events, models))
defs = Definitions(
    assets=[events, models, scores, memberships, messages, report],
    jobs=[daily, weekly],
    schedules=[ScheduleDefinition(job=daily, cron_schedule="0 5 * * *"), ScheduleDefinition(job=weekly, cron_schedule="0 3 * * 0")],
)
