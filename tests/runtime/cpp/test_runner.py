"""prunekit_runner on a stand-in for TensorRT: labels as in Python, golden checks, latencies, refusals, exit codes."""

import dataclasses
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.preprocessing import Preprocessing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONTRACT = Preprocessing(height=24, width=40, pad_multiple=16)
WEIGHTS_K3 = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
FLOAT_INPUT, UINT8_INPUT = "input images float32 -1 3 -1 -1", "input images uint8 -1 -1 -1 3"
LOGITS, LABELS = "output logits float32 -1 5 -1 -1", "output labels uint8 -1 -1 -1"


@dataclasses.dataclass(frozen=True)
class Ran:
    code: int
    out: str
    error: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(runner: Path, tmp_path: Path) -> Run:
    def run(*words: str | Path | bytes, failing: str = "") -> Ran:
        environment = {**os.environ, "PRUNEKIT_STANDIN_FAIL": failing}
        done = subprocess.run([runner, *words], capture_output=True, check=False, env=environment, cwd=tmp_path)
        out, error = done.stdout.decode(), done.stderr.decode()
        assert done.returncode in (0, 1, 2), error
        return Ran(done.returncode, out, error)

    return run


def numbers(values: Any) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def plan(path: Path, *lines: str, weights_K3: npt.NDArray[np.float32] = WEIGHTS_K3, head: bytes = b"ftrt") -> Path:
    contract = (CONTRACT.scale, *CONTRACT.mean, *CONTRACT.std)
    text = "\n".join([*lines, f"weights {numbers(weights_K3)}", f"normalize {numbers(contract)}"])
    path.write_bytes(head + bytes(20) + bytes((10, 3, 0, 26)) + text.encode())
    return path


@pytest.fixture
def float_plan(tmp_path: Path) -> Path:
    return plan(tmp_path / "float.plan", FLOAT_INPUT, LOGITS)


@pytest.fixture
def whole_plan(tmp_path: Path) -> Path:
    """An engine that takes pictures and gives labels and their confidence."""
    return plan(tmp_path / "whole.plan", UINT8_INPUT, "output confidence float32 -1 -1 -1", LABELS)


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps(CONTRACT.to_json()))
    return path


def logits_of(images_N3hw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    red, green, blue = (images_N3hw[:, channel, None] for channel in range(3))
    weights = WEIGHTS_K3[:, :, None, None]
    return red * weights[:, 0] + green * weights[:, 1] + blue * weights[:, 2]


def drawn_picture(seed: int, height: int = 0, width: int = 0) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    size = (height or int(generator.integers(1, 90)), width or int(generator.integers(1, 90)))
    return generator.integers(0, 256, (*size, 3), dtype=np.uint8)


def golden_folder(folder: Path, *, picture: bool = True, contract: Preprocessing = CONTRACT) -> Path:
    picture_HW3 = drawn_picture(7, 30, 50)
    images_N3hw = np.concatenate([contract.prepare(picture_HW3), contract.prepare(picture_HW3[::-1])])
    golden = GoldenCheck(images_N3hw, logits_of(images_N3hw), picture_HW3 if picture else None)
    golden.save(folder.with_suffix(".npz"))
    with zipfile.ZipFile(folder.with_suffix(".npz")) as archive:
        archive.extractall(folder)
    return folder


def written(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image)


def test_labels_of_pictures_are_those_of_python(run: Run, float_plan: Path, contract: Path, tmp_path: Path) -> None:
    pictures = {f"{seed}.png": drawn_picture(seed) for seed in range(12)}
    for name, picture_HW3 in pictures.items():
        Image.fromarray(picture_HW3).save(tmp_path / name)
    done = run("run", float_plan, "--contract", contract, "--out", "out", *pictures)
    assert (done.code, done.error) == (0, "")
    assert (done.report["written"], done.report["failed"], done.report["input"]) == (12, [], "float32")
    for name, picture_HW3 in pictures.items():
        expected = CONTRACT.restore_labels(logits_of(CONTRACT.prepare(picture_HW3)), *picture_HW3.shape[:2])
        np.testing.assert_array_equal(written(tmp_path / "out" / name), expected)


@pytest.mark.parametrize("labels", [LABELS, "output labels uint8 -1 1 -1 -1", "output labels uint8 -1 -1 -1 1"])
def test_an_engine_that_holds_all_steps_needs_no_contract(run: Run, tmp_path: Path, labels: str) -> None:
    whole_plan = plan(tmp_path / "whole.plan", UINT8_INPUT, labels)
    picture_HW3 = drawn_picture(3)
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture_HW3).save(tmp_path / "photos" / "street.png")
    done = run("run", whole_plan, "--out=deep/out", "photos")
    assert (done.code, done.report["input"], done.report["output"]) == (0, "uint8", "labels")
    own_size = dataclasses.replace(CONTRACT, height=0, width=0, pad_multiple=1)
    expected = logits_of(own_size.prepare(picture_HW3)).argmax(axis=1)[0]
    np.testing.assert_array_equal(written(tmp_path / "deep" / "out" / "street.png"), expected)


