"""The whole path of `build` against a stand-in for TensorRT: what is built, kept, refused and never run."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.building import BuildOptions, build_engine, find_built
from prunekit_runtime.building import machine as machine_module
from prunekit_runtime.errors import BuildError, BuildUsageError


def fp32(bundle: Any) -> Any:
    return bundle.models[0]


def fp16(bundle: Any) -> Any:
    return bundle.models[1]


def names(bundle: Any) -> set[str]:
    folder = bundle.built_dir
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def build(bundle: Any, entry: Any, **options: Any) -> Any:
    return build_engine(bundle, entry, BuildOptions(**options))


def test_an_engine_its_key_and_its_layers_are_written_and_found_again(bundle: Any, world: Any) -> None:
    built = build(bundle, fp16(bundle))
    assert built.is_new
    assert find_built(bundle, fp16(bundle), "tensorrt") == built.path == bundle.built_dir / "labels.fp16.plan"
    key = json.loads((bundle.built_dir / "labels.fp16.tensorrt.json").read_text())
    assert {name: key["bound_to"][name] for name in ("package", "package_version", "gpu", "sm", "driver")} == {
        "package": "tensorrt",
        "package_version": "10.3.0",
        "gpu": "Orin",
        "sm": "8.7",
        "driver": "540.4.0",
    }
    assert key["options"]["profile"] == {"min": [1, 32, 32, 3], "opt": [1, 64, 96, 3], "max": [1, 128, 192, 3]}
    assert key["made"]["layers"]["products_by_precision"] == {"fp16": 1.0}
    layers = json.loads((bundle.built_dir / "labels.fp16.layers.json").read_text())["layers"]
    assert layers[0]["onnx_nodes"] == ["node_conv_0", "node_conv_0/relu"]
    shapes = world.configs[0].profiles[0]
    assert (shapes.name, shapes.optimum) == ("images", (1, 64, 96, 3))
    assert world.configs[0].profiling_verbosity == "DETAILED"


def test_a_fitting_engine_is_kept_and_force_builds_it_again(bundle: Any, world: Any) -> None:
    build(bundle, fp32(bundle))
    again = build(bundle, fp32(bundle))
    assert (again.is_new, world.builds) == (False, 1)
    assert build(bundle, fp32(bundle), force=True).is_new
    assert world.builds == 2


@pytest.mark.parametrize(
    "options",
    [
        {"tf32": True},
        {"optimization_level": 5},
        {"workspace_mib": 512},
        {"minimum": (1, 32, 32, 3), "optimum": (1, 32, 32, 3), "maximum": (1, 64, 64, 3)},
    ],
)
def test_other_options_build_another_engine_and_the_one_that_is_there_still_runs(
    bundle: Any, world: Any, options: dict[str, Any]
) -> None:
    build(bundle, fp16(bundle))
    assert build(bundle, fp16(bundle), **options).is_new
    assert find_built(bundle, fp16(bundle), "tensorrt").exists()
    assert not build(bundle, fp16(bundle), **options).is_new


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sm": "11.0"}, "compute capability was 8.7 then and is 11.0 now"),
        ({"name": "Thor"}, "the GPU was Orin then and is Thor now"),
        ({"driver": "580.1"}, "the driver was 540.4.0 then and is 580.1 now"),
    ],
)
def test_an_engine_of_another_gpu_is_not_run_and_built_again(
    bundle: Any, world: Any, other_gpu: Any, change: dict[str, str], words: str
) -> None:
    build(bundle, fp32(bundle))
    other_gpu(**change)
    with pytest.raises(BuildUsageError, match=words):
        find_built(bundle, fp32(bundle), "tensorrt")
    assert build(bundle, fp32(bundle)).is_new


def test_an_engine_of_another_tensorrt_is_not_run_and_built_again(bundle: Any, world: Any, reinstall: Any) -> None:
    build(bundle, fp32(bundle))
    world.version = "10.7.0"
    reinstall(world)
    with pytest.raises(BuildUsageError, match=r"its version was 10\.3\.0 then and is 10\.7\.0 now.*runtime build"):
        find_built(bundle, fp32(bundle), "tensorrt")
    assert build(bundle, fp32(bundle)).is_new


def test_another_jetson_linux_asks_for_another_engine(bundle: Any, world: Any, monkeypatch: Any) -> None:
    build(bundle, fp32(bundle))
    monkeypatch.setattr(machine_module, "jetson_linux", lambda _: "36.4.3")
    with pytest.raises(BuildUsageError, match=r"Jetson Linux was None then and is 36\.4\.3 now"):
        find_built(bundle, fp32(bundle), "tensorrt")


def test_another_file_asks_for_another_engine(bundle: Any, world: Any) -> None:
    build(bundle, fp32(bundle))
    path = fp32(bundle).path(bundle.folder)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BuildUsageError, match="the ONNX file was"):
        find_built(bundle, fp32(bundle), "tensorrt")
    assert build(bundle, fp32(bundle)).is_new


def test_nothing_built_is_one_sentence_with_the_command(bundle: Any, world: Any) -> None:
    with pytest.raises(BuildUsageError, match=r"none was built.*python3 -m prunekit_runtime build.*--backend ort"):
        find_built(bundle, fp32(bundle), "tensorrt")


def test_a_changed_engine_is_never_run(bundle: Any, world: Any) -> None:
    plan = build(bundle, fp32(bundle)).path
    content = bytearray(plan.read_bytes())
    content[-1] ^= 1
    plan.write_bytes(content)
    with pytest.raises(BuildUsageError, match="bytes were changed"):
        find_built(bundle, fp32(bundle), "tensorrt")
    assert build(bundle, fp32(bundle)).is_new


def test_an_engine_of_another_model_is_never_run(bundle: Any, world: Any) -> None:
    build(bundle, fp32(bundle))
    build(bundle, fp16(bundle))
    folder = bundle.built_dir
    (folder / "labels.fp32.plan").write_bytes((folder / "labels.fp16.plan").read_bytes())
    with pytest.raises(BuildUsageError, match="bytes were changed"):
        find_built(bundle, fp32(bundle), "tensorrt")
    (folder / "labels.fp32.tensorrt.json").write_bytes((folder / "labels.fp16.tensorrt.json").read_bytes())
    with pytest.raises(BuildUsageError, match="the ONNX file was"):
        find_built(bundle, fp32(bundle), "tensorrt")


def test_a_linked_engine_is_not_followed(bundle: Any, world: Any, tmp_path: Path) -> None:
    plan = build(bundle, fp32(bundle)).path
    plan.rename(tmp_path / "elsewhere.plan")
    plan.symlink_to(tmp_path / "elsewhere.plan")
    with pytest.raises(BuildUsageError, match="cannot be read"):
        find_built(bundle, fp32(bundle), "tensorrt")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff" * 10, b"[" * 5000])
def test_a_damaged_key_is_no_key(bundle: Any, world: Any, content: bytes) -> None:
    build(bundle, fp32(bundle)).record_path.write_bytes(content)
    with pytest.raises(BuildUsageError, match="missing or damaged"):
        find_built(bundle, fp32(bundle), "tensorrt")
    assert build(bundle, fp32(bundle)).is_new


def test_a_key_made_on_another_machine_fits_nowhere_else(
    bundle: Any, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/etc").mkdir(parents=True)
    (tmp_path / "a/etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    assert machine_module.seal("x", tmp_path / "a") != machine_module.seal("x", tmp_path / "b")
    marked = machine_module.seal
    with monkeypatch.context() as patch:
        patch.setattr("prunekit_runtime.building.record.seal", lambda content, _: marked(content, tmp_path / "a"))
        build(bundle, fp32(bundle))
    with monkeypatch.context() as patch:
        patch.setattr("prunekit_runtime.building.record.seal", lambda content, _: marked(content, tmp_path / "b"))
        with pytest.raises(BuildUsageError, match="was not built on this machine, or its key was changed"):
            find_built(bundle, fp32(bundle), "tensorrt")


def test_a_key_that_was_edited_is_refused(bundle: Any, world: Any) -> None:
    path = build(bundle, fp32(bundle)).record_path
    path.write_text(path.read_text().replace('"tf32": false', '"tf32": true'))
    with pytest.raises(BuildUsageError, match="its key was changed"):
        find_built(bundle, fp32(bundle), "tensorrt")


def test_tf32_is_off_unless_asked_for_and_recorded(bundle: Any, world: Any) -> None:
    assert build(bundle, fp32(bundle)).record.made["tf32"] is False
    assert build(bundle, fp32(bundle), tf32=True).record.made["tf32"] is True
    assert [config.flags for config in world.configs] == [set(), {"TF32"}]


def test_a_failed_build_leaves_nothing_and_says_what_tensorrt_said(bundle: Any, world: Any) -> None:
    world.fails_to_build = True
    with pytest.raises(BuildError) as caught:
        build(bundle, fp32(bundle))
    message = str(caught.value)
    assert "Could not find any implementation for node {\\x1b[31mconv}; Engine building failed" in message
    assert "\x1b" not in message
    assert names(bundle) == {".lock"}


def test_a_failed_build_keeps_the_engine_that_was_there(bundle: Any, world: Any) -> None:
    build(bundle, fp32(bundle))
    world.fails_to_build = True
    with pytest.raises(BuildError):
        build(bundle, fp32(bundle), optimization_level=5)
    assert find_built(bundle, fp32(bundle), "tensorrt").exists()


def test_an_engine_that_does_not_load_is_not_kept(bundle: Any, world: Any) -> None:
    world.fails_to_load = True
    with pytest.raises(BuildError, match="does not load on this GPU: Target GPU SM 87 is not supported"):
        build(bundle, fp32(bundle))
    assert names(bundle) == {".lock"}


def test_a_node_that_the_parser_refuses_is_named(bundle: Any, world: Any) -> None:
    world.parser_error = "no importer for\x1b Col2Im."
    with pytest.raises(BuildError, match=r"cannot read labels\.fp32: node head/fold \(Col2Im\): no importer for\\x1b"):
        build(bundle, fp32(bundle))


def test_an_fp16_engine_that_computes_in_fp32_is_an_error(bundle: Any, world: Any) -> None:
    world.weights, world.kernels = "Float", "f32f32_f32f32_f32"
    with pytest.raises(BuildError, match=r"3 of its 3 convolutions.*\(3 in fp32\), such as node_conv_0, node_conv_1"):
        build(bundle, fp16(bundle))
    assert names(bundle) == {".lock"}


def test_a_network_that_is_read_in_fp32_is_refused_before_the_long_build(bundle: Any, world: Any) -> None:
    world.network_kind = "FLOAT"
    with pytest.raises(BuildError, match="reads the convolutions and matrix products of the file as 3 fp32"):
        build(bundle, fp16(bundle))
    assert world.builds == 0


def test_timings_are_kept_whole_and_used_again(bundle: Any, world: Any) -> None:
    assert not build(bundle, fp32(bundle)).record.made["timing_cache_used"]
    assert build(bundle, fp16(bundle)).record.made["timing_cache_used"]
    [cache] = bundle.built_dir.glob("timing-*.cache")
    cache.write_bytes(b"damaged")
    assert not build(bundle, fp32(bundle), force=True).record.made["timing_cache_used"]
    assert cache.read_bytes() == b"timings of Orin"


def test_half_of_the_free_memory_is_the_limit_where_the_gpu_shares_it(
    bundle: Any, world: Any, other_gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunekit_runtime.building import engine

    monkeypatch.setattr(engine, "free_memory_bytes", lambda: 6 << 30)
    assert build(bundle, fp32(bundle)).record.made["workspace_mib"] == 3072
    assert build(bundle, fp32(bundle), workspace_mib=100).record.made["workspace_mib"] == 100
    other_gpu(shares_memory=False)
    assert build(bundle, fp32(bundle)).record.made["workspace_mib"] == 65536


def test_free_memory_is_read_as_the_kernel_tells_it(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8000000 kB\nMemFree:  100 kB\nMemAvailable:    2048 kB\n")
    assert machine_module.free_memory_bytes(tmp_path) == 2 << 20
    assert machine_module.free_memory_bytes(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: ...", "36.4.3"),
        ("something\x1b else\n", "something\\x1b else"),
        ("", None),
    ],
)
def test_jetson_linux_is_read_from_its_release_file(tmp_path: Path, text: str, release: str | None) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(text)
    assert machine_module.jetson_linux(tmp_path) == release


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0"])
def test_strongly_typed_by_name_whatever_its_number(bundle: Any, world: Any, reinstall: Any, version: str) -> None:
    world.version = version
    reinstall(world)
    assert build(bundle, fp32(bundle)).is_new  # the stand-in asserts the flag


def test_progress_is_told_by_phase_and_step(bundle: Any, world: Any) -> None:
    said: list[str] = []
    build_engine(bundle, fp32(bundle), BuildOptions(), on_step=said.append)
    assert "Building engine 0/2, Timing graph nodes 7/50" in said
    assert said[-1] == "loading the engine, and asking what it computes in"


def test_a_tensorrt_without_a_monitor_still_builds(bundle: Any, world: Any, reinstall: Any) -> None:
    world.has_monitor = False
    reinstall(world)
    assert build(bundle, fp32(bundle)).is_new


def test_a_display_that_fails_does_not_end_the_build(bundle: Any, world: Any) -> None:
    def fails(text: str) -> None:
        if "Timing" in text:
            raise BrokenPipeError

    assert build_engine(bundle, fp32(bundle), BuildOptions(), on_step=fails).is_new


def test_a_signal_ends_the_build_and_leaves_nothing(bundle: Any, world: Any) -> None:
    world.step_s = 0.2

    def interrupt() -> None:
        assert world.phases.wait(20)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        build(bundle, fp32(bundle))
    assert names(bundle) == {".lock"}
    assert world.cancelled.is_set()


def test_leftovers_of_a_killed_build_are_cleared(bundle: Any, world: Any) -> None:
    bundle.built_dir.mkdir()
    (bundle.built_dir / ".writing-x1.plan").write_bytes(b"half an engine")
    build(bundle, fp32(bundle))
    assert not [name for name in names(bundle) if name.startswith(".writing-")]


def test_a_second_build_waits_for_nobody(bundle: Any, world: Any) -> None:
    from prunekit_runtime.building.folder import BuiltFolder

    with BuiltFolder(bundle.built_dir).locked(), pytest.raises(BuildError, match="Another build"):
        build(bundle, fp32(bundle))


def test_a_linked_folder_is_not_written_to(bundle: Any, world: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    bundle.built_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BuildError, match="is a link"):
        build(bundle, fp32(bundle))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "x\n"])
def test_a_name_that_leaves_the_folder_is_refused(bundle: Any, world: Any, name: str) -> None:
    from prunekit_runtime.building.folder import BuiltFolder

    with pytest.raises(BuildError, match="no name for a file"):
        BuiltFolder(bundle.built_dir).plan(name)
