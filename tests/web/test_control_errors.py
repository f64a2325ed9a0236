"""Every error there is comes out of the control socket as it went in."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain import errors
from proxy.domain.errors import BadConfig, ProxyError
from proxy.web.control_errors import read, written

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ProxyError)
]


VALUES: dict[Any, st.SearchStrategy[Any]] = {
    # JSON has no infinity, and no wait is that long.
    float: st.floats(allow_nan=False, allow_infinity=False),
    float | None: st.none() | st.floats(allow_nan=False, allow_infinity=False),
}


def made(kind: type[ProxyError]) -> st.SearchStrategy[ProxyError]:
    """With any values of the types that it is made from."""
    if kind.__init__ is ProxyError.__init__:
        return st.builds(kind, st.text())
    hints = get_type_hints(kind.__init__)
    hints.pop("return")
    given = {name: VALUES.get(hint, st.from_type(hint)) for name, hint in hints.items()}
    return st.fixed_dictionaries(given).map(lambda values: kind(**values))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_kind_text_and_fields_are_the_same(kind: type[ProxyError], data: st.DataObject) -> None:
    error = data.draw(made(kind))
    found = read(json.loads(json.dumps(written(error))))
    assert type(found) is kind
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_problems_stay_lines() -> None:
    error = read(json.loads(json.dumps(written(BadConfig(["one", "two"])))))
    assert isinstance(error, BadConfig)
    assert error.problems == ["one", "two"]


@pytest.mark.parametrize("name", ["Unknown", "annotations", "__builtins__"])
def test_what_is_no_error_of_ours_keeps_its_text(name: str) -> None:
    error = read({"error": name, "text": "why", "fields": {}})
    assert type(error) is ProxyError
    assert str(error) == "why"
