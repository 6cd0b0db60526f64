"""A bundle opens when it is whole and unchanged, and in no other case."""

import copy
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_runtime.bundle import open_bundle
from prunekit_runtime.bundle.manifest import FileEntry, Manifest, is_path_inside
from prunekit_runtime.errors import BundleError, BundleUsageError, PrunekitError


def test_a_whole_bundle_says_what_it_holds(folder):
    bundle = open_bundle(folder)
    assert [entry.name for entry in bundle.models] == ["fp32", "fp16"]
    assert bundle.models[1].input_shape == (None, 64, 96, 3)
    assert bundle.models[1].profile is not None
    assert bundle.models[1].profile["max"] == (4, 64, 96, 3)
    assert bundle.models[0].path(folder).read_bytes().endswith(b"a model")
    assert (bundle.contract.height, bundle.classes.names) == (32, ("road", "car"))
    assert (bundle.built_dir, bundle.reports_dir) == (folder / "built", folder / "reports")


def test_what_the_device_makes_may_lie_in_it(folder):
    for path in ("built/fp32.plan", "reports/check.json", "prunekit_runtime/__pycache__/errors.cpython-310.pyc"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("made here")
    open_bundle(folder)


@pytest.mark.parametrize(
    "path", ["models/fp32.onnx", "golden/00.png", "preprocessing.json", "prunekit_runtime/__init__.py", "NOTICE.txt"]
)
def test_a_changed_byte_is_refused_by_name(folder, path):
    content = (folder / path).read_bytes()
    (folder / path).write_bytes(content[:-1] + b"\x00" if content else b"\x00")
    with pytest.raises(BundleError, match=path):
        open_bundle(folder)


def test_a_missing_file_is_refused_by_name(folder):
    (folder / "golden/00.png").unlink()
    with pytest.raises(BundleError, match=r"golden/00\.png is missing"):
        open_bundle(folder)


@pytest.mark.parametrize("path", ["sitecustomize.py", "models/other.onnx", "numpy/__init__.py", "golden/built/x"])
def test_a_file_that_is_not_listed_is_refused_by_name(folder, path):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text("raise SystemExit")
    with pytest.raises(BundleError, match=path):
        open_bundle(folder)


def test_a_link_is_refused_even_to_the_same_bytes(folder, tmp_path):
    (folder / "NOTICE.txt").rename(tmp_path / "NOTICE.txt")
    (folder / "NOTICE.txt").symlink_to(tmp_path / "NOTICE.txt")
    with pytest.raises(BundleError, match="is a link"):
        open_bundle(folder)


def test_a_linked_folder_is_refused(folder, tmp_path):
    (folder / "golden").rename(tmp_path / "golden")
    (folder / "golden").symlink_to(tmp_path / "golden")
    with pytest.raises(BundleError, match="is a link"):
        open_bundle(folder)


@pytest.mark.parametrize("path", ["built", "reports", "prunekit_runtime/__pycache__"])
def test_a_link_in_the_place_of_what_the_device_makes_is_refused(folder, tmp_path, path):
    (folder / path).symlink_to(tmp_path)
    with pytest.raises(BundleError, match="is a link"):
        open_bundle(folder)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder):
    (folder / "NOTICE.txt").unlink()
    os.mkfifo(folder / "NOTICE.txt")
    with pytest.raises(BundleError, match=r"NOTICE\.txt"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("models/fp32.onnx", True),
        ("../other", False),
        ("/etc/passwd", False),
        ("models/../../x", False),
        ("models//x", False),
        ("./x", False),
        ("models/.hidden", False),
        ("built/fp32.plan", False),
        ("reports/x", False),
        ("bundle.json", False),
        ("a\x1b[2J", False),
        ("a\nb", False),
        ("a\\b", False),
        ("", False),
    ],
)
def test_paths_stay_inside(path, inside):
    assert is_path_inside(path) is inside


def test_a_path_outside_is_refused_before_it_is_read(folder, change):
    change(lambda values: values["files"].update({"../secret": {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="no path inside"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda values: values.update(version=2), "version is 2"),
        (lambda values: values.update(models=[]), "models"),
        (lambda values: values.pop("golden"), "lacks"),
        (lambda values: values.update(run="x"), "besides"),
        (lambda values: values["models"][0].update(file="models/none.onnx"), "not among its files"),
        (lambda values: values["models"][0].update(name="../x"), "no name for a file"),
        (lambda values: values["models"][0].update(precision="fp4"), "precision"),
        (lambda values: values["models"][0].update(graph="code"), "graph"),
        (lambda values: values["models"][1]["input"].update(dtype="float32"), "data type"),
        (lambda values: values["models"][0]["input"].update(shape=[1, 3, 1 << 40, 4]), "shape"),
        (lambda values: values["models"][0]["input"].update(shape=[1, 4, 32, 48]), "shape"),
        (lambda values: values["models"][0]["input"].update(shape=[True, 3, 32, 48]), "shape"),
        (lambda values: values["models"][1].update(profile=None), "no profile"),
        (lambda values: values["models"][1]["profile"].update(min=[5, 64, 96, 3]), "a profile asks for"),
        (lambda values: values["models"][1]["profile"].update(opt=[1, 32, 96, 3]), "a profile asks for"),
        (lambda values: values["models"].append(values["models"][0]), "names of their own"),
        (lambda values: values["files"]["NOTICE.txt"].update(bytes=-1), "size"),
        (lambda values: values["files"]["NOTICE.txt"].update(bytes=1 << 40), "size"),
        (lambda values: values["files"]["NOTICE.txt"].update(sha256="x"), "hash"),
        (lambda values: values["files"].pop("classes.json"), "does not list|does not belong"),
        (lambda values: values["golden"][0].update(picture="golden/99.png"), "not among its files"),
    ],
)
def test_a_manifest_that_says_anything_else_is_refused(folder, change, edit, reason):
    change(edit)
    with pytest.raises(BundleError, match=reason):
        open_bundle(folder)


def test_a_folder_without_a_bundle_says_so(tmp_path):
    with pytest.raises(BundleUsageError, match="holds no bundle"):
        open_bundle(tmp_path)


def test_the_model_is_chosen_by_name_or_precision_and_is_never_guessed(folder):
    bundle = open_bundle(folder)
    assert bundle.model().name == "fp32"
    assert bundle.model("fp16").name == "fp16"
    with pytest.raises(BundleUsageError, match="Did you mean"):
        bundle.model("fp61")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in items:
        found += [(value, key), *_places(inner)]
    return found


@given(data=st.data(), value=VALUES)
def test_any_value_at_any_place_is_read_or_refused_with_a_reason(whole, data, value):
    document = copy.deepcopy(whole)
    container, key = data.draw(st.sampled_from(_places(document)))
    container[key] = value
    refusal = ""
    try:
        assert Manifest.from_json(document).to_json() == document
    except ValueError as error:
        refusal = str(error)
    assert len(refusal) < 600


@pytest.fixture(scope="module")
def whole(models) -> Any:
    """Return a manifest that is read."""
    files = {path: FileEntry(1, "0" * 64) for path in ("models/fp32.onnx", "models/fp16.onnx", "golden/00.png")}
    manifest = Manifest("run", "prunekit", ("a",), models, (), files)
    return json.loads(json.dumps(manifest.to_json()))


@given(content=st.binary(max_size=300))
def test_any_bytes_in_the_place_of_the_manifest_are_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(PrunekitError):
        open_bundle(folder)
