"""Certificates of a federation: an authority of its own, and the certificate of its coordinator (RFC 5280).

A hospital trusts the authority's certificate, which it gets out of band; the authority's key signs the coordinator's
certificate and nothing else, and never leaves the coordinator. Who has an authority already gives its files instead.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

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
        .sign(signer, hashes.SHA384())  # type: ignore[arg-type]
    )
    return _pem(key), built.public_bytes(serialization.Encoding.PEM)


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
