"""The results of rule tests as JUnit XML, which continuous integration reads."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from predseg.segments.cases import Result, Suite


def junit(suites: Sequence[Suite]) -> str:
    """Return the XML text: a suite per segment, a case per test, with file and line."""
    results = [r for s in suites for r in s.results]
    root = ElementTree.Element("testsuites", _counts("predseg", results))
    for suite in suites:
        element = ElementTree.SubElement(root, "testsuite", _counts(suite.segment.name, suite.results))
        for result in suite.results:
            _case(element, result)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _counts(name: str, results: Sequence[Result]) -> dict[str, str]:
    failures = sum(not r.passed for r in results)
    return {"name": name, "tests": str(len(results)), "failures": str(failures), "errors": "0", "skipped": "0", "time": "0"}


def _case(parent: ElementTree.Element, result: Result) -> None:
    file, line, _ = result.case.place.rsplit(":", 2)
    named = {"classname": result.case.segment, "name": allowed(result.case.it), "file": allowed(file), "line": line, "time": "0"}
    element = ElementTree.SubElement(parent, "testcase", named)
    if result.passed:
        return
    said = [f"{f.what}: expected {f.expected}, found {f.found}" for f in result.failures]
    failure = ElementTree.SubElement(element, "failure", {"message": said[0], "type": result.failures[0].what})
    failure.text = allowed(f"{result.case.place}\n" + "\n".join(said))


def allowed(text: str) -> str:
    """Leave away the control characters that XML cannot hold."""
    return "".join(c if c in "\t\n\r" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) not in (0xFFFE, 0xFFFF)) else "?" for c in text)
