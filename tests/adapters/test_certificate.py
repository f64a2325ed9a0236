"""Both sides' TLS, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from proxy.adapters.authority import Authority
from proxy.adapters.certificate import client_context, server_context
from proxy.domain.errors import BadConfig


def own_certificate(data_dir: Path) -> tuple[Path, Path]:
    files = Authority(data_dir).server_certificate([])
    return files.certificate, files.private_key


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


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_devices_may_use_tls_1_2_and_nothing_older(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path)
    client = client_context(str(tmp_path / "ca.pem"))
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


def test_a_key_may_stand_in_the_certificate_s_file(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    server_context(both, None)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = own_certificate(tmp_path / "one")
    _, key = own_certificate(tmp_path / "two")
    with pytest.raises(BadConfig, match="not a certificate and its key"):
        server_context(certificate, key)


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path)
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
