"""The live side of a project: events in over HTTP, segments and customers out, messages sent.

What a service manager keeps running: ``python pipelines/live.py [PROJECT.yaml]``
"""

from __future__ import annotations

import sys

from predseg import PredsegError, Project


def main(arguments: list[str]) -> int:
    """Serve until stopped and return the exit code."""
    try:
        Project.load(*arguments[:1]).serve()
    except PredsegError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
