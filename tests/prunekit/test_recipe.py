import tomllib
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import ConfigError
from prunekit.recipe import MAX_RECIPE_BYTES, DataConfig, Recipe, Section, dump_recipe, merge, parse_recipe, read_recipe

KEYS = [f"{section}.{key}" for section, field in Recipe.model_fields.items() for key in field.annotation.model_fields]


def _values(section: type[Section], key: str) -> st.SearchStrategy[Any]:
    annotation, rules = section.model_fields[key].annotation, section.model_fields[key].metadata
    if key == "name" and section is DataConfig:
        return st.sampled_from(["shapes", "camvid", "folder", "python:mine.street:Street"])
    if key in ("mask_values", "ignore_index"):
        return st.lists(st.integers(0, 65535), unique=True, max_size=5).map(tuple)
    if key in ("mean", "std"):
        return st.tuples(*(st.floats(0.01, 0.9) for _ in range(3)))
    if get_origin(annotation) is tuple:
        return st.lists(st.text("abc.*", max_size=9), max_size=3).map(tuple)
    most = min((int(rule.le) for rule in rules if hasattr(rule, "le")), default=4096)
    if choices := get_args(annotation):
        return st.sampled_from(choices)
    return {
        int: st.integers(32, min(most, 4096)),
        float: st.floats(0.01, 0.9),
        bool: st.booleans(),
        str: st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp")), max_size=20),
    }[annotation]


@st.composite
def _recipes(draw: st.DrawFn) -> Recipe:
    values: dict[str, dict[str, Any]] = {}
    for section, field in Recipe.model_fields.items():
        keys = draw(st.lists(st.sampled_from(sorted(field.annotation.model_fields)), unique=True))
        values[section] = {key: draw(_values(field.annotation, key)) for key in keys}
    data, selection = values["data"], values["selection"]
    if data.get("images") or data.get("masks"):
        data |= {key: data.get(key) or "{name}" for key in ("images", "masks")}
    if any(data.get(key) for key in ("root", "classes", "mask_values", "ignore_index", "images", "white_level")):
        data["name"] = "folder"  # generated scenes have neither
    if values["model"].get("weights"):
        values["model"]["pretrained"] = False  # the file brings them all
    for part, low, high in ((data, "scale_min", "scale_max"), (selection, "start", "end")):
        part.pop(low, None)
        if high in part:
            part[low] = part[high]
    if "pool" in selection:
        selection["pool"] = 1 + selection["pool"]  # it begins at 1
    if "class_weights" in values["train"]:
        lists = st.lists(st.floats(0, 1e6), min_size=1, max_size=5).map(lambda some: [*some, 1.0])
        values["train"]["class_weights"] = draw(st.sampled_from(["none", "sqrt", "inverse"]) | lists)
    if values["train"].get("loss") == "gsrl":
        values["train"].pop("class_weights", None)  # it has its own
    values["train"].setdefault("epochs", values["train"].get("rewind_epoch", 20))
    values["train"]["epochs"] = max(values["train"]["epochs"], values["train"].get("rewind_epoch", 0))
    return parse_recipe(values)


@given(_recipes())
def test_a_recipe_goes_through_toml_unchanged(recipe):
    assert parse_recipe(tomllib.loads(dump_recipe(recipe))) == recipe


def test_every_setting_says_what_it_is():
    missing = [
        f"{section}.{key}"
        for section, field in Recipe.model_fields.items()
        for key, setting in field.annotation.model_fields.items()
        if key != "strategy" and not setting.description
    ]
    assert missing == []


NUMBERS = [
    (f"{section}.{key}", end)
    for section, field in Recipe.model_fields.items()
    for key, setting in field.annotation.model_fields.items()
    if setting.annotation in (int, float)
    for end in (-1, 1)
]


