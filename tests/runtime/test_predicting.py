"""What is found, what results are called, how labels are drawn, and the device's command from end to end."""

import json
import os
from pathlib import Path, PurePath

import numpy as np
import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.classes import classes_beside
from prunekit_runtime.errors import ContractError, PictureError
from prunekit_runtime.pictures.png_writer import encode_picture
from prunekit_runtime.pictures.reading import SUFFIXES, read_picture
from prunekit_runtime.predicting.drawing import Style, contours, overlay, side_by_side
from prunekit_runtime.predicting.job import chosen_kinds
from prunekit_runtime.predicting.naming import unique_stems
from prunekit_runtime.predicting.sources import find_sources
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.running.ort import OrtRunner

CLASSES = {"names": ["road", "sky", "tree", "car"], "palette": [[9, 9, 9], [0, 0, 255], [0, 255, 0], [255, 0, 0]]}


def found(arguments, **options):
    return [str(source.name) for source in find_sources([Path(a) for a in arguments], SUFFIXES, **options).sources]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "deep/er/c.ppm", "deep/c.png", ".hidden/d.png", ".d.png", "note.txt"):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path("photos")


def test_files_folders_and_patterns(photos):
    assert found(["photos"]) == ["a.JPG", "b.png", "deep/c.png", "deep/er/c.ppm"]
    assert find_sources([photos], SUFFIXES).others == 1
    assert found(["photos/b.png"]) == ["b.png"]
    assert found(["photos/note.txt"]) == ["note.txt"]
    assert found(["photos/**/c.*"]) == ["deep/c.png", "deep/er/c.ppm"]
    assert found(["photos/deep/*.png", "photos/b.png"]) == ["deep/c.png", "b.png"]
    assert found(["photos/deep", "photos"]) == [
        "photos/deep/c.png",
        "photos/deep/er/c.ppm",
        "photos/a.JPG",
        "photos/b.png",
    ]
    assert found(["photos/b.png", "photos/./b.png"]) == ["b.png"]


def test_results_are_no_pictures_and_links_do_not_go_round(photos):
    (photos / "deep/up").symlink_to("..")
    assert found(["photos"], leave_out=photos / "deep/er") == ["a.JPG", "b.png", "deep/c.png"]
    assert found(["photos/**/*.p*"], leave_out=photos / "deep") == ["b.png"]


@pytest.mark.parametrize("argument", ["nowhere", "nowhere/*.png", "photos/*.gif", "photos/deep/er/*.txt"])
def test_nothing_found_is_one_error(photos, argument):
    with pytest.raises(PictureError, match=r"does not exist|holds no"):
        found([argument])


def test_a_name_with_wild_cards_in_it_is_a_name(photos):
    (photos / "[1].png").touch()
    assert found(["photos/[1].png"]) == ["[1].png"]


@pytest.mark.drawn(50)
def test_stems_are_kept_and_never_shared(seed):
    draw = np.random.default_rng(seed)
    letters = ["a", "A", "é", "e\u0301", "a.png", "b-2", "b", os.fsdecode(b"\xff")]
    suffixes = [".png", ".PNG", ".jpg", ".tiff"]
    drawn = {f"{draw.choice(['', 'f/'])}{draw.choice(letters)}{draw.choice(suffixes)}" for _ in range(12)}
    names = [PurePath(name) for name in sorted(drawn)]
    stems = unique_stems(names)
    assert len({str(stem).casefold() for stem in stems}) == len(names)
    for name, stem in zip(names, stems, strict=True):
        assert stem.parent == name.parent
        assert stem.name.startswith(name.stem)


def test_names_of_pictures_that_share_a_stem():
    names = ["a.jpg", "a.png", "f/a.png", "a.png.jpg", "B.png", "b.png"]
    stems = [str(stem) for stem in unique_stems([PurePath(name) for name in names])]
    assert stems == ["a.jpg", "a.png", "f/a", "a.png-2", "B.png", "b.png-2"]


def test_drawings():
    image_HW3 = np.full((4, 6, 3), 100, dtype=np.uint8)
    labels_HW = np.zeros((4, 6), dtype=np.uint8)
    labels_HW[:, 3:] = 1
    style = Style(((0, 0, 0), (200, 0, 50)), alpha=0.25)
    colours_HW3 = style.colours(labels_HW)
    mixed = overlay(image_HW3, colours_HW3, 0.25)
    assert mixed[0, 0].tolist() == [75, 75, 75]
    assert mixed[0, 5].tolist() == [125, 75, 88]
    lines = contours(image_HW3, labels_HW, style)
    assert lines[2].tolist() == [[100] * 3, [100] * 3, [0] * 3, [200, 0, 50], [100] * 3, [100] * 3]
    pair = side_by_side(image_HW3, colours_HW3)
    assert pair.shape == (4, 16, 3)
    np.testing.assert_array_equal(pair[:, 10:], colours_HW3)
    assert style.colours(np.array([[255]], dtype=np.uint8)).tolist() == [[[0, 0, 0]]]


def test_wide_contours_are_parted_by_a_dark_line():
    labels_HW = np.zeros((480, 480), dtype=np.uint8)
    labels_HW[:, 240:] = 1
    lines = contours(np.full((480, 480, 3), 100, np.uint8), labels_HW, Style(((0, 0, 0), (200, 0, 50))))
    assert lines[9, 236:244, 0].tolist() == [100, 0, 0, 20, 20, 200, 200, 100]


