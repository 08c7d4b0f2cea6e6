"""What the commands have in common: an option, and how they end when somebody stops them."""

from collections.abc import Callable
from typing import Annotated

import typer

from pericard.errors import Exit

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for machines.")]


def until_stopped(command: Callable[[], int], advice: str = "stopped") -> int:
    """Run `command` and return its exit code; on Ctrl-C say `advice`."""
    try:
        return command()
    except KeyboardInterrupt:
        say(advice)
        return Exit.STOPPED


def say(line: str) -> None:
    """Say one line on stderr, under our name."""
    typer.echo(f"pericard: {line}", err=True)
