"""Matching of images and masks: what is there is said, and Unicode forms do not part what belongs together."""

import os
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from prunekit.data.folder import FolderDataset
from prunekit.data.pairs import find_pairs
from prunekit.errors import DataError


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        (["a.png", "b.png"], ["a.tif", "b.tif"], r"a\.tif, b\.tif there: masks are read from \.png files.*as PNG"),
        (["a.jpg"], ["a.jpg"], r"a\.jpg there: masks are read from \.png"),
        (["a.gif"], ["a.png"], r"a\.gif there: images are read from \.jpg, \.jpeg, \.png.*Convert the images"),
        (["a.png"], ["a_mask.png"], r"a\.png \(a_mask\.png there without an image\)"),
        (["a.png"], ["A.png"], r"A\.png there without an image"),
        (["a.png"], [], r"masks are \.png files\). Add the masks"),
        ([], ["a.png"], r"a\.png .*Add the images"),
        ([f"{number}.png" for number in range(9)], [], r"4\.png and 4 more"),
        (["notes.txt"], [], r"holds no \.jpg.*notes\.txt there"),
    ],
)
def test_a_message_names_what_is_there_and_what_is_read(tmp_path, images, masks, said):
    touch(tmp_path / "images", *images)
    touch(tmp_path / "masks", *masks)
    with pytest.raises(DataError, match=said):
        find_pairs(tmp_path / "images", tmp_path / "masks")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.sampled_from("aéüÅ가\u1e69が 1"), min_size=1, max_size=6).filter(str.strip),
        min_size=1,
        max_size=4,
        unique_by=lambda stem: unicodedata.normalize("NFC", stem),
    ),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from(["NFC", "NFD"]),
)
def test_names_match_in_either_unicode_form(tmp_path_factory, stems, one, two):
    root = tmp_path_factory.mktemp("data")
    touch(root / "images", *(unicodedata.normalize(one, stem) + ".JPG" for stem in stems))
    touch(root / "masks", *(unicodedata.normalize(two, stem) + ".PNG" for stem in stems))
    pairs = find_pairs(root / "images", root / "masks")
    assert len(pairs) == len(stems)
    for pair in pairs:
        assert unicodedata.normalize("NFC", pair.image.stem) == unicodedata.normalize("NFC", pair.mask.stem)


def test_two_files_that_read_the_same_are_told_apart_by_neither(tmp_path):
    touch(tmp_path / "images", "\u00e9.png", "e\u0301.png")
    touch(tmp_path / "masks", "\u00e9.png")
    with pytest.raises(DataError, match=r"'\\xe9\.png' and 'e\\u0301\.png'.*Unicode form") as caught:
        find_pairs(tmp_path / "images", tmp_path / "masks")
    assert str(caught.value).isascii()


def pictures(root, stems):
    """Write a folder without splits; stems are bytes, as file systems have them."""
    (root / "classes.txt").write_text("a\nb\n")
    for part, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
        (root / part).mkdir()
        for stem in stems:
            Image.fromarray(np.ones(shape, dtype=np.uint8)).save(root / part / "t.png")
            os.rename(root / part / "t.png", os.path.join(os.fsencode(root / part), stem + b".png"))


def test_names_that_are_no_utf8_are_read_and_shown_as_text(tmp_path):
    pictures(tmp_path, [b"Stra\xdfe%03d" % number for number in range(12)])
    splits = [FolderDataset(tmp_path, split) for split in ("train", "val")]
    names = [sample.name for split in splits for sample in split]
    assert sorted(names) == [f"Stra\\xdfe{number:03d}" for number in range(12)]
    os.remove(os.path.join(os.fsencode(tmp_path), b"masks", b"Stra\xdfe003.png"))
    with pytest.raises(DataError, match=r"Stra\\xdfe003\.png"):
        FolderDataset(tmp_path, "train")


def test_the_drawn_split_is_the_same_in_either_unicode_form(tmp_path):
    drawn = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        root.mkdir()
        pictures(root, [unicodedata.normalize(form, f"é{number}").encode() for number in range(15)])
        drawn.append({unicodedata.normalize("NFC", sample.name) for sample in FolderDataset(root, "val")})
    assert drawn[0] == drawn[1]
