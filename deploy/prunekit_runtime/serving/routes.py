"""What is answered under which path."""

import dataclasses
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Optional, Protocol

from prunekit_runtime.near import did_you_mean
from prunekit_runtime.serving.access import Access
from prunekit_runtime.serving.labelling import FORMATS, TYPES
from prunekit_runtime.serving.limits import Limits
from prunekit_runtime.serving.messages import Answer, RefusedError, Request
from prunekit_runtime.serving.page import PAGE, PAGE_HEADERS

METHODS = {"/": "GET", "/health": "GET", "/info": "GET", "/predict": "POST"}


class Labels(Protocol):
    """What labels pictures: `labelling.Labelling` is one."""

    async def answer(self, content: bytes, content_type: str, wanted: str) -> Answer:
        """Label one picture."""
        ...

    def close(self) -> None:
        """Begin nothing more."""
        ...


@dataclasses.dataclass(frozen=True)
class Service:
    """All that is answered."""

    labels: Labels
    info: Mapping[str, Any]
    access: Access
    limits: Limits

    def wants_body(self, request: Request) -> Optional[int]:
        """Return how many bytes of a picture's file come after the headers; None for a request without one.

        Raises:
            RefusedError: the request is refused for what its headers say, before anything of its body is read.
        """
        method = METHODS.get(request.path)
        if method is None:
            near = did_you_mean(request.path, METHODS)
            raise RefusedError(HTTPStatus.NOT_FOUND, f"There are {', '.join(METHODS)} here.{near}")
        allowed = ("GET", "HEAD") if method == "GET" else (method,)
        if request.method not in allowed:
            raise RefusedError(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} takes {method}.", {"Allow": ", ".join(allowed)}
            )
        if request.path in ("/", "/health"):
            self.access.check_name(request)
        else:
            self.access.check(request)
        length = request.length()
        if method == "GET":
            if length:
                raise RefusedError(HTTPStatus.BAD_REQUEST, f"{request.path} takes no body.")
            return None
        return self._picture_bytes(request, length)

    def _picture_bytes(self, request: Request, length: Optional[int]) -> int:
        if length is None:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "The header Content-Length is missing.")
        if length > self.limits.body_bytes:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A picture's file has at most {self.limits.body_bytes} bytes."
            )
        if length == 0:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "The body is empty. Send a picture's file.")
        if _content_type(request) not in TYPES:
            raise RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"The header Content-Type says what the picture is: {', '.join(TYPES)}.",
                {"Accept": ", ".join(TYPES)},
            )
        _format(request)
        return length

    async def answer(self, request: Request, body: bytes) -> Answer:
        """Answer a request that `wants_body` let through.

        Raises:
            RefusedError: the picture cannot be labelled.
        """
        if request.path == "/predict":
            return await self.labels.answer(body, _content_type(request), _format(request))
        if request.path == "/info":
            return Answer.of_json(self.info)
        if request.path == "/health":
            return Answer.of_json({"status": "ok"})
        return Answer(HTTPStatus.OK, PAGE, "text/html; charset=utf-8", PAGE_HEADERS)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _format(request: Request) -> str:
    wanted = request.query.get("format", "mask")
    if wanted not in FORMATS:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"format is one of {', '.join(FORMATS)}.")
    return wanted
