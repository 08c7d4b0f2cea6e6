"""Threats at the boundary: whatever happens inside a hospital, only a code and a reference come out."""

import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client import admission, boundary
from client.app import app
from client.outbox import Outbox
from client.site import Site
from evaluation.envelope import PAYLOAD_TYPE
from learning import messages
from learning.messages import (
    REQUESTS,
    Attack,
    Code,
    Guess,
    Hello,
    Keys,
    MaskedTrain,
    Measure,
    Score,
    Share,
    Sign,
    Unmask,
)
from synthesis import likeness
from tests.copies import screen_request, strangers
from tests.hospitals import CANARY, PLAN, SIZE, Wire, hospital, images, log_of, reserve_request, train_request
from tests.masked import plain

TRY: dict[str, Any] = {"run": "run-1", "stage": "views", "round": 1, "attempt": 1}
REQUEST_OF_EACH_KIND: dict[str, Any] = {
    "query.hello": Hello(),
    "query.reserve": reserve_request(PLAN),
    "train": train_request(),
    "query.keys": Keys(**TRY),
    "query.shares": Share(**TRY, threshold=2, sites=[], offers=b""),
    "train.masked": MaskedTrain(**plain(train_request()), attempt=1, sharers=[], sealed=b""),
    "query.unmask": Unmask(**TRY, survivors=[]),
    "query.guess": Guess(run="run-1", stage="views", rounds=1),
    "query.measure": Measure(run="run-1", stage="shapes", size=SIZE, plan=likeness.plan(1.0).to_json()),
    "evaluate": Score(
        run="run-1", stage="assess", task="tiny_task", config={}, size=SIZE, seed=1, personal="", arms={}
    ),
    "query.attack": Attack(run="run-1", stage="a", name="tiny_attack", config={}, formal=True, released=images()),
    "query.screen": screen_request(strangers(4)),
    "query.sign": Sign(run="run-1", payload_type=PAYLOAD_TYPE, payload=b"{}"),
}


def test_there_is_a_threat_for_every_message_type() -> None:
    assert set(REQUEST_OF_EACH_KIND) == set(REQUESTS)


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_patients_name_in_an_exception_stays_in_the_sites_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wire = Wire(site := hospital(tmp_path))

    def fail(*_: object) -> None:
        raise FileNotFoundError(f"/records/{CANARY}.dcm")

    monkeypatch.setattr(admission, "own_code", fail)
    monkeypatch.setattr("client.countersign.admitted", fail)
    monkeypatch.setattr("client.assessment.admitted", fail)
    monkeypatch.setattr("client.training.admitted", fail)
    monkeypatch.setattr("client.screening.admitted", fail)
    monkeypatch.setattr("client.shapes.admitted", fail)
    monkeypatch.setattr("client.masking.admitted", fail)
    monkeypatch.setattr("client.masking._read", fail)
    monkeypatch.setattr(Outbox, "answer", fail)
    reply = wire.raw(messages.encode(REQUEST_OF_EACH_KIND[kind]), kind)
    assert reply.error.code == Code.FAILED
    assert re.fullmatch(r"FAILED ref=[0-9a-f]{12}", reply.error.reason)
    assert not any(CANARY.encode() in part for part in wire.sent)
    (entry,) = log_of(site)
    assert entry["reference"] == reply.error.reason[-12:]
    assert CANARY in entry["words"]
    assert (site.folder / "log").stat().st_mode & 0o077 == 0


def test_an_unreadable_study_says_nothing_of_whose_it_was(tmp_path: Path) -> None:
    wire = Wire(site := hospital(tmp_path, cohort={"reader": "canary", "broken": True}))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(train_request()) is Code.FAILED
    assert not any(CANARY.encode() in part for part in wire.sent)
    assert CANARY in log_of(site)[0]["words"]


def test_a_learner_that_fails_with_words_fails_without_them(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request(PLAN))
    assert wire.ask(train_request(config={"words": CANARY})) is Code.FAILED
    assert not any(CANARY.encode() in part for part in wire.sent)


@pytest.mark.parametrize("kind", ["query.dump", "train.other", "evaluate.all", "query"])
def test_an_unknown_message_type_is_refused(tmp_path: Path, kind: str) -> None:
    reply = Wire(hospital(tmp_path)).raw(messages.encode(Hello()), kind)
    assert reply.error.code == Code.UNREADABLE


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_record_that_is_no_such_request_is_refused(tmp_path: Path, kind: str) -> None:
    wire = Wire(hospital(tmp_path))
    for record in (RecordDict(), RecordDict({"message": ConfigRecord({"schema": "x", "json": "{}"})})):
        assert wire.raw(record, kind).error.code == Code.UNREADABLE


def test_what_takes_too_long_ends_and_the_next_message_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(hospital(tmp_path, seconds_per_message=1))
    with monkeypatch.context() as slow:
        slow.setattr(admission, "own_code", lambda: time.sleep(30))
        assert wire.ask(Hello()) is Code.OVER_TIME
    assert wire.ask(Hello()).site == "aurora"


def test_outside_the_main_thread_messages_are_served_without_the_clock(tmp_path: Path) -> None:
    wire, replies = Wire(hospital(tmp_path)), []
    thread = threading.Thread(target=lambda: replies.append(wire.ask(Hello())))
    thread.start()
    thread.join()
    assert replies[0].site == "aurora"


@pytest.mark.parametrize(
    ("error", "code"), [(SystemExit(3), Code.FAILED), (MemoryError(), Code.FAILED), (RecursionError(), Code.FAILED)]
)
def test_whatever_is_raised_becomes_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: Code
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(admission, "own_code", fail)
    assert Wire(hospital(tmp_path)).ask(Hello()) is code


def test_somebody_at_the_machine_can_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(admission, "own_code", stop)
    with pytest.raises(KeyboardInterrupt):
        Wire(hospital(tmp_path)).ask(Hello())


def test_a_reply_that_no_schema_knows_does_not_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leak(message: Message, context: Any) -> Message:
        record = messages.encode(admission.greet(Site(tmp_path / "aurora"), Hello()))
        record["more"] = ConfigRecord({"losses": [0.1]})
        return Message(record, reply_to=message)

    monkeypatch.setitem(app._registered_funcs, "query.hello", leak)
    wire = Wire(hospital(tmp_path))
    assert wire.ask(Hello()) is Code.FAILED
    assert not any(b"losses" in part for part in wire.sent)


def test_a_log_that_cannot_be_written_does_not_open_the_boundary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = hospital(tmp_path)
    (site.folder / "log").mkdir()
    monkeypatch.setattr(admission, "own_code", lambda: 1 / 0)
    assert Wire(site).ask(Hello()) is Code.FAILED
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_node_without_a_site_says_so_to_its_operator_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wire = Wire(hospital(tmp_path))
    (tmp_path / "aurora" / "site.yaml").unlink()
    assert wire.ask(Hello()) is Code.FAILED
    assert "site.yaml" in capsys.readouterr().err
    assert not any(b"site.yaml" in part for part in wire.sent)


def test_the_guard_restores_the_clock_of_others(tmp_path: Path) -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    Wire(hospital(tmp_path)).ask(Hello())
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert boundary.code_of(ValueError()) is Code.FAILED
