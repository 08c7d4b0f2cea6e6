"""What crosses the wire: laws of the encoding, and the threats it must refuse."""

import dataclasses
import json
from typing import Any, get_type_hints

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from learning import messages, schema, wire
from learning.messages import REPLIES, REQUESTS, Guessed, Kept, Score, Train, Trained, decode, encode
from learning.schema import Malformed
from learning.wire import digest

A = {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "0.bias": np.zeros((), np.float32)}


def train(**changes: Any) -> Train:
    settings: dict[str, Any] = {
        "run": "run-1", "stage": "views", "round": 1, "kind": "learner", "name": "tiny", "config": {"width": 3},
        "prior": "", "seed": 7,
        "plan": None, "size": 16, "steps": 2, "batch_size": 4, "learning_rate": 0.1, "arrays": A,
        "proximal": 0.0, "personal": "", "frozen": {},
    }  # fmt: skip
    return Train(**(settings | changes))


def same(a: object, b: object) -> bool:
    return encode(a).object_id == encode(b).object_id


@given(
    steps=st.integers(1, 10**6),
    rate=st.floats(0, 1e3),
    config=st.dictionaries(st.from_regex(schema.ARRAY_NAME, fullmatch=True), st.integers() | st.text() | st.booleans()),
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20),
)
def test_decoding_returns_what_was_encoded(
    steps: int, rate: float, config: dict[str, Any], values: list[float]
) -> None:
    sent = train(steps=steps, learning_rate=rate, config=config, arrays={"w": np.array(values, np.float32)})
    got = decode(encode(sent), Train)
    assert same(sent, got)
    assert digest(sent) == digest(got)
    assert np.array_equal(got.arrays["w"], sent.arrays["w"])


def test_arms_keep_their_models_apart() -> None:
    sent = Score(
        run="r",
        stage="assess",
        task="t",
        config={},
        size=16,
        seed=1,
        personal="",
        arms={"release": A, "phantom": {"w": A["0.weight"]}},
    )
    got = decode(encode(sent), Score)
    assert {arm: set(found) for arm, found in got.arms.items()} == {"release": set(A), "phantom": {"w"}}


@pytest.mark.parametrize("message", [train(), Kept(bits=b"\x07", drawn_again=0.05), Trained(arrays=A)])
def test_a_message_survives_the_disk_with_its_note(message: Any) -> None:
    got, note = wire.from_bytes(wire.to_bytes(message, note="n"), type(message))
    assert same(message, got)
    assert note == "n"


def test_torn_or_foreign_bytes_are_refused() -> None:
    whole = wire.to_bytes(Trained(arrays=A), note="n")
    for torn in (b"", whole[:20], whole[:-1], whole[8:]):
        with pytest.raises(Malformed):
            wire.from_bytes(torn, Trained)
    with pytest.raises(Malformed):
        wire.from_bytes(whole, Kept)


def test_bytes_survive_the_json() -> None:
    assert decode(encode(Kept(bits=b"\x00\xff\x10", drawn_again=0.05)), Kept).bits == b"\x00\xff\x10"


def test_the_digest_sees_every_field() -> None:
    other = {**A, "0.bias": np.ones((), np.float32)}
    changed = [
        train(steps=3),
        train(config={"width": 4}),
        train(arrays=other),
        train(arrays={"0.weight": A["0.weight"]}),
    ]
    assert len({digest(m) for m in [train(), *changed]}) == 5


def test_no_reply_can_carry_images_or_free_words() -> None:
    """A site has no field through which a pixel, a file name or a patient's name could leave."""
    for reply in REPLIES.values():
        for kind in wire.kinds(reply).values():
            assert not (isinstance(kind, schema.Tensors) and kind.dtype not in ("float32", "uint64"))
            assert not (isinstance(kind, schema.Tree) and kind.words)
            assert not (
                isinstance(kind, schema.Text) and kind.pattern not in (r"[0-9a-f]{64}", r"[a-z0-9][a-z0-9_\-]{0,63}")
            )


@pytest.mark.parametrize("said", [0.5, -1, True, None, "name", [1, 2], {"coins": [0, 1]}], ids=str)
def test_guesses_are_counts_and_nothing_else(said: Any) -> None:
    with pytest.raises(Malformed):
        encode(Guessed(guesses={"sum": {"right": said}}))


def test_every_field_of_every_message_has_a_kind() -> None:
    for message in {*REQUESTS.values(), *REPLIES.values()}:
        hints = get_type_hints(message, include_extras=True)
        assert all(isinstance(hints[f.name].__metadata__[0], schema.Kind) for f in dataclasses.fields(message))


def raw(change: dict[str, Any]) -> RecordDict:
    record = encode(train())
    plain = json.loads(str(record.config_records["message"]["json"])) | change
    record["message"] = ConfigRecord({"schema": "pericard.train/1", "json": json.dumps(plain)})
    return record


