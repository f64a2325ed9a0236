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
    rb"|[^ ]+ .*HTTP/[0-9.]+ *$",
    re.I | re.S,
)
_FIELD = re.compile(rb"[A-Z][A-Z0-9-]*:", re.I)


def is_http(line: bytes, *, fields: bool) -> bool:
    """Whether a line that is no known command belongs to an HTTP request.

    `fields`: a header field counts, too, as what follows a request line too long to be read.
    """
    return _HTTP.match(line) is not None or (fields and _FIELD.match(line) is not None)
