"""`pericard simulate`: a whole federation on this machine, from studies to a signed certificate."""

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pericard.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conf.registry import Registry
    from conf.schema import Experiment
    from server.progress import Progress

RUN = "run.json"


def command(overrides: Sequence[str], out: Path, resume: bool, as_json: bool) -> int:
    """Run the experiment that `overrides` ask for; the exit code is the verdict.

    Args:
        overrides: of the experiment, `NAME=VALUE`.
        out: folder of the results; empty or absent, or with `resume` the folder of a killed run.
        resume: go on with the run in `out`; then its own experiment counts, and no overrides are taken.
        as_json: print one JSON document instead of a table.

    Raises:
        UsageError: an override that does not exist, an `out` that is in use, nothing to resume.
        UnreadableStudy: the cohort cannot be read.
        QuorumLost: too few sites took part; their own logs say why.
    """
    from conf.compose import UsageError

    if resume:
        if overrides:
            raise UsageError(f"--resume goes on with the experiment of {out}; leave out {overrides[0]!r}")
        experiment, resolved, run = _begun(out)
    else:
        experiment, resolved, run = _begin(overrides, out)
    with progress_bars(quiet=as_json) as progress:
        progress("prepare", 0.0, "noise for the budget")
        _run(experiment, resolved, run, out, progress)
    return show(out, as_json=as_json)


def groups() -> "Mapping[str, Registry]":
    """Return, for each part of an experiment, the registry it is chosen from."""
    from cohorts.readers import READERS
    from evaluation.tasks import CLIP_TASKS, TASKS
    from learning.learners import LEARNERS
    from privacy.attacks import of_kind
    from synthesis.generators import CLIP_GENERATORS, GENERATORS

    return {
        "cohort": READERS,
        "generator": GENERATORS | CLIP_GENERATORS,
        "views": LEARNERS,
        "segmentation": TASKS,
        "recognition": TASKS,
        "ejection": CLIP_TASKS,
        "disclosure": of_kind("counts"),
    }


def _begin(overrides: Sequence[str], out: Path) -> "tuple[Experiment, dict[str, Any], str]":
    """Compose the experiment, check that its cohort can be read, and claim `out`."""
    from cohorts.deidentify import Pseudonyms
    from conf.compose import UsageError, compose, to_json
    from evaluation.policy import Policy
    from pericard import hospitals
    from server.plan import films

    known = groups()
    experiment, _ = compose(overrides, groups=known)
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; choose another --out, or add --resume to go on with the run in it")
    resolved: dict[str, Any] = json.loads(to_json(experiment, groups=known))
    try:
        Policy.load(experiment.policy)
        films(experiment, next(iter(resolved["generator"])))
    except ValueError as error:
        raise UsageError(str(error)) from error
    for cohort in hospitals.own_cohorts(experiment).values() or [experiment.cohort]:
        cohort.read(pseudonyms=Pseudonyms(secrets.token_bytes(32)))  # a bad cohort fails here, before all else
    out.mkdir(parents=True, exist_ok=True)
    run = f"{experiment.name}-{secrets.token_hex(4)}"
    _write(out, {"run": run, "experiment": resolved, "state": "begun"})
    return experiment, resolved, run


