"""Patterns of images and masks: what is written below them is found, all of it, and what is missing is named."""

import json
import os
import re
import shlex
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from prunekit.data.folder import FolderDataset
from prunekit.data.pairs import find_pairs, match_pairs, patterns
from prunekit.errors import DataError
from prunekit.recipe import DataConfig
from prunekit_runtime.text import printable

DRAWN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LAYOUTS = [
    ("{split}/images/{name}.jpg", "{split}/masks/{name}.png"),
    ("images/{split}/{name}.jpg", "annotations/{split}/{name}_mask.png"),
    ("leftImg8bit/{split}/{name}_leftImg8bit.png", "gtFine/{split}/{name}_gtFine_labelIds.png"),
    ("JPEGImages/{split}_{name}.jpeg", "Labels/{split}/{name}.png"),
    ("{split}/{name}/rgb.jpg", "{split}/{name}/label.png"),
    ("{split}/{name}.jpg", "{split}/{name}.png"),
    ("{split}/{name}.bmp", "{split}/{name}_mask.png"),
    ("{split:training|validation}/{name}.tif", "{split:training|validation}/mask_{name}.png"),
    ("{name}/{split}/{name}.jpg", "{name}/{split}/{name}.png"),
]
STEMS = st.text(st.sampled_from("aéü가1_ .-"), min_size=1, max_size=6).filter(
    lambda text: text.strip(" .") == text and "__" not in text and not text.startswith("_")
)
NAMES = st.lists(STEMS, min_size=1, max_size=3).map("/".join)
SPLITS = {"train": "training", "val": "validation"}


def filled(pattern, split, name):
    text = re.sub(r"\{split:[^}]*\}", SPLITS[split], pattern).replace("{split}", split)
    return text.replace("{name}", name)


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@DRAWN
@given(
    st.sampled_from(LAYOUTS),
    st.dictionaries(NAMES, st.sampled_from(["train", "val"]), min_size=1, max_size=5),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from(["NFC", "NFD"]),
)
def test_what_is_written_by_a_pattern_is_found_by_it(tmp_path_factory, layout, names, one, two):
    root = tmp_path_factory.mktemp("data")
    for name, split in names.items():
        for pattern, form in zip(layout, (one, two), strict=True):
            touch(root, unicodedata.normalize(form, filled(pattern, split, name)))
    touch(root, ".hidden/a.jpg", "notes.txt")
    for split in set(names.values()):
        found = match_pairs(root, patterns(*layout), split)
        wanted = sorted(unicodedata.normalize("NFC", name) for name, own in names.items() if own == split)
        assert [pair.key for pair in found] == wanted
        for pair in found:
            for pattern, path in zip(layout, (pair.image, pair.mask), strict=True):
                below = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
                assert below == unicodedata.normalize("NFC", filled(pattern, split, pair.key))


@pytest.mark.parametrize(
    ("images", "masks"),
    [("img/{name}", "lbl/{name}"), ("img/{name}.*", "lbl/{name}.*"), ("i*/{name}", "lb*/{name}_*.png")],
)
def test_suffixes_may_be_left_open_and_stars_stand_for_anything(tmp_path, images, masks):
    ending = "_x.png" if masks.endswith("*.png") else ".PNG"
    touch(tmp_path, "img/a.JPG", "img/city/b.png", f"lbl/a{ending}", f"lbl/city/b{ending}")
    assert [pair.key for pair in match_pairs(tmp_path, patterns(images, masks), "train")] == ["a", "city/b"]


