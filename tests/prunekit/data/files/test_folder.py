import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from prunekit.data.dataset import IGNORE_INDEX, ClassMap
from prunekit.data.folder import FolderDataset, read_mask
from prunekit.data.labels.class_list import ClassList
from prunekit.errors import DataError

CLASSES = ClassMap(("a", "b", "c", "d"), ((10, 0, 0), (0, 10, 0), (0, 0, 10), (200, 200, 200)))
LIST = ClassList(CLASSES, coloured=True, ignore_index=9, ignore_colour=(0, 0, 0))


def palette_png(labels, colours):
    mask = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    # 16 entries: Pillow stores as many bits a pixel as the palette needs, and 9 must fit.
    entries = [*colours, *[(0, 0, 0)] * (16 - len(colours))]
    mask.putpalette([part for colour in entries for part in colour])
    return mask


def as_colours(labels):
    table = np.zeros((256, 3), dtype=np.uint8)
    table[:4] = CLASSES.palette
    return Image.fromarray(table[labels])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 1, 2, 3, 9])
    ),
    st.sampled_from(["grey", "palette", "colour", "deep"]),
)
def test_every_kind_of_mask_gives_the_same_labels(tmp_path, stored, kind):
    images = {
        "grey": lambda: Image.fromarray(stored),
        "palette": lambda: palette_png(stored, CLASSES.palette),
        "colour": lambda: as_colours(stored),
        "deep": lambda: Image.fromarray(stored.astype(np.uint16)),
    }
    images[kind]().save(tmp_path / "mask.png")
    expected = np.where(stored == 9, IGNORE_INDEX, stored)
    assert np.array_equal(read_mask(tmp_path / "mask.png", LIST), expected)


def test_a_palette_that_contradicts_the_class_list_must_be_settled(tmp_path):
    path, stored = tmp_path / "mask.png", np.array([[0, 1], [1, 0]], dtype=np.uint8)
    palette_png(stored, CLASSES.palette[2:]).save(path)
    with pytest.raises(DataError, match='masks = "index" or masks = "colour"'):
        read_mask(path, LIST)
    by_colour = read_mask(path, ClassList(CLASSES, coloured=True, masks="colour"))
    by_index = read_mask(path, ClassList(CLASSES, coloured=True, masks="index"))
    assert np.array_equal(by_colour, stored + 2)
    assert np.array_equal(by_index, stored)


def test_an_unknown_colour_is_named(tmp_path):
    mask = np.zeros((4, 4, 3), dtype=np.uint8)
    mask[0, 0] = (12, 34, 56)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png.*\[12, 34, 56\]"):
        read_mask(tmp_path / "mask.png", LIST)


