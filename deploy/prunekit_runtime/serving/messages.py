"""Requests and answers of HTTP/1.1 (RFC 9112), read strictly: what can be understood in two ways is refused."""

import dataclasses
import email.utils
import json
import re
import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Optional

HEAD_END = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/(\d)\.(\d)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_LENGTH = re.compile(r"\d{1,15}")
_ONCE = frozenset(("authorization", "content-length", "content-type", "expect", "host", "transfer-encoding"))
_MAX_FIELDS = 8  # of a query


class RefusedError(Exception):
    """A request is answered with an error: a status, a sentence for whoever sent it, and headers."""

    def __init__(self, status: HTTPStatus, reason: str, headers: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})

    def answer(self) -> "Answer":
        """Return the answer that says so."""
        return Answer.of_json({"error": self.reason}, self.status, self.headers)


@dataclasses.dataclass(frozen=True)
class Request:
    """A request without its body."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By name in small letters."""
    version: tuple[int, int]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """What stands after the question mark, the last of each name.

        Raises:
            RefusedError: it has too many parts.
        """
        text = self.target.partition("?")[2]
        try:
            return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
        except ValueError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "The query has too many parts.") from None

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to send another request."""
        wishes = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        return "close" not in wishes if self.version >= (1, 1) else "keep-alive" in wishes

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client sends its body only when it is told to."""
        return self.version >= (1, 1) and self.headers.get("expect", "").lower() == "100-continue"

    def length(self) -> Optional[int]:
        """Return how many bytes the body has; None where that is not said.

        Raises:
            RefusedError: it is no number, or the body comes in chunks.
        """
        if "transfer-encoding" in self.headers:
            raise RefusedError(
                HTTPStatus.LENGTH_REQUIRED, "Bodies in chunks are not taken. Send the file whole, with Content-Length."
            )
        text = self.headers.get("content-length")
        if text is not None and not _LENGTH.fullmatch(text):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is no number.")
        return None if text is None else int(text)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a client is told."""

    status: HTTPStatus
    body: bytes
    content_type: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_json(
        cls, values: Any, status: HTTPStatus = HTTPStatus.OK, headers: Optional[Mapping[str, str]] = None
    ) -> "Answer":
        """Return an answer in JSON."""
        return cls(status, (json.dumps(values) + "\n").encode(), "application/json", headers or {})

    def encoded(self, *, close: bool, with_body: bool = True) -> bytes:
        """Return the bytes to be sent."""
        fields = {
            "Date": email.utils.formatdate(usegmt=True),
            "Server": "prunekit",
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **({"Connection": "close"} if close else {}),
            **self.headers,
        }
        lines = (f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{name}: {fields[name]}" for name in fields))
        return "\r\n".join(lines).encode("latin-1") + HEAD_END + (self.body if with_body else b"")


def parse_head(head: bytes, max_headers: int) -> Request:
    """Read a request's first line and headers, without the empty line at the end.

    Raises:
        RefusedError: it is not understood, or could be understood in two ways.
    """
    first, *lines = head.split(b"\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The first line is no request of HTTP/1.1 for a path.")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 and 1.0 are spoken here.")
    if len(lines) > max_headers:
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"At most {max_headers} headers are read.")
    version = (1, int(minor))
    headers = _headers(lines)
    if version >= (1, 1) and "host" not in headers:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The header Host is missing.")
    return Request(method.decode(), target.decode(), headers, version)


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "A line of the headers is none.")
        name, value = (part.decode("latin-1") for part in match.groups())
        name = name.lower()
        if name in headers and name in _ONCE:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "A header that there is one of comes twice.")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "content-length" in headers and "transfer-encoding" in headers:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other.")
    return headers
