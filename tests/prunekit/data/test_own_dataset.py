"""Data sets that users write: what they give arrives, what does not fit is one error, nothing runs unasked."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from prunekit.data.dataset import IGNORE_INDEX, ClassMap
from prunekit.data.registry import open_dataset
from prunekit.errors import DataError, UntrustedCodeError
from prunekit.recipe import DataConfig, parse_recipe

MODULE = "their_street"
IMAGE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
LABELS = np.zeros((4, 5), dtype=np.int64)


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Put a class in the place of a user's, and return a function that opens it."""

    def opened(items, *, config=None, **attributes):
        class Street:
            def __init__(self, root, split):
                self.root, self.split = root, split
                for key, value in ({"classes": ["a", "b"]} | attributes).items():
                    setattr(self, key, value)

            def __len__(self):
                return len(items)

            def __getitem__(self, index):
                item = items[index]
                return item() if callable(item) else item

        Street.__module__ = MODULE
        module = type(sys)(MODULE)
        module.Street = Street
        monkeypatch.setitem(sys.modules, MODULE, module)
        return open_dataset(DataConfig(name=f"python:{MODULE}:Street", **(config or {})), "train", trust_code=True)

    return opened


FORMS = {
    "numpy": np.asarray,
    "tensor": lambda array: torch.from_numpy(np.asarray(array)),
    "picture": lambda array: Image.fromarray(np.asarray(array).astype(np.uint8)),
    "list": lambda array: np.asarray(array),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 5), st.sampled_from(sorted(FORMS)), st.sampled_from(["uint8", "int16", "int64"]))
def test_images_and_labels_arrive_as_they_were_given(theirs, data, count, form, dtype):
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
    items, wanted = [], []
    for _ in range(data.draw(st.integers(1, 3))):
        height, width = data.draw(shapes)
        image_HW3 = data.draw(hnp.arrays(np.uint8, (height, width, 3)))
        labels_HW = data.draw(
            hnp.arrays(np.uint8, (height, width), elements=st.sampled_from([*range(count), IGNORE_INDEX]))
        )
        items.append((FORMS[form](image_HW3), FORMS[form](labels_HW.astype(dtype))))
        wanted.append((image_HW3, labels_HW))
    dataset = theirs(items, classes=[f"class {number}" for number in range(count)])
    assert len(dataset) == len(items)
    for sample, (image_HW3, labels_HW) in zip(dataset, wanted, strict=True):
        assert np.array_equal(sample.image_3HW.permute(1, 2, 0), image_HW3)
        assert np.array_equal(sample.labels_HW, labels_HW)
    assert [sample.name for sample in dataset] == [f"train-{place:05d}" for place in range(len(items))]


def test_classes_come_as_names_with_colours_or_as_a_class_map(theirs):
    items = [(IMAGE, LABELS, "first\x1b[2J")]
    assert theirs(items)[0].name == "first\\x1b[2J"
    assert theirs(items, classes={"a": (1, 2, 3), "b": [4, 5, 6]}).classes.palette == ((1, 2, 3), (4, 5, 6))
    assert theirs(items, classes=None, names=("x", "y")).classes.names == ("x", "y")
    own = ClassMap(("p", "q"), ((0, 0, 0), (1, 1, 1)))
    assert theirs(items, classes=own).classes == own


@pytest.mark.parametrize(("attribute", "setting"), [(-1, None), ([-1, 9], None), (7, (-1, 9)), (None, None)])
def test_ignored_labels_are_the_class_s_or_the_recipe_s(theirs, attribute, setting):
    labels = LABELS.copy()
    labels[0], labels[1] = 9, 9
    number = 9 if setting or attribute == [-1, 9] else None
    ignoring = {} if attribute is None else {"ignore_index": attribute}
    config = {"ignore_index": (9,)} if setting else {}
    if number is None:
        with pytest.raises(DataError, match=r"labels 9; the classes are 0 to 1.*--ignore-index"):
            theirs([(IMAGE, labels)], config=config, **ignoring)
    else:
        assert (theirs([(IMAGE, labels)], config=config, **ignoring)[0].labels_HW[:2] == IGNORE_INDEX).all()


def raising():
    raise KeyError("gone")


