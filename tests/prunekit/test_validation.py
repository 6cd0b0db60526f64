"""Every field of every model that a user's values reach: what is refused is said in our words."""

import re
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from prunekit.data.labels.document import Document, Entry
from prunekit.modelfile import ModelCard
from prunekit.pruning.latency.table_file import TableFile
from prunekit.pruning.surgery.plan_file import PlanFile
from prunekit.recipe import DataConfig, ModelConfig, Recipe, SelectionConfig, TrainConfig
from prunekit.training.state import Counts
from prunekit.validation import first_sentence, refusal, sentences
from prunekit.workflows.pruning.config import PruneConfig
from prunekit.workflows.pruning.report import PruneReport

CONFIGS = (DataConfig, ModelConfig, TrainConfig, SelectionConfig, PruneConfig, Recipe)
FILES = (ModelCard, Counts, Document, Entry, TableFile, PlanFile)
PYDANTIC = re.compile(
    r"Input should|Value error|Extra inputs|Field required|permitted|Assertion failed|validation error|valid (integer|"
    r"number|string|boolean|dictionary|list|tuple)|unable to parse|pydantic|instance of|should (be|have|match)",
    re.IGNORECASE,
)
WRONG: tuple[Any, ...] = (
    None, "\x1b[31mred\u202e", "x" * 5000, -1, -1e300, 1e300, float("nan"), 2**70, 0.5, True, [], [[]], ["a"] * 600,
    {"a": {"b": 1}}, object(),
)  # fmt: skip
FIELDS = [(config, name) for config in (*CONFIGS, *FILES) for name in config.model_fields]


def refused(config: type[BaseModel], values: Any) -> list[str]:
    try:
        config.model_validate(values)
    except ValidationError as error:
        return sentences(error, config)
    return []


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=[f"{config.__name__}.{name}" for config, name in FIELDS])
def test_what_is_refused_is_said_in_our_words(config, name):
    kinds_refused = 0
    for value in WRONG:
        told = [sentence for sentence in refused(config, {name: value}) if name in sentence]
        kinds_refused += bool(told)
        for sentence in told:
            assert not PYDANTIC.search(sentence), sentence
            assert len(sentence) < 1000
            assert sentence.isprintable(), sentence
            assert sentence.endswith((".", "?"))
    assert kinds_refused > 3


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=[f"{config.__name__}.{name}" for config, name in FIELDS])
def test_one_letter_too_many_is_an_unknown_setting_with_its_near_name(config, name):
    if config.model_config.get("extra") != "forbid":
        pytest.skip("takes any key")
    told = [sentence for sentence in refused(config, {f"{name}x": 1}) if f"{name}x" in sentence]
    assert told == [f"{name}x: there is no such setting. Did you mean {name}?"]


@pytest.mark.parametrize("config", CONFIGS)
def test_words_that_are_not_a_choice_are_answered_by_all_choices(config):
    for name, field in config.model_fields.items():
        if name == "class_weights":  # a list as well, with a message of its own: losses/test_pixelwise.py
            continue
        kinds = [field.annotation, *get_args(field.annotation)]
        choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
        for choice in choices:
            (told,) = refused(config, {name: f"{choice}e"}) or [""]
            assert f"{name} takes " in told
            assert all(str(other) in told for other in choices)
            assert f"got '{choice}e'" in told


class Numbers(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ranged: int = 1


@pytest.mark.parametrize(
    ("config", "values", "told"),
    [
        (TrainConfig, {"epochs": 0}, "epochs takes a whole number from 1 to 1000000, got 0."),
        (TrainConfig, {"lr": "fast"}, "lr takes a number above 0 and up to 1000, got 'fast'."),
        (TrainConfig, {"momentum": 1}, "momentum takes a number from 0 and below 1, got 1."),
        (TrainConfig, {"cache": "perhaps"}, "cache takes true or false, got 'perhaps'."),
        (TrainConfig, {"optimiser": "adamx"}, "optimiser takes sgd or adamw, got 'adamx'. Did you mean adamw?"),
        (TrainConfig, {"rewind_epoch": 30}, "Rewind_epoch 30 is after the last of 20 epochs; lower it."),
        (DataConfig, {"mean": [1, 2]}, "mean takes 3 values, each a number from -1000000 to 1000000, got [1, 2]."),
        (DataConfig, {"std": "1,1,0"}, "std.2 takes a number from 1e-06 to 1000000, got '0'."),
        (PruneConfig, {"target_params": 0}, "target_params takes a number above 0 and up to 1e+18, got 0."),
        (PruneConfig, {"steps": 0}, "steps takes a whole number from 1 to 99, got 0."),
        (Recipe, {"train": 3}, "train takes a table of values, got 3."),
        (Recipe, {"modle": {}}, "modle: there is no such setting. Did you mean model?"),
        (Numbers, {"qqq": 1}, "qqq: there is no such setting; there are ranged."),
        (Document, {"classes": [{}]}, "classes.0.name is missing; it takes a text."),
    ],
)
def test_sentences(config, values, told):
    assert refused(config, values) == [told]


def test_many_mistakes_are_counted():
    told = refused(Recipe, {"train": {f"k{number}": 1 for number in range(30)}})
    assert len(told) == 11
    assert told[-1] == "And 20 more."


def test_a_damaged_dataclass_is_described_too():
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(PruneReport).validate_python({"format": 3, "macs_before": "many", "zzz": 1})
    told = sentences(caught.value, PruneReport, most=100)
    assert not any(PYDANTIC.search(sentence) for sentence in told)
    assert "macs_before takes a whole number above 0, got 'many'." in told


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_damaged_json_is_described(text):
    with pytest.raises(ValidationError) as caught:
        Counts.model_validate_json(text)
    assert not PYDANTIC.search(first_sentence(caught.value, Counts))


def test_a_refusal_without_a_field_goes_by_the_kind_of_the_error():
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("x")
    assert refusal(caught.value.errors()[0]) == "takes a whole number, got 'x'"
