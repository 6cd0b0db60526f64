"""Models timed on a device: sent there over a connection that may be lost and is then opened again."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from prunekit_export.errors import ExportError
from prunekit_runtime.errors import MeasureError
from prunekit_runtime.measuring.latency import LatencyReport
from prunekit_runtime.text import printable, printable_name
from prunekit_runtime.timing.frames import Frame, read_frame, write_frame
from prunekit_runtime.timing.kernels import Effort, Kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MAX_TEXT = 200
RETRY_AFTER_S = (1.0, 2.0, 4.0, 8.0, 16.0)


class Connection(Protocol):
    """A running `time-layers` on a device."""

    requests: BinaryIO
    answers: BinaryIO

    def close(self) -> str:
        """End it; return what it printed as errors, its last lines."""
        ...


class DeviceStopwatch:
    """Times models on a device, one request after the other; a context manager that ends the connection.

    A connection that is lost is opened again, and the request at hand is repeated; what was answered before is kept.

    Args:
        connect: opens a connection.
        name: what messages call the device.
        retry_after_s: pauses before the connection is opened again.

    Raises:
        ExportError: the device does not answer, or its runtime cannot time models.
    """

    def __init__(
        self, connect: Callable[[], Connection], name: str, retry_after_s: Sequence[float] = RETRY_AFTER_S
    ) -> None:
        self._connect, self._name, self._pauses_s = connect, name, tuple(retry_after_s)
        self._connection: Connection | None = None
        told = self._described()
        self.runtime = printable_name(str(told.get("runtime")))[:_MAX_TEXT]
        device = told.get("device")
        self.device = cast("dict[str, Any]", device) if isinstance(device, dict) else {}

    def __enter__(self) -> DeviceStopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kernels(self, model: bytes, input_shape: tuple[int, ...], effort: Effort) -> list[Kernel]:
        """Return the kernels of a model with their times on the device.

        Raises:
            ExportError: the device cannot run it, or stays away.
        """
        header = {"do": "kernels", "input_shape": list(input_shape), **dataclasses.asdict(effort)}
        return [Kernel.from_json(row) for row in self._asked(header, model).get("kernels") or []]

    def whole(self, model: bytes, input_shape: tuple[int, ...]) -> LatencyReport:
        """Time a whole model on the device.

        Raises:
            ExportError: the device cannot run it, or stays away.
        """
        told = self._asked({"do": "whole", "input_shape": list(input_shape)}, model)
        return LatencyReport.from_json(told.get("report"))

    def close(self) -> None:
        """End the connection; closing twice is harmless."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _described(self) -> Mapping[str, Any]:
        """Return what the device tells of itself; what cannot be reached at the start is not tried again."""
        try:
            return self._answered(Frame({"do": "describe"}))
        except (OSError, MeasureError) as error:
            said = printable(self._ended() or str(error)).rstrip(".")
            raise ExportError(f"{self._name} cannot measure: {said}.") from error

    def _asked(self, header: Mapping[str, Any], payload: bytes) -> Mapping[str, Any]:
        """Return the answer to a request; where the connection is lost, open it again and ask once more."""
        for pause_s in (*self._pauses_s, None):
            try:
                return self._answered(Frame(header, payload))
            except (OSError, MeasureError) as error:
                said = self._ended()
                if pause_s is None:
                    raise ExportError(
                        f"{self._name} does not answer: {printable(said or str(error))} What was measured is kept: "
                        "run the same command again to go on."
                    ) from error
                time.sleep(pause_s)
        raise AssertionError("the last pause is none")

    def _answered(self, frame: Frame) -> Mapping[str, Any]:
        if self._connection is None:
            self._connection = self._connect()
        write_frame(self._connection.requests, frame)
        answer = read_frame(self._connection.answers)
        if answer is None:
            raise MeasureError("the connection ended.")
        if "error" in answer.header:
            raise ExportError(f"{self._name}: {printable(str(answer.header['error']))}")
        return answer.header

    def _ended(self) -> str:
        connection, self._connection = self._connection, None
        return connection.close() if connection is not None else ""
