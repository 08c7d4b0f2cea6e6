"""`pericard sample`: any number of images from the generator of a finished run, a bundle, or the public prior.

```
DIR/
├── release/        images, masks, labels and manifest, as `synthesis.release` lays them out; there when all is drawn
└── sampling.json   what was drawn, from what, how fast, and that nobody certified it
```

Image k depends on the generator, the seed and k only. It is drawn in parts of whole subjects, so memory does not grow
with the number; a part is kept as soon as it is whole, and the same command goes on where another was stopped.
"""

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

    from cohorts.frames import Frames
    from synthesis.generator import Generator

SUBJECTS_AT_ONCE = 256  # a part: one thousand images of two views at two phases
REQUEST, PARTS, RECORD = "request.json", "parts", "sampling.json"
NOT_CERTIFIED = (
    "Not certified. Nobody screened these images, measured what they are good for, or attacked them; "
    "a certificate of the same run speaks of other images."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for.

    Attributes:
        count: images.
        seed: of shapes and noise.
        solver, steps, precision: instead of those in the generator's settings; `None` keeps them.
    """

    count: int
    seed: int
    solver: str | None = None
    steps: int | None = None
    precision: str | None = "auto"


def command(folder: Path | None, asked: Asked, *, prior: bool, out: Path, bundle: Path | None, as_json: bool) -> int:
    """Draw, write, and say what was drawn.

    Args:
        folder: of a finished run, of its release, or of a bundle; `None` with `prior`.
        asked: how many and how.
        prior: take the public prior alone.
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
    try:
        source = sources.public() if folder is None else sources.found(folder)
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
    typer.echo(f"{out / 'release'}: {asked.count} images, {record['drawn']} of them drawn in {seconds:.1f} s")
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
    generator, spent, drawn = cast("Generator", source.bundle.build()), 0.0, 0  # of stills: `sources` has looked
    with _progress(asked.count, quiet=quiet) as show:
        for number, first, subjects, conditions in _conditions(source, asked):
            part = parts / f"{number:06d}.csv"
            if not part.exists() and not (out / "release").exists():
                begun = time.perf_counter()
                pixels = generator.sample(conditions, seed=asked.seed, offset=first)
                spent, drawn = spent + time.perf_counter() - begun, drawn + len(conditions)
                rows = release.write_part(
                    making,
                    replace(conditions, pixels=pixels),
                    of=source.classes.of,
                    names=source.classes.names,
                    first_frame=first,
                    first_subject=subjects,
                )
                durable.write(part, rows)
            show(first + len(conditions))
    if not (out / "release").exists():
        release.seal(making, (path.read_bytes() for path in sorted(parts.glob("*.csv"))), of=source.classes.of)
        making.rename(out / "release")
    record = _record(source, asked, request) | {
        "drawn": drawn,
        "sampling_seconds": spent,
        "images_per_second": drawn / spent if spent else None,
    }
    durable.write(out / RECORD, json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode())
    shutil.rmtree(parts)
    return record


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


def _conditions(source: Source, asked: Asked) -> Iterator[tuple[int, int, int, "Frames"]]:
    """Yield each part's number, first frame, first subject, and shapes from the public prior."""
    from synthesis.conditions import conditions

    frames_each = 2 * (len(source.classes.released) if source.classes.of == "view" else 1)
    at_once = SUBJECTS_AT_ONCE
    for number, first in enumerate(range(0, asked.count, at_once * frames_each)):
        subjects = number * at_once
        n = min(at_once, -(-(asked.count - first) // frames_each))
        shapes = conditions(source.classes, n, seed=asked.seed, size=source.bundle.size, first=subjects)
        yield number, first, subjects, _leading(shapes, asked.count - first)


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
def _progress(total: int, *, quiet: bool) -> "Iterator[Callable[[int], None]]":
    if quiet:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task("images", total=total)
        yield lambda done: bars.update(task, completed=done)
