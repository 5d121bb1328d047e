"""How values of options are read: durations and shares, refused in the words of the option."""

from __future__ import annotations

import re

from predseg.errors import UsageError
from predseg.language.time import parse_duration


def duration(option: str, text: str) -> int:
    """Return microseconds.

    Raises:
        UsageError: E203.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        found, _, remedy = str(error).partition(": ")
        raise UsageError("E203", option, found, remedy) from None


def share(option: str, text: str) -> float:
    """Return a share over 0 % and under 100 % as a number.

    Raises:
        UsageError: E204.

    >>> share("--detect", "10%"), share("--detect", "2.5 %")
    (0.1, 0.025)
    """
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%", text.strip(), re.ASCII)
    if match is None or not 0 < float(match[1]) < 100:
        raise UsageError("E204", option, f"expected a share over 0% and under 100%, found {text!r}", f"write for example `{option} 10%`")
    return float(match[1]) / 100
