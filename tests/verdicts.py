"""What must hold after a disturbed campaign, on whatever grid: the accounts, what left, and the same told again."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict

from client import journal
from client.app import app as client_app
from client.policy import Account
from client.site import Site
from learning import messages, wire
from learning.messages import REPLIES, REQUESTS
from privacy.mechanism import DpPlan, Plan
from server.app import app as server_app
from server.campaign import Campaign
from server.grid import FIRST_NODE, InProcessGrid
from server.rounds import QuorumLost
from tests.hospitals import NAMES, PLAN, campaign, hospital, reserve_stage, train_stage

QUORUM = 2
KEPT_AS = {"train": "train", "evaluate": "score", "query.guess": "guess", "query.attack": "attack"}  # in the outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A campaign that trains with noise, then without: the first is charged, the second can be told again.

    Attributes:
        run: its name at the sites.
        rounds, plain_rounds: exchanges with noise, and without.
        steps: of each exchange.
        phantoms: whether learner and readers are those that are installed, and not those of the tests.
        seconds: to wait for the replies of an exchange.
    """

    run: str = "run-1"
    rounds: int = 3
    plain_rounds: int = 3
    steps: int = 2
    phantoms: bool = False
    seconds: float = 60.0

    @property
    def plan(self) -> DpPlan:
        return replace(PLAN, steps=self.rounds * self.steps)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What is charged."""
        return (self.plan,)

    @property
    def charged(self) -> dict[str, tuple[str, int, int]]:
        """Return what the announcements begin with → their purpose, the steps of each, and how many are reserved."""
        return {"train.views": (self.plan.purpose, self.steps, self.rounds)}

    @property
    def trained(self) -> dict[str, str]:
        """Return stage → its folder, of what is trained over the sites."""
        return {"views": "02-views", "reference": "03-reference"}

    def campaign(self, out: Path, *, noise: bool = True) -> Campaign:
        part: dict[str, Any] = {"steps": self.steps}
        if self.phantoms:
            part |= {"name": "view_classifier", "config": {"width": 8}, "learning_rate": 1e-2}
        private = [train_stage("views", plan=self.plan, rounds=self.rounds, **part)] if noise else []
        plain = train_stage("reference", plan=None, rounds=self.plain_rounds, **part)
        size = {"size": 64} if self.phantoms else {}
        stages = (reserve_stage(self.plan), *private, plain)
        return campaign(out, *stages, run=self.run, quorum=QUORUM, seconds=self.seconds, **size)

    def again(self, out: Path, *, noise: bool) -> tuple[Campaign, tuple[str, ...]]:
        """Return what is told again, and which files of it must be the same: none where nothing without noise is."""
        stages = ("views", "reference") if noise else ("reference",)
        return self.campaign(out, noise=noise), tuple(f"campaign/*-{stage}/weights.safetensors" for stage in stages)

    def ended(self, out: Path) -> list[str]:
        """Return what is wrong with how a finished campaign ended."""
        return []

    def sites(self, root: Path, composition: str, *, approval: bool = False) -> list[Path]:
        """Make the hospitals; in every folder the same people fall into the same lots."""
        told = {"account": Account(composition=composition), "approval": approval}
        return [hospital(root, name, cohort=self.cohort(name), **told).folder for name in NAMES]

    def cohort(self, name: str) -> Mapping[str, Any] | None:
        seed = NAMES.index(name)
        return {"reader": "phantom", "subjects": 8, "seed": seed, "site": "site-a"} if self.phantoms else None

    def tell(self, grid: InProcessGrid, told: Campaign) -> None:
        """Run a campaign over the grid."""
        server_app(grid, Context(grid.run.run_id, 1, {}, RecordDict(), {"campaign": told.to_json()}))

    def answered(self, out: Path) -> dict[tuple[str, int], set[str]]:
        """Return which sites' answers each exchange of a finished campaign is made of."""
        found = {("reserve", 0): set(json.loads((out / "campaign/01-reserve/sites.json").read_text()))}
        for stage, folder in self.trained.items():
            told = json.loads((out / f"campaign/{folder}/round.json").read_text())
            found |= {(stage, line["round"]): set(line["sites"]) for line in told["history"]}
        return found


@cache
def price(scene: Scene, composition: str, announced: tuple[str, ...] | None = None) -> tuple[float, float]:
    """Return what an account pays that nobody disturbed, for what was announced; by default for all that is reserved.

    Args:
        scene: whose plans are charged.
        composition: of the account.
        announced: keys of `Scene.charged`, sorted, each as often as it was announced.
    """
    if announced is None:
        announced = tuple(name for name, (_, _, times) in sorted(scene.charged.items()) for _ in range(times))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Site(scene.sites(Path(folder), composition)[0]).ledger
        ledger.authorise("run-1", list(scene.plans), delta=scene.campaign(Path(folder)).delta)
        for number, name in enumerate(announced):
            purpose, steps, _ = scene.charged[name]
            ledger.intend("run-1", purpose, f"{number}", steps)
        ledger.commit("run-1")
        return ledger.spent()


