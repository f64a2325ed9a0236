"""Finding the POP3 server of an address, with a real DNS server and a real web server."""

from __future__ import annotations

import asyncio
import ssl
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import dns.asyncresolver
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.adapters.lookup import NetLookup
from proxy.services.discovery import Discovery, discover, lines_for
from tests.certificates import make_certificates
from tests.e2e.dovecot import free_ports
from tests.needs import need

RECORDS = (
    "--srv-host=_pop3s._tcp.own.example,pop.own.example,995,0,1",
    "--srv-host=_pop3._tcp.old.example,mail.elsewhere.example,110,0,1",
    "--srv-host=_pop3s._tcp.two.example,worse.two.example,995,20,1",
    "--srv-host=_pop3s._tcp.two.example,better.two.example,1995,10,1",
    "--srv-host=_pop3s._tcp.never.example",
    "--srv-host=_pop3s._tcp.google.example,pop.gmail.com,995,0,1",
    "--mx-host=hosted.example,aspmx.l.google.com,1",
    "--mx-host=tenant.example,tenant-example.mail.protection.outlook.com,1",
    "--mx-host=dane.example,dane-example.o-v1.mx.microsoft,1",
    "--mx-host=apple.example,mx01.mail.icloud.com,10",
    "--mx-host=small.example,mx1.mail.big.example,1",
)

FILE = """<?xml version="1.0"?>
<clientConfig version="1.1"><emailProvider id="x"><domain>x</domain>
<incomingServer type="imap"><hostname>imap.x.example</hostname><port>993</port>
<socketType>SSL</socketType><username>%EMAILADDRESS%</username></incomingServer>
<incomingServer type="pop3"><hostname>{host}</hostname><port>995</port>
<socketType>SSL</socketType><username>%EMAILLOCALPART%</username>
<authentication>password-cleartext</authentication></incomingServer>
</emailProvider></clientConfig>"""


