"""One picture's file in, its labels as an answer out: threads decode and encode, one thread runs the model.

H, W the picture's size.
"""

import asyncio
import base64
import dataclasses
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

from prunekit_runtime.classes import Classes
from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.pictures.bounds import TooManyPixelsError
from prunekit_runtime.pictures.reading import decode_picture, kind_of
from prunekit_runtime.predicting.drawing import KINDS, Style, encode
from prunekit_runtime.predicting.job import PixelCounts, pixels_of
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.serving.messages import Answer, RefusedError
from prunekit_runtime.streaming import Model, check_labels
from prunekit_runtime.text import printable

TYPES = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/x-portable-pixmap": "netpbm",
    "image/x-portable-graymap": "netpbm",
    "image/x-portable-anymap": "netpbm",
}
FORMATS = (*KINDS, "json")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class _Prepared:
    picture_HW3: ByteArray
    inputs: Any


class Labelling:
    """A model behind a queue.

    Args:
        model: used by one thread at a time.
        classes: of the labels.
        max_pixels: of a picture.
        threads: that decode and encode.
    """

    def __init__(self, model: Model, classes: Classes, max_pixels: int, threads: int) -> None:
        self._model, self._classes, self._max_pixels = model, classes, max_pixels
        self._style = Style(classes.palette)
        self._beside = ThreadPoolExecutor(threads, "picture")
        self._network = ThreadPoolExecutor(1, "network")

    def close(self) -> None:
        """Begin nothing more, and wait for what the threads are at."""
        self._beside.shutdown(wait=True, cancel_futures=True)
        self._network.shutdown(wait=True, cancel_futures=True)

    async def answer(self, content: bytes, content_type: str, wanted: str) -> Answer:
        """Label a picture.

        Args:
            content: its file.
            content_type: what the client says it is.
            wanted: one of `FORMATS`.

        Raises:
            RefusedError: it is no such picture, is too large, or the model does not take it.
        """
        began_s = time.monotonic()
        prepared = await self._in(self._beside, lambda: self._prepared(content, content_type))
        outputs = await self._in(self._network, lambda: _guarded(lambda: self._model.compute(prepared.inputs)))
        finish = lambda: _guarded(lambda: self._finished(prepared.picture_HW3, outputs, wanted, began_s))  # noqa: E731
        return await self._in(self._beside, finish)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _prepared(self, content: bytes, content_type: str) -> _Prepared:
        if kind_of(content) != TYPES[content_type]:
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The file is no {content_type}.")
        try:
            picture_HW3 = decode_picture(content, self._max_pixels)
            return _Prepared(picture_HW3, self._model.prepare(picture_HW3))
        except TooManyPixelsError as error:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The picture {error}") from None
        except ValueError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"The picture {error}") from None
        except PrunekitError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None

    def _finished(self, picture_HW3: ByteArray, outputs: Any, wanted: str, began_s: float) -> Answer:
        height, width = picture_HW3.shape[:2]
        labels_HW = self._model.labels(outputs, height, width)
        pixels = pixels_of(labels_HW)
        check_labels(self._model.name, pixels, len(self._classes))
        content = encode("mask" if wanted == "json" else wanted, picture_HW3, labels_HW, self._style)
        if wanted != "json":
            return Answer(HTTPStatus.OK, content, "image/png")
        return Answer.of_json(
            {
                "height": height,
                "width": width,
                "classes": self._counted(pixels),
                "mask": base64.b64encode(content).decode("ascii"),
                "seconds": time.monotonic() - began_s,
            }
        )

    def _counted(self, pixels: PixelCounts) -> list[dict[str, Any]]:
        names = self._classes.names
        return [{"class": place, "name": name, "pixels": int(pixels[place])} for place, name in enumerate(names)]


def _guarded(work: Callable[[], Result]) -> Result:
    """Do what fails by no fault of the client; the log says why, the client only that."""
    try:
        return work()
    except Exception as error:
        sentence = str(error) if isinstance(error, PrunekitError) else traceback.format_exc()
        sys.stderr.write(printable(f"A picture could not be labelled: {sentence}\n"))
        raise RefusedError(
            HTTPStatus.INTERNAL_SERVER_ERROR, "The model failed on this picture. The server's log says why."
        ) from None