@pytest.mark.parametrize(
    ("items", "attributes", "said"),
    [
        ([], {}, "no samples of train"),
        ([IMAGE], {}, r"Sample 0 .* is ndarray .*Return \(image, labels\)"),
        ([(IMAGE,)], {}, r"Return \(image, labels\)"),
        ([(IMAGE.transpose(2, 0, 1), LABELS)], {}, r"\[3, 4, 5\] of uint8\. Channels come last"),
        ([(IMAGE / 255, LABELS)], {}, "float64"),
        ([(IMAGE[..., 0], LABELS)], {}, r"Return uint8 \[height, width, 3\]"),
        ([(IMAGE, LABELS[:2])], {}, "4x5 pixels and labels of 2x5"),
        ([(IMAGE, LABELS + 0.5)], {}, "whole numbers"),
        ([(IMAGE, LABELS[..., None])], {}, "whole numbers"),
        ([(IMAGE, LABELS - 3)], {}, "--ignore-index"),
        ([(IMAGE, LABELS + 7)], {}, "labels 7; the classes are 0 to 1, ignored is 255"),
        ([raising], {}, r"cannot give sample 0: KeyError: 'gone' \(test_own_dataset\.py, line \d+\)"),
        ([(IMAGE, LABELS)], {"classes": []}, "has no classes"),
        ([(IMAGE, LABELS)], {"classes": "road"}, "has no classes"),
        ([(IMAGE, LABELS)], {"classes": [1, 2]}, "are no names"),
        ([(IMAGE, LABELS)], {"classes": ["a", "a"]}, "unique"),
        ([(IMAGE, LABELS)], {"classes": {"a": "red"}}, "Write three numbers"),
        ([(IMAGE, LABELS)], {"ignore_index": 0}, "ignored and is the class 'a'"),
        ([(IMAGE, LABELS)], {"ignore_index": 0.5}, "ignore_index float 0.5"),
    ],
)
def test_what_does_not_fit_is_one_error_that_says_what_to_return(theirs, items, attributes, said):
    with pytest.raises(DataError, match=said):
        theirs(items, **attributes)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of somebody's, which leaves a trace when it is imported."""

    def write(text):
        (tmp_path / f"{MODULE}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{text}")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, MODULE, raising=False)
        return tmp_path / "ran"

    yield write
    sys.modules.pop(MODULE, None)


def own(attribute="Street"):
    return DataConfig(name=f"python:{MODULE}:{attribute}")


def test_nothing_is_imported_before_it_is_trusted(module):
    ran = module("class Street: pass\n")
    with pytest.raises(UntrustedCodeError, match=f"python:{MODULE}:Street.*--trust-code"):
        open_dataset(own(), "train")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("text", "attribute", "said"),
    [
        ("class Street: pass\n", "Stret", "Is it Street"),
        ("from pathlib import Path\n", "Path", "defines no data set 'Path'"),
        ("class Street:\n    pass\n", "Street", "cannot be made: TypeError.*root, split"),
        ("1 / 0\n", "Street", rf"fails while it is imported: ZeroDivisionError.*\({MODULE}\.py, line 2\)"),
        ("import no_such_package\n", "Street", "cannot be imported.*PYTHONPATH"),
        ("class Street:\n    classes = ['a']\n    def __init__(self, root, split): pass\n", "Street", "has no length"),
    ],
)
def test_a_class_that_cannot_be_had_is_named(module, text, attribute, said):
    module(text)
    with pytest.raises(DataError, match=said):
        open_dataset(own(attribute), "train", trust_code=True)


@pytest.mark.parametrize(
    "name", ["python:mine", "python:mine:", "python::A", "python:../m:A", "python:m:A?b=1", "python:a b:C"]
)
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(ValueError, match=r"python:package\.module:Class"):
        DataConfig(name=name)


def test_a_name_that_is_nearly_one_is_shown_and_foreign_settings_are_refused():
    with pytest.raises(Exception, match="did you mean 'folder'"):
        parse_recipe({"data": {"name": "flder"}})
    for key, value in {"classes": "a.txt", "mask_values": "0,1", "images": "{name}"}.items():
        with pytest.raises(ValueError, match=f"{key} belongs to the folder"):
            DataConfig(name="python:mine:Street", **{key: value})
