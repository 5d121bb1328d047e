"""The command line: text and exit code of every refusal, JSON on stdout alone, help in no time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from predseg.cli import main
from predseg.cli.frame import app
from tests import small

GOLDEN = Path(__file__).parent / "golden"
EVENTS = "customer_id,event_time,event,value\n" + "".join(
    f"c{i % 40},2026-01-{1 + i % 28:02d}T10:{i % 60:02d}:00Z,Order Completed,{i % 50}.50\n" for i in range(400)
)
CONFIG = """\
project: shop
sources:
  orders: {path: events.csv}
features:
  windows: [7 days, 14 days]
  events:
    Order Completed: {value: value}
models:
  purchase: {predict: {did: Order Completed, within_next: 7 days}}
"""


@dataclass(frozen=True)
class Case:
    """A project of a few files, a command, and what it answers."""

    name: str
    exit_code: int
    command: str = "check"
    config: str = CONFIG
    files: dict[str, str] = field(default_factory=lambda: {"events.csv": EVENTS})
    edit: Callable[[Path], None] | None = None
    """Starts from a copy of the trained project instead, and changes it."""


def replace_in(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def with_config(old: str, new: str) -> str:
    assert old in CONFIG
    return CONFIG.replace(old, new)


def with_events(text: str) -> dict[str, str]:
    return {"events.csv": text}


CASES = [
    Case("no_such_command", 2, "chekc"),
    Case("no_such_option", 2, "check --asof 2026-01-01"),
    Case("no_project_here", 2, "check", config=""),
    Case("no_such_project_file", 3, "check -c shop.yaml"),
    Case("bad_instant", 2, "check --as-of yesterday"),
    Case("unknown_key", 3, config=CONFIG.replace("sources:", "sorces:")),
    Case("unknown_key_in_source", 3, config=with_config("{path: events.csv}", "{pth: events.csv}")),
    Case("not_yaml", 3, config=with_config("{path: events.csv}", "{path: events.csv")),
    Case("number_instead_of_text", 3, config=with_config("project: shop", "project: 7")),
    Case("bad_duration", 3, config=with_config("[7 days, 14 days]", "[7 dayz]")),
    Case("prediction_without_horizon", 3, config=with_config(", within_next: 7 days", "")),
    Case("unknown_timezone", 3, config=with_config("project: shop", "project: shop\ntimezone: Europe/Lodnon")),
    Case("init_over_a_project", 2, "init ."),
    Case("unknown_model", 2, "train purchse"),
    Case("demo_into_a_full_folder", 2, "demo ."),
    Case("bad_suffix_of_out", 2, "score --out scores.xlsx", edit=lambda folder: None),
    Case("missing_file", 4, files={}),
    Case("missing_column", 4, files=with_events(EVENTS.replace("event_time", "when", 1))),
    Case(
        "misnamed_column",
        4,
        config=with_config("{path: events.csv}", "{path: events.csv, columns: {value: amuont}}"),
        files=with_events(EVENTS.replace("value", "amount", 1)),
    ),
    Case("naive_times_without_timezone", 4, files=with_events(EVENTS.replace("00Z,", "00,"))),
    Case("empty_source", 4, files=with_events("customer_id,event_time,event,value\n")),
    Case("empty_file", 4, files=with_events("")),
    Case("all_rows_bad", 4, files=with_events(EVENTS.replace("2026-01-", "2026-13-"))),
    Case("too_many_bad_rows", 4, files=with_events(EVENTS + "c1,,Order Completed,1\n" * 9)),
    Case("wrong_query", 4, config=with_config("{path: events.csv}", "{path: events.csv, query: select nothing from source}")),
    Case("unwritable_store", 4, config=with_config("project: shop", "project: shop\nstore: events.csv")),
    Case("as_of_before_the_data", 4, "score --as-of 2001-01-01", edit=lambda folder: None),
    Case(
        "one_class_label", 5, "train", edit=lambda folder: replace_in(folder / "predseg.yaml", "{did: Order Completed,", "{did_not: Order Refunded,")
    ),
    Case(
        "too_few_positives",
        5,
        "train",
        edit=lambda folder: replace_in(folder / "predseg.yaml", "within_next: 20 days", "within_next: 20 days, more_than: 300, sum: value"),
    ),
    Case("horizon_incomplete", 5, "train --as-of 2026-06-01", edit=lambda folder: None),
    Case("horizon_too_long", 5, "train", edit=lambda folder: replace_in(folder / "predseg.yaml", "20 days", "300 days")),
    Case("not_trained_yet", 7, "score"),
    Case("feature_mismatch", 7, "score", edit=lambda folder: replace_in(folder / "predseg.yaml", "14 days, ", "")),
    Case("tampered_bundle", 7, "score", edit=lambda folder: replace_in(folder / "models/small-purchase/1/member-0.txt", "tree", "tr3e")),
    Case("no_earlier_champion", 7, "rollback purchase", edit=lambda folder: None),
]


def run(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command in a folder and return exit code, stdout and stderr, without the folder's own name."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PREDSEG_CONFIG", raising=False)
    code = main(command.split())
    out, err = capsys.readouterr()
    return code, out.replace(str(folder), "DIR"), err.replace(str(folder), "DIR")


def lay(folder: Path, case: Case, trained: Callable[[], Path] | None = None) -> None:
    if case.edit is not None:
        assert trained is not None
        small.copied(trained(), folder)
        case.edit(folder)
        return
    for name, text in case.files.items():
        (folder / name).write_text(text, "utf-8")
    if case.config:
        (folder / "predseg.yaml").write_text(case.config, "utf-8")


def agree(name: str, text: str) -> None:
    """Compare with the golden file; UPDATE_GOLDEN=1 writes it."""
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8"), f"{file} differs; after a wanted change run UPDATE_GOLDEN=1 pytest {__file__}"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_refusal_names_place_finding_rule_and_remedy(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    lay(tmp_path, case, lambda: request.getfixturevalue("trained"))
    code, out, err = run(tmp_path, case.command, monkeypatch, capsys)
    agree(case.name, f"$ predseg {case.command}\n{err}exit {code}\n")
    assert code == case.exit_code
    assert "Traceback" not in err and "\nhelp: " in err
    assert out == "" or case.command == "check", "data alone goes to stdout"


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == {case.name for case in CASES}


def test_json_error_is_one_object_on_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lay(tmp_path, Case("", 3, config=CONFIG.replace("sources:", "sorces:")))
    code, out, err = run(tmp_path, "check --json", monkeypatch, capsys)
    answer = json.loads(out)
    assert code == 3 and answer["command"] == "check" and answer["status"] == "error"
    assert answer["error"]["code"] == "E301" and answer["error"]["place"] == "predseg.yaml:2:1" and "sources" in answer["error"]["help"]
    assert err.startswith("error[E301] predseg.yaml:2:1: ")


def test_an_unknown_exception_is_a_bug_and_shows_its_traceback_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from predseg.cli import doctor

    monkeypatch.setattr(doctor, "examine", lambda folder: 1 / 0)
    assert main(["doctor"]) == 70
    err = capsys.readouterr().err
    assert "this is a bug" in err and "Traceback" not in err and "ZeroDivisionError" in err
    assert main(["doctor", "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_interrupted_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from predseg.cli import doctor

    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    assert main(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_control_characters_of_data_never_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path, Case("", 3, config=CONFIG + '"\\e[2Jsegmnts": x\n'))
    code, _, err = run(tmp_path, "check", monkeypatch, capsys)
    assert code == 3 and "\x1b" not in err


def test_help_imports_nothing_heavy() -> None:
    heavy = "pandas lightgbm mlflow duckdb pyarrow sklearn numpy matplotlib pandera".split()
    code = f"import sys; from predseg.cli import main; main(['--help']); main(['train', '--help']); sys.exit(', '.join(set({heavy}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_answers_in_half_a_second() -> None:
    """Counted as time on a core, so that a busy machine does not decide it."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "predseg", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.5, took


