"""What a small file can make a device allocate: refused before it is allocated."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.errors import MAX_MESSAGE, ContractError, GoldenError, MeasureError, RunnerError
from prunekit_runtime.jsonfile import MAX_DEPTH, parse_json, read_bounded
from prunekit_runtime.measuring import golden as golden_module
from prunekit_runtime.measuring.bench import BenchConfig, bench, make_golden
from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.measuring.latency import measure
from prunekit_runtime.preprocessing import MAX_PIXELS, Preprocessing, read_contract
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.text import printable, printable_name


@pytest.mark.parametrize(
    ("height", "width", "pad"), [(16384, 16384, 1), (8192, 8193, 1), (32, 32, 16384), (0, 0, 16384)]
)
def test_a_contract_cannot_ask_for_gigabytes(tmp_path: Path, height: int, width: int, pad: int) -> None:
    values = Preprocessing(height=8, width=8).to_json() | {"height": height, "width": width, "pad_multiple": pad}
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ContractError, match=str(MAX_PIXELS)):
        read_contract(path).prepare(np.zeros((8, 8, 3), np.uint8))


def test_an_image_beyond_the_bound_is_not_prepared_and_no_label_restored() -> None:
    contract = Preprocessing(height=8, width=8)
    wide = np.broadcast_to(np.zeros(3, np.uint8), (8193, 8192, 3))  # takes 3 bytes
    with pytest.raises(ContractError, match="cannot be prepared"):
        contract.prepare(wide)
    for size in ((10**6, 10**6), (0, 8), (-1, -8)):
        with pytest.raises(ContractError, match="cannot be prepared"):
            contract.restore_labels(np.zeros((1, 2, 8, 8), np.float32), *size)


def test_declared_shapes_of_a_model_are_bounded(write_onnx) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(RunnerError, match="GiB"):
        OrtRunner(write_onnx(height=100_000, width=100_000))
    path = write_onnx()
    for size in ({"batch": 10**9, "height": 8, "width": 8}, {"height": 10**6, "width": 10**6}):
        with pytest.raises(RunnerError, match="GiB"):
            bench(BenchConfig(path, **size))
    with pytest.raises(RunnerError, match="cannot be"):
        make_golden(path, Preprocessing(height=8, width=8), height=10**6, width=10**6)
    with pytest.raises(RunnerError, match="threads"):
        OrtRunner(path, threads=10**9)
    with pytest.raises(MeasureError, match="at most"):
        measure(lambda: None, batch=1, runs=10**12)


def _packed(method: int, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name in ("images.npy", "logits.npy"):
            archive.writestr(name, content)
    return stream.getvalue()


def test_golden_files_that_grow_when_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "golden.npz"
    bomb = _packed(zipfile.ZIP_DEFLATED, bytes(1 << 22))
    monkeypatch.setattr(golden_module, "MAX_GOLDEN_BYTES", 1 << 22)
    path.write_bytes(bomb)
    with pytest.raises(GoldenError, match="unpacks to"):
        GoldenCheck.load(path)
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        path.write_bytes(_packed(method, b"x"))
        with pytest.raises(GoldenError, match="packed in a way"):
            GoldenCheck.load(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(GoldenError, match="larger"):
        GoldenCheck.load(path)
    broken = bytearray(_packed(zipfile.ZIP_DEFLATED, bytes(1000)))
    broken[45] ^= 0xFF  # inside the packed data, which zlib then refuses
    path.write_bytes(broken)
    with pytest.raises(GoldenError, match="damaged"):
        GoldenCheck.load(path)


def test_a_golden_file_is_not_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ones = np.ones((1, 3, 4, 4), np.float32)
    (tmp_path / "precious").write_text("kept")
    monkeypatch.setattr("os.getpid", lambda: 7)
    (tmp_path / ".golden.npz.7").symlink_to("precious")
    GoldenCheck(images=ones, logits=ones).save(tmp_path / "golden.npz")
    assert GoldenCheck.load(tmp_path / "golden.npz").images.shape == (1, 3, 4, 4)
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "[Infinity]", "1e999", "-" + "9" * 19, "9" * 5000, "[" * 100_000, '{"a":' * 100_000,
        "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "", "{", "\ud800", b"\xff", "1 2", '"\n"',
    ],
)  # fmt: skip
def test_json_out_of_bounds_is_a_reason(text) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  any reason
        parse_json(text)
    assert len(str(caught.value)) < 200


def test_json_within_bounds_is_what_the_standard_library_reads() -> None:
    deep = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)
    for text in (deep, '{"a": [1, -2.5e-3, true, null, "\\ud83d\\ude00", 999999999999999999]}', "0.1", "-0"):
        assert parse_json(text) == json.loads(text) == parse_json(text.encode())


def test_only_files_are_read(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match="no file"):
            read_bounded(path, 10)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "none", 10)
    (tmp_path / "eleven").write_bytes(bytes(11))
    with pytest.raises(ValueError, match="at most 10"):
        read_bounded(tmp_path / "eleven", 10)
    assert read_bounded(tmp_path / "eleven", 11) == bytes(11)


def test_the_device_says_one_sentence_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], write_onnx) -> None:
    evil = tmp_path / "\x1b[2J.onnx"
    assert main(["bench", str(evil)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error
    contract = tmp_path / "preprocessing.json"
    contract.write_text(json.dumps(Preprocessing(height=8, width=8).to_json()))
    where = tmp_path / "missing" / "golden.npz"
    assert main(["golden", str(write_onnx()), "--contract", str(contract), "--out", str(where)]) == 2
    assert capsys.readouterr().err == f"{where}: No such file or directory. Check the path.\n"


def test_a_message_is_never_long_and_keeps_its_beginning_and_its_end() -> None:
    name = "a" * 10**7
    text = str(RunnerError(f"Model {name} is no model. Name another."))
    assert len(text) == MAX_MESSAGE
    assert text.startswith("Model aaa")
    assert text.endswith("aaa is no model. Name another.")
    assert str(RunnerError("short")) == "short"


def test_printable_text_stays() -> None:
    assert printable("Straße\n道路\t") == "Straße\n道路\t"
    assert printable_name("a\tb\n\x7f\u202e\udc80\ud83d") == r"a\x09b\x0a\x7f\u202e\x80\ud83d"
