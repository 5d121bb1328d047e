"""The shape of the code: which way imports point, how long things may be, and what may be used where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "predseg").rglob("*.py"))
CODE = [*FILES, *sorted((ROOT / "pipelines").glob("*.py"))]
LAYERS = {
    "errors": 0,
    "columns": 1,
    "disks": 1,
    "formats": 1.5,
    "layers": 1.5,
    "locks": 1,
    "language": 1,
    "config": 2,
    "evaluate": 2,
    "store": 2,
    "engine": 2,
    "spark": 2.5,
    "marks": 2.5,
    "shop": 3,
    "history": 3,
    "forecast": 4,
    "segments": 5,
    "live": 6,
    "activation": 6,
    "outcomes": 6,
    "page": 6.5,
    "moment": 3,
    "project": 7,
    "resuming": 7.5,
    "cli": 8,
    "__init__": 8,
    "__main__": 9,
}
"""Imports go from a higher number to a lower one, or stay within one part."""
LONGEST_FILE, LONGEST_FUNCTION = 500, 60
CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today", "datetime.datetime.now", "datetime.date.today"}


TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    yield from TREES.items()


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "predseg").parts[0].removesuffix(".py")


def imports(tree: ast.AST, at_import: bool = False) -> Iterator[str]:
    """Every module named by an import, those for type checking left out; ``at_import``: only those outside functions."""
    unseen = {id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" for n in ast.walk(node)}
    if at_import:
        unseen |= {id(n) for f in functions(tree) for n in ast.walk(f) if n is not f}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1


def test_imports_point_one_way() -> None:
    wrong = []
    for path, tree in trees():
        mine = part_of(path)
        assert mine in LAYERS, f"{path} is in no layer"
        for name in imports(tree):
            if not name.startswith("predseg."):
                continue
            other = name.split(".")[1]
            if other in LAYERS and other != mine and LAYERS[other] >= LAYERS[mine]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_predseg_never_imports_pipelines_tests_or_benchmarks() -> None:
    assert not [f"{path}: {name}" for path, tree in trees() for name in imports(tree) if name.split(".")[0] in ("pipelines", "tests", "benchmarks")]


def test_no_import_cycles() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): tree for path, tree in trees()}
    arrows = {name: {n for n in imports(tree, at_import=True) if n in names and n != name} for name, tree in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in sorted(arrows[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in names:
        visit(name, ())


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE, f"{path} has {len(text.splitlines())} lines"
    long = {f.name: body_lines(f) for f in functions(ast.parse(text)) if body_lines(f) > LONGEST_FUNCTION}
    assert not long


def test_ninety_percent_of_the_functions_have_at_most_31_lines() -> None:
    sizes = sorted(body_lines(f) for _, tree in trees() for f in functions(tree))
    assert sizes[int(0.9 * len(sizes))] <= 31 and sizes[len(sizes) // 2] <= 8


def test_pipelines_stay_under_60_lines() -> None:
    files = sorted((ROOT / "pipelines").glob("*.py"))
    assert files and all(len(p.read_text("utf-8").splitlines()) < 60 for p in files)


def test_signatures_are_typed() -> None:
    untyped = []
    for path, tree in trees():
        for f in functions(tree):
            arguments = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs, *filter(None, (f.args.vararg, f.args.kwarg))]
            if f.returns is None or any(a.annotation is None for a in arguments if a.arg not in ("self", "cls")):
                untyped.append(f"{path.relative_to(ROOT)}:{f.lineno} {f.name}")
    assert not untyped


def test_public_api_is_small_and_complete() -> None:
    import predseg

    assert len(predseg.__all__) <= 25
    for name in predseg.__all__:
        assert getattr(predseg, name).__doc__, name
    assert (ROOT / "predseg" / "py.typed").is_file()


def test_only_tracking_imports_mlflow() -> None:
    found = {path.relative_to(ROOT / "predseg").as_posix() for path, tree in trees() for name in imports(tree) if name.split(".")[0] == "mlflow"}
    assert found == {"forecast/tracking.py"}


def test_nothing_unpickles() -> None:
    forbidden = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
    assert not [f"{path}: {name}" for path, tree in trees() for name in imports(tree) if name.split(".")[0] in forbidden]
    calls = [
        f"{path}:{n.lineno}"
        for path, tree in trees()
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and ast.unparse(n) in ("joblib.load", "joblib.dump")
    ]
    assert not calls


def test_the_clock_is_read_at_the_edge_only() -> None:
    found = {part_of(p) for p, tree in trees() for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) in CLOCKS}
    assert found <= {"moment", "cli", "live"}


def test_the_environment_is_read_at_the_edge_only() -> None:
    found = {
        p.relative_to(ROOT / "predseg").as_posix()
        for p, tree in trees()
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and ast.unparse(n) in ("os.environ", "os.getenv")
    }
    assert found <= {"cli/frame.py", "forecast/tracking.py", "project.py"}


def test_no_catch_all_module_names() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "common", "misc")]


def test_import_has_no_effects() -> None:
    import subprocess

    code = "import sys; before = set(sys.modules); import predseg; print(sorted({m.split('.')[0] for m in set(sys.modules) - before} & {'pandas', 'numpy', 'mlflow', 'lightgbm', 'duckdb', 'pyarrow', 'typer', 'rich'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]" and done.stderr == ""


def test_no_data_caches_or_pickles_are_tracked() -> None:
    import shutil
    import subprocess

    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [f for f in tracked if f.endswith((".pkl", ".pickle", ".parquet", ".db", ".pyc", ".joblib")) or f.startswith(("store/", "output/"))]


def test_planted_layout_errors_are_found() -> None:
    """The checks above must be able to fail."""
    bad = ast.parse("def f(x):\n" + "    x += 1\n" * 61 + "import mlflow.tracking\nfrom predseg.cli import main\n")
    assert [body_lines(f) for f in functions(bad)] == [61]
    assert {"mlflow.tracking", "predseg.cli", "predseg.cli.main"} <= set(imports(bad))


def test_nothing_else_lies_at_the_top() -> None:
    """What commands leave in the folder where they are run is no part of the project."""
    told = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip("not a working copy of git")
    folders = {"predseg", "pipelines", "configs", "notebooks", "tests", "models", "docs", "benchmarks", ".ci"}
    files = {"pyproject.toml", "README.md", "CHANGELOG.md", "SECURITY.md", "justfile", ".gitignore", ".gitattributes"}
    assert {line.split("/")[0] for line in told.stdout.splitlines()} <= folders | files
