"""A SuperNode does not stay as a process that does nothing, nor drop an answer because a line broke."""

import contextlib
import inspect
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message.message import make_message
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from client import ending, node
from client.site import Site
from server import pki
from tests.hospitals import hospital

PROGRAM = """
import sys, threading, time
def main():
    threading.Thread(target=time.sleep, args=(600,)).start()
    {last}
"""


def ended(folder: Path, last: str) -> "subprocess.CompletedProcess[str]":
    """Run a program whose last words are these while another thread of it lives on."""
    told = folder / "staying-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: staying\nVersion: 1\n")
    (told / "entry_points.txt").write_text("[console_scripts]\nstays = staying:main\n")
    (folder / "staying.py").write_text(PROGRAM.format(last=last))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", str(Path(ending.__file__).resolve()), "stays", "--superlink", "there"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_ends_with_the_words_of_what_ended_it(tmp_path: Path) -> None:
    done = ended(tmp_path, "raise RuntimeError('Server error 500')")
    assert done.returncode != 0
    assert "Server error 500" in done.stderr


def test_it_ends_when_it_has_nothing_more_to_do(tmp_path: Path) -> None:
    assert ended(tmp_path, "import sys; print(sys.argv[1:])").stdout == "['--superlink', 'there']\n"


def test_it_ends_when_the_thread_dies_that_says_it_lives(tmp_path: Path) -> None:
    done = ended(tmp_path, "threading.Thread(target=lambda: 1 / 0).start(); time.sleep(600)")
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr


def test_it_stays_when_a_thread_is_done(tmp_path: Path) -> None:
    done = ended(tmp_path, "threading.Thread(target=lambda: sys.exit(3)).start(); time.sleep(2); print('here')")
    assert done.stdout == "here\n"


