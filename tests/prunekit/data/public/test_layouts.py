"""Trees as owners publish them: where they may lie, what is read of them, and what is said where something is amiss."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.images import read_image
from prunekit.data.public import dataset as public
from prunekit.data.public.dataset import PublicDataset, spread
from prunekit.data.public.layouts import LAYOUTS
from prunekit.data.public.tables import label_table
from prunekit.errors import DataError

INSIDE = [(name, inside) for name, layout in LAYOUTS.items() for inside in ("", *layout.inside)]


def opened(name, root, split="train"):
    return PublicDataset(LAYOUTS[name], root, split)


def refused(name, root, split="train"):
    with pytest.raises(DataError) as found:
        opened(name, root, split)
    return str(found.value)


def tells_what_belongs_there(name, message):
    layout = LAYOUTS[name]
    return all(part in message for part in (layout.address.split(" ")[0], "--root DIR", *layout.tree))


@pytest.mark.parametrize(("name", "inside"), INSIDE)
def test_a_set_is_found_in_its_root_and_where_its_archives_unpack(write_public, tmp_path, name, inside):
    write_public(name, f"data/{inside}")
    train, val = opened(name, tmp_path / "data"), opened(name, tmp_path / "data", "val")
    assert (len(train), len(val)) == (4, 2)
    assert train.classes == val.classes == label_table(LAYOUTS[name].table).classes
    names = [sample.name for sample in train] + [sample.name for sample in val]
    assert len(set(names)) == 6
    assert train.label_counts.counted == train.label_counts.images == 4
    assert sum(train.label_counts.pixels) + train.label_counts.ignored == sum(s.labels_HW.numel() for s in train)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_image_has_its_own_mask(write_public, name):
    root = write_public(name)
    found = [path for path in root.rglob("*.png") if "leftImg8bit" not in path.name]
    masks = {path.stem.replace("_gtFine_labelIds", "_leftImg8bit"): path for path in found}
    images = {path.stem: path for path in [*root.rglob("*.jpg"), *root.rglob("*_leftImg8bit.png")]}
    for split in ("train", "val"):
        for sample in opened(name, root, split):
            labels_HW = label_table(LAYOUTS[name].table).lookup.read(masks[sample.name], "")
            assert (sample.labels_HW.numpy() == labels_HW).all()
            pixels_HW3 = np.asarray(Image.open(images[sample.name]))
            assert (sample.image_3HW.permute(1, 2, 0).numpy() == pixels_HW3).all()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_set_gets_the_address_and_the_tree(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    wrong = {"": "needs its folder", "nowhere": "does not exist", "file": "is a file", "empty": "holds no "}
    for root, said in wrong.items():
        message = refused(name, tmp_path / root if root else "")
        assert said in message
        assert message.count("http") == LAYOUTS[name].address.count("http")
        assert tells_what_belongs_there(name, message)


@pytest.mark.parametrize(("name", "folder"), [(name, part) for name, it in LAYOUTS.items() for part in it.folders])
def test_a_missing_folder_is_named(write_public, name, folder):
    root = write_public(name)
    shutil.rmtree(root / folder)
    message = refused(name, root)
    assert f"holds no {folder}/." in message
    assert tells_what_belongs_there(name, message)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_root_too_deep_is_told_where_the_set_lies(write_public, name):
    root = write_public(name)
    assert f"--root {root})" in refused(name, root / LAYOUTS[name].folders[0])


@pytest.mark.parametrize("name", LAYOUTS)
def test_two_sets_under_one_root_are_refused(write_public, name):
    root = write_public(name)
    write_public(name, f"set/{LAYOUTS[name].inside[0]}")
    assert "Name one of them" in refused(name, root)


@pytest.mark.parametrize("name", LAYOUTS)
def test_labels_that_are_not_public_are_refused_with_the_reason(write_public, name):
    assert "not public" in refused(name, write_public(name), "test")


@pytest.mark.parametrize("part", ["image", "mask"])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_without_its_partner_is_named(write_public, name, split, part):
    root = write_public(name)
    pair = opened(name, root, split)._pairs[1]
    getattr(pair, part).unlink()
    message = refused(name, root, split)
    assert pair.name.removesuffix("_leftImg8bit") in message
    assert tells_what_belongs_there(name, message)


def test_other_files_beside_the_owner_s_are_not_read(write_public):
    root = write_public("cityscapes")
    for mask in root.rglob("*_labelIds.png"):
        for end in ("labelTrainIds.png", "color.png", "instanceIds.png", "polygons.json"):
            mask.with_name(mask.name.replace("labelIds.png", end)).write_text("not read")
    assert len(opened("cityscapes", root)) == 4
    for mask in root.rglob("*_labelIds.png"):
        mask.unlink()
    assert "labelIds.png" in refused("cityscapes", root)  # train ids do not step in


def test_masks_that_were_replaced_by_train_ids_are_refused(write_public):
    root = write_public("cityscapes")
    mask = min(root.rglob("gtFine/train/*/*.png"))
    Image.fromarray(np.array([[0, 18], [255, 3]], dtype=np.uint8)).save(mask)
    assert "holds 255" in refused("cityscapes", root)


def test_a_city_with_images_or_masks_alone_is_named(write_public):
    root = write_public("cityscapes")
    shutil.rmtree(root / "gtFine/train/ulm")
    assert "'ulm'" in refused("cityscapes", root)
    shutil.rmtree(root / "leftImg8bit/train")
    (root / "leftImg8bit/train").mkdir()
    assert "no folder of a city" in refused("cityscapes", root)


def test_coco_masks_may_lie_in_stuffthingmaps_and_beside_converted_ones(write_public):
    root = write_public("coco-stuff")
    for mask in list(root.rglob("*.png")):
        mask.with_name(f"{mask.stem}_labelTrainIds.png").write_text("not read")
    before = opened("coco-stuff", root)
    (root / "annotations").rename(root / "stuffthingmaps")
    after = opened("coco-stuff", root)
    assert before.label_counts == after.label_counts
    shutil.copytree(root / "stuffthingmaps", root / "annotations")
    assert "both annotations/train2017 and stuffthingmaps/train2017" in refused("coco-stuff", root)
    for folder in ("annotations", "stuffthingmaps"):
        shutil.rmtree(root / folder)
    assert "neither annotations/train2017 nor stuffthingmaps/train2017" in refused("coco-stuff", root)


def test_voc_masks_are_palette_pngs(write_public):
    root = write_public("voc")
    plain = opened("voc", root)
    samples = [sample.labels_HW for sample in plain]
    for mask in root.rglob("SegmentationClass/*.png"):
        image = Image.open(mask)
        image.putpalette([part for colour in plain.classes.palette for part in colour])
        assert image.mode == "P"
        image.save(mask)
    assert all((sample.labels_HW == labels).all() for sample, labels in zip(opened("voc", root), samples, strict=True))


def test_only_what_the_list_names_is_read(write_public):
    root = write_public("voc")
    lists = root / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("2007_000002\n\n2007_000000 \n")
    assert [sample.name for sample in opened("voc", root)] == ["2007_000002", "2007_000000"]
    for text, said in (("", "is empty"), ("a\n", "no .jpg"), ("../a\n..\n", "no .jpg"), ("\xff", "no .jpg")):
        (lists / "train.txt").write_text(text)
        assert said in refused("voc", root)
    (lists / "train.txt").write_text("2007_000002\n2007_000000\n2007_000002\n")
    assert "names 2007_000002 twice" in refused("voc", root)
    (lists / "train.txt").write_bytes(b"\xff\n")
    assert "cannot be read" in refused("voc", root)
    (lists / "train.txt").unlink()
    assert "cannot be read" in refused("voc", root)


def test_lists_of_paths_and_other_names_of_the_augmented_list(write_public):
    root = write_public("voc-aug")
    lists = root / "ImageSets/Segmentation"
    before = [sample.name for sample in opened("voc-aug", root)]
    text = "".join(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in before)
    (lists / "train_aug.txt").write_text(text)
    assert "both trainaug.txt and train_aug.txt" in refused("voc-aug", root)
    (lists / "trainaug.txt").unlink()
    assert [sample.name for sample in opened("voc-aug", root)] == before
    (lists / "train_aug.txt").unlink()
    assert "neither trainaug.txt nor train_aug.txt" in refused("voc-aug", root)


def test_a_training_list_that_names_validation_images_is_refused(write_public):
    root = write_public("voc-aug")
    with (root / "ImageSets/Segmentation/trainaug.txt").open("a") as file:
        file.write("2007_000010\n")
    assert "1 image(s) of trainaug.txt are also in val.txt, such as '2007_000010'" in refused("voc-aug", root)


def test_plain_voc_takes_no_notice_of_the_augmented_list(write_public):
    root = write_public("voc")
    before = opened("voc", root).label_counts
    (root / "ImageSets/Segmentation/trainaug.txt").write_text("2007_000000\n")
    assert opened("voc", root).label_counts == before


def test_a_part_of_a_large_set_is_checked_at_once_and_the_rest_when_read(write_public, monkeypatch):
    monkeypatch.setattr(public, "CHECKED", 2)  # 4 images: the first and the third
    root = write_public("ade20k")
    mask = root / "annotations/training/ADE_train_00000003.png"
    Image.new("L", (32, 24), 151).save(mask)
    train = opened("ade20k", root)
    assert (train.label_counts.counted, train.label_counts.images) == (2, 4)
    assert sum(train.label_counts.pixels) + train.label_counts.ignored == 2 * 32 * 24
    with pytest.raises(DataError, match="holds 151 at 768 pixels"):
        train[3]
    Image.new("L", (32, 24), 151).save(mask.with_name("ADE_train_00000002.png"))
    assert "ADE_train_00000002" in refused("ade20k", root)


@given(st.integers(0, 500), st.integers(1, 300))
def test_what_is_checked_is_spread_over_all(count, taken):
    places = spread(range(count), taken)
    assert len(places) == min(count, taken)
    gaps = np.diff([*places, count])
    assert (gaps > 0).all()
    assert not places or (places[0] == 0 and gaps.max() - gaps.min() <= 1)


def test_sizes_that_differ_are_refused(write_public):
    root = write_public("ade20k")
    Image.new("L", (30, 24)).save(root / "annotations/training/ADE_train_00000002.png")
    assert "same size" in refused("ade20k", root)


def test_exif_data_do_not_turn_an_image_of_a_published_set(write_public):
    root = write_public("cityscapes")
    before = opened("cityscapes", root)[0]
    path = min(root.glob("leftImg8bit/train/*/*.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.open(path).save(path, exif=exif)
    with pytest.raises(DataError, match="rotated by its EXIF data"):
        read_image(path)
    after = opened("cityscapes", root)[0]
    assert (after.image_3HW == before.image_3HW).all()
    assert (after.labels_HW == before.labels_HW).all()


def test_ignored_pixels_are_counted_as_such(write_public):
    root = write_public("ade20k")
    for mask in (root / "annotations/training").iterdir():
        Image.new("L", (32, 24)).save(mask)
    train = opened("ade20k", root)
    assert train.label_counts.ignored_share == 1
    assert (train[0].labels_HW == IGNORE_INDEX).all()
