"""The daily run of a project: check the data, score everyone with the champions, bring the segments up to date, send what is due.

What a scheduler calls every morning: ``python pipelines/daily.py [PROJECT.yaml]``
"""

from __future__ import annotations

import sys

from predseg import PredsegError, Project


def main(arguments: list[str]) -> int:
    """Run the steps and return the exit code."""
    try:
        project = Project.load(*arguments[:1])
        project.check()
        if project.config.models:
            project.score()
        if project.config.segments:
            project.segments().run(project.moment())
            if project.config.channels and (lost := project.act().count("failed", "dead")):
                print(f"{lost:,} messages did not arrive: predseg actions list --status failed --status dead", file=sys.stderr)  # noqa: T201
                return 8
    except PredsegError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
