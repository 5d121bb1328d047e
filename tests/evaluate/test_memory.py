from __future__ import annotations

import ctypes
from typing import Any

import pytest

from predseg.evaluate import memory


def test_a_c_library_without_the_setting_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    memory.reuse.__wrapped__()


def test_three_settings_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: Any) -> None: ...

        def mallopt(self, parameter: int, value: int) -> int:
            made.append((parameter, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Library)
    memory.reuse.cache_clear()
    memory.reuse()
    memory.reuse()
    assert made == [(-8, 1), (-3, 32 << 20), (-1, 1024 << 20)]
