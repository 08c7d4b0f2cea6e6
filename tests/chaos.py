"""Disturbed campaigns: `python -m tests.chaos FIRST LAST FOLDER` prints one line of JSON for each schedule of faults.

Three hospitals with real folders and accounts; every message is served by a process of its own, as Flower does it, and
the coordinator is another. Any of them is killed, loses its disk, its network or its clock, as a seed says. What must
hold afterwards is in `verdicts`; the campaign is then told again, undisturbed, and must say the same.
"""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

import pericard as _offline  # noqa: F401  (imported for its switches)
from client.admission import own_code
from client.app import app as client_app
from client.policy import Account
from client.site import Site
from learning import messages, wire
from learning.messages import REPLIES, REQUESTS
from server.app import app as server_app
from server.campaign import Campaign
from server.grid import FIRST_NODE, InProcessGrid
from server.rounds import QuorumLost
from tests.faults import Fault, Schedule, die_at, die_within, fill_disk, schedule, set_clock
from tests.hospitals import NAMES, PLAN, campaign, hospital, reserve_stage, train_stage

ROUNDS, STEPS, ATTEMPTS, QUORUM = 3, 2, 14, 2
FINISHED, REFUSED, BROKEN = 0, 3, 4


def tiny(out: Path, *, noise: bool = True) -> Campaign:
    """Return a campaign that trains with noise, then without: the first is charged, the second can be told again."""
    part = {"rounds": ROUNDS, "steps": STEPS}
    private = [train_stage("views", **part)] if noise else []
    return campaign(out, reserve_stage(PLAN), *private, train_stage("reference", plan=None, **part), quorum=QUORUM)


def make_sites(root: Path, composition: str) -> list[Path]:
    return [hospital(root, name, account=Account(composition=composition)).folder for name in NAMES]


class Disturbed(InProcessGrid):
    """A grid whose sites are processes, and die."""

    def __init__(self, sites: list[Path], folder: Path, told: Schedule) -> None:
        super().__init__(client_app, [{"site": str(site)} for site in sites])
        self._trial, self._told = folder, told

    def _deliver(self, message: Message) -> Message | None:
        config = self._contexts[message.metadata.dst_node_id].node_config
        name = Path(str(config["site"])).name
        fault = self._told.sites.get((name, _count(self._trial / f"{name}.asked")), Fault(""))
        if fault.kind:
            _tell(self._trial / "faults", kind=fault.kind)
        if fault.kind in ("request lost", "site away"):
            return None
        received, _ = self._wire(message, "down")
        reading, writing = os.pipe()
        held = os.open(self._trial / "alive", os.O_CREAT | os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_SH)  # until the process of the site ends, whoever else does before
        if (pid := os.fork()) == 0:
            for handle in [
                int(path.name) for path in Path("/proc/self/fd").iterdir()
            ]:  # such as the coordinator's lock
                if handle > 2 and handle not in (writing, held):
                    with contextlib.suppress(OSError):
                        os.close(handle)
            self._serve(name, received, fault, writing)
        os.close(writing)
        os.close(held)
        raw = b"" if fault.kind == "reply late" else _read(reading)
        os.close(reading)
        if fault.kind == "reply late":  # the coordinator goes on, and so does the site
            time.sleep(fault.value)
            return None
        os.waitpid(pid, 0)
        if not raw or fault.kind == "reply lost":
            return None
        return self._wire(spoiled(_message(raw), fault.kind), "up")[0]

    def _serve(self, name: str, message: Message, fault: Fault, writing: int) -> None:
        """Answer one message as a process of its own; does not return."""
        fill_disk(float("inf"))
        try:
            if fault.kind == "disk of the site full":
                fill_disk(fault.value)
            elif fault.kind == "clock of the site jumps":
                set_clock(fault.value)
            elif fault.kind == "site killed while it writes":
                die_at(int(fault.value))
            elif fault.kind == "site killed at any time":
                die_within(fault.value)
            context = self._contexts[message.metadata.dst_node_id]
            reply = client_app(message=message, context=context)
            fill_disk(float("inf"))
            if reply.has_content():
                said = messages.decode(reply.content, REPLIES[message.metadata.message_type])
                _tell(self._trial / f"{name}.left", **_named(message), digest=wire.digest(said))
            parts = {k: p.deflate().hex() for k, p in get_all_nested_objects(reply).items()}
            with os.fdopen(writing, "w") as pipe:
                pipe.write(json.dumps({"id": reply.object_id, "parts": parts}))
        except BrokenPipeError:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)


