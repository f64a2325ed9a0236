"""What may be looked for at all, and what is proposed for the configuration file."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.interfaces.lookup import Srv
from proxy.services.discovery import Found, discover, lines_for


class Recorded:
    """Finds nothing, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def srv(self, name: str) -> list[Srv]:
        self.asked.append(name)
        return []

    async def mx(self, domain: str) -> list[str]:
        self.asked.append(domain)
        return []

    async def fetch(self, url: str) -> bytes | None:
        self.asked.append(url)
        return None


@pytest.mark.parametrize(
    "address",
    [
        *("", "me@", "me", "me@example", "me@-.example", "me@own..example", "me@127.0.0.1"),
        *(
            "me@own.example/x?y",
            "me@own.example:1",
            "me@own.example#",
            "me@[::1]",
            "me@x y.example",
        ),
        *("me@own.example\nupstream", "me\n@own.example", "me@" + "x" * 64 + ".example"),
    ],
)
async def test_nobody_is_asked_for_what_is_no_address(address: str) -> None:
    recorded = Recorded()
    result = await discover(address, recorded)
    assert recorded.asked == []
    assert "no e-mail address" in result.no_pop3


async def test_a_domain_in_another_script_is_asked_for_as_dns_has_it() -> None:
    recorded = Recorded()
    await discover("me@Bücher.example", recorded)
    assert recorded.asked[0] == "_pop3s._tcp.xn--bcher-kva.example"
    assert recorded.asked[-1] == "xn--bcher-kva.example"


def test_every_account_of_a_domain_has_a_password_of_its_own() -> None:
    found = Found("here", "pop.own.example", 995, "implicit", "me")
    files = {
        account["password_file"]
        for address in ("me@own.example", "you@own.example", "../me@own.example")
        for account in tomllib.loads("\n".join(lines_for(found, address)))["account"]
    }
    assert len(files) == 3
    assert all(file.removeprefix("secrets/").strip(".").count("/") == 0 for file in files)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_the_lines_are_toml_whatever_a_login_name_has_in_it(username: str) -> None:
    found = Found("here", "pop.own.example", 995, "implicit", username)
    (account,) = tomllib.loads("\n".join(lines_for(found, "me@own.example")))["account"]
    assert account.get("username", "me@own.example") == username
