"""`doctor`: what is said of machines that are made up here, file by file; and the command on the machine at hand."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.building import package
from prunekit_runtime.doctoring import Finding, abilities, bundle_findings, machine_findings, package_findings
from prunekit_runtime.doctoring.finding import in_range, numbers
from prunekit_runtime.doctoring.machine import _disk
from prunekit_runtime.errors import BuildUsageError, PrunekitError
from prunekit_runtime.running.gpu import Gpu

ORIN = Gpu(name="Orin", sm="8.7", shares_memory=True, count=1, driver="540.4.0", cuda_driver="12.6")
DEVICE = {"board": "NVIDIA Jetson Orin Nano", "cpus": 6, "power_mode": "NV Power Mode: 15W\n0", "gpu_clock_mhz": 306}


def jetson(root: Path, release: str = "# R36 (release), REVISION: 4.3, GCID: 1", free_kib: int = 1 << 22) -> Path:
    (root / "etc").mkdir(exist_ok=True)
    (root / "proc").mkdir(exist_ok=True)
    (root / "etc/nv_tegra_release").write_text(release)
    (root / "proc/meminfo").write_text(f"MemAvailable: {free_kib} kB\n")
    return root


def found(root: Path, gpu: Gpu = ORIN, device: dict[str, Any] = DEVICE) -> dict[str, Finding]:
    return {each.subject: each for each in machine_findings(gpu, device, root, root)}


def test_a_jetson_is_described_with_what_an_engine_depends_on(tmp_path: Path) -> None:
    told = found(jetson(tmp_path))
    assert told["Jetson"].found == "NVIDIA Jetson Orin Nano, Jetson Linux 36.4.3 (JetPack 6)"
    assert told["GPU"].found == "Orin, compute capability 8.7, driver 540.4.0, CUDA 12.6"
    assert told["power mode"].found == "NV Power Mode: 15W 0"
    assert told["machine"].found == "NVIDIA Jetson Orin Nano, 6 CPUs, gpu clock mhz 306"
    assert told["memory"].state == "ok"
    assert {told[name].state for name in ("Python", "numpy")} == {"ok"}


def test_a_jetpack_without_tensorrt_10_3_is_too_old(tmp_path: Path) -> None:
    old = found(jetson(tmp_path, "# R36 (release), REVISION: 3.0, GCID: 1"))["Jetson"]
    assert (old.state, old.remedy) == ("missing", "install JetPack 6.1 or newer: older ones have no TensorRT 10.3")


def test_little_memory_and_little_disk_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(jetson(tmp_path, free_kib=1000))["memory"].state == "note"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    assert _disk(tmp_path).state == "note"
    assert "free some space" in _disk(tmp_path).remedy


def test_a_gpu_that_is_missing_is_told_with_the_reason(tmp_path: Path) -> None:
    told = found(tmp_path, Gpu(missing="CUDA counts no GPU"))
    assert (told["GPU"].state, told["GPU"].found) == ("missing", "CUDA counts no GPU")
    assert "Jetson" not in told


def test_names_of_the_machine_cannot_command_a_terminal(tmp_path: Path) -> None:
    told = found(jetson(tmp_path, "R99\x1b[2J"), device={"board": "\x1b[31mboard", "cpus": 1, "power_mode": "\x1b]0;x"})
    assert not [each for each in told.values() if "\x1b" in each.found]


def tensorrt(monkeypatch: pytest.MonkeyPatch, version: str, name: str = "tensorrt") -> Finding:
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda wanted: True if wanted == name else None)
    module: Any = SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, name, module)
    return next(each for each in package_findings() if each.subject == "TensorRT")


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("10.3.0", "ok"),
        ("10.16.2.10", "ok"),
        ("11.4.1", "ok"),
        ("8.6.2", "missing"),
        ("10.2", "missing"),
        ("12.0", "missing"),
    ],
)
def test_a_tensorrt_that_was_not_tried_does_not_fit(monkeypatch: pytest.MonkeyPatch, version: str, state: str) -> None:
    told = tensorrt(monkeypatch, version)
    assert (told.state, told.found) == (state, f"tensorrt {version}")
    assert ("JetPack 6.1" in told.remedy) == (state == "missing")


def test_tensorrt_rtx_has_versions_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tensorrt(monkeypatch, "1.7.1", "tensorrt_rtx").state == "ok"
    assert "JetPack" not in tensorrt(monkeypatch, "1.0", "tensorrt_rtx").remedy


def test_a_missing_tensorrt_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda _: None)
    told = next(each for each in package_findings() if each.subject == "TensorRT")
    assert (told.state, told.found) == ("missing", "TensorRT is not installed for this Python")
    assert "JetPack" in told.remedy
    assert "--backend ort" in told.remedy


def test_an_optional_package_that_does_not_load_is_a_note_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    told = next(each for each in package_findings() if each.subject == "OpenCV")
    assert told.state == "note"
    assert "does not load: numpy.core.multiarray" in told.found


def everything(**states: str) -> list[Finding]:
    subjects = ("Python", "numpy", "GPU", "CUDA runtime", "TensorRT", "ONNX Runtime", "Pillow", "OpenCV", "bundle")
    return [Finding(each, states.get(each.replace(" ", "_"), "ok"), "x") for each in subjects]  # pyright: ignore


def lacks(**states: str) -> list[tuple[str, ...]]:
    return [each.lacks for each in abilities(everything(**states))]


def test_what_can_be_done_follows_from_what_was_found() -> None:
    assert lacks() == [(), (), (), ()]
    assert lacks(TensorRT="missing", GPU="missing") == [("GPU", "TensorRT"), (), (), ()]
    assert lacks(ONNX_Runtime="missing") == [(), ("ONNX Runtime",), (), ()]
    assert lacks(Pillow="note") == [(), (), (), ()]
    assert lacks(Pillow="note", OpenCV="note") == [(), (), ("Pillow or OpenCV",), ("OpenCV",)]
    assert lacks(bundle="missing") == [("bundle",), ("bundle",), (), ()]
    assert lacks(bundle="note") == [(), (), (), ()]


def test_a_jetson_that_is_too_old_keeps_tensorrt_from_running() -> None:
    old = [*everything(), Finding("Jetson", "missing", "x")]
    assert next(each.lacks for each in abilities(old)) == ("Jetson",)


def put_bundle(monkeypatch: pytest.MonkeyPatch, open_bundle: Any) -> None:
    reader: Any = SimpleNamespace(open_bundle=open_bundle)
    monkeypatch.setitem(sys.modules, "prunekit_runtime.bundle", reader)


def test_a_bundle_is_told_with_its_models_and_the_engines_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    entries = [SimpleNamespace(name=name, precision=name, graph="labels") for name in ("fp32", "fp16")]
    put_bundle(monkeypatch, lambda _: SimpleNamespace(models=entries))

    def find(_: Any, entry: Any, backend: str) -> Path:
        if entry.name == "fp32":
            return tmp_path / "built/fp32.plan"
        raise BuildUsageError("No engine of fp16 can be run here: none was built. Build it: python3 ...")

    monkeypatch.setattr("prunekit_runtime.doctoring.bundles.find_built", find)
    told = list(bundle_findings(tmp_path, has_tensorrt=True))
    assert [(each.subject, each.state, each.found) for each in told] == [
        ("bundle", "ok", "complete: fp32 (fp32, labels), fp16 (fp16, labels)"),
        ("engine of fp32", "ok", "fp32.plan"),
        ("engine of fp16", "note", "No engine of fp16 can be run here: none was built"),
    ]
    assert [each.subject for each in bundle_findings(tmp_path, has_tensorrt=False)] == ["bundle"]


def test_a_damaged_bundle_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle.json").write_text("{}")

    def refuse(_: Path) -> Any:
        raise PrunekitError("models/fp32.onnx was changed\x1b.")

    put_bundle(monkeypatch, refuse)
    [told] = bundle_findings(tmp_path, has_tensorrt=True)
    assert (told.state, told.found) == ("missing", "models/fp32.onnx was changed\\x1b.")


def test_the_command_ends_by_the_backend_that_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda _: None)
    assert main(["doctor", "--backend", "ort"]) == 0
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "TensorRT      MISSING  TensorRT is not installed for this Python\n" in printed
    assert "with ONNX Runtime on the CPU (--backend ort): can be done" in printed
    assert "cannot be done, for want of" in printed


def test_json_holds_findings_abilities_and_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert {each["subject"] for each in report["findings"]} >= {"Python", "GPU", "TensorRT", "ONNX Runtime", "disk"}
    assert [each["backend"] for each in report["abilities"]] == ["tensorrt", "ort", None, None]
    assert "python" in report["device"]


def test_a_folder_that_is_not_there_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--bundle", str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "parts"), [("10.3.0.26-1+cuda12.5", (10, 3, 0, 26)), ("2.4.6", (2, 4, 6)), ("unknown", ())]
)
def test_versions_are_compared_by_their_numbers(version: str, parts: tuple[int, ...]) -> None:
    assert numbers(version) == parts
    assert in_range("10.13", "10.3", "12")
    assert not in_range("unknown", "10.3")