def spoiled(reply: Message, kind: str) -> Message:
    """Return the reply as a site would send it whose guard does not work."""
    if not reply.has_content() or "arrays" not in reply.content.array_records:
        return reply
    found = {n: a.numpy() for n, a in reply.content.array_records["arrays"].items()}
    if kind == "reply not finite":
        found = {n: a * np.float32("nan") for n, a in found.items()}
    elif kind == "reply of another shape":
        found = {n: np.concatenate([a, a]) for n, a in found.items()}
    elif kind == "reply torn":
        found.pop(next(iter(found)))
    else:
        return reply
    reply.content["arrays"] = ArrayRecord({n: Array(a) for n, a in found.items()})
    return reply


def trial(seed: int, root: Path) -> dict[str, Any]:
    """Disturb one campaign until it ends, and return what came of it."""
    told, folder = schedule(seed), root / f"{seed}"
    sites, ends = make_sites(folder / "sites", told.composition), list[str]()
    while len(ends) < ATTEMPTS and (not ends or ends[-1].startswith(("killed", "refused"))):
        fault = told.attempts[len(ends)] if len(ends) < len(told.attempts) else Fault("")
        ends.append(_attempt(sites, folder, told, fault))
        if fault.kind and ends[-1].startswith(("killed", "refused: OSError")):
            _tell(folder / "faults", kind=fault.kind)
    _wait_for_all(folder)
    finished = ends[-1] == "finished"
    wrong = told_again(folder, told.composition) if finished else []
    return {
        "seed": seed, "composition": told.composition, "attempts": ends,
        "wrong": wrong + verdicts(folder, told.composition),
        "faults": [line["kind"] for line in _lines(folder / "faults")],
        "partial": finished and any(len(there) < len(NAMES) for there in answered(folder / "out").values()),
    }  # fmt: skip


def _attempt(sites: list[Path], folder: Path, told: Schedule, fault: Fault) -> str:
    """Run the campaign, or go on with it, in a process of its own; return how that ended."""
    if (pid := os.fork()) == 0:
        code = BROKEN
        try:
            if fault.kind == "coordinator's disk full":
                fill_disk(fault.value)
            elif fault.kind == "coordinator killed while it writes":
                die_at(int(fault.value))
            elif fault.kind == "coordinator killed at any time":
                die_within(fault.value)
            _campaign(Disturbed(sites, folder, told), tiny(folder / "out"))
            code = FINISHED
        except (QuorumLost, ValueError, OSError) as error:
            fill_disk(float("inf"))
            (folder / "refused").write_text(f"{type(error).__name__}: {error}")
            code = REFUSED
        except BaseException:
            fill_disk(float("inf"))
            (folder / "refused").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "killed" if os.WTERMSIG(status) == signal.SIGKILL else f"broken: signal {os.WTERMSIG(status)}"
    if os.WEXITSTATUS(status) == FINISHED:
        return "finished"
    return ("refused: " if os.WEXITSTATUS(status) == REFUSED else "broken: ") + (folder / "refused").read_text()


def _campaign(grid: InProcessGrid, told: Campaign) -> None:
    server_app(grid, Context(grid.run.run_id, 1, {}, RecordDict(), {"campaign": told.to_json()}))


def answered(out: Path) -> dict[tuple[str, int], set[str]]:
    """Return which sites' answers each exchange of a finished campaign is made of."""
    found = {("reserve", 0): set(json.loads((out / "campaign/01-reserve/sites.json").read_text()))}
    for number, stage in ((2, "views"), (3, "reference")):
        told = json.loads((out / f"campaign/{number:02d}-{stage}/round.json").read_text())
        found |= {(stage, line["round"]): set(line["sites"]) for line in told["history"]}
    return found


def verdicts(folder: Path, composition: str) -> list[str]:
    """Return what is wrong with what a disturbed campaign left behind: nothing."""
    wrong: list[str] = []
    for site in (Site(folder / "sites" / name) for name in NAMES):
        site.ledger._chain.append(lambda view: view.tail)  # takes in what a kill left in the journal alone
        events = site.ledger.verify()
        reserves = [e for e in events if e["kind"] == "reserve"]
        rounds = sorted(int(e["key"].split(".")[2]) for e in events if e["kind"] == "step_intent")
        kept = {path.stem: path for path in (site.folder / "outbox" / "run-1").glob("*.safetensors")}
        if len(set(rounds)) != len(rounds):
            wrong.append(f"{site.name} announced one exchange twice: {rounds}")
        if free := [key for key in kept if key.startswith("train.views") and int(key.split(".")[2]) not in rounds]:
            wrong.append(f"{site.name} answered what it never announced: {free}")
        left: dict[tuple[str, int], set[str]] = {}
        for line in _lines(folder / f"{site.name}.left"):
            if line["stage"]:
                left.setdefault((line["stage"], line["round"]), set()).add(line["digest"])
        for (stage, number), digests in left.items():
            path = kept.get(f"train.{stage}.{number}")
            stored = path and wire.digest(wire.from_bytes(path.read_bytes(), REPLIES["train"])[0])
            if digests != {stored}:
                wrong.append(f"{site.name}: of {stage} {number} left {digests}, stored is {stored}")
        if reserves:
            doubt = any(e["kind"] == "recover" for e in events)
            site.ledger.commit("run-1")
            paid, due = site.ledger.spent(), price(composition, len(rounds))
            if len(reserves) > 1 or (paid != due and not (doubt and paid == price(composition, ROUNDS))):
                wrong.append(f"{site.name} reserved {len(reserves)} times and paid {paid} for {rounds}, due is {due}")
    return wrong


