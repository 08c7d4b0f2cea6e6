"""Disturbed campaigns: `python -m tests.chaos FIRST LAST FOLDER` prints one line of JSON for each schedule of faults.

A fourth word names a part of the product that is broken on purpose (`tests/broken.py`).

Three hospitals with real folders and accounts; every message is served by a process of its own, as Flower does it, and
the coordinator is another. Any of them is killed, loses its disk, its network or its clock, as a seed says. What must
hold afterwards is in `tests.verdicts`; the campaign is then told again, undisturbed, and must say the same.
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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

import pericard as _offline  # noqa: F401  (imported for its switches)
from client.admission import own_code
from client.app import app as client_app
from learning import messages
from server.grid import InProcessGrid
from server.rounds import QuorumLost
from tests.broken import PARTS
from tests.faults import Fault, Schedule, die_at, die_within, fill_disk, schedule, set_clock
from tests.hospitals import NAMES
from tests.verdicts import Scene, lines_of, named, price, told_again, verdicts

ATTEMPTS, SCENE = 14, Scene()
FINISHED, REFUSED, BROKEN = 0, 3, 4


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
                _tell(self._trial / f"{name}.left", **named(message), digest=messages.weigh(reply.content)[0])
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
    sites, ends = SCENE.sites(folder / "sites", told.composition), list[str]()
    while len(ends) < ATTEMPTS and (not ends or ends[-1].startswith(("killed", "refused"))):
        fault = told.attempts[len(ends)] if len(ends) < len(told.attempts) else Fault("")
        ends.append(_attempt(sites, folder, told, fault))
        if fault.kind and ends[-1].startswith(("killed", "refused: OSError")):
            _tell(folder / "faults", kind=fault.kind)
    _wait_for_all(folder)
    finished = ends[-1] == "finished"
    wrong = told_again(SCENE, folder, told.composition) if finished else [f"never finished: {ends[-1]}"]
    return {
        "seed": seed, "composition": told.composition, "attempts": ends,
        "wrong": wrong + verdicts(SCENE, folder, told.composition),
        "faults": [line["kind"] for line in lines_of(folder / "faults")],
        "partial": finished and any(len(there) < len(NAMES) for there in SCENE.answered(folder / "out").values()),
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
            SCENE.tell(Disturbed(sites, folder, told), SCENE.campaign(folder / "out"))
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


def _count(path: Path) -> int:
    """Count one message more, whatever becomes of it."""
    _tell(path)
    return len(lines_of(path))


def _wait_for_all(folder: Path) -> None:
    """Wait until no process of a site is left over."""
    handle = os.open(folder / "alive", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)


def main(first: int, last: int, root: Path, broken: str = "") -> None:
    torch.set_num_threads(1)
    own_code()  # read once, before any fork
    for composition in ("basic", "renyi"):
        for rounds in range(SCENE.rounds + 1):
            price(SCENE, composition, ("train.views",) * rounds)
    if broken:
        PARTS[broken]()
    with tempfile.TemporaryDirectory() as folder:  # whatever is loaded for a campaign is loaded here, once
        sites = SCENE.sites(Path(folder) / "sites", "basic")
        grid = InProcessGrid(client_app, [{"site": str(site)} for site in sites])
        SCENE.tell(grid, SCENE.campaign(Path(folder) / "out"))
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
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
