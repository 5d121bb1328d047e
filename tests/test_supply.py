"""What predseg is made of: every package that it needs stands in the bill of materials, and a known vulnerability is told from no answer."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SUPPLY = ROOT / ".ci" / "supply.py"


@pytest.fixture(scope="module")
def supply() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply", SUPPLY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed: pip install 'predseg[dev]'")
    file = tmp_path_factory.mktemp("supply") / "sbom.json"
    done = subprocess.run([sys.executable, SUPPLY, "sbom", file], capture_output=True, text=True, check=True)
    assert "packages listed in" in done.stdout
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def needed() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {plain(re.split(r"[\[<>=!;, ]", line, maxsplit=1)[0]) for line in project["dependencies"] if "sys_platform" not in line}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_that_is_needed_stands_there_as_it_is_installed(bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    own = bill["metadata"]["component"]
    assert (own["name"], own["version"]) == ("predseg", tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])
    listed = {plain(one["name"]): one for one in bill["components"]}
    assert needed() and not needed() - listed.keys()
    for name in needed():
        assert (
            listed[name]["version"] == version(name) and listed[name]["purl"].startswith("pkg:pypi/") and f"@{version(name)}" in listed[name]["purl"]
        )
    licensed = [name for name in needed() if listed[name].get("licenses")]
    assert len(licensed) >= 0.9 * len(needed()), "whoever takes it over sees under which licences"


def test_what_needs_what_leads_to_packages_that_are_listed(bill: dict[str, Any]) -> None:
    refs = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    edges = {one["ref"]: set(one.get("dependsOn", ())) for one in bill["dependencies"]}
    assert edges.keys() <= refs and set().union(*edges.values()) <= refs
    mlflow = next(ref for ref in refs if ref.startswith("mlflow=="))
    assert any(ref.lower().startswith("sqlalchemy==") for ref in edges[mlflow]), "what is needed by what is needed, too"


def answer(*vulns: dict[str, Any], **more: Any) -> str:
    return json.dumps(
        {"dependencies": [{"name": "a", "version": "1.0", "vulns": list(vulns), **more}, {"name": "own", "skip_reason": "not on the index"}]}
    )


@pytest.mark.parametrize(
    ("said", "trouble", "code", "words"),
    [
        (answer(), "", 0, "1 packages checked, 1 not known to the service, 0 vulnerabilities"),
        (answer({"id": "PYSEC-1", "fix_versions": ["1.1"]}), "Found 1", 1, "a 1.0: PYSEC-1, mended in 1.1"),
        (answer({"id": "PYSEC-2", "fix_versions": []}), "", 1, "a 1.0: PYSEC-2"),
        (
            "",
            "x\nERROR: could not connect\n",
            0,
            "audit skipped, so nothing is known of vulnerabilities: the service did not answer (ERROR: could not connect)",
        ),
        ("", "", 0, "no answer"),
        ("<html>", "", 0, "audit skipped"),
    ],
)
def test_a_vulnerability_fails_and_no_answer_is_said(supply: ModuleType, said: str, trouble: str, code: int, words: str) -> None:
    found, text = supply.judged(said, trouble)
    assert found == code and words in text


def test_without_a_network_the_audit_is_skipped_in_clear_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pip_audit", reason="pip-audit is not installed: pip install 'predseg[dev]'")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    (tmp_path / "one.txt").write_text("jinja2==3.1.0\n")
    command = [sys.executable, SUPPLY, "audit", "--no-deps", "--disable-pip", "-r", tmp_path / "one.txt", "--cache-dir", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0 and done.stdout.startswith("audit skipped, so nothing is known of vulnerabilities"), done.stdout + done.stderr
