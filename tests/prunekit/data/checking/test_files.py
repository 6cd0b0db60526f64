"""Files are matched as a data set matches them, and what it refuses is listed whole."""

import unicodedata

import numpy as np
import pytest

from prunekit.data.checking.files import match
from prunekit.data.files.pattern import Place
from prunekit.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from prunekit.data.pairs import find_pairs
from prunekit.errors import DataError

STEMS = ("a", "b", "c", "d", "é", unicodedata.normalize("NFD", "é"))
SUFFIXES = (".png", ".jpg", ".PNG", ".txt")


def where(images, masks):
    return (images, Place("{name}.*", IMAGE_SUFFIXES)), (masks, Place("{name}.*", MASK_SUFFIXES))


@pytest.mark.drawn(60)
def test_every_file_is_listed_once_and_pairs_are_those_of_the_data_set(tmp_path, seed):
    rng = np.random.default_rng(seed)
    folders = tmp_path / "images", tmp_path / "masks"
    for folder in folders:
        folder.mkdir()
        for stem in rng.choice(STEMS, size=rng.integers(1, 4), replace=False):
            (folder / f"{stem}{rng.choice(SUFFIXES, p=(0.7, 0.1, 0.1, 0.1))}").touch()
    if rng.random() < 0.2:
        (folders[0] / "more").mkdir()
        (folders[0] / "more" / "a.png").touch()
    found = match("train", *where(*folders))
    listed = [path for pair in found.pairs for path in (pair.image, pair.mask)]
    listed += [*found.images_alone, *found.masks_alone, *found.in_the_way, *found.not_read]
    assert sorted(listed) == sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    try:
        pairs = find_pairs(*folders)
    except DataError:
        assert found.images_alone or found.masks_alone or found.in_the_way or not found.pairs
    else:
        assert found.pairs == tuple(pairs)
        assert not [*found.images_alone, *found.masks_alone, *found.in_the_way]


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").touch()
    root = tmp_path, Place("images/{name}.*", (".png",)), tmp_path, Place("masks/{name}.*", (".png",))
    found = match("val", root[:2], root[2:])
    assert len(found.missing) == 1
    assert f"{tmp_path / 'masks'} does not exist" in found.missing[0]
    assert [path.name for path in found.images_alone] == ["a.png"]
