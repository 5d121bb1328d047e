"""How small a group of people may be and still be shown: who knows somebody in a small group would learn something about that person.

Whatever is shown or handed out in aggregate asks here: the report, the page, the HTTP interface, metrics, alerts. What the owner of a
project asks for on the command line is not hidden.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from predseg.errors import ConfigError
from predseg.language.yaml import Node

MOST = 10_000


@dataclass(frozen=True)
class Floor:
    """The smallest group that is shown. Nobody is a group that may be shown: it tells nothing of anybody."""

    k: int = 10

    @property
    def few(self) -> str:
        """What stands for the number of a smaller one, for people."""
        return f"under {self.k}"

    def hides(self, number: int) -> bool:
        """Say whether a number of people is not told."""
        return 0 < number < self.k

    def shown(self, number: int) -> bool:
        """Say whether so many people may be shown as a mark in a picture, and said to have something in common."""
        return number >= self.k

    def count(self, number: int) -> str:
        """Return a number of people as a text.

        >>> [Floor().count(number) for number in (0, 3, 1200)]
        ['0', 'under 10', '1,200']
        """
        return self.few if self.hides(number) else f"{number:,}"

    def plain(self, number: int) -> int | str:
        """Return a number of people for JSON.

        >>> [Floor(5).plain(number) for number in (0, 3, 1200)]
        [0, '<5', 1200]
        """
        return f"<{self.k}" if self.hides(number) else number

    def told(self, text: str) -> str:
        """Return a text that a watch says, with numbers of members as they may be told.

        >>> Floor().told("7 members, before 1,204")
        'under 10 members, before 1,204'
        """
        return re.sub(r"\b([\d,]+)(?= members\b)|(?<=\bbefore )([\d,]+)\b", lambda found: self.count(int(found[0].replace(",", ""))), text)


def parse_floor(node: Node) -> Floor:
    """Read `smallest_group`; 1 hides nothing.

    Raises:
        ConfigError: E304 when it is no whole number from 1 on.
    """
    if not isinstance(node.value, int) or isinstance(node.value, bool) or not 1 <= node.value <= MOST:
        raise ConfigError("E304", node.place, f"expected a whole number from 1 to {MOST:,}, found {node.show()}", "write for example 10")
    return Floor(node.value)
