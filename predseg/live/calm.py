"""The collector of cycles in a process that keeps many customers for long.

Customers hold no cycles: they are freed as always when nothing points at them. So what survives one look of the collector is put
out of its sight, and its pauses stay those of one look at what is new, however many customers there are. What was put away
while it was in use and forms a dead cycle later is found by a rare look at everything.
"""

from __future__ import annotations

import gc

CALM = 50_000
"""So many more objects than were freed wait before the collector looks at the youngest."""
LOOKS = 1_000
"""After so many looks everything is looked at once."""


class Settling:
    """Called by the collector after each look: puts away what is left."""

    def __init__(self, looks: int = LOOKS) -> None:
        self.looks, self.done = looks, 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Put away what is left, or, after enough looks, bring all of it back until the next look at everything."""
        if phase != "stop":
            return
        self.done = 0 if info["generation"] == 2 else self.done + 1
        if self.done < self.looks:
            gc.freeze()
        elif self.done == self.looks:
            gc.unfreeze()


_SETTLING = Settling()


def steady() -> None:
    """Calm the collector: what is there now is put away, and what comes as soon as it was looked at once."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(CALM, 20, 5)
    if _SETTLING not in gc.callbacks:
        gc.callbacks.append(_SETTLING)
