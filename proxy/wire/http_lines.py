"""Lines of HTTP, which a browser sends that was led to a port of ours.

A page of anybody's can have a browser post a form to any port of any machine that it reaches, on
its own network, say. What stands in the form would be taken for commands, once the lines of the
request before it have been refused.
"""

from __future__ import annotations

import re

_HTTP = re.compile(
    # Methods of RFC 9110 §9 and RFC 5789, and how HTTP/2 begins (RFC 9113 §3.4).
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) ."
    # Any other method.
    rb"|[^ ]+ .*HTTP/[0-9.]+ *$"
    # A header field: what follows a request line that was too long to be looked at.
    rb"|[A-Z][A-Z0-9-]*:",
    re.I | re.S,
)


def is_http(line: bytes) -> bool:
    """Whether a line that is no known command belongs to an HTTP request."""
    return _HTTP.match(line) is not None
