from __future__ import annotations

import pytest

from proxy.domain.directory import DeclaredAccount, Directory
from proxy.domain.model import Credentials
from proxy.domain.policy import AccountPolicy

NAME = "Alice@Bücher.example"


@pytest.mark.parametrize("name", [NAME, NAME.upper(), f" {NAME}", "alice@xn--bcher-kva.example"])
def test_a_declared_account_is_the_same_by_every_spelling_in_every_question(name: str) -> None:
    account = DeclaredAccount(NAME, Credentials("upstream", b"secret"), AccountPolicy())
    directory = Directory([account], AccountPolicy(), pass_through=False)
    assert directory.declared(name) == account
    assert directory.password(name) == b"secret"
    assert directory.uses(name)
    assert directory.allows(name)
    assert directory.standing(name) == directory.standing(NAME)
    assert directory.standing(name) != directory.standing("bob@example.com")