class Everywhere(AbstractResolver):
    """Every host is this machine's one web server."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(self, host: str, port: int = 0, family: object = 0) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=self._port, family=2, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


@dataclass
class Net:
    lookup: NetLookup
    pages: dict[str, str | bytes]
    """Host and path → document."""


@asynccontextmanager
async def dns_server(port: int) -> AsyncIterator[None]:
    command = [need("dnsmasq"), "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"]
    listening = [f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root"]
    process = await asyncio.create_subprocess_exec(
        *command, *listening, *RECORDS, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b"started" not in (line := await process.stderr.readline()):
                assert line, "dnsmasq ended"
        yield
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    dns_port, web_port = free_ports(2)
    pages: dict[str, str | bytes] = {}

    async def serve(request: web.Request) -> web.Response:
        page = pages.get(f"{request.host}{request.path}")
        if page is None:
            return web.Response(status=404)
        return web.Response(body=page.encode() if isinstance(page, str) else page)

    certificates = make_certificates(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.certificate, certificates.private_key)
    trust = ssl.create_default_context(cafile=str(certificates.ca_file))
    # One certificate stands for every host; that names are checked is TLS's own business.
    trust.check_hostname = False
    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", web_port, ssl_context=server).start()
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], dns_port
    connector = aiohttp.TCPConnector(resolver=Everywhere(web_port))
    async with dns_server(dns_port):
        yield Net(NetLookup(resolver, trust, connector), pages)
    await connector.close()
    await runner.cleanup()


def assert_lines(result: Discovery) -> None:
    """What is proposed is TOML with one account of that name."""
    assert result.found is not None
    document = tomllib.loads("\n".join(lines_for(result.found, result.address)))
    assert document["account"][0]["name"] == result.address


async def test_a_known_provider_needs_no_network(net: Net) -> None:
    result = await discover("me@web.de", net.lookup)
    assert result.found is not None
    assert (result.found.host, result.found.username) == ("pop3.web.de", "me")
    assert result.tried == ["known providers"]
    assert_lines(result)


async def test_a_provider_without_pop3_is_said(net: Net) -> None:
    result = await discover("me@iCloud.com", net.lookup)
    assert result.found is None
    assert "IMAP alone" in result.no_pop3


@pytest.mark.parametrize(
    ("domain", "host", "port", "tls"),
    [
        ("own.example", "pop.own.example", 995, "implicit"),
        ("old.example", "mail.elsewhere.example", 110, "starttls"),
        ("two.example", "better.two.example", 1995, "implicit"),
    ],
)
async def test_srv_records_name_the_server(
    net: Net, domain: str, host: str, port: int, tls: str
) -> None:
    """RFC 6186."""
    result = await discover(f"me@{domain}", net.lookup)
    assert result.found is not None
    assert (result.found.host, result.found.port, result.found.tls) == (host, port, tls)
    assert_lines(result)
    warned = any("forged" in hint for hint in result.found.hints)
    assert warned is (domain == "old.example")


async def test_a_service_that_is_not_offered_is_looked_for_elsewhere(net: Net) -> None:
    """RFC 6186 §3.4: a target of one dot."""
    net.pages["autoconfig.never.example/mail/config-v1.1.xml"] = FILE.format(host="pop.x.example")
    result = await discover("me@never.example", net.lookup)
    assert result.found is not None
    assert result.found.host == "pop.x.example"


@pytest.mark.parametrize(
    "page",
    [
        "autoconfig.some.example/mail/config-v1.1.xml",
        "some.example/.well-known/autoconfig/mail/config-v1.1.xml",
        "autoconfig.thunderbird.net/v1.1/some.example",
    ],
)
async def test_autoconfiguration_names_the_server(net: Net, page: str) -> None:
    net.pages[page] = FILE.format(host="pop.%EMAILDOMAIN%")
    result = await discover("me@some.example", net.lookup)
    assert result.found is not None
    assert (result.found.host, result.found.username) == ("pop.some.example", "me")
    assert_lines(result)


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("hosted.example", "gmail"),
        ("tenant.example", "microsoft365"),
        ("dane.example", "microsoft365"),
    ],
)
async def test_a_domain_of_one_s_own_is_known_by_who_receives_its_mail(
    net: Net, domain: str, name: str
) -> None:
    result = await discover(f"me@{domain}", net.lookup)
    assert result.found is not None
    assert result.found.provider is not None
    assert result.found.provider.name == name
    assert result.found.username == f"me@{domain}"
    assert_lines(result)


async def test_a_known_provider_s_server_is_known_wherever_it_was_found(net: Net) -> None:
    page = FILE.format(host="outlook.office365.com").replace("LOCALPART", "ADDRESS")
    net.pages["autoconfig.some.example/mail/config-v1.1.xml"] = page
    for domain, name in (("google.example", "gmail"), ("some.example", "microsoft365")):
        result = await discover(f"me@{domain}", net.lookup)
        assert result.found is not None
        lines = "\n".join(lines_for(result.found, result.address))
        assert f'provider = "{name}", oauth_client_id' in lines
        assert_lines(result)


async def test_a_domain_of_one_s_own_may_be_with_a_provider_without_pop3(net: Net) -> None:
    result = await discover("me@apple.example", net.lookup)
    assert result.found is None
    assert "iCloud" in result.no_pop3


async def test_who_receives_the_mail_may_stand_in_thunderbird_s_directory(net: Net) -> None:
    net.pages["autoconfig.thunderbird.net/v1.1/big.example"] = FILE.format(host="pop.big.example")
    result = await discover("me@small.example", net.lookup)
    assert result.found is not None
    assert result.found.host == "pop.big.example"


@pytest.mark.parametrize("page", [b"", b"<html>", b"\xff" * 100, b"x" * 1_000_000])
async def test_what_is_found_nowhere_is_told_with_every_place_tried(net: Net, page: bytes) -> None:
    net.pages["autoconfig.nothing.example/mail/config-v1.1.xml"] = page
    result = await discover("me@nothing.example", net.lookup)
    assert result.found is None
    assert len(result.tried) == 7


async def test_a_web_server_nobody_vouches_for_is_not_believed(net: Net) -> None:
    net.pages["autoconfig.some.example/mail/config-v1.1.xml"] = FILE.format(host="pop.evil.example")
    distrustful = NetLookup(
        net.lookup._resolver, ssl.create_default_context(), net.lookup._connector
    )
    assert (await discover("me@some.example", distrustful)).found is None


@pytest.mark.parametrize("name", ["me+tag", "me&x=1", "me#x", "a b", "mé"])
async def test_an_address_is_asked_for_as_it_is(net: Net, name: str) -> None:
    asked = []

    class Watched(NetLookup):
        async def fetch(self, url: str) -> bytes | None:
            asked.append(parse_qs(urlsplit(url).query).get("emailaddress"))
            return await super().fetch(url)

    watched = Watched(net.lookup._resolver, net.lookup._context, net.lookup._connector)
    net.pages["autoconfig.some.example/mail/config-v1.1.xml"] = FILE.format(host="pop.x.example")
    result = await discover(f"{name}@some.example", watched)
    assert asked == [[f"{name}@some.example"]]
    assert result.found is not None
    assert result.found.username == name
    assert_lines(result)


async def test_a_server_that_takes_tokens_alone_gets_no_password(net: Net) -> None:
    page = FILE.format(host="pop.x.example").replace("password-cleartext", "OAuth2")
    net.pages["autoconfig.some.example/mail/config-v1.1.xml"] = page
    result = await discover("me@some.example", net.lookup)
    assert result.found is not None
    lines = "\n".join(lines_for(result.found, result.address))
    assert "oauth_client_id" in lines
    assert "password" not in lines
    assert_lines(result)
