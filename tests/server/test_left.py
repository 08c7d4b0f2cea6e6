"""What left the sites: counted for each answer, where somebody counts, by whoever asked."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from learning import messages
from learning.messages import Greeting, Hello, Trained
from server import left
from server.grid import InProcessGrid
from server.rounds import ask


@dataclass
class Request:
    plan: object = None
    formal: bool = False
    rule: dict[str, object] = field(default_factory=dict)


def reply(size: int) -> Message:
    InProcessGrid(ClientApp(), [{}])  # gives messages a run to belong to
    trained = Trained(arrays={"w": np.zeros(size, np.float32)})
    return Message(messages.encode(trained), 1, "train")


def test_nothing_is_written_where_nobody_counts(tmp_path: Path) -> None:
    left.note("a", "train", Request(), reply(1))
    assert left.section(tmp_path) == ()


def test_answers_are_counted_by_site_kind_and_charge(tmp_path: Path) -> None:
    with left.counted(tmp_path):
        for request in (Request(plan={}), Request(plan={}), Request(), Request(formal=True)):
            left.note("b", "train", request, reply(1000))
        left.note("c", "query.screen", Request(rule={"exact": {}}), reply(1))
        left.note("d", "query.screen", Request(rule={"votes": {}}), reply(1))
        left.note("a", "query.attack", Request(formal=True), reply(1))
    left.note("a", "train", Request(), reply(1))
    found = left.section(tmp_path)
    assert [(x.site, x.kind, x.messages, x.charged) for x in found] == [
        ("a", "query.attack", 1, True), ("b", "train", 1, False), ("b", "train", 3, True),
        ("c", "query.screen", 1, False), ("d", "query.screen", 1, True),
    ]  # fmt: skip
    assert 4000 < found[1].bytes < 6000
    assert found[2].bytes == 3 * found[1].bytes


def test_a_line_torn_by_a_crash_is_no_answer(tmp_path: Path) -> None:
    with left.counted(tmp_path):
        left.note("a", "train", Request(), reply(1))
    path = tmp_path / left.FILE
    path.write_text(path.read_text() + '{"site":"a"')
    assert [x.messages for x in left.section(tmp_path)] == [1]
    with left.counted(tmp_path):
        left.note("a", "train", Request(), reply(1))
    assert [x.messages for x in left.section(tmp_path)] == [2]


def test_what_is_counted_is_what_went_over_the_wire(tmp_path: Path) -> None:
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        name = str(context.node_config["name"])
        greeting = Greeting(site=name, public_subjects=10, public_key=bytes(32), code_digest="0" * 64)
        return Message(messages.encode(greeting), reply_to=message)

    app.query("hello")(serve)
    grid = InProcessGrid(app, [{"name": "a"}, {"name": "b"}])
    nodes = dict(zip("ab", grid.get_node_ids(), strict=True))
    with left.counted(tmp_path):
        ask(grid, nodes, lambda _: Hello(), quorum=2, seconds=9)
    found = left.section(tmp_path)
    assert [(x.site, x.kind, x.messages, x.charged) for x in found] == [
        ("a", "query.hello", 1, False), ("b", "query.hello", 1, False),
    ]  # fmt: skip
    assert sum(x.bytes for x in found) == grid.bytes_up
