"""What begins an HTTP request, and what does not."""

from __future__ import annotations

HTTP_LINES = [
    *(method + b" / HTTP/1.1" for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE")),
    *(method + b" / HTTP/1.1" for method in (b"OPTIONS", b"TRACE", b"PATCH", b"PROPFIND")),
    b"CONNECT example.org:443 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"GET /",
    b"get / http/1.0",
    b"POST http://127.0.0.1:1110/ HTTP/1.1 ",
]

HTTP_FIELDS = [b"Host: 127.0.0.1:1110", b"host:127.0.0.1", b"sec-ch-ua: x"]

NO_HTTP_LINES = [
    b"",
    b" ",
    b"GET",
    b"GET ",
    b"POSTS x",
    b"DELETED 1",
    b"XYZ",
    b"XYZ a:b",
    b":x",
    b"\xff",
]
