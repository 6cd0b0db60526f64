"""Who may ask: on this machine every program, but no web page of another name; from elsewhere whoever has the token."""

import hashlib
import hmac
import ipaddress
import re
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Optional

from prunekit_runtime.errors import ServeUsageError
from prunekit_runtime.jsonfile import read_bounded
from prunekit_runtime.serving.messages import RefusedError, Request

VARIABLE = "PRUNEKIT_TOKEN"
_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
_MAX_FILE_BYTES = 4096
_PORT = re.compile(r":\d{1,5}$")


class Access:
    """Checks requests against a token, or where there is none against the names of this machine."""

    def __init__(self, token: Optional[str]) -> None:
        self._digest = None if token is None else _digest(token)

    def check(self, request: Request) -> None:
        """Refuse a request that has no right to an answer.

        Raises:
            RefusedError: the token is missing or wrong, or the request was made for another machine's name.
        """
        if self._digest is None:
            self.check_name(request)
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Digests are of one length, so the time of the comparison says nothing of the token.
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), self._digest):
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "The token is missing or wrong. Send it as the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    def check_name(self, request: Request) -> None:
        """Refuse what a browser sends for a web page whose name was made to lead here (DNS rebinding).

        Raises:
            RefusedError: there is no token, and the name is not this machine's own.
        """
        host = _PORT.sub("", request.headers.get("host", "localhost")).strip("[]")
        if self._digest is None and not is_loopback(host):
            raise RefusedError(HTTPStatus.FORBIDDEN, "Without a token, only requests for localhost are answered.")


def is_loopback(host: str) -> bool:
    """Tell whether an address or a name is that of the machine itself, reached from nowhere else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(32)


def read_token(path: Path) -> str:
    """Read a token from a file of one line.

    Raises:
        ServeUsageError: there is none that can be used.
    """
    try:
        text = read_bounded(path, _MAX_FILE_BYTES).decode("ascii").strip()
    except ValueError:
        raise ServeUsageError(f"{path} holds no token. Write one line of 16 to 512 letters and numbers.") from None
    return checked_token(text, str(path))


def checked_token(text: str, where: str) -> str:
    """Return a token that is long enough.

    Raises:
        ServeUsageError: it is not.
    """
    if not _TOKEN.fullmatch(text):
        raise ServeUsageError(
            f"The token of {where} cannot be used. Give 16 to 512 letters and numbers without spaces, or let one be "
            "made: --token auto"
        )
    return text


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("latin-1", "replace")).digest()
