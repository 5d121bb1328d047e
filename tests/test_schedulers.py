"""The pipelines for schedulers: imported, and run, by the schedulers themselves where they are installed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests import small

ROOT = Path(__file__).parents[1]
RULES = "segment: recent\nmatch: {did: Order Completed, within: 90 days}\non_enter: {send: crm}\n"


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained project with a segment and a channel, named by PREDSEG_CONFIG."""
    file = small.copied(trained, tmp_path / "shop")
    file.write_text(small.CONFIG + "segments: rules.yaml\nchannels: {crm: {dry: true}}\n", "utf-8")
    (file.parent / "rules.yaml").write_text(RULES, "utf-8")
    monkeypatch.setenv("PREDSEG_CONFIG", str(file))
    return file.parent


def test_dagster_runs_the_daily_job(shop: Path) -> None:
    pytest.importorskip("dagster", reason='dagster is not installed: pip install "predseg[dagster]"')
    module: Any = importlib.import_module("pipelines.schedulers.dagster_assets")
    found = module.defs.resolve_job_def("predseg_daily").execute_in_process()
    made = {str(m.asset_key.path[-1]): m.metadata for m in found.get_asset_materialization_events() for m in [m.materialization]}
    assert found.success and list(made) == ["events", "scores", "memberships", "messages", "report"]
    assert made["scores"]["purchase"].value > 200 and made["memberships"]["recent"].value > 100
    assert Path(made["report"]["page"].value) == shop / "store" / "report.html" and (shop / "store" / "report.html").is_file()
    weekly = module.defs.resolve_job_def("predseg_weekly")
    assert {node.name for node in weekly.nodes} == {"events", "models"}
    assert {s.name: s.cron_schedule for s in module.defs.schedules} == {
        "predseg_daily_schedule": "0 5 * * *",
        "predseg_weekly_schedule": "0 3 * * 0",
    }


def test_airflow_reads_the_dags(shop: Path) -> None:
    """Airflow wants an environment of its own (it holds other packages back), so this is skipped where it is not."""
    pytest.importorskip("airflow.sdk", reason="airflow is not installed")
    module: Any = importlib.import_module("pipelines.schedulers.airflow_dags")
    dags = [module.daily(), module.weekly()]
    assert [[task.task_id for task in dag.topological_sort()] for dag in dags] == [
        ["check", "score", "segment", "act", "monitor", "report"],
        ["check", "train"],
    ]
    said = [module.step.function(name) for name in ("check", "score", "segment", "act", "monitor", "report")]
    assert said[0].endswith("rows accepted") and "recent: " in said[2] and said[5].endswith("report.html")
