"""Certificates of a federation: an authority of its own, and the certificate of its coordinator (RFC 5280).

A hospital trusts the authority's certificate, which it gets out of band; the authority's key signs the coordinator's
certificate and nothing else, and never leaves the coordinator. Who has an authority already gives its files instead.
"""

import contextlib
import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS, SERVER_DAYS = 3650, 398


def authority(name: str) -> tuple[bytes, bytes]:
    """Return key and certificate, in PEM, of a new authority that may sign end certificates only."""
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Pericard federation {name}")])
    built = (
        _built(issuer, issuer, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    return _pem(key), built.public_bytes(serialization.Encoding.PEM)


def server(authority_key: bytes, authority_certificate: bytes, addresses: Sequence[str]) -> tuple[bytes, bytes]:
    """Return key and certificate, in PEM, of a server that sites reach under `addresses` (names or IP addresses).

    Raises:
        ValueError: if there is no address.
    """
    if not addresses:
        raise ValueError("addresses is empty: a certificate must name what sites dial")
    signer = serialization.load_pem_private_key(authority_key, password=None)
    issuer = x509.load_pem_x509_certificate(authority_certificate)
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, addresses[0][:64])])
    built = (
        _built(name, issuer.subject, key.public_key(), SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName([_address(a) for a in dict.fromkeys(addresses)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issued_by(issuer), critical=False)  # strict clients refuse a certificate without it
        .sign(signer, hashes.SHA384())  # type: ignore[arg-type]
    )
    return _pem(key), built.public_bytes(serialization.Encoding.PEM)


def check(authority: Path, certificate: Path, key: Path, host: str) -> None:
    """Greet `host` in memory as a hospital will, with files of an authority that was there before.

    Raises:
        ValueError: if a file is not what it must be, the key is another, or `host` is not named by the certificate.
    """
    try:
        site, coordinator = ssl.create_default_context(cafile=authority), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    except ssl.SSLError as error:
        raise ValueError(f"{authority} holds no certificate in PEM") from error
    try:
        coordinator.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ValueError(f"{certificate} and {key} are no certificate and its key, in PEM and not encrypted") from error
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = site.wrap_bio(down, up, server_hostname=host.strip("[]"))
    answering = coordinator.wrap_bio(up, down, server_side=True)
    try:
        for _ in range(4):  # a greeting takes two turns
            for side in (asking, answering):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason
        raise ValueError(
            f"a site that trusts {authority} and dials {host} would refuse {certificate}: {why}"
        ) from error


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _built(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of hospitals differ
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, crl_sign=crl_sign,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _address(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