def test_golden_checks_pass_where_all_is_right(run: Run, float_plan: Path, contract: Path, tmp_path: Path) -> None:
    done = run("check", float_plan, "--contract", contract, "--golden", golden_folder(tmp_path / "golden"))
    assert (done.code, done.error) == (0, "")
    report = done.report
    assert report["passed"] is True
    assert (report["max_abs_error"], report["label_agreement"], report["preprocessing_max_abs_error"]) == (0, 1, 0)
    assert report["runner"] == "tensorrt 10.3.0"
    without = run("check", float_plan, "--golden", golden_folder(tmp_path / "plain", picture=False))
    assert (without.code, without.report["preprocessing_max_abs_error"]) == (0, None)


def test_an_engine_of_pictures_is_checked_by_the_golden_picture(run: Run, contract: Path, tmp_path: Path) -> None:
    own_size = dataclasses.replace(CONTRACT, height=0, width=0, pad_multiple=1)
    contract.write_text(json.dumps(own_size.to_json()))
    golden = golden_folder(tmp_path / "golden", contract=own_size)
    for name, output in (("labels", LABELS), ("logits", LOGITS)):
        engine = plan(tmp_path / f"{name}.plan", UINT8_INPUT, output)
        done = run("check", engine, "--contract", contract, "--golden", golden)
        assert (done.code, done.report["output"], done.report["label_agreement"]) == (0, name, 1)
        swapped = plan(tmp_path / "swapped.plan", UINT8_INPUT, output, weights_K3=WEIGHTS_K3[[1, 0, 2, 3, 4]])
        wrong = run("check", swapped, "--contract", contract, "--golden", golden)
        assert (wrong.code, wrong.report["passed"]) == (1, False)
        (golden / "picture.npy").rename(golden / "away")
        assert "picture.npy is not there" in run("check", engine, "--golden", golden).error
        (golden / "away").rename(golden / "picture.npy")


@pytest.mark.parametrize("fault", ["channels", "mean", "class", "overflow", "nan"])
def test_golden_checks_catch(run: Run, contract: Path, tmp_path: Path, fault: str) -> None:
    weights_K3 = WEIGHTS_K3.copy()
    if fault == "class":
        weights_K3[[0, 1]] = weights_K3[[1, 0]]
    elif fault in ("overflow", "nan"):  # of finite weights, as in fp16
        weights_K3[4] = [3e38, 3e38 if fault == "overflow" else -3e38, 3e38]
    seen = {"channels": {"channel_order": "bgr"}, "mean": {"mean": (0.5, 0.456, 0.406)}}.get(fault, {})
    contract.write_text(json.dumps(dataclasses.replace(CONTRACT, **seen).to_json()))
    engine = plan(tmp_path / "engine.plan", FLOAT_INPUT, LOGITS, weights_K3=weights_K3)
    done = run("check", engine, "--contract", contract, "--golden", golden_folder(tmp_path / "golden"))
    assert done.code == 1
    assert done.report["passed"] is False
    assert (done.report["max_abs_error"] is None) == (fault in ("overflow", "nan"))


