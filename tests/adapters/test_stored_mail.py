"""Reading the header of a stored message, for people."""

from __future__ import annotations

import hashlib
from email import policy
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters import stored_mail
from proxy.adapters.blobs import blob_path
from proxy.adapters.stored_mail import LONGEST_FIELD, StoredMail


def header_of(data_dir: Path, mail: bytes) -> dict[str, str]:
    digest = hashlib.sha256(mail).digest()
    path = blob_path(data_dir / "blobs", digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(mail)
    return StoredMail(data_dir).header(digest.hex())


def test_fields_are_decoded(tmp_path: Path) -> None:
    found = header_of(
        tmp_path,
        b"from: =?utf-8?q?J=C3=B6rg?= <j@x.org>\r\nSubject: a\r\n b\x07c\r\nSubject: second\r\n"
        b"Date: Tue, 03 Nov 2026 10:00:00 +0000\r\n\r\nMessage-ID: <body@x>\r\n",
    )
    assert found == {
        "From": "J\u00f6rg <j@x.org>",
        "Subject": "a b c",
        "Date": "Tue, 03 Nov 2026 10:00:00 +0000",
        "Message-ID": "",
    }


@pytest.mark.parametrize(
    "filling", [b"a ", b"a.", b"a@b,", b"=?utf-8?q?a?= ", b"\r\n a", b"(", b"<"]
)
@pytest.mark.parametrize("name", [b"From", b"Subject", b"Date", b"Message-ID"])
def test_the_standard_parser_is_given_no_more_than_it_can_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes, filling: bytes
) -> None:
    given: list[int] = []

    class Watched(policy.EmailPolicy):
        def header_fetch_parse(self, name: str, value: Any) -> Any:
            given.append(len(value))
            return super().header_fetch_parse(name, value)

    monkeypatch.setattr(stored_mail, "default", Watched())
    header_of(tmp_path, name + b": " + filling * (60_000 // len(filling)) + b"\r\n\r\n")
    assert max(given) == LONGEST_FIELD
