"""The C++ contract code against the Python runtime: verdicts, inputs, labels, latencies and texts are the same."""

import dataclasses
import json
import math
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from prunekit_runtime.errors import PrunekitError
from prunekit_runtime.measuring.latency import summarise
from prunekit_runtime.preprocessing import Preprocessing, read_contract
from prunekit_runtime.rules import RULES
from prunekit_runtime.text import printable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # building takes as long as the machine has other work
]

Jobs = Callable[[Sequence[str]], list[dict[str, Any]]]
CONTRACT = Preprocessing(height=24, width=40, pad_multiple=16).to_json()
# What stands where something else should: of each JSON type, and numbers just inside and outside of the bounds.
ODD: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 1.0, 0.0, -0.0, 0.5, 1e-6, 9.9e-7, 1e6, 1000001, 16384, 16385, 1e300),
    *(-(10**17), "", "rgb", "bgr", "RGB", "bilinear", "NCHW", [], {}, [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, True]),
    *([0.5, 0.5, 0], ["1", 2, 3], [1e-6, 1, 1e6], [[]], {"a": 1}),
]


@pytest.fixture(scope="module")
def jobs(cpp_build: Path) -> Jobs:
    """Run jobs in one process; a crash of it, or a word of a sanitizer, fails."""
    tool = cpp_build / "contract_tool"

    def run(lines: Sequence[str]) -> list[dict[str, Any]]:
        done = subprocess.run([tool], input="\n".join(lines), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(lines)
        return answers

    return run


def python_contract(path: Path) -> dict[str, Any] | None:
    try:
        contract = read_contract(path)
    except PrunekitError:
        return None
    values = dataclasses.asdict(contract)
    kept = {name: values[name] for name in ("height", "width", "scale", "pad_multiple")}
    return {**kept, "mean": list(contract.mean), "std": list(contract.std), "bgr": contract.channel_order == "bgr"}


def same_verdicts(jobs: Jobs, paths: Sequence[Path]) -> tuple[int, int]:
    """Hold C++ to Python on each file; return how many were read and how many refused."""
    read = refused = 0
    for path, answer in zip(paths, jobs([f"contract {path}" for path in paths]), strict=True):
        expected = python_contract(path)
        assert answer.get("ok") == expected, (path.read_bytes(), answer)
        read, refused = read + (expected is not None), refused + (expected is None)
        assert expected is not None or len(answer["refused"]) < 1000
    return read, refused


def write_all(folder: Path, contents: Sequence[bytes]) -> list[Path]:
    paths = [folder / f"{number}.json" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def drawn_contract(draw: random.Random) -> Preprocessing:
    height, width = (draw.randint(1, 60), draw.randint(1, 60)) if draw.random() < 0.7 else (0, 0)

    def three(low: float, high: float) -> Any:
        return tuple(draw.choice([draw.uniform(low, high), draw.randint(1, 9)]) for _ in range(3))

    return Preprocessing(
        height=height,
        width=width,
        channel_order=draw.choice(["rgb", "bgr"]),
        scale=draw.choice([1 / 255, 1, 0.017, draw.uniform(1e-4, 2)]),
        mean=three(-1, 130),
        std=three(1e-3, 70),
        pad_multiple=draw.choice([1, 1, 2, 7, 16, 32]),
    )


def test_contracts_of_every_kind_get_the_same_verdict(jobs: Jobs, tmp_path: Path) -> None:
    draw = random.Random(0)
    values = [drawn_contract(draw).to_json() for _ in range(60)]
    for name in CONTRACT:
        values += [{**CONTRACT, name: odd} for odd in ODD]
        values.append({key: value for key, value in CONTRACT.items() if key != name})
    values += [{**CONTRACT, "more": 1}, {**CONTRACT, "height": 16384, "width": 16384}, {**CONTRACT, "height": 0}]
    values += [{**CONTRACT, "height": 0, "width": 0}, {**CONTRACT, "height": 8191, "width": 8191, "pad_multiple": 4096}]
    read, refused = same_verdicts(jobs, write_all(tmp_path, [json.dumps(value).encode() for value in values]))
    assert read > 60 + len(RULES)
    assert refused > 500


def test_json_at_its_edges_gets_the_same_verdict(jobs: Jobs, tmp_path: Path) -> None:
    text = json.dumps(CONTRACT)
    number = '"scale": 0.00392156862745098'
    assert number in text
    scales = ("NaN", "Infinity", "1e999", "1e-400", "01", "+1", "1.", ".5", "1e", "0x1", "1E0", "10e-1", "-0", "1" * 30)
    contents = [text.replace(number, f'"scale": {scale}') for scale in scales]
    contents += [text + tail for tail in (" \n\t\r", "\0", "x", "{}", "\x0b", "//a", "/**/")]
    contents += ["", "null", "[]", "0", '"a"', "{", "{}", "[" * 40 + "]" * 40, "\ufeff" + text, text.replace('"', "'")]
    contents += [text[:-1] + f', "{key}": {value}}}' for key in ("a", "steps") for value in (1, "[" * 33 + "]" * 33)]
    contents += [text[:-1] + ', "height": 25}', text[:-1] + ",}", text.replace("rgb", "r\\u0067b"), text + " " * 70000]
    contents += [text.replace("rgb", "\\ud800"), text.replace("rgb", "r\tb"), text.replace("version", "v\x01")]
    encoded = [content.encode() for content in contents]
    encoded += [text.encode("utf-16"), text.encode().replace(b"rgb", b"\xff\xfe"), b"\x80" * 10, b"[" * 60000]
    read, refused = same_verdicts(jobs, write_all(tmp_path, encoded))
    assert read == 5
    assert refused >= 30


def test_damaged_contracts_get_the_same_verdict(jobs: Jobs, tmp_path: Path) -> None:
    draw = random.Random(1)
    contents: list[bytes] = []
    for _ in range(600):
        content = bytearray(json.dumps(drawn_contract(draw).to_json()).encode())
        for _ in range(draw.choice([1, 1, 2])):
            place, kind = draw.randrange(len(content)), draw.randrange(4)
            if kind == 0:
                content[place] = draw.randrange(256)
            elif kind == 1:
                del content[place : place + draw.randint(1, 20)]
            elif kind == 2:
                content[place:place] = bytes(draw.choices(b'0123456789eE+-.{}[],:"\\ntrue\0', k=draw.randint(1, 6)))
            else:
                place = draw.choice([place for place, byte in enumerate(content) if chr(byte).isdigit()] or [0])
                content[place] = ord(draw.choice("0123456789"))
        contents.append(bytes(content))
    read, refused = same_verdicts(jobs, write_all(tmp_path, contents))
    assert read > 20
    assert refused > 200


def saved(path: Path, array: npt.NDArray[Any]) -> Path:
    np.save(path, array)
    return path


def test_inputs_are_the_same_bits(jobs: Jobs, tmp_path: Path) -> None:
    draw, generator = random.Random(2), np.random.default_rng(2)
    lines: list[str] = []
    expected: list[npt.NDArray[np.float32]] = []
    for number in range(150):
        contract = drawn_contract(draw)
        high = 700 if number % 10 == 0 else 70
        picture_HW3 = generator.integers(0, 256, (draw.randint(1, high), draw.randint(1, high), 3), dtype=np.uint8)
        where, out = tmp_path / f"{number}.json", tmp_path / f"{number}-out.npy"
        where.write_text(json.dumps(contract.to_json()))
        lines.append(f"prepare {where} {saved(tmp_path / f'{number}.npy', picture_HW3)} {out}")
        expected.append(contract.prepare(picture_HW3))
    answers = jobs(lines)
    for number, (answer, input_13hw) in enumerate(zip(answers, expected, strict=True)):
        assert answer == {"ok": list(input_13hw.shape)}
        got = np.load(tmp_path / f"{number}-out.npy")
        assert got.dtype == np.float32
        assert got.tobytes() == input_13hw.tobytes()


def test_labels_are_the_same(jobs: Jobs, tmp_path: Path) -> None:
    draw, generator = random.Random(3), np.random.default_rng(3)
    lines: list[str] = []
    expected: list[npt.NDArray[np.uint8]] = []
    for number in range(150):
        contract = drawn_contract(draw)
        height, width, classes = draw.randint(1, 90), draw.randint(1, 90), draw.choice([1, 2, 5, 19])
        shape = (1, classes, *contract.network_size(height, width))
        logits = generator.standard_normal(shape, dtype=np.float32) * np.float32(draw.choice([1, 1e-3, 1e4]))
        if number % 3 == 0:
            logits = np.round(logits).astype(np.float32)  # many of them equal: the lowest class is taken
        where, out = tmp_path / f"{number}.json", tmp_path / f"{number}-out.npy"
        where.write_text(json.dumps(contract.to_json()))
        lines.append(f"labels {where} {saved(tmp_path / f'{number}.npy', logits)} {height} {width} {out}")
        expected.append(contract.restore_labels(logits, height, width))
    for number, (answer, labels_HW) in enumerate(zip(jobs(lines), expected, strict=True)):
        assert answer == {"ok": list(labels_HW.shape)}
        np.testing.assert_array_equal(np.load(tmp_path / f"{number}-out.npy"), labels_HW)


@pytest.mark.parametrize("bad", ["size", "nan", "infinity", "classes"])
def test_logits_that_make_no_labels_are_refused(jobs: Jobs, tmp_path: Path, bad: str) -> None:
    logits = np.zeros((1, 257 if bad == "classes" else 3, 32, 48 if bad != "size" else 40), dtype=np.float32)
    logits[0, 1, 20, 30] = {"nan": math.nan, "infinity": -math.inf}.get(bad, 0)
    where = tmp_path / "preprocessing.json"
    where.write_text(json.dumps(CONTRACT))
    words = f"labels {where} {saved(tmp_path / 'logits.npy', logits)} 30 50 {tmp_path / 'out.npy'}"
    (answer,) = jobs([words])
    expected = {"size": "32 x 48", "classes": "got 257"}.get(bad, "not finite")
    assert expected in answer["refused"]
    assert not (tmp_path / "out.npy").exists()


def test_pictures_beyond_the_bounds_are_refused(jobs: Jobs, tmp_path: Path) -> None:
    where = tmp_path / "preprocessing.json"
    where.write_text(json.dumps({**CONTRACT, "height": 0, "width": 0, "pad_multiple": 16384}))
    picture = saved(tmp_path / "picture.npy", np.zeros((1, 16385, 3), dtype=np.uint8))
    padded = saved(tmp_path / "padded.npy", np.zeros((2, 3, 3), dtype=np.uint8))
    answers = jobs([f"prepare {where} {path} {tmp_path / 'out.npy'}" for path in (picture, padded)])
    assert all("cannot be prepared" in answer["refused"] for answer in answers)


def test_damaged_arrays_are_refused_and_never_crash(jobs: Jobs, tmp_path: Path) -> None:
    draw = random.Random(4)
    whole = saved(tmp_path / "whole.npy", np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)).read_bytes()
    header = whole[10:128]
    bodies = [header.replace(b"(1, 2, 3, 4)", shape) for shape in (b"(-1, 2, 3, 4)", b"(2, 3, 4)", b"(1,2,3,4)", b"()")]
    bodies += [
        header.replace(b"(1, 2, 3, 4)", shape) for shape in (b"(9999999999, 2, 3, 4)", b"(0, 2, 3, 4)", b"(1, 2")
    ]
    bodies += [header.replace(b"<f4", kind) for kind in (b"<f8", b">f4", b"|O", b"<i4")]
    bodies += [header.replace(b"False", b"True"), header.replace(b"descr", b"desc"), b"{}"]
    contents = [whole[:10] + body[:118].ljust(118) + whole[128:] for body in bodies]
    contents += [whole[:size] for size in (0, 5, 6, 8, 9, 10, 60, 127, 128, 223)] + [whole + b"\0"]
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(128)] = draw.randrange(256)
        contents.append(bytes(content))
    paths = [tmp_path / f"{number}.npy" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    answers = jobs([f"npy {tmp_path / 'whole.npy'} 4", f"npy {tmp_path} 4", *(f"npy {path} 4" for path in paths)])
    assert answers[0] == {"ok": [1, 2, 3, 4]}
    assert "is no file" in answers[1]["refused"]
    for content, answer in zip(contents, answers[2:], strict=True):
        # Damage to the blanks that pad a header, or a shape of as many numbers, may pass; all else is one sentence.
        assert answer.get("ok") is None or math.prod(answer["ok"]) == 24, content
    assert sum("refused" in answer for answer in answers[2:]) > 200


def test_percentiles_are_those_of_numpy(jobs: Jobs) -> None:
    generator = np.random.default_rng(5)
    drawn = [generator.lognormal(1, 1, size).round(4).tolist() for size in (1, 2, 3, 10, 199, 200)]
    answers = jobs(["latency " + " ".join(map(str, samples)) for samples in drawn] + ["latency"])
    for samples, answer in zip(drawn, answers[:-1], strict=True):
        report = summarise(samples, batch=1, warmup_runs=0)
        expected = (report.p50_ms, report.p90_ms, report.p99_ms, report.mean_ms, report.std_ms, report.images_per_s)
        assert answer["ok"] == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert "at least 1 run" in answers[-1]["refused"]


def test_texts_are_made_harmless_alike(jobs: Jobs, tmp_path: Path) -> None:
    draw = random.Random(6)
    contents = [
        "".join(chr(code) for code in range(0x250)).encode(),
        "\u2028\u202e\u2066\u200f\u061c\U0001f600".encode(),
    ]
    contents += [bytes(draw.choices(range(256), k=40)) for _ in range(100)]
    contents += ["äö\u202eü𝄞".encode()[start:end] for start in range(12) for end in range(start, 13)]
    contents += [b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xff"]
    paths = [tmp_path / f"{number}.txt" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    for content, answer in zip(contents, jobs([f"text {path}" for path in paths]), strict=True):
        assert answer["ok"] == printable(content.decode("utf-8", "surrogateescape")), content
