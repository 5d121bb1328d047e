"""What every command shares: its options, how it answers, and how it fails.

Data and ``--json`` go to stdout, everything else to stderr. A refusal is printed as ``error[CODE] place: ...`` with its
help line and becomes the exit code; nobody sees a traceback without ``--debug``.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.exceptions import TyperException

from predseg.cli.artifacts import Steps
from predseg.errors import PredsegError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.project import Project

INTERRUPTED = 130
COMPLETING = "_PREDSEG_COMPLETE"
"""The variable with which a shell asks how a line goes on."""

app = typer.Typer(
    name="predseg",
    help="Statements about customers, at a moment: features, calibrated purchase and churn scores from one event history.",
    epilog="A first look, offline and without any setup: predseg demo shop",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def project_file(named: Path | None) -> Path | None:
    """Return the project file: as named, else as PREDSEG_CONFIG says, else the one that lies here; None when there is none."""
    if found := named or os.environ.get("PREDSEG_CONFIG"):
        return Path(found)
    return here if (here := Path("predseg.yaml")).is_file() else None


@dataclass(frozen=True)
class Run:
    """One call of a command: the options that all of them take."""

    command: str
    config: Path | None = None
    as_of: str | None = None
    json: bool = False
    dry_run: bool = False
    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    opened: list[Project] = field(default_factory=list, compare=False, repr=False)
    steps: Steps = field(default_factory=Steps, compare=False, repr=False)

    def project(self) -> Project:
        """Load the project: ``-c FILE``, else ``PREDSEG_CONFIG``, else ``./predseg.yaml``."""
        from predseg.moment import instant

        if self.as_of is not None:
            instant(self.as_of)
        if not (file := project_file(self.config)):
            raise UsageError(
                "E202",
                str(Path.cwd()),
                "there is no predseg.yaml here",
                "name the project file with -c FILE, create one with `predseg init`, or try `predseg demo shop`",
            )
        return self.open(file)

    def has_project(self) -> bool:
        """Say whether a project file is named, or lies here."""
        return project_file(self.config) is not None

    def open(self, file: Path) -> Project:
        """Load a project file, with progress bars on a terminal."""
        from predseg.project import Project

        self.opened.append(Project.load(file, progress=Bars() if sys.stderr.isatty() and not self.quiet else None))
        return self.opened[-1]

    def note(self, text: str) -> None:
        """Say something on stderr that is not part of the answer."""
        self.steps.said.append(text)
        if not self.quiet:
            print(printable(text), file=sys.stderr)  # noqa: T201


class Bars:
    """A progress bar on stderr for whatever step is told of; it goes away when the step is done."""

    def __init__(self) -> None:
        self._shown: Any = None
        self._step, self._task = "", None

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Move the bar of a step."""
        if self._shown is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self._shown.start()
            atexit.register(self._shown.stop)
        if step != self._step:
            if self._task is not None:
                self._shown.remove_task(self._task)
            self._step, self._task = step, self._shown.add_task(step, total=total)
        self._shown.update(self._task, completed=done, total=total)
        if total is not None and done >= total:
            self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._shown is not None:
            self._shown.stop()
            self._shown, self._step, self._task = None, "", None


@dataclass(frozen=True)
class Answer:
    """What a command found: ``results`` for ``--json``, ``show`` for people, ``nodes``: rows by node, and ``said``: messages, for `run_results.json`."""

    results: dict[str, Any] = field(default_factory=dict)
    show: Callable[[Console], None] | None = None
    status: str = "ok"
    exit_code: int = 0
    error: PredsegError | None = None
    nodes: Mapping[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()


Command = Callable[..., Answer]

_COMMON: dict[str, tuple[Any, Any]] = {
    "config": (
        Annotated[Path | None, typer.Option("-c", "--config", metavar="FILE", help="Project file; else PREDSEG_CONFIG, else ./predseg.yaml.")],
        None,
    ),
    "as_of": (
        Annotated[str | None, typer.Option("--as-of", metavar="INSTANT", help="The moment that is asked about (UTC); else the last event's.")],
        None,
    ),
    "json": (Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")], False),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Do everything, write nothing.")], False),
    "verbose": (Annotated[bool, typer.Option("-v", "--verbose", help="Say more on stderr.")], False),
    "quiet": (Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing on stderr but errors.")], False),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}


def command(name: str, *examples: str) -> Callable[[Command], Command]:
    """Register a command: its own parameters first, then the common options; ``examples`` end its help."""

    def register(function: Command) -> Command:
        hints = get_type_hints(function, include_extras=True)
        own = [p.replace(annotation=hints[p.name]) for p in list(inspect.signature(function).parameters.values())[1:]]
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind) for key, (kind, default) in _COMMON.items()
        ]

        def call(**given: Any) -> int:
            run = Run(name, **{key: given.pop(key) for key in _COMMON})
            _prepare(run)
            try:
                answer = function(run, **given)
                code = answer.exit_code if answer.error is None else answer.error.exit_code
                _note(run, given, answer.status, code)
                _leave(run, given, answer.status, code, answer.nodes, answer.error)
                return _answer(run, answer)
            except KeyboardInterrupt:
                _note(run, given, "interrupted", INTERRUPTED)
                _leave(run, given, "interrupted", INTERRUPTED)
                return _interrupted()
            except PredsegError as error:
                _note(run, given, error.code, error.exit_code)
                _leave(run, given, "error", error.exit_code, error=error)
                raise
            except Exception as error:
                _note(run, given, "bug", PredsegError.exit_code)
                _leave(run, given, "error", PredsegError.exit_code, error=error)
                raise

        call.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in (*own, *common)}
        call.__doc__ = function.__doc__
        app.command(name, epilog="\b\n" + "\n".join(("Example:", *(f"  {e}" for e in examples))))(call)
        return function

    return register