def test_images_and_masks_may_lie_in_one_folder(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png", "b.jpg", "b_mask.png")
    found = match_pairs(tmp_path, patterns("{name}", "{name}_mask"), "train")
    assert [(pair.image.name, pair.mask.name) for pair in found] == [("a.png", "a_mask.png"), ("b.jpg", "b_mask.png")]


def test_masks_of_all_splits_may_lie_together(tmp_path):
    touch(tmp_path, "train/a.jpg", "val/b.jpg", "masks/a.png", "masks/b.png", "masks/spare.png")
    named = patterns("{split}/{name}.jpg", "masks/{name}.png")
    assert [pair.key for pair in match_pairs(tmp_path, named, "train")] == ["a"]
    assert [pair.key for pair in match_pairs(tmp_path, named, "val")] == ["b"]


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        ("images/a.jpg", "masks/{name}.png", r"lacks \{name\}"),
        ("images/{nmae}.jpg", "masks/{name}.png", r"lacks \{name\}"),
        ("images/{name}/{id}.jpg", "masks/{name}.png", "braces"),
        ("/data/{name}.jpg", "masks/{name}.png", "no path below"),
        ("../{name}.jpg", "masks/{name}.png", "no path below"),
        ("images//{name}.jpg", "masks/{name}.png", "no path below"),
        ("images\\{name}.jpg", "masks/{name}.png", "no path below"),
        ("images/{name}.gif", "masks/{name}.png", r"'\.gif'; images are read from \.jpg"),
        ("images/{name}.jpg", "masks/{name}.jpg", r"'\.jpg'; masks are read from \.png"),
        ("images/{name}.png", "images/{name}.png", "same pattern"),
        ("images/{name}.png", "{split}/{name}.png", "not. Add it there too"),
        ("{split:a}/{name}.png", "{split:a}/m_{name}.png", "two or three names"),
        ("{split:a|a}/{name}.png", "{split:a|b}/m_{name}.png", "two or three names"),
        ("{split:a|../b}/{name}.png", "{split:a|b}/m_{name}.png", "more than one folder"),
        ("{split:a|b}/{split}/{name}.png", "{split:a|b}/m_{name}.png", "in two ways"),
        ("*/*/*/*/*/{name}.png", "masks/{name}.png", "4 stars"),
    ],
)
def test_mistakes_in_a_pattern_are_named(tmp_path, images, masks, said):
    with pytest.raises(DataError, match=said):
        patterns(images, masks)


def test_the_test_split_needs_a_name_where_two_are_given():
    named = patterns("{split:a|b}/{name}.png", "{split:a|b}/m_{name}.png")
    with pytest.raises(DataError, match="none is test"):
        match_pairs(None, named, "test")


@DRAWN
@given(
    st.lists(st.integers(0, 99).map("f{:02d}".format), min_size=1, max_size=7, unique=True),
    st.sampled_from(
        [
            ("", "", "", "_mask"),
            ("", "", "", "_labelIds"),
            ("", "", "mask_", ""),
            ("", "_sat", "", "_mask"),
            ("im", "", "gt", ""),
        ]
    ),
    st.sampled_from(["", "city/"]),
)
def test_the_pattern_that_an_error_advises_is_the_right_one(tmp_path_factory, names, affixes, folder):
    root = tmp_path_factory.mktemp("data")
    before, after, mask_before, mask_after = affixes
    if folder and mask_before:
        return  # a name that begins anew in a folder within is no affix of the whole
    for name in names:
        touch(root, f"train/images/{folder}{before}{name}{after}.jpg")
        touch(root, f"train/masks/{folder}{mask_before}{name}{mask_after}.png")
    with pytest.raises(DataError) as caught:
        match_pairs(root, patterns("{split}/images/{name}.*", "{split}/masks/{name}.*"), "train")
    words = shlex.split(str(caught.value).partition("by that alone: ")[2].removesuffix("."))
    assert words[::2] == ["--images", "--masks"], str(caught.value)
    assert len(match_pairs(root, patterns(words[1], words[3]), "train")) == len(names)


def test_the_nearest_names_are_shown_first(tmp_path):
    touch(tmp_path, *(f"images/{number:04d}.jpg" for number in range(300)), "images/street_7.jpg")
    touch(tmp_path, *(f"masks/{number:04d}.png" for number in range(400)), "masks/street_07.png")
    with pytest.raises(DataError, match=r"street_7\.jpg \(street_07\.png, 0300\.png, .* and 96 more there without"):
        match_pairs(tmp_path, patterns("images/{name}", "masks/{name}"), "train")


