"""The daily run of a project: check, score, segments, messages, watches, report.

What a scheduler calls every morning: ``python pipelines/daily.py [PROJECT.yaml]``
"""

from __future__ import annotations

import sys

from predseg import PredsegError, Project
from predseg.formats import write_page
from predseg.history.audience import publish


def main(arguments: list[str]) -> int:
    """Run the steps and return the exit code."""
    try:
        project = Project.load(*arguments[:1])
        project.check()
        missing = project.missing()
        if asked := [name for name in project.config.models if name not in missing]:
            project.score(asked)
        lost = 0
        if project.config.segments:
            workspace = project.segments()
            found = workspace.run(project.moment())
            if project.config.audience is not None:
                publish(project.config.audience, workspace.audience(found).table, None)
            if project.config.channels and (lost := project.act().count("failed", "dead")):
                print(f"{lost:,} messages did not arrive: predseg actions list --status failed --status dead", file=sys.stderr)  # noqa: T201
        failing = [watch.key for watch in project.monitor().failing]
        write_page(project.config.store / "report.html", project.report())
    except PredsegError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    for refusal in missing.values():
        print(refusal, file=sys.stderr)  # noqa: T201
    if failing:
        print(f"failing: {', '.join(failing)}", file=sys.stderr)  # noqa: T201
    return 8 if lost else 7 if missing else 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
