"""What a server takes from those who talk to it, and for how long it waits for them."""

import dataclasses
from typing import Final

RETRY_S: Final = 1  # what a client that is sent away is told to wait


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a server; whatever is above is refused before memory is taken for it."""

    body_bytes: int = 32 << 20
    """Of one picture's file."""
    held_bytes: int = 256 << 20
    """Of all pictures' files that are being received or wait."""
    pixels: int = 1 << 24
    """Of one picture."""
    head_bytes: int = 16 << 10
    """Of a request's first line and headers."""
    headers: int = 64
    connections: int = 64
    waiting: int = 64
    """Pictures that are being labelled or wait for it."""
    idle_s: float = 30.0
    """Until the next request of a connection begins."""
    head_s: float = 10.0
    """From a request's first byte to the end of its headers."""
    body_s: float = 30.0
    """For a picture's file to arrive."""
    answer_s: float = 60.0
    """For a picture to be labelled, the wait for others included."""
    send_s: float = 30.0
    """For a client to take the answer."""
    linger_s: float = 2.0
    """In which a client that was refused in the middle of its file can read why."""
    grace_s: float = 20.0
    """For what is being answered when the server is asked to end."""
