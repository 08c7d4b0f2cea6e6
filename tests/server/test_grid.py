from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from server.grid import InProcessGrid, run_in_process

app = ClientApp()


@app.query("double")
def double(message: Message, context: Context) -> Message:
    (array,) = message.content.array_records["arrays"].to_numpy_ndarrays()
    context.state["calls"] = ArrayRecord([np.ones(1)])
    return Message(RecordDict({"arrays": ArrayRecord([2 * array])}), reply_to=message)


@app.query("fail")
def fail(message: Message, context: Context) -> Message:
    context.state["half"] = ArrayRecord([np.ones(1)])
    raise ValueError("words")


def message(grid: Grid, node: int, kind: str = "query.double") -> Message:
    return grid.create_message(RecordDict({"arrays": ArrayRecord([np.arange(3.0)])}), kind, node, "1")


def test_a_message_goes_through_the_wire_format_both_ways() -> None:
    heard: list[str] = []
    grid = InProcessGrid(app, [{}, {}], wiretap=lambda direction, part: heard.append(direction))
    replies = list(grid.send_and_receive([message(grid, node) for node in grid.get_node_ids()]))
    arrays = [r.content.array_records["arrays"].to_numpy_ndarrays()[0] for r in replies]
    assert [a.tolist() for a in arrays] == [[0.0, 2.0, 4.0]] * 2
    assert [r.metadata.src_node_id for r in replies] == list(grid.get_node_ids())
    assert grid.bytes_down > 0 < grid.bytes_up
    assert {"down", "up"} == set(heard)


def test_what_a_sender_changes_after_sending_does_not_arrive() -> None:
    grid = InProcessGrid(app, [{}])
    (node,) = grid.get_node_ids()
    sent = np.arange(3.0)
    outgoing = Message(RecordDict({"arrays": ArrayRecord([sent])}), node, "query.double")
    numbers = list(grid.push_messages([outgoing]))
    sent[:] = 9
    (reply,) = grid.pull_messages(numbers)
    assert reply.content.array_records["arrays"].to_numpy_ndarrays()[0].tolist() == [0.0, 2.0, 4.0]
    assert list(grid.pull_messages(numbers)) == []


def test_state_is_kept_after_success_and_not_after_failure() -> None:
    grid = InProcessGrid(app, [{}])
    (node,) = grid.get_node_ids()
    list(grid.send_and_receive([message(grid, node)]))
    (reply,) = grid.send_and_receive([message(grid, node, "query.fail")])
    assert reply.error.code == 2
    assert set(grid._contexts[node].state) == {"calls"}


@pytest.mark.parametrize(("fault", "replies"), [("drop", 1), ("crash", 2)])
def test_a_fault_hits_the_message_it_is_meant_for(fault: str, replies: int) -> None:
    grid = InProcessGrid(app, [{}, {}], fault=lambda m: fault if m.metadata.dst_node_id == 1001 else None)
    got = list(grid.send_and_receive([message(grid, node) for node in grid.get_node_ids()]))
    assert len(got) == replies
    assert [r.has_error() for r in got] == [False, True][:replies]


def test_every_node_gets_its_own_configuration_and_the_server_its_campaign(tmp_path: Path) -> None:
    server, seen = ServerApp(), {}
    who = ClientApp()

    @who.query("who")
    def name(message: Message, context: Context) -> Message:
        seen[context.node_id] = context.node_config
        return Message(RecordDict(), reply_to=message)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        seen[0] = context.run_config
        list(grid.send_and_receive([Message(RecordDict(), node, "query.who") for node in grid.get_node_ids()]))

    run_in_process(server, who, "{}", [tmp_path / "a", tmp_path / "b"])
    assert list(seen.values()) == [
        {"campaign": "{}"}, {"site": str(tmp_path / "a")}, {"site": str(tmp_path / "b")}
    ]  # fmt: skip