def test_a_node_starts_its_supernode_so_and_is_still_known_by_its_name(tmp_path: Path) -> None:
    site = hospital(tmp_path, approval=True)
    (site.folder / "node" / "home").mkdir(parents=True)
    node._write_programs(Site(site.folder), "0" * 64)
    program = site.folder / "node" / "home" / "bin" / "flower-supernode"
    assert f"{Path(ending.__file__).resolve()} flower-supernode" in program.read_text()
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=120, check=False)
    assert "Flower" in shown.stdout


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The folder of an authority, and of the certificate of a server of its."""
    key, made = pki.authority("test")
    server_key, server = pki.server(key, made, ["127.0.0.1"])
    for name, content in {"ca.crt": made, "server.pem": server, "server.key": server_key}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@contextlib.contextmanager
def breaking(authority: Path, first: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve over TLS, but the first caller so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            caller, _ = listening.accept()
            with caller:
                first(caller)
            with contextlib.suppress(OSError):
                caller, _ = listening.accept()
                with context.wrap_socket(caller, server_side=True) as trusted:
                    trusted.recv(65536)
                    trusted.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}/"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def said(trying: Any, address: str, trusted: Path) -> str:
    context = ssl.create_default_context(cafile=trusted)
    with httpx.Client(verify=context, timeout=1.0) as client:
        return str(trying.invoke(lambda: client.get(address).text))


def silent(caller: socket.socket) -> None:
    while caller.recv(65536):  # until the caller has had enough of it
        pass


def hangs_up(caller: socket.socket) -> None:
    caller.recv(65536)


@pytest.mark.parametrize("first", [hangs_up, silent])
def test_a_line_that_breaks_in_the_handshake_is_tried_again(authority: Path, first: Any) -> None:
    with breaking(authority, first) as address, pytest.raises(httpx.TransportError):
        said(make_simple_http_retry_invoker(), address, authority / "ca.crt")  # Flower's own gives up
    with breaking(authority, first) as address:
        assert said(ending.patient(make_simple_http_retry_invoker)(), address, authority / "ca.crt") == "ok"


def test_a_certificate_of_a_stranger_stays_wrong(authority: Path) -> None:
    (authority / "stranger.crt").write_bytes(pki.authority("stranger")[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")

    def serve(caller: socket.socket) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(caller, server_side=True, suppress_ragged_eofs=True).close()

    with breaking(authority, serve) as address, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        said(ending.patient(make_simple_http_retry_invoker)(), address, authority / "stranger.crt")


def test_that_is_where_flower_makes_those_who_try_again() -> None:
    assert vars(fleet_http_connection)[ending.MAKER] is make_simple_http_retry_invoker
    assert vars(fleet_http_connection)[ending.PUSHER] is make_push_object_fn_protobuf


@pytest.mark.parametrize("receipts_lost", [0, 1])
def test_a_part_whose_receipt_was_lost_has_arrived_and_one_that_nobody_waits_for_has_not(receipts_lost: int) -> None:
    wanted, lost = set[str](), [httpx.ReadError("cut")] * receipts_lost

    def answered(request: PushObjectRequest) -> PushObjectResponse:  # as a SuperLink: each part once
        stored = request.object_id in wanted
        wanted.discard(request.object_id)
        if lost:
            raise lost.pop()
        return PushObjectResponse(stored=stored)

    trying = ending.patient(make_simple_http_retry_invoker)()
    trying.wait_function = lambda _: None
    words = (lambda request: trying.invoke(answered, request), Node(node_id=1), 2, "session")
    wanted.add("a")
    ending.arrived(make_push_object_fn_protobuf)(*words)("a", b"part")
    assert wanted == set()
    with pytest.raises(ObjectPushError):
        ending.arrived(make_push_object_fn_protobuf)(*words)("b", b"part")
    wanted.add("c")
    lost += [httpx.ReadError("cut")] * receipts_lost
    flowers = make_push_object_fn_protobuf(*words)
    with pytest.raises(ObjectPushError) if receipts_lost else contextlib.nullcontext():
        flowers("c", b"part")


class Asked:
    """A SuperNode's memory that holds one message and the task of it, which a ClientApp has taken up."""

    def __init__(self) -> None:
        self.store = ObjectStoreFactory().store()
        self.state = InMemoryNodeState(self.store)
        self.state.set_node_id(7)
        task = self.state.create_task(task_type=TaskType.CLIENT_APP, run_id=3, fab_hash="f")
        assert task is not None
        told = Metadata(3, "", 1, 7, "", "", time.time(), 3600.0, "train")
        self.message = make_message(told, RecordDict())
        told.__dict__["_message_id"] = self.message.object_id
        self.state.store_message(self.message)
        assert self.state.claim_task(task)
        assert self.state.activate_task(task)

    def come_for(self) -> None:
        """Let the ClientApp take its message."""
        self.state.get_messages_legacy(run_ids=[3], is_reply=False, limit=1)
        self.state.record_message_processing_start(self.message.metadata.message_id)

    def answer(self) -> Message:
        """Let it say that an answer comes, whose parts are still with it."""
        reply = Message(RecordDict({"told": ConfigRecord({"a": 1})}), reply_to=self.message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self.state.store_message_and_object_tree(reply, get_object_tree(reply), self.state.start_session(3))
        return reply

    def die(self) -> None:
        """Let so much time pass that Flower takes the ClientApp for dead."""
        for record in self.state.task_token_store.values():
            record.active_until -= timedelta(days=1)


def test_nobody_waits_in_vain_while_a_clientapp_works() -> None:
    asked = Asked()
    assert not ending.in_vain(asked.state, asked.store)
    asked.come_for()
    asked.answer()
    assert not ending.in_vain(asked.state, asked.store)


def test_flower_answers_for_a_clientapp_that_died_with_its_message() -> None:
    asked = Asked()
    asked.come_for()
    asked.die()
    assert not ending.in_vain(asked.state, asked.store)
    (reply,) = asked.state.get_messages_legacy(is_reply=True)
    assert reply.has_error()


def test_nobody_answers_for_a_clientapp_that_died_before_it_had_its_message() -> None:
    asked = Asked()
    asked.die()
    assert ending.in_vain(asked.state, asked.store)
    assert not asked.state.get_messages_legacy(is_reply=True)  # once this fails, Flower answers, and `watched` can go


def test_an_answer_whose_parts_were_not_all_there_when_its_clientapp_died_is_waited_for_in_vain() -> None:
    asked = Asked()
    asked.come_for()
    parts = get_all_nested_objects(asked.answer())
    asked.die()
    assert ending.in_vain(asked.state, asked.store)
    for name, part in parts.items():
        asked.store.put(name, part.deflate())
    assert not ending.in_vain(asked.state, asked.store)


@pytest.mark.parametrize("dies", [True, False])
def test_a_supernode_that_waits_in_vain_ends(dies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LOOK_SECONDS", 0.02)
    asked, ended_with, over = Asked(), list[int](), threading.Event()

    def end(code: int) -> None:
        ended_with.append(code)
        over.set()

    def waits_so_long(**_: Any) -> None:
        over.wait(20 if dies else 0.5)
        asked.state.delete_messages()

    if dies:
        asked.die()
    waits = ending.watched(lambda *_, **__: waits_so_long(), end)
    waits(state=asked.state, object_store=asked.store, send=None, push_object=None)
    assert ended_with == [1] * dies


def test_an_answer_to_another_message_is_not_taken_for_that_to_the_last_one() -> None:
    """Else every answer after it is one message late, for ever."""
    for ours in (False, True):
        asked, sent = Asked(), list[str]()
        late = make_message(Metadata(2, "", 1, 7, "", "", time.time(), 3600.0, "train"), RecordDict())
        late.metadata.__dict__["_message_id"] = late.object_id
        reply = Message(RecordDict(), reply_to=late)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        asked.store.preregister(2, get_object_tree(reply))
        asked.state.store_message(reply)
        asked.come_for()

        def send(message: Message, *_: Any, asked: Asked = asked, sent: list[str] = sent) -> tuple[set[str], str]:
            sent.append(message.metadata.reply_to_message_id)
            if len(sent) == 1:
                asked.answer()
            return set(), "session"

        waits = vars(start_client_internal)[ending.WAITER]
        (ending.watched(waits) if ours else waits)(asked.state, asked.store, send=send, push_object=None)
        assert sent == [late.object_id, asked.message.object_id][: 1 + ours]


def test_a_message_that_was_let_be_leaves_no_task_and_no_part() -> None:
    def over(run_id: int, _: str) -> bytes:
        raise RunNotRunningException

    for ours in (False, True):
        store = ObjectStoreFactory().store()
        state = InMemoryNodeState(store)
        state.set_node_id(7)
        state.store_run(Run.create_empty(3))
        told = Metadata(3, "", 1, 7, "", "", time.time(), 3600.0, "train")
        message = make_message(told, RecordDict({"told": ConfigRecord({"a": 1})}))
        told.__dict__["_message_id"] = message.object_id
        tree = get_object_tree(message)
        takes = vars(start_client_internal)[ending.TAKER]
        run = (ending.forgetting(takes) if ours else takes)(
            state=state, object_store=store, node_config={}, receive=lambda told=(message, tree): told, get_run=None,
            get_fab=None, pull_object=over, confirm_message_received=None, trusted_entities=None,
        )  # fmt: skip
        assert run is None
        assert len(ending.open_tasks(state)) == len(ending.unanswered(state)) == 1 - ours
        assert (message.object_id in store) == (not ours)


def test_a_node_that_rests_ends_no_task_of_an_answer_that_was_sent() -> None:
    """A ClientApp says that it is done after its answer was sent."""
    asked = Asked()
    asked.state.delete_messages()
    assert ending.forgetting(lambda **_: None)(state=asked.state, object_store=asked.store) is None
    assert len(ending.open_tasks(asked.state)) == 1


def test_that_is_what_takes_a_message_and_what_waits_for_an_answer_and_sends_it() -> None:
    for name in (ending.TAKER, ending.WAITER):
        part = vars(start_client_internal)[name]
        assert list(inspect.signature(part).parameters)[:2] == ["state", "object_store"]
        assert f"{name}(" in inspect.getsource(start_client_internal.start_client_internal)


def test_all_of_that_is_in_force_once_flowers_program_runs() -> None:
    program = (
        "import sys; from flwr.supernode import cli, fleet_http_connection as line, start_client_internal as loop; "
        "from client import ending; sys.argv = ['', ending.SUPERNODE]; "
        "cli.flower_supernode = lambda: print(*(vars(m)[n].__qualname__.partition('.')[0] for m, n in "
        "((line, ending.MAKER), (line, ending.PUSHER), (loop, ending.TAKER), (loop, ending.WAITER)))); ending.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["patient", "arrived", "forgetting", "watched"], done.stderr


def test_a_supernode_begins_anew_with_its_superexec_and_not_the_other_way_round(tmp_path: Path) -> None:
    names = (node.NODE, "flower-superexec")
    for name in names:
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 600\n")
        (tmp_path / name).chmod(0o700)
    (tmp_path / "empty").mkdir()
    made = node.Node([[name] for name in names], tmp_path, {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    made.start()
    try:
        supernode = made.processes[0].pid
        made.processes[1].kill()
        made.processes[1].wait()
        assert made.restart_dead() == names[1]
        assert supernode != made.processes[0].pid
        superexec = made.processes[1].pid
        made.processes[0].kill()
        made.processes[0].wait()
        assert made.restart_dead() == names[0]
        assert superexec == made.processes[1].pid
        assert made.restart_dead() == ""
    finally:
        made.stop()
