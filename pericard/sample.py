"""`pericard sample`: any number of images or clips from the generator of a finished run, a bundle, or a public prior.

```
DIR/
├── release/        images, masks, labels and manifest, as `synthesis.release` lays them out; there when all is drawn
└── sampling.json   what was drawn, from what, how fast, and that nobody certified it
```

Where the generator draws hearts that move, what is counted are clips of one whole beat; the images are then the ends
of each, and every view is a folder in the layout of EchoNet-Dynamic.

Image or clip k depends on the generator, the seed and k only. They are drawn in parts of whole subjects, so memory does
not grow with the number; a part is kept as soon as it is whole, and the same command goes on where another was stopped.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import typer

from pericard import sources
from pericard.errors import Exit
from pericard.sources import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from cohorts.clips import Clips
    from cohorts.frames import Frames

SUBJECTS_AT_ONCE = 256  # a part: one thousand images of two views at two phases
HEARTS_AT_ONCE = 32  # a part: 64 clips of two views
REQUEST, PARTS, RECORD, KEPT = "request.json", "parts", "sampling.json", ".safetensors"
NOT_CERTIFIED = (
    "Not certified. Nobody screened these pictures, measured what they are good for, or attacked them; "
    "a certificate of the same run speaks of others."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for.

    Attributes:
        count: images, or clips.
        seed: of shapes and noise.
        solver, steps, precision: instead of those in the generator's settings; `None` keeps them.
    """

    count: int
    seed: int
    solver: str | None = None
    steps: int | None = None
    precision: str | None = "auto"


def command(
    folder: Path | None, asked: Asked, *, prior: bool, moving: bool, out: Path, bundle: Path | None, as_json: bool
) -> int:
    """Draw, write, and say what was drawn.

    Args:
        folder: of a finished run, of its release, or of a bundle; `None` with `prior`.
        asked: how many and how.
        prior: take the public prior alone.
        moving: of the public priors, that of clips.
        out: folder of the results; new, empty, or of the same command that was stopped.
        bundle: also write the generator there, to be handed on.
        as_json: print one JSON document.

    Returns:
        0; 4 where a bundle would tell of single subjects; 6 where one is not what it says.

    Raises:
        click.UsageError: no generator there, `out` holds something else, a solver that does not exist.
    """
    from pericard.options import say
    from synthesis import bundle as bundles

    if (folder is None) != prior:
        raise click.UsageError("give the folder of a run or of a bundle, or --prior; not both")
    if moving and not prior:
        raise click.UsageError("--moving chooses among public priors; a run or a bundle draws what it was trained on")
    try:
        source = sources.public(moving=moving) if folder is None else sources.found(folder)
        if bundle is not None:
            bundles.write(bundle, source.bundle, subjects=source.subjects)
        told = sources.changed(source.bundle, solver=asked.solver, steps=asked.steps, precision=asked.precision)
        source = replace(source, bundle=told)
        source.bundle.build()
    except bundles.BundleChanged as error:
        say(str(error))
        return Exit.INTEGRITY
    except bundles.TellsOfSubjects as error:
        say(str(error))
        return Exit.REFUSED
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    record = sample(source, asked, out, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=True))
        return Exit.PASS
    seconds = record["sampling_seconds"]
    typer.echo(f"{out / 'release'}: {asked.count} {_what(source)}, {record['drawn']} of them drawn in {seconds:.1f} s")
    typer.echo(f"  {record['privacy']}\n  {record['certified_because']}")
    return Exit.PASS


def sample(source: Source, asked: Asked, out: Path, *, quiet: bool) -> dict[str, Any]:
    """Draw what is not drawn yet, finish the release, and return the record that lies beside it."""
    from learning import durable
    from synthesis import release

    request = {"generator": source.bundle.digest, "seed": asked.seed, "count": asked.count}
    _claim(out, request)
    if (out / RECORD).is_file():  # written last: all of it is there
        done: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
        return done
    making, parts = out / "release.partial", out / PARTS
    parts.mkdir(exist_ok=True)
    generator: Any = source.bundle.build()  # of stills or of clips, as `source.moves`
    spent, drawn = 0.0, 0
    with _progress(asked.count, _what(source), quiet=quiet) as show:
        for part in _parts(source, asked):
            rows = parts / f"{part.number:06d}.csv"
            if not rows.exists() and not (out / "release").exists():
                conditions, systole = _conditions(source, asked, part)
                begun = time.perf_counter()
                pixels = generator.sample(conditions, seed=asked.seed, offset=part.first, **_pairs(source))
                spent, drawn = spent + time.perf_counter() - begun, drawn + part.n
                durable.write(rows, _written(source, parts, making, part, replace(conditions, pixels=pixels), systole))
            show(part.first + part.n)
    if not (out / "release").exists():
        if source.moves:
            key = hashlib.sha256(f"{request['generator']}/{asked.seed}".encode()).digest()
            release.write_films(making, lambda: _clips(source, asked, parts), key)
        release.seal(making, (path.read_bytes() for path in sorted(parts.glob("*.csv"))), of=source.classes.of)
        making.rename(out / "release")
    record = _record(source, asked, request) | {
        "drawn": drawn,
        "sampling_seconds": spent,
        f"{_what(source)}_per_second": drawn / spent if spent else None,
    }
    durable.write(out / RECORD, json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode())
    shutil.rmtree(parts)
    return record