READERS = {"models", "list", "preview", "replay", "review", "test", "verify", "monitor", "experiment", "engagement", "report", "docs"}
"""Commands that change nothing and show nobody in particular: they are not in the log."""


def _note(run: Run, given: Mapping[str, Any], status: str, exit_code: int) -> None:
    """Write the command into the audit log of its project; one that cannot be written is no reason to hide what was done."""
    if not run.opened or run.dry_run or (run.command in READERS and given.get("action") != "sign"):
        return
    from predseg.moment import clock

    said: dict[str, Any] = {"who": _user(), "command": run.command, "arguments": _arguments(run, given)}
    said |= {"status": status, "exit_code": exit_code}
    try:
        run.opened[0].people.note(said, clock())
    except PredsegError as error:
        run.note(f"warning: the audit log was not written: {error.message}")


def _user() -> str:
    """The name of who runs the process, or its number where nobody has that one, as in many containers."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _arguments(run: Run, given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain({"as_of": run.as_of, **given}).items() if value not in (None, False, [])}


RECORDED = {"check", "train", "score", "segment", "test", "run", "discover", "monitor", "engagement", "review", "report", "demo"}
"""Commands that leave what they did in `target/`."""


def _leave(
    run: Run, given: Mapping[str, Any], status: str, exit_code: int, nodes: Mapping[str, int] | None = None, error: BaseException | None = None
) -> None:
    """Write the manifest and what was done; what cannot be written is no reason to hide what was done."""
    if not run.opened or run.dry_run or run.command not in RECORDED:
        return
    from predseg.cli import artifacts
    from predseg.language.time import say_instant
    from predseg.moment import clock
    from predseg.segments.definitions import load_segments

    config, now = run.opened[0].config, say_instant(clock())
    if not run.steps.done:
        run.steps.add(run.command, status, nodes or {}, *([artifacts.said(error)] if error else ()))
    call = {"command": run.command, "arguments": _arguments(run, given), "status": status, "exit_code": exit_code}
    try:
        artifacts.write(config, "run_results", artifacts.run_results(config, run.steps, now, **call))
        artifacts.write(config, "manifest", artifacts.manifest(config, load_segments(config), now))
    except PredsegError as refusal:
        if str(refusal) != str(error):  # which is said anyway
            run.note(f"warning: {artifacts.FOLDER}/ was not written: {refusal.message}")


def _prepare(run: Run) -> None:
    if not (run.debug or run.verbose):
        import warnings

        warnings.simplefilter("ignore")
    if run.verbose:
        import logging

        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("predseg").setLevel(logging.INFO)


def _answer(run: Run, answer: Answer) -> int:
    if run.json:
        error = {"error": _said(answer.error)} if answer.error else {}
        print(json.dumps({"command": run.command, "status": answer.status, **plain(answer.results), **error}, ensure_ascii=False))  # noqa: T201
    elif answer.show is not None:
        answer.show(console())
    sys.stdout.flush()
    if answer.error is not None:
        print(printable(str(answer.error)), file=sys.stderr)  # noqa: T201
        return answer.error.exit_code
    return answer.exit_code


def _said(error: PredsegError) -> dict[str, str]:
    return {"code": error.code, "place": error.place, "message": error.message, "help": error.help}


def plain(value: Any) -> Any:
    """Return a value as JSON has it: dataclasses as objects, numbers of numpy as numbers, not finite as null, the rest as text.

    >>> plain({"auc": float("nan"), "file": Path("a.csv")})
    {'auc': None, 'file': 'a.csv'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def console() -> Console:
    """Return a console on stdout: as wide as the terminal, 100 columns where there is none."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 100, markup=False, emoji=False)


def printable(text: str) -> str:
    """Return the text without control characters: data must not steer a terminal.

    >>> printable("a\\x1b[31mb")
    'a?[31mb'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if arguments is None:
        _alone()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if COMPLETING in os.environ:
        from typer.completion import completion_init

        completion_init()
    try:
        return int(typer.main.get_command(app).main(args=arguments, prog_name="predseg", standalone_mode=False) or 0)
    except PredsegError as error:
        return _fail(arguments, error)
    except TyperException as error:
        return _fail(arguments, _usage(error))
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _fail(arguments, _bug(error), error)


def _alone() -> None:
    """Make ready a process that is one command's alone."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # where notebooks are installed, jsonschema would compile a grammar for seconds
    gc.set_threshold(50_000, 20, 5)  # most of what a command makes lives as long as it does
    sys.setswitchinterval(0.0005)  # a thread that reads or computes outside Python's lock goes on soon after


def _usage(error: TyperException) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "predseg"
    message = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")
    return UsageError("E201", path, message[:1].lower() + message[1:], f"see `{path} --help`")


def _fail(arguments: list[str], error: PredsegError, cause: BaseException | None = None) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(cause or error)
    _report(arguments, error)
    print(printable(str(error)), file=sys.stderr)  # noqa: T201
    return error.exit_code


def _bug(error: Exception) -> PredsegError:
    said = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {said[0][:300] if said else 'no message'}"
    return PredsegError("E070", "predseg", message, "this is a bug, not your mistake: run it again with --debug and report what it prints")


def _interrupted() -> int:
    print("\ninterrupted: nothing was half-written", file=sys.stderr)  # noqa: T201
    return INTERRUPTED


def _report(arguments: list[str], error: PredsegError) -> None:
    """With ``--json`` an error is an answer as well."""
    if "--json" in arguments:
        named = next((a for a in arguments if not a.startswith("-")), None)
        print(json.dumps({"command": named, "status": "error", "error": _said(error)}, ensure_ascii=False))  # noqa: T201