@pytest.mark.parametrize(("key", "end"), NUMBERS)
def test_every_number_has_a_range(key, end):
    """Beyond it there is a sentence, of any size and kind of number."""
    for number in (end * 10**18, end * 16**6000, end * 1e308, end * float("inf")):
        with pytest.raises(ConfigError, match=key) as caught:
            parse_recipe(merge({}, {key: number}))
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["data.root", "data.classes", "model.name", "selection.stem"])
@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\x1b[2J", "\udcff", "a" * 5000])
def test_texts_hold_nothing_that_files_and_terminals_cannot(key, text):
    with pytest.raises(ConfigError, match=key) as caught:
        parse_recipe(merge({"data": {"name": "folder"}}, {key: text}))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_another_kind_is_refused_by_name(key):
    with pytest.raises(ConfigError, match=key):
        parse_recipe(merge({}, {key: [["nonsense"]]}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.unknown", 1),
        ("unknown.key", 1),
        ("train.lr", float("nan")),
        ("train.lr", float("inf")),
        ("train.epochs", 0),
        ("selection.ratio", 1.0),
        ("data.scale_min", 3.0),
        ("selection.start", 0.95),
        ("train.rewind_epoch", 21),
        ("train.loss", "huber"),
    ],
)
def test_what_cannot_be_followed_is_refused(key, value):
    with pytest.raises(ConfigError, match=r"cannot be followed"):
        parse_recipe(merge({}, {key: value}))


def test_an_override_without_a_section_or_into_a_plain_value_is_refused():
    with pytest.raises(ConfigError, match=r"train\.epochs"):
        merge({}, {"epochs": 3})
    with pytest.raises(ConfigError, match="names no section"):
        merge({"train": 3}, {"train.epochs": 3})


def test_merging_changes_neither_side():
    values, overrides = {"train": {"epochs": 1}}, {"train.epochs": 2, "data.width": 64}
    assert merge(values, overrides) == {"train": {"epochs": 2}, "data": {"width": 64}}
    assert (values, overrides) == ({"train": {"epochs": 1}}, {"train.epochs": 2, "data.width": 64})


def test_files_that_are_no_recipes_are_refused(tmp_path):
    path = tmp_path / "recipe.toml"
    with pytest.raises(ConfigError, match="does not exist"):
        read_recipe(path)
    for content in (
        b"train = ",
        b"\xff\xfe",
        b"a = " + b"[" * 50_000,
        b"a." * 30_000 + b"a = 1",
        b"a = 1" + b"0" * 5000,
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is not TOML"):
            read_recipe(path)
    path.write_bytes(b"#" * (MAX_RECIPE_BYTES + 1))
    with pytest.raises(ConfigError, match="at most"):
        read_recipe(path)
    path.write_text("[train]\nepochs = 7\n")
    assert read_recipe(path, {"train.lr": 0.5}).train.model_dump().items() >= {"epochs": 7, "lr": 0.5}.items()


def test_a_folder_beside_the_generated_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="shapes is generated"):
        parse_recipe({"data": {"root": "somewhere"}})


@pytest.mark.parametrize(
    ("given", "values"),
    [("0,255", (0, 255)), ("1-3, 7", (1, 2, 3, 7)), ("", ()), ([0, 255], (0, 255)), ("5", (5,)), ((), ())],
)
def test_numbers_of_masks_are_written_as_numbers_and_ranges(given, values):
    recipe = parse_recipe({"data": {"name": "folder", "mask_values": given}})
    assert recipe.data.mask_values == values
    assert parse_recipe(tomllib.loads(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize("given", ["a", "3-1", "0,0", "1-700", "70000", "0-99999", "1,,2", "-1", [1.5], 7, "9" * 5000])
def test_what_is_no_list_of_such_numbers_is_refused(given):
    with pytest.raises(ConfigError, match="mask_values"):
        parse_recipe({"data": {"name": "folder", "mask_values": given}})


def test_numbers_of_masks_belong_to_the_folder_data_set():
    with pytest.raises(ConfigError, match="belongs to the folder"):
        parse_recipe({"data": {"name": "camvid", "mask_values": "0,255"}})


@pytest.mark.parametrize(
    ("given", "meant"),
    [("cityscape", "cityscapes"), ("ADE20k", "ade20k"), ("VOC2012", "voc"), ("coco_stuff", "coco-stuff")],
)
def test_a_data_set_of_a_similar_name_is_offered(given, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'.*shapes, camvid, cityscapes.*got '{given}'"):
        parse_recipe({"data": {"name": given}})


def test_an_unknown_data_set_lists_those_that_are_known():
    with pytest.raises(ConfigError, match=r"no such data set\. Choose shapes, camvid, .*coco-stuff, folder or python"):
        parse_recipe({"data": {"name": "qqqq"}})
