import base64
import stat
from pathlib import Path

import pytest

from evaluation.trust import FIELD_PRIME, SMALL_ORDER, SigningKey, Trust, TrustedKey
from synthesis.canonical import dumps, loads

P = FIELD_PRIME
D = -121665 * pow(121666, -1, P) % P


def encoded(y: int) -> str:
    return base64.b64encode(y.to_bytes(32, "little")).decode()


def trust(*, least: int = 1) -> Trust:
    sites = {name: SigningKey.create().public for name in ("site-a", "site-b")}
    return Trust.of({"consortium": SigningKey.create().public}, sites, least_sites=least)


def test_a_trust_file_reads_back_as_it_was() -> None:
    made = trust()
    assert Trust.parse(made.canonical) == made


def test_a_key_is_kept_for_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    key = SigningKey.create()
    key.write(tmp_path / "key.pem")
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert SigningKey.read(tmp_path / "key.pem").key_id == key.key_id
    with pytest.raises(FileExistsError):
        SigningKey.create().write(tmp_path / "key.pem")


def test_a_key_does_not_show_itself() -> None:
    key = SigningKey.create()
    assert repr(key) == str(key) == f"SigningKey({key.key_id[:12]}…)"


def test_only_ed25519_keys_are_read(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(ValueError, match="another kind than Ed25519"):
        SigningKey.read(tmp_path / "key.pem")


def test_the_refused_points_are_exactly_those_of_small_order() -> None:
    def doubled(x: int, y: int) -> tuple[int, int]:
        product = D * x * x * y * y % P
        return 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P

    found = set()
    for y in SMALL_ORDER:
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        if x * x % P != square:
            x = x * pow(2, (P - 1) // 4, P) % P
        assert x * x % P == square
        point = (x, y)
        for _ in range(3):
            point = doubled(*point)
        assert point == (0, 1)
        found |= {(x, y), (-x % P, y)}
    assert len(found) == 8


@pytest.mark.parametrize("y", [*SMALL_ORDER, *(y + 2**255 for y in SMALL_ORDER), P, P + 1, 2**255 - 1])
def test_weak_points_are_no_keys(y: int) -> None:
    with pytest.raises(ValueError, match="weak point"):
        TrustedKey(name="x", role="site", public_key=encoded(y))


@pytest.mark.parametrize("text", ["", "AAAA", "!", "é", encoded(9)[:-1], encoded(9) + "\n"])
def test_a_key_is_32_bytes_in_one_form_of_base64(text: str) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|base64|padding|ASCII|[Ii]ncorrect|Only"):
        TrustedKey(name="x", role="site", public_key=text)


def test_no_key_goes_by_the_id_of_another() -> None:
    made = trust()
    document = loads(made.canonical)
    assert isinstance(document, dict)
    first, second = list(document["keys"])[:2]
    document["keys"][first] = document["keys"][second]
    with pytest.raises(ValueError, match="is not the one its id"):
        Trust.parse(dumps(document))


@pytest.mark.parametrize("least", [-1, 3])
def test_a_threshold_stays_within_the_names_of_its_role(least: int) -> None:
    with pytest.raises(ValueError, match=r"threshold site=.* lies outside 0..2"):
        trust(least=least)


def test_two_keys_of_one_site_are_one_name() -> None:
    keys = [
        TrustedKey(name="site-a", role="site", public_key=base64.b64encode(SigningKey.create().public).decode())
        for _ in range(2)
    ]
    with pytest.raises(ValueError, match=r"threshold site=2 lies outside 0..1"):
        Trust(keys={k.key_id: k for k in keys}, thresholds={"site": 2})


def test_trust_in_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one signature"):
        Trust(keys={}, thresholds={})


def test_a_name_has_one_role() -> None:
    with pytest.raises(ValueError, match="two roles"):
        Trust.of({"x": SigningKey.create().public}, {"x": SigningKey.create().public}, least_sites=1)


def test_another_version_is_refused() -> None:
    document = loads(trust().canonical)
    assert isinstance(document, dict)
    with pytest.raises(ValueError, match="version=2"):
        Trust.parse(dumps({**document, "version": 2}))
