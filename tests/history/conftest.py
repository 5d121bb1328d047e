from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.history.projects import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(autouse=True, scope="package")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What is flushed to disk, and when, is tested with the store; here it would only take time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield
