"""Certificates and keys as files: written, read, and described to people."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12 as pkcs12_format
from cryptography.x509.oid import NameOID

from proxy.adapters.certificate_names import names_in
from proxy.domain.errors import BadConfig


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What people compare when they look at a certificate."""

    subject: str
    """RFC 4514 text; "" when it names nobody."""
    names: tuple[str, ...]
    """DNS names and IP addresses, in the certificate's order."""
    not_after: datetime
    fingerprint: str
    """See `fingerprint`."""


def fingerprint(certificate_pem_path: Path) -> str:
    """SHA-256 of the first certificate (DER), as browsers show it: AB:CD:…

    Raises:
        OSError: the file cannot be read.
        BadConfig: it holds no certificate.
    """
    return _colons(_first(certificate_pem_path))


def describe(path: Path) -> CertificateFacts:
    """The first certificate of a PEM file.

    Raises:
        OSError: the file cannot be read.
        BadConfig: it holds no certificate.
    """
    certificate = _first(path)
    try:
        names = tuple(str(name.value) for name in names_in(certificate))
    except ValueError as error:
        raise BadConfig([f"{path}: names that cannot be read: {error}"]) from None
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        names=names,
        not_after=certificate.not_valid_after_utc,
        fingerprint=_colons(certificate),
    )


def pkcs12(private_key: str, certificate: str, authority: str, password: str) -> bytes:
    """One file, under a password, that mail programs import (RFC 7292); the rest is PEM.

    Triple DES and SHA-1 are what every program reads: Windows before 10 and macOS before 15 know
    nothing newer here. What protects the key is the password, which has to be a random one.
    """
    key = serialization.load_pem_private_key(private_key.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of a device certificate")
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(50_000)
        .key_cert_algorithm(pkcs12_format.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - see above
        .build(password.encode())
    )
    (common_name,) = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ca = x509.load_pem_x509_certificate(authority.encode())
    name = str(common_name.value).encode()
    return pkcs12_format.serialize_key_and_certificates(name, key, leaf, [ca], encryption)


def _first(path: Path) -> x509.Certificate:
    pem = path.read_bytes()
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise BadConfig([f"{path}: not a certificate"]) from None


def _colons(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """None: there is none that we could have made."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: it needs a passphrase.
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write_durably(path: Path, content: bytes, *, mode: int) -> None:
    """Whole or not at all, also after a crash."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