def test_files_that_the_pattern_does_not_fit_are_shown(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a_color.png", "masks/a_labelIds.png")
    with pytest.raises(DataError, match=r"as masks/\{name\}_trainIds\.png\): a\.jpg \(a_color\.png there, which the"):
        match_pairs(tmp_path, patterns("images/{name}.jpg", "masks/{name}_trainIds.png"), "train")
    with pytest.raises(DataError, match=r"holds no \.bmp files; a\.jpg there"):
        match_pairs(tmp_path, patterns("images/{name}.bmp", "masks/{name}_trainIds.png"), "train")


def test_a_folder_of_nearly_that_name_is_shown(tmp_path):
    touch(tmp_path, "image/train/a.jpg", "masks/train/a.png")
    with pytest.raises(DataError, match=r"images does not exist\. Is it image\?"):
        match_pairs(tmp_path, patterns("images/{split}/{name}", "masks/{split}/{name}"), "train")
    with pytest.raises(DataError, match=r"image/val does not exist\. There are train\."):
        match_pairs(tmp_path, patterns("image/{split}/{name}", "masks/{split}/{name}"), "val")


def test_links_are_followed_and_not_round(tmp_path):
    touch(tmp_path, "disk/a.jpg", "masks/linked/a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/again").symlink_to(tmp_path / "images")
    assert [pair.key for pair in find_pairs(tmp_path / "images", tmp_path / "masks")] == ["linked/a"]


def test_the_folder_data_set_is_read_by_patterns(tmp_path, rng):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    for split, count in (("training", 3), ("valid", 2)):
        for number in range(count):
            for part, array in (("img", rng.integers(0, 9, (8, 8, 3))), ("ann", rng.integers(0, 2, (8, 8)))):
                path = tmp_path / f"{part}/{split}/city{number % 2}/{number}{'_ids' if part == 'ann' else ''}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    how = {"images": "img/{split:training|valid}/{name}", "masks": "ann/{split:training|valid}/{name}_ids.png"}
    names = {split: [sample.name for sample in FolderDataset(tmp_path, split, **how)] for split in ("train", "val")}
    assert names == {"train": ["city0/0", "city0/2", "city1/1"], "val": ["city0/0", "city1/1"]}
    drawn = [FolderDataset(tmp_path, split, images="img/{name}", masks="ann/{name}_ids") for split in ("train", "val")]
    assert sum(map(len, drawn)) == 5
    with pytest.raises(DataError, match=r"neither images/ nor train/ and val/ \(folders there: ann, img\).*--images"):
        FolderDataset(tmp_path, "train")


def test_a_split_of_another_name_is_found_in_the_advice(tmp_path):
    touch(tmp_path, "train/images/a.jpg", "train/masks/a.png", "valid/images/b.jpg", "valid/masks/b.png", "classes.txt")
    (tmp_path / "classes.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"no val \(folders there: train, valid\)") as caught:
        FolderDataset(tmp_path, "val")
    images, masks = re.findall(r"'([^']*\{name\})'", str(caught.value))
    assert [pair.key for pair in match_pairs(tmp_path, patterns(images, masks), "val")] == ["b"]


def test_the_recipe_takes_both_patterns_or_none():
    assert DataConfig(name="folder", images="a/{name}", masks="b/{name}").masks == "b/{name}"
    with pytest.raises(ValueError, match="go together"):
        DataConfig(name="folder", images="a/{name}")
    with pytest.raises(ValueError, match="belongs to the folder"):
        DataConfig(name="shapes", images="a/{name}", masks="b/{name}")


@DRAWN
@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=3), st.sampled_from(LAYOUTS[:6]))
def test_names_of_any_bytes_are_found_and_shown_as_text(tmp_path_factory, parts, layout):
    parts = [part.translate(None, b"/\0.{}") or b"\xff" for part in parts]
    name = os.fsdecode(b"/".join(parts))
    root = tmp_path_factory.mktemp("data")
    touch(root, *(filled(pattern, "train", name) for pattern in layout))
    (pair,) = match_pairs(root, patterns(*layout), "train")
    assert json.loads(json.dumps(pair.name)).encode().decode() == pair.name  # no lone surrogates
    pair.mask.unlink()
    with pytest.raises(DataError, match=r"1 image\(s\)") as caught:
        match_pairs(root, patterns(*layout), "train")
    printable(str(caught.value)).encode()


def test_a_root_that_is_no_utf8_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"a recipe is UTF-8.*or link to it"):
        DataConfig(name="folder", root="Stra\udcdfe")


def test_files_in_folders_are_named_with_them(tmp_path):
    touch(tmp_path, "images/city/a.jpg", "masks/town/a.png", "masks/city/b.tif", "images/city/b.jpg")
    with pytest.raises(DataError, match=r"city/a\.jpg, city/b\.jpg \(city/b\.tif there: masks are read from \.png"):
        find_pairs(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "masks/city/b.tif").rename(tmp_path / "masks/city/b.png")
    with pytest.raises(DataError, match=r"city/a\.jpg \(town/a\.png there without an image\)"):
        find_pairs(tmp_path / "images", tmp_path / "masks")