def test_colour_masks_need_colours_and_opacity(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="names none"):
        read_mask(tmp_path / "mask.png", ClassList(CLASSES, coloured=False))
    Image.new("RGBA", (2, 2), (10, 0, 0, 3)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="transparent"):
        read_mask(tmp_path / "mask.png", LIST)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_number_that_is_no_class_is_named(tmp_path, dtype):
    Image.fromarray(np.array([[0, 4], [1, 9]], dtype=dtype)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png holds 4 at 1 pixels"):
        read_mask(tmp_path / "mask.png", LIST)


def test_own_splits_are_read(folder_root):
    train, val = FolderDataset(folder_root, "train"), FolderDataset(folder_root, "val")
    assert [sample.name for sample in train] == [f"train_{number}" for number in range(4)]
    assert len(val) == 2
    assert train.classes.names == ("road", "sky", "traffic light")
    with pytest.raises(DataError, match="test/images"):
        FolderDataset(folder_root, "test")


def flat(root, write_pair, count):
    (root / "classes.txt").write_text("a\nb\nc\n")
    for number in range(count):
        write_pair(root / "images", root / "masks", f"frame_{number}")


@pytest.mark.parametrize("count", [2, 5, 23])
def test_a_drawn_split_covers_everything_once(tmp_path, write_pair, count):
    flat(tmp_path, write_pair, count)
    train, val = ([sample.name for sample in FolderDataset(tmp_path, split)] for split in ("train", "val"))
    assert sorted([*train, *val]) == sorted(f"frame_{number}" for number in range(count))
    assert len(val) == max(1, count // 5)


def test_a_drawn_split_hardly_moves_when_an_image_comes(tmp_path, write_pair):
    flat(tmp_path, write_pair, 20)
    before = {sample.name for sample in FolderDataset(tmp_path, "val")}
    write_pair(tmp_path / "images", tmp_path / "masks", "late")
    after = {sample.name for sample in FolderDataset(tmp_path, "val")}
    assert len(before - after) <= 1


def test_a_flat_folder_has_no_test_split_and_needs_two_images(tmp_path, write_pair):
    flat(tmp_path, write_pair, 1)
    for split in ("train", "test"):
        with pytest.raises(DataError, match="images"):
            FolderDataset(tmp_path, split)


def missing_mask(root):
    (root / "train/masks/train_1.png").unlink()
    return "train_1"


def missing_image(root):
    (root / "train/images/train_1.jpg").unlink()
    return "train_1"


def other_size(root):
    Image.new("RGB", (9, 9)).save(root / "train/images/train_1.jpg")
    return "train_1.*9x9.*24x32"


def twins(root):
    Image.new("RGB", (32, 24)).save(root / "train/images/train_1.png")
    return "share the stem 'train_1'"


def lossy_mask(root):
    (root / "train/masks/train_1.png").unlink()
    Image.new("L", (32, 24)).save(root / "train/masks/train_1.jpg")
    return "train_1"


def no_list(root):
    (root / "classes.toml").unlink()
    return "classes.toml"


def two_lists(root):
    (root / "classes.txt").write_text("a\n")
    return "both"


def two_layouts(root):
    (root / "images").mkdir()
    return "both images/"


def nothing(root):
    for name in ("train", "val"):
        shutil.rmtree(root / name)
    return "neither"


def empty(root):
    for path in (*(root / "train/images").iterdir(), *(root / "train/masks").iterdir()):
        path.unlink()
    return "holds no"


DAMAGES = [
    missing_mask, missing_image, other_size, twins, lossy_mask, no_list, two_lists, two_layouts, nothing, empty,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_at_open_and_named(folder_root, damage):
    said = damage(folder_root)
    with pytest.raises(DataError, match=said):
        FolderDataset(folder_root, "train")


def test_hidden_and_foreign_files_do_not_disturb(folder_root):
    (folder_root / "train/images/.DS_Store").write_text("x")
    (folder_root / "train/images/notes.txt").write_text("x")
    assert len(FolderDataset(folder_root, "train")) == 4


def test_the_class_list_may_lie_elsewhere(folder_root):
    (folder_root / "classes.toml").rename(folder_root / "list.toml")
    assert len(FolderDataset(folder_root, "train", class_list=folder_root / "list.toml").classes) == 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 65535), min_size=1, max_size=6, unique=True),
    st.data(),
)
def test_each_number_of_mask_values_is_the_class_at_its_place(tmp_path, values, data):
    colours = tuple((number, 0, 0) for number in range(len(values)))
    classes = ClassMap(tuple("abcdef"[: len(values)]), colours)
    listed = ClassList(classes, coloured=False, values=tuple(values))
    labels = data.draw(hnp.arrays(np.uint8, (3, 5), elements=st.integers(0, len(values) - 1)))
    stored = np.array(values, dtype=np.uint16)[labels]
    Image.fromarray(stored).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", listed), labels)
    stored[1, 2] = data.draw(st.integers(0, 65535).filter(lambda value: value not in (*values, 255)))
    Image.fromarray(stored).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=f"holds {stored[1, 2]} at 1 pixels"):
        read_mask(tmp_path / "mask.png", listed)
    if 255 not in values:
        stored[1, 2] = 255
        Image.fromarray(stored).save(tmp_path / "mask.png")
        assert read_mask(tmp_path / "mask.png", listed)[1, 2] == IGNORE_INDEX


def test_numbers_of_masks_and_colours_are_not_both_given(tmp_path):
    as_colours(np.zeros((2, 2), dtype=np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"data\.mask_values names numbers"):
        read_mask(tmp_path / "mask.png", ClassList(CLASSES, coloured=True, values=(0, 1, 2, 3)))


@pytest.mark.parametrize("kind", ["palette", "grey"])
def test_a_transparent_index_mask_must_be_settled(tmp_path, kind):
    path, stored = tmp_path / "mask.png", np.array([[0, 1], [1, 0]], dtype=np.uint8)
    mask = palette_png(stored, CLASSES.palette) if kind == "palette" else Image.fromarray(stored)
    mask.save(path, transparency=bytes([0, 255, 255, 255]) if kind == "palette" else 0)
    with pytest.raises(DataError, match="transparent in places"):
        read_mask(path, ClassList(CLASSES, coloured=True))
    assert np.array_equal(read_mask(path, ClassList(CLASSES, coloured=True, masks="index")), stored)
    mask.save(path, transparency=bytes([255] * 4) if kind == "palette" else 77)
    assert np.array_equal(read_mask(path, ClassList(CLASSES, coloured=True)), stored)


def test_a_mask_of_several_pictures_or_deep_colours_is_refused(tmp_path):
    frames = [Image.new("L", (4, 4), 1), Image.new("L", (4, 4), 2)]
    frames[0].save(tmp_path / "mask.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="several pictures"):
        read_mask(tmp_path / "mask.png", LIST)


def test_a_mask_turned_by_exif_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 4)).save(tmp_path / "mask.png", exif=exif)
    with pytest.raises(DataError, match="upright"):
        read_mask(tmp_path / "mask.png", LIST)