def test_latency_is_reported_by_part(run: Run, float_plan: Path, whole_plan: Path, contract: Path) -> None:
    done = run("bench", float_plan, "--contract", contract, "--warmup", "3", "--runs=7")
    assert (done.code, done.error) == (0, "")
    assert done.report["input_shape"] == [1, 3, 32, 48]
    for part in ("latency", "compute", "preprocessing", "labels"):
        times = done.report[part]
        assert (times["runs"], times["warmup_runs"], times["batch"]) == (7, 3, 1)
        assert 0 <= times["p50_ms"] <= times["p90_ms"] <= times["p99_ms"]
    assert done.report["compute"]["p50_ms"] <= done.report["latency"]["p50_ms"]
    whole = run("bench", whole_plan, "--height", "9", "--width", "8", "--batch", "2", "--runs", "1")
    assert whole.report["input_shape"] == [2, 9, 8, 3]
    assert "preprocessing" not in whole.report


@pytest.mark.parametrize(
    "words",
    [
        "",
        "predict",
        "check",
        "check e.plan",
        "bench",
        "bench a.plan b.plan",
        "bench a.plan --runs",
        "bench a.plan --runs 0",
        "bench a.plan --runs 1.5",
        "bench a.plan --runs 9999999999999999999999",
        "bench a.plan --warmup -1",
        "bench a.plan --golden g",
        "bench a.plan --overwrite",
        "check a.plan --golden g --min-agreement 1.1",
        "check a.plan --golden g --min-agreement nan",
        "check a.plan --golden g --min-agreement 0.5x",
        "run a.plan",
        "run a.plan --out o",
        "run a.plan p.png",
        "bench float.plan",
        "run float.plan --out o preprocessing.json",
    ],
)
def test_a_line_that_is_not_understood_is_told_so(run: Run, float_plan: Path, contract: Path, words: str) -> None:
    done = run(*words.split())
    assert (done.code, done.out) == (2, "")
    assert done.error.count("\n") == 1
    assert done.error.endswith("See prunekit_runner --help\n")


@pytest.mark.parametrize("words", ["--help", "-h", "help", "run --help", "bench a.plan -h"])
def test_help_is_no_failure(run: Run, words: str) -> None:
    done = run(*words.split())
    assert (done.code, done.error) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80


def test_engines_that_cannot_be_used_are_refused(run: Run, tmp_path: Path) -> None:
    cases = {
        "does not exist": None,
        "is cut short": b"ftrt",
        "is no TensorRT engine": b"PK\x03\x04" + bytes(100),
        "is one of TensorRT-RTX": b"vtrt" + bytes(100),
    }
    for number, (reason, content) in enumerate(cases.items()):
        path = tmp_path / f"{number}.plan"
        if content is not None:
            path.write_bytes(content)
        done = run("bench", path)
        assert (done.code, done.out) == (1, "")
        assert reason in done.error
    os.mkfifo(tmp_path / "pipe.plan")
    assert "is no file" in run("bench", "pipe.plan").error


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([FLOAT_INPUT, LOGITS, "refused the GPU is another one"], "10.3.0 here refuses it: the GPU is another one"),
        (["input images float16 -1 3 -1 -1", LOGITS], "images is float16, but float32 or uint8"),
        (["input images float32 -1 4 -1 -1", LOGITS], "not float32 (N, 3, h, w) or uint8"),
        (["input images uint8 -1 3 -1 -1", LABELS], "not float32 (N, 3, h, w) or uint8"),
        ([FLOAT_INPUT, "input more float32 1 3 8 8", LOGITS], "has 2 inputs"),
        ([FLOAT_INPUT], "gives nothing"),
        ([FLOAT_INPUT, LOGITS, "output more float32 -1 5 -1 -1"], "not logits"),
        ([FLOAT_INPUT, "output logits float32 -1 5"], "not logits"),
        ([FLOAT_INPUT, "output labels uint8 -1 5 -1 -1"], "not logits"),
        ([FLOAT_INPUT, LOGITS, "format vector"], "in vectors of channels"),
        ([FLOAT_INPUT, LOGITS, "profile 1 3 64 64 1 3 128 128"], "takes 1 x 3 x 64 x 64 to 1 x 3 x 128 x 128, got"),
        (["input images float32 1 3 20 20", LOGITS], "takes float32 of the shape 1 x 3 x 20 x 20, got 1 x 3 x 32 x 48"),
    ],
)
def test_engines_that_are_not_understood_are_refused(
    run: Run, contract: Path, tmp_path: Path, lines: list[str], reason: str
) -> None:
    Image.fromarray(drawn_picture(0)).save(tmp_path / "a.png")
    engine = plan(tmp_path / "engine.plan", *lines)
    done = run("run", engine, "--contract", contract, "--out", "out", "a.png")
    assert done.code == 1
    assert reason in done.error
    assert done.error.count("\n") == 1


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("cudaGetDeviceCount", "No usable NVIDIA GPU: CUDA driver version is insufficient"),
        ("no GPU", "No usable NVIDIA GPU: CUDA counts none"),
        ("createInferRuntime", "does not start"),
        ("createExecutionContext", "gives no execution context"),
        ("cudaMalloc", "cudaMalloc failed with 2: out of memory"),
        ("cudaMallocHost", "cudaMallocHost failed with 2: out of memory"),
        ("getTensorShape", "does not tell the shape of logits"),
        ("setTensorAddress", "does not take memory for images"),
        ("enqueueV3", "failed on float.plan: a kernel failed."),
    ],
)
def test_failures_below_us_end_in_one_sentence(
    run: Run, float_plan: Path, contract: Path, failing: str, reason: str
) -> None:
    done = run("bench", "float.plan", "--contract", contract, failing=failing)
    assert (done.code, done.out) == (1, "")
    assert reason in done.error
    assert done.error.count("\n") == 1


