from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real files, or a skip that says why."""
    named = os.environ.get("PREDSEG_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "online_retail_raw.csv.gz").is_file():
        pytest.skip(f"no real data: set PREDSEG_DATA to a folder with online_retail_raw.csv.gz (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small project, trained and scored once for all workers; copy it before you change it."""
    import fcntl

    from predseg import Project
    from tests import small

    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared) / "trained"
    with Path(f"{shared}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            project = Project.load(small.write(shared))
            project.train()
            project.score()
            (shared / "done").touch()
    return shared
