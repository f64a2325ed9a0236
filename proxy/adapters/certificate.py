"""The TLS contexts of both sides."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.domain.errors import BadConfig
from proxy.interfaces.world import DeviceProtocol

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """How we show ourselves to devices."""

    ssl: Mapping[DeviceProtocol, ssl.SSLContext]
    """For each of the protocols, which it selects by ALPN where that is offered."""
    end_point: bytes
    """The channel binding tls-server-end-point of our certificate (RFC 5929 §4.1)."""


def device_context(cert: Path, key: Path | None, client_ca: Path | None = None) -> DeviceContext:
    """`key` None: it is in the certificate's file. With `client_ca` devices are asked for a
    certificate that this authority has signed; they may do without.

    Raises:
        BadConfig: the files cannot be read, or do not belong together.
    """
    contexts = {speaks: server_context(cert, key) for speaks in get_args(DeviceProtocol)}
    try:
        for speaks, context in contexts.items():
            context.set_alpn_protocols([speaks])
            if client_ca is not None:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_OPTIONAL
        leaf = x509.load_pem_x509_certificate(cert.read_bytes()).public_bytes(Encoding.DER)
    except (OSError, ValueError) as error:
        raise BadConfig([f"{cert} or {client_ca}: not a certificate: {error}"]) from None
    return DeviceContext(contexts, end_point(leaf))


def end_point(der: bytes) -> bytes:
    """The channel binding tls-server-end-point of a certificate (RFC 5929 §4.1)."""
    certificate = x509.load_der_x509_certificate(der)
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.digest_size <= 20:
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)


def server_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """A context with this certificate; `key` None: it is in the certificate's file.

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


def upstream_context(ca_file: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """`client_context`, kept until one of the files changes: reading the system's roots takes some
    20 ms, too long for every connection. `certificate` is what we show ("": nothing); with `key` ""
    its key is in the same file.

    Raises:
        OSError: a file cannot be read, or does not hold what it should.
    """
    files = (ca_file, certificate, key)
    changed_at = tuple(os.stat(file).st_mtime_ns if file else 0 for file in files)
    return _kept_context(*files, changed_at)


@lru_cache(maxsize=16)
def _kept_context(
    ca_file: str, certificate: str, key: str, changed_at: tuple[int, ...]
) -> ssl.SSLContext:
    context = client_context(ca_file)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context
