"""`pericard coordinate status`: how a deployed campaign stands, as a table, a page, or JSON; once, or until it ends."""

import json
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pericard.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from server.status import SiteRow, StageRow, Status

EVERY_SECONDS, IDLE_SECONDS = 5.0, 60.0


def status(folder: Path, *, html: Path | None, follow: bool, as_json: bool) -> int:
    """Say how the campaign of the coordinator in `folder` stands; raises `UsageError`.

    With `follow` it is said again and again until it is done, or nobody has worked on it for a minute: a SuperLink that
    is started again takes seconds. `html` is written each time.
    """
    from conf.compose import UsageError
    from server.coordinator import Coordinator
    from server.status import look

    try:
        coordinator = Coordinator.open(folder)
        seen = look(coordinator)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with _shown(as_json=as_json, live=follow) as show:
        show(seen, html)
        idle = time.monotonic()
        while follow and seen.state != "done" and time.monotonic() - idle < IDLE_SECONDS:
            time.sleep(EVERY_SECONDS)
            seen = look(coordinator)
            show(seen, html)
            idle = idle if seen.over else time.monotonic()
    return Exit.PASS


@contextmanager
def _shown(*, as_json: bool, live: bool) -> "Iterator[Callable[[Status, Path | None], None]]":
    """Yield what shows a status: as a line of JSON, as a table, or as a table in the place of the one before."""
    from rich.console import Console
    from rich.live import Live

    console = wide(Console())
    screen = Live(console=console, auto_refresh=False) if live and not as_json and console.is_terminal else None

    def show(seen: "Status", html: Path | None) -> None:
        if html is not None:
            from learning import durable
            from pericard.status_page import page

            durable.write(html, page(seen).encode())
        if as_json:
            sys.stdout.write(json.dumps(seen.to_json(), ensure_ascii=False) + "\n")
            sys.stdout.flush()
        elif screen is not None:
            screen.update(table(seen), refresh=True)
        else:
            console.print(table(seen))

    with screen or nullcontext():
        yield show


def wide(console: Any) -> Any:
    """Let a console that is no terminal, such as a file, write lines of 160 characters; return it."""
    if not console.is_terminal:
        console.width = 160
    return console


def table(seen: "Status") -> Any:
    """Return a status as rich shows it."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    head = [
        f"[bold]{escape(seen.federation)}[/]  {escape(seen.run or 'no campaign')}  [bold]{seen.state}[/]  {seen.utc}"
    ]
    head.append("the SuperLink answers" if seen.link else "the SuperLink does not run")
    if seen.failure:
        head.append(f"[red]{escape(seen.failure)}[/]")
    sites = Table("site", "node", "since", "last answer", "answers", "sent", "ε charged", "last failure", box=None)
    for site in seen.sites:
        sites.add_row(*map(escape, site_cells(site)))
    stages = Table("stage", "state", "exchange", "ε", "says", box=None)
    for stage in seen.stages:
        stages.add_row(*map(escape, stage_cells(stage)))
    parts: list[Any] = [*head, "", sites]
    return Group(*parts, "", stages if seen.stages else "")


def site_cells(site: "SiteRow") -> tuple[str, ...]:
    """Return the cells of a site, as table and page show them."""
    return (
        site.name, site.online, _minute(site.since), _minute(site.heard), str(site.answers), size(site.bytes),
        _number(site.epsilon), site.failure,
    )  # fmt: skip


def stage_cells(stage: "StageRow") -> tuple[str, ...]:
    """Return the cells of a stage."""
    state = f"{100 * stage.fraction:.0f} %" if stage.state == "begun" else stage.state
    exchanges = f"{stage.exchanges} of {stage.of}" if stage.of else ""
    return stage.name, state, exchanges, _number(stage.epsilon), stage.words


def size(n_bytes: int) -> str:
    """Return a number of bytes in words."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _minute(utc: str) -> str:
    return utc[:19].replace("T", " ")