def _begun(out: Path) -> "tuple[Experiment, dict[str, Any], str]":
    """Read what a killed run was told."""
    from conf.compose import UsageError, from_json

    try:
        record = json.loads((out / RUN).read_text(encoding="utf-8"))
        resolved, run = record["experiment"], record["run"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{out} holds no run to resume: {RUN} is missing or unreadable") from error
    return from_json(json.dumps(resolved), groups=groups()), resolved, str(run)


def _run(experiment: "Experiment", resolved: dict[str, Any], run: str, out: Path, progress: "Progress") -> None:
    import torch

    from cohorts.study import UnreadableStudy
    from conf.compose import UsageError
    from pericard import hospitals
    from server import plan
    from server.campaign import resumed

    torch.set_num_threads(experiment.threads)
    campaign = resumed(out.resolve())
    if campaign is None:
        try:
            campaign = plan.campaign(experiment, run=run, out=str(out.resolve()), resolved=resolved)
        except ValueError as error:
            from privacy.ledger import BudgetExceeded

            (out / RUN).unlink()  # nothing was begun: the folder is free for another budget
            raise BudgetExceeded(str(error)) from error
    progress("prepare", 0.5, "simulated hospitals")
    try:
        folders = hospitals.make(experiment, next(iter(resolved["cohort"])), out)
    except UnreadableStudy:
        raise
    except ValueError as error:  # sites.rule, sites.names or a column that the rule needs
        raise UsageError(str(error)) from error
    progress("prepare", 1.0, "done")
    if experiment.backend == "simulation":
        from server.simulation import run_simulation

        run_simulation(campaign, out.resolve() / hospitals.SITES, progress=progress)
    else:
        from client.app import app as client_app
        from server.app import app as server_app
        from server.grid import run_in_process

        run_in_process(server_app, client_app, campaign.to_json(), folders, progress=progress)
    _write(out, {"run": run, "experiment": resolved, "state": "done", "verdict": _certificate(out)["verdict"]})


def show(out: Path, *, as_json: bool) -> int:
    """Print what the certificate in `out` says; the exit code is its verdict."""
    predicate = _certificate(out)
    if as_json:
        document = {
            "out": str(out),
            "verdict": predicate["verdict"],
            "dp": {"epsilon": predicate["dp"]["eps"], "delta": predicate["dp"]["delta"]},
            "rules": predicate["policy"]["evaluated_rules"],
            "findings": predicate["findings"],
            "utility": predicate["utility"],
            "fairness": predicate.get("fairness", []),
        }
        sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        from evaluation.heard import lines
        from evaluation.report import findings_table
        from evaluation.schema import decode
        from evaluation.statement import Predicate

        console, told = Console(), decode(Predicate, predicate, "predicate")
        console.print(findings_table(told))
        for line in lines(told.utility):
            console.print(line, highlight=False)
        console.print(f"report       {out / 'report.html'}\ncertificate  {out / 'certificate.json'}", highlight=False)
        console.print(f"check it     pericard verify {out}", highlight=False)
    return Exit[predicate["verdict"]]


def _certificate(out: Path) -> dict[str, Any]:
    """Return the predicate of the certificate in `out`."""
    from evaluation.envelope import Envelope
    from synthesis.canonical import loads

    statement: Any = loads(Envelope.parse((out / "certificate.json").read_bytes()).payload)
    found: dict[str, Any] = statement["predicate"]
    return found


def _write(out: Path, record: Mapping[str, Any]) -> None:
    from learning import durable
    from learning.schema import canonical

    durable.write(out / RUN, (canonical(record) + "\n").encode())


@contextmanager
def progress_bars(*, quiet: bool) -> "Iterator[Progress]":
    """Show one line per stage: what is going on, how far it is, how long it has taken."""
    from server.progress import silent

    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:  # a log: one line where something new is said
        told: dict[str, str] = {}

        def write(stage: str, fraction: float, words: str) -> None:
            if told.get(stage) != words:
                told[stage] = words
                sys.stderr.write(f"{stage:<13} {100 * fraction:3.0f} %  {words}\n")
                sys.stderr.flush()

        yield write
        return

    columns = (
        TextColumn("{task.fields[stage]:<13}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}
        said: dict[str, str] = {}

        def show(stage: str, fraction: float, words: str) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    bars.update(earlier, completed=1.0)
                    bars.stop_task(earlier)
                tasks[stage] = bars.add_task(words, total=1.0, stage=stage)
            if words == "done" and said.get(stage):
                words = said[stage]  # what came of it is worth more than that it is over
            elif words != "begins":
                said[stage] = words
            bars.update(tasks[stage], completed=fraction, description=words)

        yield show
