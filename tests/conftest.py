from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share two cores; results do not depend on it

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


@contextmanager
def once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """Give a folder that all workers of a run share, and whether this worker is the one to fill it."""
    import fcntl

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder, not (folder / "done").exists()
        (folder / "done").touch()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small project, trained and scored; copy it before you change it."""
    from predseg import Project
    from tests import small

    with once(tmp_path_factory, "trained") as (folder, mine):
        if mine:
            project = Project.load(small.write(folder))
            project.train()
            project.score()
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `predseg demo shop` was run on a smaller shop: ``shop/`` and its output, ``demo.txt``."""
    with once(tmp_path_factory, "demo") as (folder, mine):
        if mine:
            folder.mkdir()
            command = [sys.executable, "-m", "predseg", "demo", "shop", "--customers", "1200"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            (folder / "demo.txt").write_text(done.stdout, "utf-8")
            (folder / "demo.err").write_text(done.stderr, "utf-8")
    return folder
