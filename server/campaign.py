"""A campaign: stages in order, each with a folder that is whole or not there, so that a killed one goes on.

`OUT/campaign/<nn>-<stage>/` holds what a stage made; its `done.json`, written last, holds the digest of every file. A
stage whose `done.json` stands and whose files agree with it is not run again; training stages go on from their last
exchange. The sites answer a repeated question with the same bytes, so a resumed campaign has the same arrays and the
same ε as one that was never killed.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from evaluation.orphans import InUse
from learning import durable
from learning.messages import Greeting
from learning.schema import canonical
from server import left
from server.failure import FILE, CampaignChanged, CampaignFailed, write_failure
from server.progress import Journal, Progress
from server.rounds import discover

SCHEMA = "pericard.campaign/1"
DONE = "done.json"
NAME = re.compile(r"[a-z0-9][a-z0-9_\-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: its name (unique, names the folder), the module in `server.stages` that does it, and its settings."""

    name: str
    do: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        for field in ("name", "do"):
            if not isinstance(getattr(self, field), str) or not NAME.fullmatch(getattr(self, field)):
                raise ValueError(f"stage: {field}={getattr(self, field)!r} must match {NAME.pattern}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """Everything the coordinator is told; the resolved experiment as JSON, and where to write.

    Attributes:
        run: name under which the sites charge and answer; new for every campaign, kept when one is resumed.
        out: folder of the outputs.
        seed: of public randomness.
        size: height and width of frames.
        quorum: fewest sites for anything.
        seconds: to wait for the replies of one exchange.
        threads: of torch at the coordinator.
        delta: δ of the run.
        experiment: the resolved experiment, for its digest and for the certificate.
        stages: what to do, in order.
    """

    run: str
    out: str
    seed: int
    size: int
    quorum: int
    seconds: float
    threads: int
    delta: float
    experiment: Mapping[str, Any]
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.run):
            raise ValueError(f"run={self.run!r} must match {NAME.pattern}")
        if len({stage.name for stage in self.stages}) != len(self.stages):
            raise ValueError("two stages have one name")
        for field in ("quorum", "seconds", "threads", "size"):
            if not getattr(self, field) >= 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")

    @property
    def experiment_digest(self) -> str:
        """SHA-256 of the experiment's canonical JSON: what sites bind their admission to."""
        return hashlib.sha256(canonical(self.experiment).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the campaign as canonical JSON; `Campaign.parse(c.to_json()) == c`."""
        return canonical({"schema": SCHEMA, **asdict(self)})

    @staticmethod
    def parse(text: str) -> "Campaign":
        """Read what `to_json` wrote; raises `ValueError`."""
        try:
            fields = json.loads(text)
            if fields.pop("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")  # noqa: TRY301
            return Campaign(**{**fields, "stages": tuple(Stage(**stage) for stage in fields["stages"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a campaign: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a stage has in hand.

    Attributes:
        grid: the way to the sites.
        campaign: what the coordinator was told.
        greetings: who is there: name → (node, greeting), sorted by name.
        stage: the stage that runs.
        folder: where this stage writes; it may hold the checkpoints of a killed run.
        progress: told how far this stage is, as a fraction and a few words under the stage's name.
    """

    grid: Grid
    campaign: Campaign
    greetings: Mapping[str, tuple[int, Greeting]]
    stage: Stage
    folder: Path
    progress: Progress

    @property
    def sites(self) -> dict[str, int]:
        """Name → node of the sites that take part: all that are there, after `reserve` those that admitted the run."""
        admitted = self.output("reserve", "sites.json") if self._has("reserve") else None
        names = json.loads(admitted.read_text(encoding="utf-8")) if admitted else self.greetings
        return {name: self.greetings[name][0] for name in self.greetings if name in names}

    def asked(self, settings: Mapping[str, Any]) -> tuple[dict[str, int], int]:
        """Return name → node of the sites that a training asks (`only`, else all), and how many must answer."""
        if "only" not in settings:
            return self.sites, self.campaign.quorum
        only = settings["only"]
        return {name: node for name, node in self.sites.items() if name in only}, min(self.campaign.quorum, len(only))

    def output(self, stage: str, file: str) -> Path:
        """Return a file of a finished stage; raises `ValueError` if there is none."""
        path = _folder(self.campaign, stage) / file
        if not path.is_file():
            raise ValueError(f"stage {self.stage.name!r} needs {file} of stage {stage!r}, which has none")
        return path

    def write_json(self, file: str, value: object) -> None:
        """Write an output of this stage."""
        durable.write(self.folder / file, canonical(value).encode())

    def read_json(self, stage: str, file: str) -> Any:
        """Read an output of a finished stage."""
        return json.loads(self.output(stage, file).read_text(encoding="utf-8"))

    def tell(self, fraction: float, words: str) -> None:
        """Say how far this stage is."""
        self.progress(self.stage.name, fraction, words)

    def _has(self, stage: str) -> bool:
        named = any(s.name == stage for s in self.campaign.stages)
        return named and (_folder(self.campaign, stage) / DONE).exists()


def run(grid: Grid, campaign: Campaign, progress: Progress) -> None:
    """Run what is not yet done of `campaign`, and write what comes of it under `campaign.out`.

    Raises:
        CampaignFailed: it cannot go on as it was asked for, or (`CampaignChanged`) a finished stage was changed.
        InUse: another process works in the folder.
        QuorumLost: if too few sites answer.
    """
    root = Path(campaign.out) / "campaign"
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        _claim(root, campaign)
        (root / FILE).unlink(missing_ok=True)
        try:
            _run(grid, campaign, Journal(root, progress))
        except Exception as error:
            write_failure(root, error)
            raise


def _run(grid: Grid, campaign: Campaign, told: Progress) -> None:
    greetings = discover(grid, quorum=campaign.quorum, seconds=campaign.seconds)
    for stage in campaign.stages:
        folder = _folder(campaign, stage.name)
        if _finished(folder):
            told(stage.name, 1.0, "done before")
            continue
        folder.mkdir(exist_ok=True)
        for torn in folder.glob("*.part"):
            torn.unlink()
        told(stage.name, 0.0, "begins")
        body = importlib.import_module(f"server.stages.{stage.do}")
        state = State(grid=grid, campaign=campaign, greetings=greetings, stage=stage, folder=folder, progress=told)
        with left.counted(folder.parent):
            body.run(state)
        durable.write(folder / DONE, canonical({"files": _digests(folder)}).encode())
        told(stage.name, 1.0, "done")


def resumed(out: Path) -> Campaign | None:
    """Return the campaign that was begun in `out`, where it is now; `None` where none was."""
    path = out / "campaign" / "campaign.json"
    if not path.exists():
        return None
    return replace(Campaign.parse(path.read_text(encoding="utf-8")), out=str(out))


def finished_stage(out: Path, stage: str) -> Path:
    """Return the folder of a stage that a campaign in `out` finished.

    Raises:
        CampaignFailed: if there is none, or its files were changed since; names the folder or the file.
    """
    for folder in sorted((out / "campaign").glob(f"*-{stage}")):
        if folder.name.partition("-")[2] == stage and _finished(folder):
            return folder
    raise CampaignFailed(f"{out} holds no campaign that finished its stage {stage!r}")


def running(root: Path) -> bool:
    """Say whether a process works on the campaign in the folder `root` now."""
    try:
        with _alone(root):
            return False
    except InUse:
        return True


def ended_in(campaign: Campaign) -> bool:
    """Say whether the last stage is done; cheap, so without a look at the files."""
    return not campaign.stages or (_folder(campaign, campaign.stages[-1].name) / DONE).exists()


def _claim(root: Path, campaign: Campaign) -> None:
    """Write down whose folder this is; raises `CampaignFailed` if it is another campaign's."""
    path = root / "campaign.json"
    if path.exists():
        begun = replace(Campaign.parse(path.read_text(encoding="utf-8")), out=campaign.out)
        if begun != campaign:
            raise CampaignFailed(f"{root} holds another campaign; choose another folder or resume that one as it is")
        return
    durable.write(path, campaign.to_json().encode())


def _finished(folder: Path) -> bool:
    """Say whether the stage is done; raises `CampaignChanged` naming a file that was changed since."""
    if not (folder / DONE).exists():
        return False
    then = json.loads((folder / DONE).read_text(encoding="utf-8"))["files"]
    now = _digests(folder)
    if differs := sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)):
        raise CampaignChanged(f"{folder / differs[0]} was changed after its stage was done; begin in another folder")
    return True


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DONE)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(campaign: Campaign, stage: str) -> Path:
    number = next((i for i, s in enumerate(campaign.stages, 1) if s.name == stage), 0)
    return Path(campaign.out) / "campaign" / f"{number:02d}-{stage}"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder; raises `InUse` if another process works in it."""
    with ExitStack() as held:
        try:
            held.enter_context(durable.lock(root / "lock", wait=False))
        except BlockingIOError as error:
            raise InUse(f"another process works in {root}") from error
        yield