def test_sizes_that_would_take_all_memory_are_refused(run: Run, float_plan: Path) -> None:
    done = run("bench", float_plan, "--batch", "4096", "--height", "16384", "--width", "16384")
    assert (done.code, done.out) == (1, "")
    assert "up to 8 GiB are allowed" in done.error


def test_golden_folders_that_are_none_are_refused(run: Run, float_plan: Path, tmp_path: Path) -> None:
    golden = golden_folder(tmp_path / "golden")
    packed = run("check", float_plan, "--golden", tmp_path / "golden.npz")
    assert packed.code == 1
    assert "python3 -m zipfile -e golden.npz" in packed.error
    np.save(golden / "logits.npy", np.full((2, 5, 32, 48), np.nan, dtype=np.float32))
    assert "hold nan" in run("check", float_plan, "--golden", golden).error
    np.save(golden / "logits.npy", np.zeros((2, 4, 32, 48), dtype=np.float32))
    assert (
        "gives logits 2 x 5 x 32 x 48, expected 2 x 4 x 32 x 48" in run("check", float_plan, "--golden", golden).error
    )
    np.save(golden / "logits.npy", np.zeros((1, 5, 32, 48), dtype=np.float32))
    assert "do not belong together" in run("check", float_plan, "--golden", golden).error
    (golden / "logits.npy").unlink()
    assert "does not exist" in run("check", float_plan, "--golden", golden).error


def test_nothing_is_written_over_unasked(run: Run, whole_plan: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "a.jpg"):
        Image.fromarray(drawn_picture(1)).save(tmp_path / name)
    both = run("run", whole_plan, "--out", "out", "a.png", "a.jpg")
    assert "would both become out/a.png" in both.error
    own = run("run", whole_plan, "--overwrite", "--out", ".", "a.png")
    assert "is one of the pictures" in own.error
    assert run("run", whole_plan, "--out", "out", "b.png").code == 0
    again = run("run", whole_plan, "--out", "out", "a.png", "b.png")
    assert (again.code, again.out) == (1, "")
    assert "out/b.png is there already" in again.error
    assert not (tmp_path / "out" / "a.png").exists()
    assert run("run", whole_plan, "--overwrite", "--out", "out", "a.png", "b.png").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_a_name_does_no_harm_to_the_terminal(run: Run, whole_plan: Path, tmp_path: Path) -> None:
    name = b"\x1b[31m\xff.png"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"no picture")
    done = run("run", whole_plan, "--out", "out", "--", name)
    assert done.code == 1
    assert "\\x1b[31m\\xff.png" in done.error
    assert "\x1b" not in done.error + done.out
    assert done.report["written"] == 0


def test_a_folder_that_cannot_be_written_is_said(run: Run, whole_plan: Path, tmp_path: Path) -> None:
    Image.fromarray(drawn_picture(1)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    done = run("run", whole_plan, "--out", "file/out", "a.png")
    assert (done.code, done.out) == (1, "")
    assert "Not a directory" in done.error
    assert done.error.count("\n") == 1
