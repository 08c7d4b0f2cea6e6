"""Arrays travel in parts, and a line that breaks costs the part it broke and nothing before it.

Flower cuts an array into parts, names each by its digest and sends those that the other end lacks (`flwr.supercore.
inflatable`). That is Flower's promise and not ours, so it is held here, over our fleet interface, our TLS and our
registered keys: a line that is cut whenever it carried so many bytes, which is fewer than the message has, carries it.
Flower's SuperNode drops the answer where a receipt was lost, so the one tried is a hospital's: `client.ending`.
"""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from client import node
from evaluation.reviewed import OFFLINE
from server.coordinator import Coordinator
from server.fleet import link
from server.superlink import CONNECTION, free_ports
from tests.hospitals import hospital
from tests.relay import Relay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

MIB = 1 << 20
CHUNK = "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE"
FRAME = 1.06  # of TLS, HTTP and Flower around a part of 128 KiB
AT_ONCE = 2  # parts that are on their way when a line breaks
APP = '''
import json, os
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()


def arrays(size, seed):
    dice = np.random.default_rng(seed)
    return ArrayRecord({"a": Array(dice.integers(0, 256, size, dtype=np.uint8))})


@client.query("echo")
def echo(message, context):
    """Answer as many bytes as came, others than they were."""
    came = message.content["arrays"]["a"].numpy()
    right = int(np.array_equal(came, arrays(len(came), 1)["a"].numpy()))
    said = {"arrays": arrays(len(came), 2), "right": ConfigRecord({"right": right})}
    return Message(RecordDict(said), reply_to=message)


@server.main()
def main(grid, context):
    size, told = int(context.run_config["size"]), []
    (node,) = list(grid.get_node_ids())
    asked = Message(RecordDict({"arrays": arrays(size, 1)}), node, "query.echo", ttl=3600)
    for reply in grid.send_and_receive([asked], timeout=1800):
        told.append([reply.has_error(), reply.has_content() and reply.content["right"]["right"] == 1
            and bool(np.array_equal(reply.content["arrays"]["a"].numpy(), arrays(size, 2)["a"].numpy()))])
    with open(context.run_config["out"], "w") as file:
        json.dump(told, file)
'''
PROJECT = """
[project]
name = "echo"
version = "1.0.0"
dependencies = []
license = "Apache-2.0"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.flwr.app]
publisher = "nobody"
[tool.flwr.app.components]
serverapp = "echo:server"
clientapp = "echo:client"
[tool.flwr.app.config]
size = {size}
out = "{out}"
"""


class Cutting(Relay):
    """Breaks a line as soon as it carried `most` bytes, both ways together; `carried` and `cuts` count those of all."""

    def __init__(self, target: int, most: float) -> None:
        self._most, self.carried, self.cuts = most, 0, 0
        self._left: dict[frozenset[socket.socket], float] = {}
        self._whole = threading.Lock()
        super().__init__(target)

    def _enough(self, line: frozenset[socket.socket], carried: int) -> bool:
        with self._whole:
            before = self._left.get(line, self._most)
            self.carried += carried
            self._left[line] = before - carried
            self.cuts += before >= 0 > before - carried  # the other direction is cut with it, and is not counted again
            return before < carried


def echoing(root: Path, *, size: int, chunk: int, most: float) -> tuple[Cutting, list[list[bool]]]:
    """Send an array of `size` bytes to a node and another back, in parts of `chunk`, over a line that breaks."""
    fleet, port = free_ports(2)
    line = Cutting(fleet, most)
    coordinator = Coordinator.create(
        root / "c", name="test", address=f"127.0.0.1:{line.port}", listen=f"127.0.0.1:{fleet}"
    )
    site = hospital(root / "sites")
    coordinator.admit(site.name, node.join(site, coordinator.invitation))
    programs = site.folder / node.FOLDER / "home" / "bin"
    programs.mkdir(parents=True)
    node.write_supernode(programs)
    app, out = root / "app", root / "said.json"
    app.mkdir()
    (app / "echo.py").write_text(APP)
    (app / "pyproject.toml").write_text(PROJECT.format(size=size, out=out))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OFFLINE, CHUNK, str(chunk))
        with link(coordinator) as running, node.running(site, port=port) as alive:
            running.register()
            while running.nodes()[site.name] != "online":
                alive.restart_dead()
                running.check()
                time.sleep(1)
            running.flwr("run", str(app), CONNECTION)
            while not out.exists() or not out.read_text():
                alive.restart_dead()
                running.check()
                time.sleep(0.5)
            said = json.loads(out.read_text())
    line.close()
    return line, said


def test_a_line_that_breaks_again_and_again_carries_a_message_of_many_times_what_it_carries_at_once(
    tmp_path: Path,
) -> None:
    size, chunk, most = 4 * MIB, MIB // 8, MIB
    line, said = echoing(tmp_path, size=size, chunk=chunk, most=most)
    assert said == [[False, True]]  # no error, and both ways the bytes that were sent
    assert line.cuts >= 2 * size // most - 2
    assert line.carried <= FRAME * (2 * size + AT_ONCE * line.cuts * chunk) + MIB
