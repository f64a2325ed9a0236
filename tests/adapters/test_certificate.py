"""Our own certificate, and both sides' TLS, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.adapters import certificate as certificate_module
from proxy.adapters.certificate import client_context, ensure_certificate, server_context
from proxy.domain.errors import BadConfig


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """The TLS version that both agree on, with the server called `name`."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        assert await reader.readline() == b"+OK\r\n"
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
        await writer.wait_closed()
        return str(version)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
async def test_who_trusts_our_certificate_connects_to_the_local_names(
    tmp_path: Path, name: str
) -> None:
    certificate, key = ensure_certificate(tmp_path)
    client = client_context(str(certificate))
    # What Python 3.13 and careful programs ask of a certificate.
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert await handshake(server_context(certificate, key), client, name) == "TLSv1.3"


async def test_another_name_is_refused(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        await handshake(
            server_context(certificate, key), client_context(str(certificate)), "pop.example.com"
        )


async def test_who_trusts_the_system_s_roots_alone_refuses_our_certificate(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(
            server_context(*ensure_certificate(tmp_path)), client_context(""), "localhost"
        )


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_devices_may_use_tls_1_2_and_nothing_older(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path)
    client = client_context(str(certificate))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await handshake(server_context(certificate, key), client, "localhost") == "TLSv1.2"
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(server_context(certificate, key), client, "localhost")


def test_upstreams_must_speak_tls_1_2_and_show_their_name() -> None:
    context = client_context("")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_certificate_is_made_once(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    certificate, key = ensure_certificate(data_dir)
    before = certificate.read_bytes(), key.read_bytes()
    assert ensure_certificate(data_dir) == (certificate, key)
    assert (certificate.read_bytes(), key.read_bytes()) == before
    assert sorted(data_dir.iterdir()) == sorted([certificate, key])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_certificate_without_its_other_half_is_made_anew(tmp_path: Path, lost: int) -> None:
    files = ensure_certificate(tmp_path)
    files[lost].unlink()
    server_context(*ensure_certificate(tmp_path))


def test_a_crash_while_it_is_made_anew_leaves_no_pair_that_does_not_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object) -> x509.Certificate:
        raise KeyboardInterrupt

    ensure_certificate(tmp_path)[1].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(certificate_module, "_self_signed", crash)
        with pytest.raises(KeyboardInterrupt):
            ensure_certificate(tmp_path)
    server_context(*ensure_certificate(tmp_path))


def test_the_key_is_the_owner_s_alone(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path)
    assert key.stat().st_mode & 0o777 == 0o600
    assert certificate.stat().st_mode & 0o777 == 0o644


def test_the_certificate_lasts_ten_years_and_began_before_now(tmp_path: Path) -> None:
    made = x509.load_pem_x509_certificate(ensure_certificate(tmp_path)[0].read_bytes())
    lasts = made.not_valid_after_utc - made.not_valid_before_utc
    assert lasts == timedelta(days=3651)
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_key_may_stand_in_the_certificate_s_file(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    server_context(both, None)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = ensure_certificate(tmp_path / "one")
    _, key = ensure_certificate(tmp_path / "two")
    with pytest.raises(BadConfig, match="not a certificate and its key"):
        server_context(certificate, key)


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(BadConfig, match="not a certificate and its key"):
        server_context(certificate, key)


def test_a_trust_root_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(OSError, match=r"certificate|No such file"):
            client_context(str(tmp_path / name))