def test_every_command_has_help_that_ends_in_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    names = [command.name for command in app.registered_commands]
    assert len(names) == len(set(names)) >= 9
    for name in names:
        assert name is not None
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.rstrip().splitlines()[-1].strip().startswith(f"predseg {name}"), text
        for option in ("--config", "--as-of", "--json", "--dry-run", "--verbose", "--quiet", "--debug"):
            assert option in text


def test_init_writes_a_project_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from predseg import load

    code, out, _ = run(tmp_path, "init my_shop --json", monkeypatch, capsys)
    assert code == 0 and json.loads(out)["written"] == ["my_shop/predseg.yaml", "my_shop/.gitignore"]
    config = load(tmp_path / "my_shop" / "predseg.yaml")
    assert config.project == "my_shop" and set(config.models) == {"purchase", "churn"}


def test_dry_run_of_init_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(tmp_path, "init my_shop --dry-run", monkeypatch, capsys)
    assert code == 0 and "would write" in out and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["check", "models", "promote purchase --version 1", "score --out s.jsonl", "score --dry-run", "run", "doctor"])
def test_json_is_exactly_one_object_on_stdout(
    command: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small.copied(trained, tmp_path)
    code, out, err = run(tmp_path, f"{command} --json", monkeypatch, capsys)
    answer = json.loads(out)
    assert code == 0 and out.count("\n") == 1, err
    assert answer["command"] == command.split()[0] and answer["status"] == "ok"


def test_json_of_check_counts_every_row(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small.copied(trained, tmp_path)
    with (tmp_path / "events.csv").open("a") as events:
        events.write("c1,,Order Completed,1\nc1,2025-02-01T00:00:00Z,Order Completed,x\n")
    _, out, _ = run(tmp_path, "check --json", monkeypatch, capsys)
    answer = json.loads(out)
    assert answer["quarantined"] == 2 and answer["received"] == answer["accepted"] + answer["duplicates"] + answer["quarantined"]
    assert len(answer["sources"][0]["samples"]) == 2


def test_a_broken_contract_shows_its_counts_and_exits_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lay(tmp_path, Case("", 4, files=with_events(EVENTS + "c1,,Order Completed,1\n" * 9)))
    code, out, err = run(tmp_path, "check", monkeypatch, capsys)
    assert code == 4 and "event_time is missing" in out and "409" in out and err.startswith("error[E409]")
    code, out, _ = run(tmp_path, "check --json", monkeypatch, capsys)
    answer = json.loads(out)
    assert code == 4 and answer["status"] == "failed" and answer["error"]["code"] == "E409" and answer["quarantined"] == 9


def test_an_event_that_never_occurs_is_a_warning_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path, Case("", 0, config=with_config("predict: {did: Order Completed", "predict: {did: Order Complete")))
    code, out, _ = run(tmp_path, "check", monkeypatch, capsys)
    assert code == 0 and "never occurs: did you mean 'Order Completed'?" in " ".join(out.split())


@pytest.mark.parametrize("command", ["check", "models", "score", "train --dry-run", "rollback purchase --dry-run"])
def test_people_read_calm_text_and_stderr_is_silent(
    command: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small.copied(trained, tmp_path)
    monkeypatch.chdir(tmp_path)
    code = main(command.split())
    out, err = capfd.readouterr()
    assert (code, err) == (0, "") if not command.startswith("rollback") else code == 7
    assert "\x1b" not in out and "Traceback" not in out and "Warning" not in err
    if code == 0:
        assert "next:" in out or "wrote" in out


def test_config_comes_from_the_option_then_the_environment_then_the_folder(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small.copied(trained, tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    assert main(["models", "--json"]) == 2
    monkeypatch.setenv("PREDSEG_CONFIG", str(file))
    assert main(["models", "--json"]) == 0
    assert main(["models", "--json", "-c", str(tmp_path / "other.yaml")]) == 3
    capsys.readouterr()
