"""Strangers at a coordinator's SuperLink, and a coordinator that sends hospitals what they did not review."""

import contextlib
import http.client
import json
import sqlite3
import ssl
import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import Site
from evaluation.reviewed import write_bundle
from learning import durable
from server.coordinator import LINK, Coordinator
from server.fleet import Link
from server.superlink import CONNECTION
from tests.e2e.deployment import Deployment
from tests.e2e.line import NAMED, WIDTH, Planted

DEADLINE_SECONDS = 900.0


@dataclass(frozen=True)
class Running:
    """The SuperLink of a deployment whose campaign is over, and two more hospitals that it admits.

    `leaky` starts Flower's programs without what lets in the reviewed bundle alone; `draco` approved nothing.
    """

    link: Link
    story: Deployment
    root: Path
    leaky: Site
    draco: Site

    @property
    def coordinator(self) -> Coordinator:
        return self.link.coordinator

    @property
    def site(self) -> Site:
        return Site(self.story.root / "aurora")

    @property
    def inner(self) -> str:
        told = tomllib.loads((self.coordinator.folder / LINK / "home/config.toml").read_text())
        return str(told["superlink"][CONNECTION]["address"])

    @property
    def authority(self) -> Path:
        return self.coordinator.folder / "certs" / "ca.crt"

    def flower(self, query: str) -> list[Any]:
        """Return the first column of what Flower's database answers; its command line takes seconds for that."""
        database = self.coordinator.folder / LINK / "state.db"
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as opened:
            return [row[0] for row in opened.execute(query)]


@dataclass(frozen=True)
class Attempts:
    """What a coordinator got from aurora's live node by sending what was not reviewed, or not approved.

    Attributes:
        told: attempt → site → what was answered.
        ran: attempt → sites where its code ran.
        planted: what leaky sent when it was asked, name and row.
        draco: how its `site run` ended meanwhile.
        spent: of aurora, before and after.
    """

    told: dict[str, dict[str, str]]
    ran: dict[str, set[str]]
    planted: Planted
    draco: "subprocess.CompletedProcess[str]"
    spent: tuple[Any, Any]


def leak(site: Site) -> Planted:
    """Lay before a hospital's programs what they must not send; returns it."""
    row = np.random.default_rng(5).integers(0, 256, WIDTH, dtype=np.uint8)
    name = f"{NAMED}-leaky"
    (site.folder / "leak.json").write_text(json.dumps({"name": name, "row": row.tolist()}))
    return Planted((name.encode(),), (row.tobytes(),))


def altered(running: Running) -> None:
    """Write down the approved campaign with less noise, under the approved name, and the reviewed bundle to run it."""
    told = json.loads(
        json.dumps(running.coordinator.proposal.campaign),
        object_hook=lambda o: {k: 0.9 * v if k == "noise_multiplier" else v for k, v in o.items()},
    )
    assert told != running.coordinator.proposal.campaign  # there was noise to take away
    out = running.root / "altered" / "out"
    out.mkdir(parents=True)
    told = {**told, "out": str(out), "quorum": 1, "seconds": DEADLINE_SECONDS}
    durable.write(running.coordinator.folder / LINK / "campaign.json", json.dumps(told).encode())
    (out.parent / "pericard").mkdir()
    write_bundle(out.parent / "pericard")


def app(folder: Path, ran: Path, *, nodes: list[int], version: str) -> None:
    """Write an app that leaves a trace where its client ran, sends what lies there, and notes what it was answered.

    Without a version it is the reviewed bundle in which our client leaves that trace and another server asks.
    """
    folder.mkdir(parents=True)
    ran.mkdir(exist_ok=True)
    (folder / "theirs.py").write_text(THEIRS.format(ran=str(ran), nodes=nodes))
    if version:
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "pericard"\nversion = {json.dumps(version)}\n'
            'description = "x"\nlicense = "Apache-2.0"\n'
            '[tool.flwr.app]\npublisher = "pericard"\nfab-include = ["/*.py"]\n'
            '[tool.flwr.app.components]\nserverapp = "theirs:server"\nclientapp = "theirs:client"\n'
            "[tool.flwr.app.config]\n"
        )
        return
    write_bundle(folder)
    told = (folder / "pyproject.toml").read_text()
    told = told.replace("server.app:app", "theirs:server").replace("fab-include = [", 'fab-include = ["/*.py", ')
    (folder / "pyproject.toml").write_text(told)
    with (folder / "client" / "app.py").open("a") as file:
        file.write(f'\nfrom pathlib import Path\n(Path({str(ran)!r}) / "site-aurora").write_text("ran")\n')


THEIRS = """
import json, pathlib
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
RAN = pathlib.Path({ran!r})
client = ClientApp()
server = ServerApp()
@client.query("hello")
def hello(message, context):
    site = pathlib.Path(context.node_config["site"])
    (RAN / f"site-{{site.name}}").write_text("ran")
    told = json.loads((site / "leak.json").read_text())
    row = ArrayRecord({{"row": Array(np.array(told["row"], np.float32) / 255)}})
    return Message(RecordDict({{"row": row, "name": ConfigRecord({{"name": told["name"]}})}}), reply_to=message)
@server.main()
def main(grid, context):
    asked = [Message(RecordDict(), node, "query.hello", ttl=900) for node in {nodes}]
    replies = grid.send_and_receive(asked, timeout=900)
    told = {{str(r.metadata.src_node_id): r.error.reason if r.has_error() else "" for r in replies}}
    (RAN / "reply.part").write_text(json.dumps(told))
    (RAN / "reply.part").rename(RAN / "reply.json")
"""


def number(running: Running, name: str) -> int:
    """Return the number that Flower gave a node."""
    known = json.loads((running.coordinator.folder / LINK / "nodes.json").read_text())
    return int(known[name])


def fleet_client(running: Running, authority: Path, key: Any) -> Any:
    """Return Flower's own client of the fleet interface, as a SuperNode has it."""
    from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    says = [RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(key, key.public_key())]
    address, trusted = running.coordinator.address, authority.read_bytes()
    return FleetHttpClient.from_server_address(address, False, trusted, interceptors=says)


def status_of(call: Callable[[], object]) -> int:
    """Return the status with which a request is refused."""
    import httpx

    with pytest.raises(httpx.HTTPStatusError) as refused:
        call()
    return int(refused.value.response.status_code)


def activation(key: Any) -> Any:
    from flwr.proto.fleet_pb2 import ActivateNodeRequest
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    return ActivateNodeRequest(public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=30)


def new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP384R1())


def own_key(site: Site) -> Any:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    return load_ssh_private_key((site.folder / "node" / "node.key").read_bytes(), password=None)


def answer_of(running: Running, path: str) -> int:
    host, _, port = running.coordinator.address.rpartition(":")
    context = ssl.create_default_context(cafile=running.authority)
    with contextlib.closing(http.client.HTTPSConnection(host, int(port), timeout=60, context=context)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(2)