@cache
def price(composition: str, rounds: int) -> tuple[float, float]:
    """Return what an account pays that nobody disturbed, for so many exchanges."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = hospital(Path(folder), account=Account(composition=composition)).ledger
        ledger.authorise("run-1", [PLAN], delta=tiny(Path(folder)).delta)
        for number in range(rounds):
            ledger.intend("run-1", PLAN.purpose, f"{number}", STEPS)
        ledger.commit("run-1")
        return ledger.spent()


def told_again(folder: Path, composition: str) -> list[str]:
    """Tell a finished campaign again, undisturbed; return where it says something else.

    Once to the same sites, who answer as they did and charge nothing; once to new ones with the same people, who can
    only repeat what was trained without noise. Who was missing in an exchange is missing again.
    """
    there, wrong = answered(folder / "out"), []
    same = [Path(shutil.copytree(folder / "sites" / name, folder / "again" / name)) for name in NAMES]
    before = [_charges(Site(site)) for site in same]
    new = make_sites(folder / "new", composition)

    def missing(message: Message) -> str | None:
        name, about = NAMES[message.metadata.dst_node_id - FIRST_NODE], _named(message)
        key = ("reserve", 0) if about["kind"] == "query.reserve" else (about["stage"], about["round"])
        return "drop" if key in there and name not in there[key] else None

    for sites, noise in ((same, True), (new, False)):
        out = folder / f"out-{noise}"
        grid = InProcessGrid(client_app, [{"site": str(site)} for site in sites], fault=missing)
        _campaign(grid, tiny(out, noise=noise))
        for stage in ("views", "reference") if noise else ("reference",):
            first, second = (next(o.glob(f"campaign/*-{stage}/weights.safetensors")) for o in (folder / "out", out))
            if first.read_bytes() != second.read_bytes():
                wrong.append(f"{stage} is another when told again to {'the same' if noise else 'new'} sites")
    if before != [_charges(Site(site)) for site in same]:
        wrong.append("a campaign that was told again was charged again")
    return wrong


def _charges(site: Site) -> list[str]:
    """Return what was charged; an event that a kill left in the journal alone is taken in first, as any charge does."""
    site.ledger._chain.append(lambda view: view.tail)
    return [event["hash"] for event in site.ledger.events() if event["kind"] in ("reserve", "step_intent")]


def _named(message: Message) -> dict[str, Any]:
    asked = messages.decode(message.content, REQUESTS[message.metadata.message_type])
    return {
        "kind": message.metadata.message_type,
        "stage": getattr(asked, "stage", ""),
        "round": getattr(asked, "round", 0),
    }


def _message(raw: bytes) -> Message:
    told = json.loads(raw)
    reply = inflate_object_from_contents(told["id"], {k: bytes.fromhex(v) for k, v in told["parts"].items()})
    assert isinstance(reply, Message)
    return reply


def _read(handle: int) -> bytes:
    parts = []
    while part := os.read(handle, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _tell(path: Path, **words: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    fill_disk(float("inf"))
    with path.open("a") as file:
        file.write(json.dumps(words) + "\n")
    fill_disk(before)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _count(path: Path) -> int:
    """Count one message more, whatever becomes of it."""
    _tell(path)
    return len(_lines(path))


def _wait_for_all(folder: Path) -> None:
    """Wait until no process of a site is left over."""
    handle = os.open(folder / "alive", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)


def main(first: int, last: int, root: Path) -> None:
    torch.set_num_threads(1)
    own_code()  # read once, before any fork
    for composition in ("basic", "renyi"):
        for rounds in range(ROUNDS + 1):
            price(composition, rounds)
    with tempfile.TemporaryDirectory() as folder:  # whatever is loaded for a campaign is loaded here, once
        sites = make_sites(Path(folder) / "sites", "basic")
        _campaign(InProcessGrid(client_app, [{"site": str(site)} for site in sites]), tiny(Path(folder) / "out"))
    for seed in range(first, last + 1):
        # Flower and torch are imported once: a trial is a fork, so that nothing of one is in the next.
        if (pid := os.fork()) == 0:
            code = 1
            try:
                sys.stdout.write(json.dumps(trial(seed, root)) + "\n")
                sys.stdout.flush()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"schedule {seed} could not be tried")
        if not (root / "kept").exists():
            shutil.rmtree(root / f"{seed}", ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
