"""What is answered: the same masks as `run` and `predict`, by several clients at once."""

import base64
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.pictures.png_writer import encode_picture


@pytest.mark.parametrize("kind", ["mask", "overlay", "contour", "side-by-side"])
def test_an_answer_is_the_file_that_run_writes(
    client: Any, runnable: Path, picture: bytes, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "a.png").write_bytes(picture)
    options = ["--backend", "ort", "--model", "labels", "--as", kind, "--out", str(tmp_path / "out")]
    assert main(["run", str(tmp_path / "a.png"), "--bundle", str(runnable), *options]) == 0
    assert client.predict(picture, query=f"?format={kind}") == (200, (tmp_path / f"out/{kind}/a.png").read_bytes())


def test_the_mask_is_what_is_sent_unless_asked_otherwise(client: Any, picture: bytes) -> None:
    assert client.predict(picture) == client.predict(picture, query="?format=mask")


def test_json_holds_the_mask_and_the_pixels_of_each_class(client: Any, picture: bytes) -> None:
    _, mask = client.predict(picture)
    status, body = client.predict(picture, query="?format=json")
    told = json.loads(body)
    assert (status, told["height"], told["width"]) == (200, 9, 14)
    assert base64.b64decode(told["mask"]) == mask
    assert [each["name"] for each in told["classes"]] == ["road", "sky", "tree", "car"]
    assert sum(each["pixels"] for each in told["classes"]) == 9 * 14


def test_netpbm_and_jpeg_are_read_by_their_types(client: Any) -> None:
    grey = np.full((4, 6), 77, dtype=np.uint8)
    same_png = encode_picture(np.repeat(grey[..., None], 3, axis=2))
    expected = client.predict(same_png)
    assert client.predict(b"P5 6 4 255\n" + grey.tobytes(), "image/x-portable-graymap") == expected
    pillow = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    pillow.fromarray(grey).save(file, "JPEG", quality=100)
    assert client.predict(file.getvalue(), "image/jpeg; charset=x") == expected


def test_health_info_and_the_page(client: Any) -> None:
    assert client.ask("GET", "/health")[:2] == (200, b'{"status": "ok"}\n')
    assert json.loads(client.ask("GET", "/info")[1]) == {"model": "demo"}
    status, page, headers = client.ask("GET", "/")
    assert status == 200
    assert b"/predict?format=" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert client.ask("HEAD", "/health")[:2] == (200, b"")


def test_sixteen_clients_at_once_lose_nothing(client: Any) -> None:
    draw = np.random.default_rng(1)
    pictures = [encode_picture(draw.integers(0, 256, (5, 7 + number, 3), dtype=np.uint8)) for number in range(16)]
    expected = [client.predict(picture) for picture in pictures]
    answers: list[list[tuple[int, bytes]]] = [[] for _ in pictures]

    def ask(number: int) -> None:
        answers[number] = [client.predict(pictures[number]) for _ in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [[one] * 20 for one in expected]
    assert len(client.lines) == 16 * 21
