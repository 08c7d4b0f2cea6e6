from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.outbox import Outbox
from learning import durable
from learning.messages import Attack, Code, Counts, Refusal, Trained, encode

IMAGES = {"pixels": np.zeros((1, 8, 8), np.uint8)}


def question(**changes: Any) -> Attack:
    told = {"run": "r", "stage": "attack", "name": "a", "config": {}, "formal": True, "released": IMAGES}
    return Attack(**(told | changes))


def noisy() -> Trained:
    return Trained(arrays={"w": np.random.default_rng().normal(size=5).astype(np.float32)})


def test_a_repeated_question_gets_the_same_bytes_and_is_computed_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def compute() -> Trained:
        asked.append(1)
        return noisy()

    first = Outbox(tmp_path).answer(question(), "r", "k", Trained, compute)
    again = Outbox(tmp_path).answer(question(), "r", "k", Trained, compute)
    assert encode(first).object_id == encode(again).object_id
    assert len(asked) == 1


def test_another_question_under_the_same_key_is_refused(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    box.answer(question(), "r", "k", Trained, noisy)
    with pytest.raises(Refusal) as refusal:
        box.answer(question(config={"alpha": 0.5}), "r", "k", Trained, noisy)
    assert refusal.value.code is Code.REFUSED_POLICY
    box.answer(question(config={"alpha": 0.5}), "other", "k", Trained, noisy)


def test_a_failed_computation_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Trained:
        raise RuntimeError("died")

    with pytest.raises(RuntimeError):
        Outbox(tmp_path).answer(question(), "r", "k", Trained, fail)
    assert not list(tmp_path.rglob("*.safetensors"))
    Outbox(tmp_path).answer(question(), "r", "k", Trained, noisy)


def test_an_answer_that_was_changed_on_disk_is_not_sent(tmp_path: Path) -> None:
    Outbox(tmp_path).answer(question(), "r", "k", Trained, noisy)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="safetensors"):
        Outbox(tmp_path).answer(question(), "r", "k", Trained, noisy)


def ask_once(folder: Path) -> str:
    return str(encode(Outbox(folder).answer(question(), "r", "k", Trained, noisy)).object_id)


def test_processes_that_ask_together_get_one_answer(tmp_path: Path) -> None:
    with get_context("fork").Pool(4) as pool:
        assert len(set(pool.map(ask_once, [tmp_path] * 8))) == 1


def test_answers_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    Outbox(tmp_path).answer(question(), "r", "k", Counts, lambda: Counts(counts={}))
    (path,) = tmp_path.rglob("*.safetensors")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_durable_file_is_replaced_whole(tmp_path: Path) -> None:
    durable.write(tmp_path / "f", b"old")
    durable.write(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]
