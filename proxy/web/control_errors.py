"""Errors on their way from a running proxy to its operator: kind, text and fields, nothing lost."""

from __future__ import annotations

from typing import Any

from proxy.domain import errors
from proxy.domain.errors import ProxyError


def written(error: ProxyError) -> dict[str, Any]:
    """As JSON holds it."""
    return {"error": type(error).__name__, "text": str(error), "fields": vars(error)}


def read(line: dict[str, Any]) -> ProxyError:
    """What was written; an error of a kind that is not known here keeps its text."""
    kind = getattr(errors, line["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, ProxyError)):
        return ProxyError(line["text"])
    # Not by calling it: what it is made from is not what it holds.
    error = kind.__new__(kind, line["text"])
    vars(error).update(line.get("fields", {}))
    return error