def verdicts(scene: Scene, folder: Path, composition: str) -> list[str]:
    """Return what is wrong with what a disturbed campaign left behind in `folder/sites`: nothing."""
    wrong: list[str] = []
    for site in (Site(folder / "sites" / name) for name in NAMES):
        site.ledger._chain.append(lambda view: view.tail)  # takes in what a kill left in the journal alone
        events = site.ledger.verify()
        reserves = [e for e in events if e["kind"] == "reserve"]
        announced = [e["key"].rpartition(".")[0] for e in events if e["kind"] == "step_intent"]
        kept = {path.stem: path for path in (site.folder / "outbox" / scene.run).glob("*.safetensors")}
        if len(set(announced)) != len(announced):
            wrong.append(f"{site.name} announced one exchange twice: {announced}")
        if free := [key for key in kept if not _announcements(scene, key) <= set(announced)]:
            wrong.append(f"{site.name} answered what it never announced: {free}")
        for (kind, stage), digests in left(scene, folder, site).items():
            name = f"{KEPT_AS[kind]}.{stage}"
            answers = {_weight(path, kind) for key, path in kept.items() if f"{key}.".startswith(f"{name}.")}
            if not digests <= answers:
                wrong.append(f"{site.name}: of {name} left {digests - answers}, stored is {answers}")
        if reserves:
            doubt = any(e["kind"] == "recover" for e in events)
            site.ledger.commit(scene.run)
            alike, names = replace(scene, run="run-1"), sorted(_name(scene, key) for key in announced)
            paid, due = site.ledger.spent(), price(alike, composition, tuple(names))
            whole = price(alike, composition)
            if len(reserves) > 1 or (paid != due and not (doubt and paid == whole)):
                wrong.append(f"{site.name} reserved {len(reserves)} times and paid {paid} for {names}, due is {due}")
    return wrong


def _announcements(scene: Scene, key: str) -> set[str]:
    """Return what must have been announced before the answer `key`: itself, its parts, or nothing."""
    if any(key.startswith(f"{name}.") for name in scene.charged):
        return {key}
    return {name for name in scene.charged if name.startswith(f"{key}.")}


def _name(scene: Scene, announced: str) -> str:
    """Return by which of `Scene.charged` an announcement is charged."""
    return next(name for name in scene.charged if f"{announced}.".startswith(f"{name}."))


def left(scene: Scene, folder: Path, site: Site) -> dict[tuple[str, str], set[str]]:
    """Return the digests of what left, by kind and stage: as the disturber wrote it down, or the site itself.

    Raises:
        JournalCorrupt: the site's own lines do not hold together.
    """
    found: dict[tuple[str, str], set[str]] = {}
    path = site.folder / journal.FILE
    entries = journal.verify(path.read_bytes(), site.signing_key.public).entries if path.exists() else ()
    lines = [asdict(e) for e in entries if (e.way, e.code, e.run) == (journal.OUT, journal.SERVED, scene.run)]
    for line in [*lines, *lines_of(folder / f"{site.name}.left")]:
        if line["kind"] in KEPT_AS:
            found.setdefault((line["kind"], line["stage"]), set()).add(line["digest"])
    return found


def _weight(path: Path, kind: str) -> str:
    return messages.weigh(messages.encode(wire.from_bytes(path.read_bytes(), REPLIES[kind])[0]))[0]


def told_again(scene: Scene, folder: Path, composition: str) -> list[str]:
    """Tell a finished campaign again, undisturbed and in process; return where it says something else.

    Once to the same sites, who answer as they did and charge nothing; once to new ones with the same people, who can
    only repeat what was trained without noise. Who was missing in an exchange is missing again.
    """
    there, wrong = scene.answered(folder / "out"), list[str]()
    same = [Path(shutil.copytree(folder / "sites" / name, folder / "again" / name)) for name in NAMES]
    before = [_charges(Site(site)) for site in same]
    new = scene.sites(folder / "new", composition)

    def missing(message: Message) -> str | None:
        name, about = NAMES[message.metadata.dst_node_id - FIRST_NODE], named(message)
        key = ("reserve", 0) if about["kind"] == "query.reserve" else (about["stage"], about["round"])
        return "drop" if key in there and name not in there[key] else None

    for sites, noise in ((same, True), (new, False)):
        out = folder / f"out-{noise}"
        told, files = scene.again(out, noise=noise)
        if not files:
            continue
        grid = InProcessGrid(client_app, [{"site": str(site)} for site in sites], fault=missing)
        try:
            scene.tell(grid, told)
        except (QuorumLost, ValueError) as error:
            wrong.append(f"told again to {'the same' if noise else 'new'} sites it ends: {error}")
            continue
        for name in files:
            first, second = (next(o.glob(name)) for o in (folder / "out", out))
            if first.read_bytes() != second.read_bytes():
                wrong.append(f"{name} is another when told again to {'the same' if noise else 'new'} sites")
    if before != [_charges(Site(site)) for site in same]:
        wrong.append("a campaign that was told again was charged again")
    return wrong


def _charges(site: Site) -> list[str]:
    """Return what was charged; an event that a kill left in the journal alone is taken in first, as any charge does."""
    site.ledger._chain.append(lambda view: view.tail)
    return [event["hash"] for event in site.ledger.events() if event["kind"] in ("reserve", "step_intent")]


def named(message: Message) -> dict[str, Any]:
    """Return what kind of question a message asks, of which stage and exchange."""
    asked = messages.decode(message.content, REQUESTS[message.metadata.message_type])
    return {
        "kind": message.metadata.message_type,
        "stage": getattr(asked, "stage", ""),
        "round": getattr(asked, "round", 0),
    }


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of JSON in a file, none where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
