"""`pericard cohort check|describe`: what is wrong with a folder of studies, and what is in it. Nothing is sent."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pericard.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text

    from cohorts.check import Fault
    from cohorts.index import Index
    from cohorts.survey import Seen

    Progress = Callable[[int, int], None]

SHOWN = 40  # rows of the table, alike faults in one; --json and --out have all


def check(folder: Path, *, reader: str | None, settings: Sequence[str], out: Path | None, as_json: bool) -> int:
    """Print every fault of `folder`, worst first.

    Args:
        folder: where the studies lie.
        reader: name of the reader, or `None` for the one that recognises the folder.
        settings: of the reader, NAME=VALUE.
        out: also write the JSON document here.
        as_json: print it instead of the table.

    Returns:
        0 nothing that does harm; 1 identities or labels are wrong; 5 a run would be refused.
    """
    from cohorts.check import WORDS, Harm, faults
    from cohorts.recognise import opened

    name, config = opened(folder, reader, settings)
    with _progress("looking", quiet=as_json) as progress:
        index, seen, unreadable = _survey(config, progress)
    found = faults(index, seen, unreadable, same_subject=config.same_subject)
    document = {
        "folder": str(folder),
        "reader": name,
        "subjects": len({source.subject for source in index.sources}),
        "studies": len({source.study for source in index.sources}),
        "clips": len(index.sources),
        "left_out": len(index.left_out),
        "faults": [{**asdict(fault), "harm": fault.harm.name} for fault in found],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if as_json:
        sys.stdout.write(text)
    else:
        _show(document, found, WORDS)
    harms = {fault.harm for fault in found}
    if Harm.STOPS in harms:
        return Exit.UNREADABLE
    return Exit.FAIL if harms & {Harm.IDENTITY, Harm.LABEL} else Exit.PASS


def describe(folder: Path, *, reader: str | None, settings: Sequence[str], picture: Path | None, as_json: bool) -> int:
    """Print counts and distributions of `folder`, and draw a contact sheet with them into `picture`."""
    from cohorts.recognise import opened

    name, config = opened(folder, reader, settings)
    with _progress("looking", quiet=as_json) as progress:
        index, seen, unreadable = _survey(config, progress)
    facts = {"folder": str(folder), "reader": name, **summary(index, seen), "unreadable": len(unreadable)}
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    else:
        _show_facts(facts)
    if picture is not None:
        from cohorts.sheet import draw

        draw(seen, picture)
    return Exit.PASS if index.sources and not (index.problems or unreadable) else Exit.UNREADABLE


def divide(
    folder: Path,
    *,
    reader: str | None,
    settings: Sequence[str],
    by: str,
    column: str,
    sites: int,
    alpha: float,
    seed: int,
    out: Path,
) -> int:
    """Write a partition of `folder` into simulated sites, which `subjects_file` of any reader takes."""
    from cohorts import partition
    from cohorts.recognise import opened
    from conf.compose import UsageError

    _, config = opened(folder, reader, settings)
    columns, same = config.index().raw_columns(), config.same_subject
    names = [f"site-{chr(ord('a') + k)}" for k in range(sites)]
    try:
        if by == "column":
            divided = partition.by_column(columns, column, same_subject=same)
        elif by == "dirichlet":
            divided = partition.by_dirichlet(columns, column, sites=names, alpha=alpha, seed=seed, same_subject=same)
        else:
            divided = partition.by_quantity(columns, sites=names, alpha=alpha, seed=seed, same_subject=same)
    except ValueError as error:
        raise UsageError(str(error)) from error
    divided.write(out)
    for site, subjects in divided.sites.items():
        sys.stdout.write(f"{site}  {len(subjects)} subjects\n")
    return Exit.PASS


def summary(index: "Index", seen: Sequence["Seen"]) -> dict[str, Any]:
    """Return what a folder holds, as plain values."""
    import numpy as np

    from cohorts.study import RIGHT_VENTRICLE, STRUCTURES

    names = {**STRUCTURES, RIGHT_VENTRICLE: "right ventricle"}
    numbers: dict[str, list[float]] = {}
    words: dict[str, dict[str, str]] = {}
    for source in index.sources:
        for label, value in source.labels.items():
            if isinstance(value, str):
                words.setdefault(label, {})[source.study] = value
    for label in sorted({label for source in index.sources for label in source.labels} - set(words)):
        by_study = {s.study: float(s.labels[label]) for s in index.sources if label in s.labels}
        numbers[label] = list(by_study.values())

    def spread(values: Sequence[float]) -> dict[str, float]:
        low, middle, high = np.percentile(values, (0, 50, 100)).tolist()
        return {"n": len(values), "least": round(low, 3), "median": round(middle, 3), "most": round(high, 3)}

    numbers["frames"] = [clip.shape[0] for clip in seen]
    numbers["frame_rate_hz"] = [1 / clip.frame_seconds for clip in seen if clip.frame_seconds]
    numbers["pixel_mm"] = [clip.pixel_mm[0] for clip in seen if clip.pixel_mm]
    return {
        "subjects": len({source.subject for source in index.sources}),
        "studies": len({source.study for source in index.sources}),
        "clips": len(index.sources),
        "left_out": len(index.left_out),
        "problems": len(index.all_problems()),
        "views": dict(Counter(clip.view.value if clip.view else "unknown" for clip in seen)),
        "sizes": dict(Counter(f"{clip.shape[2]}x{clip.shape[1]}" for clip in seen).most_common(5)),
        "in colour": sum(clip.colour for clip in seen),
        "outlined": {name: sum(at in clip.labelled for clip in seen) for at, name in names.items()},
        "labels": {label: dict(Counter(by_study.values())) for label, by_study in sorted(words.items())},
        "numbers": {name: spread(values) for name, values in numbers.items() if values},
    }


def _survey(config: Any, progress: "Progress") -> "tuple[Index, tuple[Seen, ...], tuple[Any, ...]]":
    from cohorts.survey import survey

    index = config.index()
    seen, unreadable = survey(index, progress=progress)
    return index, seen, unreadable


def _show(document: dict[str, Any], found: Sequence["Fault"], words: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    counts = ", ".join(f"{document[name]} {name.replace('_', ' ')}" for name in ("subjects", "studies", "clips"))
    console.print(f"{document['reader']}: {counts}; {document['left_out']} left out", highlight=False)
    if not found:
        console.print("No fault was found. That is not to say that there is none.")
        return
    table = Table(title="Faults, worst first", title_justify="left", show_lines=True)
    table.add_column("fault", max_width=22)
    table.add_column("where, why, what to do", overflow="fold")
    roots = {document["folder"].rstrip("/") + "/", str(Path(document["folder"]).resolve()) + "/"}
    alike: dict[tuple[Any, ...], list[Fault]] = {}
    for fault in found:
        alike.setdefault((fault.harm, fault.kind, fault.reason, fault.remedy), []).append(fault)
    for (harm, kind, reason, remedy), those in list(alike.items())[:SHOWN]:
        more = f" and {len(those) - 1} more" if len(those) > 1 else ""
        told = Text("\n").join(
            [Text(those[0].where + more, style="bold"), Text(reason), Text(f"→ {remedy}", style="italic")]
        )  # Text, for a file's name is no markup
        for root in roots:
            told = Text("").join(_without(told, root))
        table.add_row(Text(f"{kind}\n({words[harm]})"), told)
    console.print(table)
    kinds = Counter((fault.harm, fault.kind) for fault in found)
    console.print("; ".join(f"{n} x {kind}" for (_, kind), n in sorted(kinds.items())), highlight=False)
    if len(alike) < len(found) or len(alike) > SHOWN:
        console.print("--json or --out FILE has every one of them", highlight=False)


def _without(text: "Text", root: str) -> "list[Text]":
    """Return `text` cut where `root` stands."""
    return list(text.split(root)) if root in text.plain else [text]


def _show_facts(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    for name, value in facts.items():
        if name == "numbers":
            for number, spread in value.items():
                table.add_row(
                    number, f"{spread['least']:g} to {spread['most']:g}, median {spread['median']:g}, n {spread['n']}"
                )
        elif name == "labels":
            for label, counts in value.items():
                table.add_row(label, Text(_counts(counts)))
        else:
            table.add_row(name, Text(_counts(value) if isinstance(value, dict) else str(value)))
    Console().print(table)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{word or 'blank'} {n}" for word, n in sorted(counts.items(), key=lambda item: -item[1])[:12])


@contextmanager
def _progress(words: str, *, quiet: bool) -> Iterator["Progress"]:
    if quiet:
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words)
        yield lambda done, of: bar.update(task, completed=done, total=of)
