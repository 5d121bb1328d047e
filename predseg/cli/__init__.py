"""The command line: a thin skin. A command builds a `predseg.Project`, calls one method, and shows what came back."""

from predseg.cli import (
    actions,
    commands,
    completion,
    engagement,
    experiments,
    handbook,
    latent,
    live,
    monitoring,
    people,
    quarantine,
    report,
    rules,
    segments,
    selecting,
    serving,
    tuning,
)
from predseg.cli.frame import main

__all__ = [
    "actions",
    "commands",
    "completion",
    "engagement",
    "experiments",
    "handbook",
    "latent",
    "live",
    "main",
    "monitoring",
    "people",
    "quarantine",
    "report",
    "rules",
    "segments",
    "selecting",
    "serving",
    "tuning",
]
