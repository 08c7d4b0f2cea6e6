"""How a deployed campaign stands, read from the coordinator's folder: nothing is asked of a site, nothing is changed.

What is told: `OUT/campaign` (`progress.jsonl`, every stage's `done.json`, `sites.json`, `round.json`, `left.jsonl`,
`metrics.jsonl`, `failure.json`), the nodes that are admitted and, where the SuperLink runs, which are connected.
"""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server import left, metrics
from server.campaign import DONE, Campaign, running
from server.coordinator import LINK, OUT, PROPOSAL, Coordinator
from server.failure import FILE as FAILURE
from server.federate import CHECKPOINT
from server.fleet import Link, environment
from server.progress import FILE as PROGRESS
from server.superlink import CONNECTION, SimulationFailed

WAITS, BEGUN, OVER = "waits", "begun", "done"
SAYS_LITTLE = ("begins", "done", "done before")
MISSED = "was not there when sites joined, so it has no part (reserve)"
REACH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRow:
    """One hospital.

    Attributes:
        name: as it was admitted.
        online: what the SuperLink says of its node: online, offline, registered; "unknown" where nobody can ask it.
        since: since when, UTC; "" where that is not known.
        heard: when its last answer came, UTC; "" for never.
        answers, bytes: of all that it sent.
        epsilon: that it was charged for this campaign; `None` before it was.
        failure: with which code it last failed, and where, or that it missed the campaign; "" for neither.
    """

    name: str
    online: str = "unknown"
    since: str = ""
    heard: str = ""
    answers: int = 0
    bytes: int = 0
    epsilon: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One stage: waits, begun or done; how far in 0..1; its exchanges, 0 for none; ε of its training so far."""

    name: str
    state: str
    fraction: float
    words: str
    exchanges: int = 0
    of: int = 0
    epsilon: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All of it.

    Attributes:
        federation: its name.
        run: the proposed campaign; "" for none.
        state: "nothing proposed", "proposed", "waiting" (for sites), "running", "stopped", "failed" or "done".
        utc: when this was read.
        link: whether the SuperLink answers.
        failure: why the campaign ended early, in the coordinator's words; "" where it did not.
        events: the event log: (utc, stage, words), oldest first.
    """

    federation: str
    run: str
    state: str
    utc: str
    link: bool
    failure: str = ""
    sites: tuple[SiteRow, ...] = ()
    stages: tuple[StageRow, ...] = ()
    events: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the status as a JSON object."""
        return asdict(self)

    @property
    def over(self) -> bool:
        """Whether nobody works on it."""
        return self.state not in ("waiting", "running")


def look(coordinator: Coordinator, *, ask: bool = True) -> Status:
    """Return how the campaign of this coordinator stands.

    Args:
        coordinator: whose.
        ask: whether to ask a SuperLink that runs which nodes are connected; that takes seconds.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    up = _answers(coordinator.folder)
    nodes = _nodes(coordinator) if ask and up else {}
    if not (coordinator.folder / PROPOSAL).is_file():
        sites = tuple(SiteRow(name=name, **nodes.get(name, {})) for name in coordinator.sites)
        return Status(federation=coordinator.name, run="", state="nothing proposed", utc=now, link=up, sites=sites)
    told = {**coordinator.proposal.campaign, "out": str(coordinator.folder / OUT)}
    campaign, root = Campaign.parse(json.dumps(told)), coordinator.folder / OUT / "campaign"
    events = tuple(_events(root / PROGRESS))
    stages = tuple(_stages(campaign, root, events))
    failure = _read(root / FAILURE)
    return Status(
        federation=coordinator.name,
        run=campaign.run,
        state=_state(root, stages, up=up, failed=bool(failure)),
        utc=now,
        link=up,
        failure=f"{failure['error']}: {failure['words']}" if failure else "",
        sites=tuple(_sites(coordinator, root, campaign, nodes, failure)),
        stages=stages,
        events=tuple((e["utc"], e["stage"], e["words"]) for e in events),
    )


