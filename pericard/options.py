"""What the commands have in common: an option, and how they end when somebody or something stops them."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Annotated, NoReturn

import typer

from pericard.errors import Exit

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for machines.")]


def until_stopped(command: Callable[[], int], advice: str = "stopped") -> int:
    """Run `command` and return its exit code; on Ctrl-C, or SIGTERM of a service manager, say `advice`."""
    own = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _stop) if own else None
    try:
        return command()
    except KeyboardInterrupt:
        say(advice)
        return Exit.STOPPED
    finally:
        if own:
            signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def say(line: str) -> None:
    """Say one line on stderr, under our name."""
    typer.echo(f"pericard: {line}", err=True)