@pytest.mark.parametrize(
    "change",
    [
        {"run": "../../etc/passwd"}, {"run": "a\0b"}, {"run": "%2e%2e"}, {"run": ""}, {"run": "A" * 65}, {"run": 3},
        {"steps": 0}, {"steps": -1}, {"steps": 10**9}, {"steps": 10**400}, {"steps": True}, {"steps": 1.5},
        {"steps": "2"},
        {"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"learning_rate": -1.0},
        {"learning_rate": "0.1"},
        {"kind": "cohort"}, {"name": "x/y"}, {"seed": -1}, {"plan": "none"}, {"plan": [1]}, {"config": None},
        {"config": {"a": float("nan")}}, {"config": {"../x": 1}}, {"metrics": True}, {"arrays": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_field_out_of_bounds_or_unknown_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        decode(raw(change), Train)


def test_a_missing_field_is_refused() -> None:
    record = encode(train())
    plain = json.loads(str(record.config_records["message"]["json"]))
    del plain["steps"]
    record["message"] = ConfigRecord({"schema": "pericard.train/1", "json": json.dumps(plain)})
    with pytest.raises(Malformed, match="steps is missing"):
        decode(record, Train)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"run": "a", "run": "b"}',
        '{"config": ' + '{"a":' * 10_000 + "1" + "}" * 10_001,
        "x" * ((1 << 20) + 1),
    ],
    ids=["empty", "list", "torn", "duplicate key", "nested 10000 deep", "too long"],
)
def test_json_that_is_not_strict_is_refused(text: str) -> None:
    record = RecordDict({"message": ConfigRecord({"schema": "pericard.train/1", "json": text})})
    with pytest.raises(Malformed):
        decode(record, Train)


def test_a_message_of_another_type_or_with_more_records_is_refused() -> None:
    with pytest.raises(Malformed, match="schema"):
        decode(encode(Kept(bits=b"", drawn_again=0.05)), Trained)
    extra = encode(train())
    extra["metrics"] = MetricRecord({"loss": 0.1})
    with pytest.raises(Malformed):
        decode(extra, Train)
    with pytest.raises(Malformed):
        decode(RecordDict(), Train)


@pytest.mark.parametrize(
    "array",
    [
        np.array([np.nan], np.float32), np.array([np.inf], np.float32), np.array([1.0]), np.array([1], np.int64),
        np.array([1], np.uint8), np.array(["x"]), np.array([1], ">f4"), np.asfortranarray(np.ones((2, 3), np.float32)),
    ],
    ids=["nan", "inf", "float64", "int64", "pixels", "text", "big endian", "fortran order"],
)  # fmt: skip
def test_an_array_that_is_not_finite_float32_is_refused(array: np.ndarray[Any, Any]) -> None:
    record = encode(train())
    record["arrays"] = ArrayRecord({"arrays/w": Array(array)})
    with pytest.raises(Malformed):
        decode(record, Train)


def npy(shape: str, body: bytes = b"\0\0\0\0", dtype: str = "<f4") -> Array:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body
    return Array("float32", (1,), "numpy.ndarray", data)


@pytest.mark.parametrize(
    "array",
    [
        npy("(1000000000000,)"), npy("(-1, -1)"), npy("(2,)"), npy("(1,)", b"\0" * 8), npy("()", b""),
        npy("(1,)", dtype="|O"),
        Array("float32", (1,), "numpy.ndarray", b"not npy"), Array("float32", (1,), "pickle", b"cos\nsystem\n"),
        Array("float32", (1,), "numpy.ndarray", b""),
    ],
    ids=["terabytes declared", "negative", "short", "long", "empty scalar", "object", "no npy", "pickle", "empty"],
)  # fmt: skip
def test_array_bytes_that_lie_about_themselves_are_refused(array: Array) -> None:
    record = encode(train())
    record["arrays"] = ArrayRecord({"arrays/w": array})
    with pytest.raises(Malformed):
        decode(record, Train)


@pytest.mark.parametrize("name", ["w", "foreign/w", "arrays/a/b", "arrays/", "arrays/../x", "arrays/a b"])
def test_an_array_under_a_foreign_name_is_refused(name: str) -> None:
    record = encode(train())
    record["arrays"] = ArrayRecord({name: Array(np.ones(1, np.float32))})
    with pytest.raises(Malformed):
        decode(record, Train)


def test_more_than_the_allowed_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "ARRAY_BYTES", 16)
    with pytest.raises(Malformed, match="more than"):
        encode(train())


def test_a_message_of_more_than_the_allowed_bytes_is_refused_before_any_of_it_is_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each array is small enough; all together they are not."""
    sent = encode(Trained(arrays={name: np.full(1000, k, np.float32) for k, name in enumerate("abc")}))
    monkeypatch.setattr(schema, "ARRAY_BYTES", 3 * 4000 - 1)
    monkeypatch.setattr(schema, "from_npy", lambda *_: pytest.fail("an array was copied"))
    with pytest.raises(Malformed, match="the arrays hold more than 11999 bytes"):
        decode(sent, Trained)


def test_what_a_site_may_not_say_is_refused_before_it_leaves() -> None:
    with pytest.raises(Malformed):
        encode(messages.Scores(scores={"arm": {"metric": "Jane Doe"}}, differences={}))
    with pytest.raises(Malformed):
        encode(Trained(arrays={"w": np.array([np.nan], np.float32)}))


def test_a_message_type_is_registered_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        messages.request("train", Trained)(Kept)
    assert messages.kind_of(train()) == "train"