def _state(root: Path, stages: Sequence[StageRow], *, up: bool, failed: bool) -> str:
    if stages and stages[-1].state == OVER:
        return OVER
    if root.is_dir() and running(root):
        return "running"
    if up:
        return "waiting"
    if not root.is_dir():
        return "proposed"
    return "failed" if failed else "stopped"


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Return what was told, each thing once; a line that was torn by a crash is left out."""
    said: dict[str, str] = {}
    for row in _rows(path):
        if said.get(row["stage"]) != row["words"]:
            said[row["stage"]] = row["words"]
            yield {"utc": row.get("utc", ""), **row}


def _stages(campaign: Campaign, root: Path, events: Sequence[Mapping[str, Any]]) -> Iterator[StageRow]:
    last = {event["stage"]: event for event in _rows(root / PROGRESS)}
    spent = {row["stage"]: row.get("epsilon") for row in metrics.read(root)} if root.is_dir() else {}
    words = {event["stage"]: event["words"] for event in events if event["words"] not in SAYS_LITTLE}
    for number, stage in enumerate(campaign.stages, 1):
        folder = root / f"{number:02d}-{stage.name}"
        done = (folder / DONE).exists()
        begun = folder.is_dir()
        yield StageRow(
            name=stage.name,
            state=OVER if done else BEGUN if begun else WAITS,
            fraction=1.0 if done else float(last.get(stage.name, {}).get("fraction", 0.0)),
            words=words.get(stage.name, ""),
            exchanges=_read(folder / CHECKPOINT).get("round", 0),
            of=int(stage.settings.get("rounds", 0)),
            epsilon=spent.get(stage.name),
        )


def _sites(
    coordinator: Coordinator, root: Path, campaign: Campaign, nodes: Mapping[str, Mapping[str, Any]], failure: Any
) -> Iterator[SiteRow]:
    folders = {stage.name: root / f"{k:02d}-{stage.name}" for k, stage in enumerate(campaign.stages, 1)}
    admitted = _read(folders["reserve"] / "sites.json") if "reserve" in folders else {}
    heard: dict[str, list[Mapping[str, Any]]] = {}
    for row in _rows(root / left.FILE):
        heard.setdefault(row["site"], []).append(row)
    failed = {name: MISSED for name in coordinator.sites if admitted and name not in admitted}
    failed |= _failed(folders) | {site: str(why) for site, why in failure.get("failed", {}).items()}
    for name in coordinator.sites:
        answers = heard.get(name, [])
        yield SiteRow(
            name=name,
            **nodes.get(name, {}),
            heard=str(answers[-1].get("utc", "")) if answers else "",
            answers=len(answers),
            bytes=sum(row["bytes"] for row in answers),
            epsilon=admitted.get(name, {}).get("epsilon"),
            failure=failed.get(name, ""),
        )


def _failed(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return site → code and place of its last failure, in the order of the stages."""
    found = {}
    for stage, folder in folders.items():
        for site, why in _read(folder / "refused.json").items():
            found[site] = f"{why} ({stage})"
        for told in _read(folder / CHECKPOINT).get("history", []):
            found |= {site: f"{why} ({stage}, exchange {told['round']})" for site, why in told["failed"].items()}
    return found


def _answers(folder: Path) -> bool:
    """Say whether the SuperLink that this folder last started can be reached."""
    import tomllib

    path = folder / LINK / "home" / "config.toml"
    if not path.is_file():
        return False
    address = str(tomllib.loads(path.read_text(encoding="utf-8"))["superlink"][CONNECTION]["address"])
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=REACH_SECONDS):
            return True
    except OSError:
        return False


def _nodes(coordinator: Coordinator) -> dict[str, dict[str, Any]]:
    """Return name → what the SuperLink says of each node; nothing where it does not answer."""
    link = Link(coordinator=coordinator, env=environment(coordinator), processes=[])
    names = {str(node): name for name, node in _read(coordinator.folder / LINK / "nodes.json").items()}
    try:
        listed = link.flwr("supernode", "list", CONNECTION)["nodes"]
    except SimulationFailed:  # it ended just now
        return {}
    found: dict[str, dict[str, Any]] = {}
    for node in listed:
        since = node.get("online-at") if node["status"] == "online" else node.get("offline-at")
        if (name := names.get(str(node["node-id"]))) is not None:
            found[name] = {"online": str(node["status"]), "since": str(since or "")}
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:  # torn by a crash
            continue


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, {} where it is not there (yet)."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
