"""Help and code say the same."""

import shlex
from typing import get_args

import pytest
from typer.main import get_command

from prunekit_cli.commands import (
    demo,
    deploy,
    evaluate,
    export,
    importing,
    inspect,
    predict,
    profile,
    prune,
    recipe,
    runs,
    status,
    train,
)
from prunekit_cli.main import app
from prunekit_cli.options import common as options
from prunekit_cli.panels import ADVANCED, LONG

MODULES = {
    "train": train,
    "import": importing,
    "runs": runs,
    "status": status,
    "prune": prune,
    "export": export,
    "inspect": inspect,
    "profile": profile,
    "eval": evaluate,
    "predict": predict,
    "recipe": recipe,
    "demo": demo,
    "deploy": deploy,
}


@pytest.mark.parametrize("name", MODULES)
def test_help_answers(invoke, name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("name", MODULES)
def test_examples_name_only_options_that_exist(name):
    options = {option for parameter in get_command(app).commands[name].params for option in parameter.opts}
    for example in MODULES[name].EXAMPLES:
        words = shlex.split(example.split(">")[0])
        if words[1] == name:
            assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("name", MODULES)
def test_every_option_has_a_help_text(name):
    for parameter in get_command(app).commands[name].params:
        assert parameter.help, parameter.name


def lines_of(invoke, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    return invoke(name, "--help").output.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", MODULES)
def test_help_fits_the_terminal_and_cuts_no_word(invoke, monkeypatch, name, columns):
    lines = lines_of(invoke, monkeypatch, name, columns)
    assert max(map(len, lines)) <= columns
    shown_words = {word for line in lines for word in line.strip("│ ").split()}
    for parameter in get_command(app).commands[name].params:
        metavar = (parameter.metavar or "").replace("|", " ") if len(parameter.metavar or "") > LONG else ""
        words = {word for text in (*parameter.opts, parameter.help, metavar) for word in text.split()}
        if parameter.param_type_name == "option":
            assert words <= shown_words, parameter.name


@pytest.mark.parametrize("name", MODULES)
def test_a_command_of_many_options_shows_the_rare_ones_last(invoke, monkeypatch, name):
    lines = lines_of(invoke, monkeypatch, name, 120)
    titles = [place for place, line in enumerate(lines) if line.startswith("╭─")]
    rare = [place for place in titles if ADVANCED in lines[place]]
    many = sum(p.param_type_name == "option" for p in get_command(app).commands[name].params) + 1 > 12  # --help
    if not many:
        assert not rare
        return
    assert rare == titles[-1:]
    first = [line for line in lines[: rare[0]] if line.startswith("│ --")]
    assert 5 <= len(first) <= 15, "more cannot be taken in at a glance"
    assert any("--help" in line for line in first)


@pytest.mark.parametrize("name", MODULES)
def test_panels_name_parameters_that_exist(name):
    known = {parameter.name for parameter in get_command(app).commands[name].params} | {"help"}
    named = [parameter for names in getattr(MODULES[name], "PANELS", {}).values() for parameter in names]
    assert set(named) <= known
    assert len(set(named)) == len(named)


def choices(section, key):
    return "|".join(get_args(section.model_fields[key].annotation))


def shown(name, option):
    return next(p for p in get_command(app).commands[name].params if option in p.opts)


def test_train_help_shows_the_recipe_s_choices_and_defaults():
    from prunekit.recipe import ModelConfig, Recipe, SelectionConfig, TrainConfig
    from prunekit.recipe_values import DataName

    for name in ("train", "eval", "import"):
        assert f"{options.DATA_SETS}." in shown(name, "--data").help
    assert options.DATA_SETS.replace(" or ", ", ").split(", ") == [*get_args(DataName), "python:MODULE:CLASS"]
    assert shown("train", "--head").metavar == choices(ModelConfig, "head")
    assert shown("train", "--precision").metavar == choices(TrainConfig, "precision")
    assert shown("train", "--device").metavar == choices(TrainConfig, "device")
    assert shown("train", "--select").metavar == choices(SelectionConfig, "strategy")
    defaults = Recipe()
    for option, value in {
        "--epochs": defaults.train.epochs,
        "--batch-size": defaults.train.batch_size,
        "--lr": defaults.train.lr,
        "--precision": defaults.train.precision,
        "--seed": defaults.train.seed,
        "--device": defaults.train.device,
        "--threads": defaults.train.threads,
        "--data": defaults.data.name,
        "--head": defaults.model.head,
        "--select": defaults.selection.strategy,
        "--select-ratio": defaults.selection.ratio,
    }.items():
        assert shown("train", option).show_default == str(value), option
    assert str(shown("train", "--model").show_default) in defaults.model.name


def test_prune_help_shows_the_config_s_choices_and_defaults():
    from prunekit.pruning.criteria import CRITERIA
    from prunekit.workflows.prune import PruneConfig

    assert shown("prune", "--criterion").show_default in CRITERIA
    for key in ("allocation", "schedule", "init", "distill", "compensate", "sparsity"):
        assert shown("prune", f"--{key}").metavar == choices(PruneConfig, key), key
    for key in ("loss", "sampler", "precision", "device"):
        optional = get_args(PruneConfig.model_fields[key].annotation)[0]
        assert shown("prune", f"--{key}").metavar == "|".join(get_args(optional)), key
    defaults = PruneConfig()
    same = (
        "ratio",
        "criterion",
        "align",
        "epochs",
        "lr",
        "batches",
        "seed",
        "allocation",
        "schedule",
        "init",
        "distill",
    )
    for key in (*same, "compensate", "sparsity", "stage_epochs", "bn_batches", "sparsity_epochs"):
        assert shown("prune", "--" + key.replace("_", "-")).show_default == str(getattr(defaults, key)), key


def test_prune_help_names_the_stages_of_each_schedule():
    from prunekit.workflows.pruning.config import STEPS

    assert shown("prune", "--steps").show_default == ", ".join(f"{count} {name}" for name, count in STEPS.items())


def test_every_setting_of_a_pruning_has_an_option():
    from prunekit.workflows.prune import PruneConfig

    options = {parameter.name for parameter in get_command(app).commands["prune"].params}
    assert {name.removesuffix("_ms") for name in PruneConfig.model_fields} <= options
