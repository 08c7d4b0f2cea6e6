import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.envelope import PAYLOAD_TYPE, Envelope, MalformedEnvelope, Signature, pae, seal
from evaluation.trust import SigningKey
from synthesis.canonical import dumps

KEY = SigningKey.create()
SIG = base64.b64encode(bytes(64)).decode()


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    encoded = pae(b"hello world", "http://example.com/HelloWorld")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@settings(deadline=None)
@given(st.text(), st.binary(), st.text(), st.binary())
def test_type_and_payload_never_trade_places(kind: str, payload: bytes, other_kind: str, other: bytes) -> None:
    assert (pae(payload, kind) == pae(other, other_kind)) == ((payload, kind) == (other, other_kind))


@settings(deadline=None)
@given(st.binary(), st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=3))
def test_an_envelope_reads_back_as_it_was(payload: bytes, keys: list[str]) -> None:
    envelope = Envelope(payload=payload, signatures=tuple(Signature(keyid=k, sig=SIG) for k in keys))
    assert Envelope.parse(envelope.canonical) == envelope


def test_the_order_of_signing_leaves_no_trace() -> None:
    other = SigningKey.create()
    one, two = seal(b"x", KEY), seal(b"x", other)
    empty = Envelope(payload=b"x", signatures=())
    assert empty.with_signature(one).with_signature(two) == empty.with_signature(two).with_signature(one)
    with pytest.raises(ValueError, match="has signed already"):
        empty.with_signature(one).with_signature(one)


GOOD = {"payload": "eA==", "payloadType": PAYLOAD_TYPE, "signatures": [{"keyid": "k", "sig": SIG}]}


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ([], "envelope"),
        ({**GOOD, "more": 1}, "envelope"),
        ({k: v for k, v in GOOD.items() if k != "signatures"}, "envelope"),
        ({**GOOD, "payloadType": "application/json"}, "payloadType"),
        ({**GOOD, "payload": 7}, "payload"),
        ({**GOOD, "payload": "eA="}, "payload"),
        ({**GOOD, "payload": "eB=="}, "payload"),
        ({**GOOD, "payload": "e A=="}, "payload"),
        ({**GOOD, "payload": "é"}, "payload"),
        ({**GOOD, "signatures": {}}, "signatures"),
        ({**GOOD, "signatures": [7]}, "signatures"),
        ({**GOOD, "signatures": [{"keyid": "k"}]}, "signatures"),
        ({**GOOD, "signatures": [{"keyid": 7, "sig": SIG}]}, "signatures"),
        ({**GOOD, "signatures": [{"keyid": "k", "sig": "eA=="}]}, "signatures"),
    ],
)
def test_a_malformed_envelope_is_refused_by_its_part(document: object, part: str) -> None:
    with pytest.raises(MalformedEnvelope) as error:
        Envelope.parse(dumps(document))
    assert error.value.part == part


@pytest.mark.parametrize(
    "raw", [b"", b"{", dumps(GOOD) + b"\n", b" " + dumps(GOOD), dumps(GOOD)[:-1] + b',"payload":""}']
)
def test_an_envelope_has_one_text(raw: bytes) -> None:
    assert Envelope.parse(dumps(GOOD)).payload == b"x"
    with pytest.raises(MalformedEnvelope) as error:
        Envelope.parse(raw)
    assert error.value.part == "envelope"
