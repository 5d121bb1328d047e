"""Everything predseg refuses, as one small tree of exceptions.

    PredsegError
    ├── UsageError    exit 2   the command line asks for something that does not exist
    ├── ConfigError   exit 3   the project file or a rule is not what the language accepts
    ├── DataError     exit 4   the data break their contract
    ├── LabelError    exit 5   nothing can be learned from these labels
    ├── GateError     exit 6   a leak was found, or a promotion is not earned
    ├── ModelError    exit 7   a model is missing, does not fit, or was changed on disk
    └── ChannelError  exit 8   the outside world did not answer

Every error names the place, what was found against what was expected, and the next thing to do.
Its code (``E301``) is stable, starts with the exit code, and is explained in ``docs/errors.md``.
"""

from __future__ import annotations


class PredsegError(Exception):
    """A refusal that the user can act on.

    Args:
        code: Stable code, ``E`` and three digits; the first digit is the exit code.
        place: Where it was found: ``file:line:column``, a table, a parameter.
        message: What was found and what was expected, in one sentence.
        help: The next thing to do; may be empty.
    """

    exit_code = 70

    def __init__(self, code: str, place: str, message: str, help: str = "") -> None:  # noqa: A002
        self.code, self.place, self.message, self.help = code, place, message, help
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"error[{self.code}] {self.place}: {self.message}"
        return f"{text}\nhelp: {self.help}" if self.help else text

    def __reduce__(self) -> tuple[type[PredsegError], tuple[str, str, str, str]]:
        return type(self), (self.code, self.place, self.message, self.help)


class UsageError(PredsegError):
    """The command or call asks for something that does not exist."""

    exit_code = 2


class ConfigError(PredsegError):
    """The project file or a rule is not what the language accepts."""

    exit_code = 3


class DataError(PredsegError):
    """The data break their contract."""

    exit_code = 4


class LabelError(PredsegError):
    """Nothing can be learned from these labels."""

    exit_code = 5


class GateError(PredsegError):
    """A leak was found, or a promotion is not earned."""

    exit_code = 6


class ModelError(PredsegError):
    """A model is missing, does not fit, or was changed on disk."""

    exit_code = 7


class ChannelError(PredsegError):
    """The outside world did not answer."""

    exit_code = 8


def nearest(word: str, known: list[str] | tuple[str, ...], more: str = "") -> str:
    r"""Return ``"did you mean 'x'?"`` for the closest known word, or the list of them and ``more``.

    >>> nearest("sorces", ["sources", "store"])
    "did you mean 'sources'?"
    >>> nearest("zzz", ["a", "b"])
    'known are: a, b'
    >>> nearest("a", [])
    'none is known yet'
    >>> nearest("Cafe\u0301", ["Caf\u00e9"])
    "did you mean 'Café'? It looks the same, with letters composed otherwise in Unicode: copy it from there"
    """
    from difflib import get_close_matches
    from unicodedata import normalize

    known = sorted({str(k) for k in known})
    if same := [k for k in known if k != word and normalize("NFC", k) == normalize("NFC", str(word))]:
        return f"did you mean {same[0]!r}? It looks the same, with letters composed otherwise in Unicode: copy it from there"
    lowered = {k.lower(): k for k in known}
    if close := get_close_matches(str(word).lower(), list(lowered), n=1, cutoff=0.6):
        return f"did you mean {lowered[close[0]]!r}?"
    if not known:
        return "none is known yet"
    return "known are: " + ", ".join(known[:12]) + (", ..." if len(known) > 12 else "") + more
