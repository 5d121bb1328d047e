"""The command that teaches a shell to complete; what is completed stands in `options`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from predseg.cli.frame import COMPLETING, Answer, Run, command


class Shell(StrEnum):
    """What can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@command("completion", 'eval "$(predseg completion bash)"', "predseg completion fish > ~/.config/fish/completions/predseg.fish")
def completion(_: Run, shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> Answer:
    """Print the script with which a shell completes commands, options, segments and models."""
    from typer.completion import get_completion_script

    script = get_completion_script(prog_name="predseg", complete_var=COMPLETING, shell=shell.value)
    return Answer({"shell": shell.value, "script": script}, lambda _: typer.echo(script))
