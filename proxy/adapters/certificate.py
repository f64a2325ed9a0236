"""Certificates: one of our own where none is given, and the TLS contexts of both sides."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.domain.errors import BadConfig

CERTIFICATE = "certificate.pem"
PRIVATE_KEY = "private_key.pem"

LIFETIME = timedelta(days=3650)
"""Devices pin a self-signed certificate by hand; a short life would only make them do it again."""

CLOCK_SKEW = timedelta(days=1)
"""A device whose clock is behind must not find the certificate not yet valid."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""


def ensure_certificate(data_dir: Path) -> tuple[Path, Path]:
    """The self-signed certificate in `data_dir` and its key, made at the first call.

    Raises:
        OSError: the directory cannot be written.
    """
    certificate, key = data_dir / CERTIFICATE, data_dir / PRIVATE_KEY
    if certificate.exists() and key.exists():
        return certificate, key
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The certificate comes last: whoever finds it finds the key that belongs to it.
    certificate.unlink(missing_ok=True)
    private_key = ec.generate_private_key(ec.SECP256R1())
    _write(
        key,
        private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        mode=0o600,
    )
    pem = _self_signed(private_key).public_bytes(serialization.Encoding.PEM)
    _write(certificate, pem, mode=0o644)
    return certificate, key


def server_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """How we show ourselves to devices; `key` None: it is in the certificate's file.

    Raises:
        BadConfig: the files cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    try:
        # Without a passphrase OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password="")
    except OSError as error:
        files = f"{cert} and {key}" if key else str(cert)
        raise BadConfig(
            [f"{files}: not a certificate and its key: {error.strerror or error}"]
        ) from None
    return context


def client_context(ca_file: str) -> ssl.SSLContext:
    """How we check an upstream: the system's trust roots and those of `ca_file` ("": none).

    Raises:
        OSError: `ca_file` cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pop3-sync-proxy")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_own_names()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _own_names() -> list[x509.GeneralName]:
    names = dict.fromkeys(("localhost", socket.gethostname(), socket.getfqdn()))
    # A host name that is not ASCII cannot stand in a certificate as it is.
    dns = [x509.DNSName(name) for name in names if name and name.isascii()]
    loopback = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    return [*dns, *loopback]


def _write(path: Path, content: bytes, *, mode: int) -> None:
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