def _pairs(source: Source) -> dict[str, int]:
    """Return what tells a generator of stills which of them show one heart."""
    from synthesis.conditions import pictures_of_one_heart

    return {} if source.moves else {"of_one_heart": pictures_of_one_heart(source.classes)}


def _record(source: Source, asked: Asked, request: Mapping[str, Any]) -> dict[str, Any]:
    bundle = source.bundle
    if bundle.plan is not None:
        privacy = (
            f"Drawing costs nothing: ({bundle.epsilon:.4g}, {bundle.delta:g})-differential privacy of the run "
            "that trained the generator holds for any number of images."
        )
    elif bundle.weights:
        privacy = "The generator was trained without differential privacy: no ε holds."
    else:
        privacy = "From the public prior alone, which has seen no patient."
    return {
        "count": asked.count,
        "seed": asked.seed,
        "request": dict(request),
        "generator": bundle.generator,
        "config": dict(bundle.config),
        "epsilon": bundle.epsilon,
        "delta": bundle.delta,
        "privacy": privacy,
        "certified": False,
        "certified_because": NOT_CERTIFIED,
    }


@dataclass(frozen=True, slots=True)
class _Part:
    """Images or clips `first` to `first + n` of the subjects `subjects` to `subjects + whole`."""

    number: int
    first: int
    n: int
    subjects: int
    whole: int


def _parts(source: Source, asked: Asked) -> Iterator[_Part]:
    views = len(source.classes.released) if source.classes.of == "view" else 1
    each, at_once = (views, HEARTS_AT_ONCE) if source.moves else (2 * views, SUBJECTS_AT_ONCE)
    for number, first in enumerate(range(0, asked.count, at_once * each)):
        n = min(at_once * each, asked.count - first)
        yield _Part(number, first, n, number * at_once, -(-n // each))


def _conditions(source: Source, asked: Asked, part: _Part) -> "tuple[Clips, NDArray[np.int64]] | tuple[Frames, None]":
    """Return what is asked for in a part: shapes from the public prior; of clips also when each is at end systole."""
    import numpy as np

    from synthesis.conditions import beats, conditions

    told: dict[str, Any] = {"seed": asked.seed, "size": source.bundle.size, "first": part.subjects}
    if not source.moves:
        return _leading(conditions(source.classes, part.whole, **told), part.n), None
    frames, lvef = source.beat
    clips, systole = beats(source.classes, part.whole, frames=frames, lvef_percent=lvef, **told)
    return clips.rows(np.arange(part.n)), systole[: part.n]


def _written(
    source: Source,
    parts: Path,
    making: Path,
    part: _Part,
    drawn: "Clips | Frames",
    systole: "NDArray[np.int64] | None",
) -> bytes:
    """Write what was drawn of a part, and return its rows of the table; clips are kept until all are there."""
    from cohorts import clips as films
    from synthesis import release
    from synthesis.conditions import ends

    if systole is not None:
        films.write(parts / f"{part.number:06d}{KEPT}", cast("Clips", drawn))
        drawn = ends(cast("Clips", drawn), systole)
    return release.write_part(
        making,
        cast("Frames", drawn),
        of=source.classes.of,
        names=source.classes.names,
        first_frame=part.first * (2 if source.moves else 1),
        first_subject=part.subjects,
    )


def _clips(source: Source, asked: Asked, parts: Path) -> "Iterator[tuple[int, Clips]]":
    """Yield the number of each part's first heart and its clips, read one part at a time."""
    from cohorts import clips as films

    for part in _parts(source, asked):
        yield part.subjects, films.read(parts / f"{part.number:06d}{KEPT}")


def _what(source: Source) -> str:
    return "clips" if source.moves else "images"


def _leading(frames: "Frames", n: int) -> "Frames":
    if n >= len(frames):
        return frames
    columns = ("pixels", "masks", "view", "phase", "lvef_percent", "subject")
    return replace(frames, **{name: getattr(frames, name)[:n] for name in columns})


def _claim(out: Path, request: Mapping[str, Any]) -> None:
    """Take `out`, or go on with the same request in it."""
    from learning import durable
    from learning.schema import canonical

    text = canonical(request).encode()
    if (out / REQUEST).is_file():
        if (out / REQUEST).read_bytes() != text:
            raise click.UsageError(f"{out} holds images that were asked for otherwise; choose another --out")
        return
    if out.exists() and any(out.iterdir()):
        raise click.UsageError(f"{out} is not empty; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    durable.write(out / REQUEST, text)


@contextmanager
def _progress(total: int, what: str, *, quiet: bool) -> "Iterator[Callable[[int], None]]":
    if quiet:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)