def test_what_is_drawn_is_checked():
    assert chosen_kinds(["mask,contour", "mask"]) == ("mask", "contour")
    assert chosen_kinds([]) == ("mask", "overlay")
    with pytest.raises(PictureError, match="got 'masks'"):
        chosen_kinds(["masks"])
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(PictureError, match="--alpha"):
            Style((), alpha)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"names": [], "palette": []}',
        '{"names": ["a"], "palette": [[0, 0]]}',
        '{"names": ["a"], "palette": [[0, 0, 256]]}',
        '{"names": [1], "palette": [[0, 0, 0]]}',
        '{"names": ["a"], "palette": [[0, 0, true]]}',
        "nonsense",
    ],
)
def test_damaged_classes_are_one_error(tmp_path, content):
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(ContractError, match=r"classes\.json"):
        classes_beside(tmp_path / "model.onnx")


@pytest.fixture
def model(write_onnx, tmp_path, monkeypatch):
    """A model with its contract and classes, and three pictures of two sizes; the working folder holds them."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    path = write_onnx()
    (tmp_path / "preprocessing.json").write_text(json.dumps(Preprocessing(0, 0, pad_multiple=8).to_json()))
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    draw = np.random.default_rng(0)
    for name, size in (("a.png", (12, 20)), ("sub/b.png", (12, 20)), ("c.png", (9, 7))):
        picture = tmp_path / "photos" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(encode_picture(draw.integers(0, 256, (*size, 3), dtype=np.uint8)))
    return path


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_the_command_labels_a_folder(model, capsys):
    assert main(["predict", str(model), "photos", "--out", "out", "--as", "mask,contour", "--batch-size", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    names = ["a.png", "c.png", "sub/b.png"]
    assert written("out") == [f"{kind}/{name}" for kind in ("contour", "mask") for name in names]
    assert report["written"] == 3
    assert sum(report["pixels"]) == 2 * 12 * 20 + 9 * 7
    assert report["classes"] == CLASSES["names"]
    assert set(report["seconds"]) == {"decoding", "preparing", "network", "labels", "writing"}
    assert sum(report["seconds"].values()) <= report["total_s"]
    contract = Preprocessing(0, 0, pad_multiple=8)
    with OrtRunner(model) as runner:
        for name in names:
            image_HW3 = read_picture(Path("photos", name))
            labels_HW = contract.restore_labels(runner.run(contract.prepare(image_HW3)), *image_HW3.shape[:2])
            colours = np.array(CLASSES["palette"], dtype=np.uint8)[labels_HW]
            np.testing.assert_array_equal(read_picture(Path("out/mask", name)), colours)


def test_one_bad_picture_stops_no_other(model, capsys):
    Path("photos/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["predict", str(model), "photos", "--out", "out", "--as", "mask"]) == 1
    shown = capsys.readouterr()
    assert "No result: photos/bad.png is damaged" in shown.err
    assert [failed["picture"] for failed in json.loads(shown.out)["failed"]] == ["photos/bad.png"]
    assert len(written("out")) == 3


def test_nothing_is_written_over(model, capsys):
    command = ["predict", str(model), "photos", "--out", "out", "--as", "mask"]
    assert main(command) == 0
    before = Path("out/mask/a.png").stat().st_ino
    assert main([*command, "--alpha", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert Path("out/mask/a.png").stat().st_ino == before
    assert main([*command, "--overwrite"]) == 0
    assert Path("out/mask/a.png").stat().st_ino != before


def test_a_picture_is_never_written_over_by_its_own_mask(model, capsys):
    Path("photos").rename("mask")
    before = Path("mask/a.png").read_bytes()
    assert main(["predict", str(model), "mask/a.png", "--out", ".", "--as", "mask", "--overwrite"]) == 2
    assert "one of the pictures" in capsys.readouterr().err
    assert Path("mask/a.png").read_bytes() == before


def test_a_model_of_other_classes_is_refused(model, capsys):
    fewer = {key: values[:3] for key, values in CLASSES.items()}
    Path("classes.json").write_text(json.dumps(fewer))
    assert main(["predict", str(model), "photos", "--out", "out"]) == 1
    assert "gives 4 classes" in capsys.readouterr().err
    assert not Path("out").exists()
    Path("classes.json").unlink()
    assert main(["predict", str(model), "photos", "--out", "out"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == [f"class {number}" for number in range(4)]


def test_names_that_are_no_utf_8_and_as_long_as_can_be(model):
    for name in (os.fsdecode(b"photos/caf\xe9.png"), f"photos/{'x' * 251}.png"):
        Path("photos/a.png").rename(name)
        Path("photos/c.png").rename("photos/a.png") if Path("photos/c.png").exists() else None
    assert main(["predict", str(model), "photos", "--out", "out", "--as", "mask"]) == 0
    assert {os.fsencode(path.name) for path in Path("out/mask").glob("*.png")} == {b"caf\xe9.png", b"x" * 251 + b".png"}


def test_ctrl_c_keeps_what_is_done_and_says_so(model, capsys, monkeypatch):
    calls = iter(range(10))
    restore = Preprocessing.restore_labels

    def interrupted(self, *arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return restore(self, *arguments)

    monkeypatch.setattr(Preprocessing, "restore_labels", interrupted)
    assert main(["predict", str(model), "photos", "--out", "out", "--as", "mask"]) == 130
    assert "2 pictures are done" in capsys.readouterr().err
    assert written("out") == ["mask/a.png", "mask/c.png"]
