"""`pericard metrics`: what the trainings of a run measured, exchange by exchange; while it runs, or after."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pericard.errors import Exit

COLUMNS = {
    "public_loss": "public loss",
    "epsilon": "ε",
    "step": "step",
    "agreement": "agree",
    "megabytes": "MB",
    "seconds": "s",
}
SECONDS = 1.0  # between two looks at a run that goes on


def command(out: Path, *, follow: bool, tensorboard: Path | None, as_json: bool) -> int:
    """Show the metrics of the run in `out`, and hand them to TensorBoard.

    Args:
        out: folder of a run, finished or not.
        follow: go on until the run is done.
        tensorboard: folder for event files; needs the extra of that name.
        as_json: print the rows as JSON instead of a table.

    Raises:
        UsageError: if `out` holds no run, or TensorBoard is not installed.
    """
    from conf.compose import UsageError
    from server.campaign import running
    from server.metrics import read

    folder = out / "campaign"
    if not (folder / "campaign.json").exists():
        raise UsageError(f"{out} holds no run: campaign/campaign.json is missing")
    writer = _writer(tensorboard) if tensorboard is not None else None
    rows: list[dict[str, Any]] = []
    try:
        while True:
            last_look = not (follow and running(folder))
            fresh = [row for row in read(folder) if row not in rows]
            rows += fresh
            if writer is not None:
                _hand_over(writer, fresh)
            if last_look:
                break
            for row in () if as_json else fresh:
                _say(row)
            time.sleep(SECONDS)
    finally:
        if writer is not None:
            writer.close()
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    else:
        _print(rows)
    return Exit.PASS


def _writer(folder: Path) -> Any:
    from conf.compose import UsageError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard needs the extra of that name: uv sync --extra tensorboard") from error
    return SummaryWriter(str(folder))


def _hand_over(writer: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    from server.metrics import numbers

    for row in rows:
        for name, value in numbers(row):
            writer.add_scalar(f"{row['stage']}/{name}", value, row["exchange"])
    writer.flush()


def _say(row: Mapping[str, Any]) -> None:
    told = "  ".join(f"{word} {row[name]:.3g}" for name, word in COLUMNS.items() if name in row)
    sys.stdout.write(f"{row['stage']} {row['exchange']}: {told}\n")
    sys.stdout.flush()


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Training, exchange by exchange", title_justify="left")
    table.add_column("stage")
    for name in ("no.", "sites", *COLUMNS.values()):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [f"{row[name]:.3g}" if name in row else "" for name in COLUMNS]
        table.add_row(str(row["stage"]), str(row["exchange"]), str(row["sites"]), *cells)
    Console().print(table)
