"""How the texts of prune's options become settings, and what is said of wrong ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_cli.options.common import OptionError
from prunekit_cli.options.prune import amount, config_of, milliseconds, shares


@pytest.mark.parametrize(
    ("text", "value"),
    [("2.5G", 2.5e9), ("300k", 3e5), ("3 M", 3e6), ("1e6", 1e6), (".5m", 5e5), ("1200000", 1.2e6), ("2T", 2e12)],
)
def test_amounts_take_si_letters(text, value):
    assert amount("--target-macs", text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("8ms", 8), ("8 ms", 8), ("0.5s", 500), ("500us", 0.5), ("1e-2s", 10)])
def test_times_take_units(text, value):
    assert milliseconds("--target-latency", text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "8", "ms", "8min", "-8ms", "8ms8ms", "nan ms", "infms"])
def test_times_without_a_unit_are_refused(text):
    with pytest.raises(OptionError, match="--target-latency takes a time"):
        milliseconds("--target-latency", text)


@given(st.text(max_size=12))
def test_any_other_text_is_read_or_refused(text):
    for reader in (amount, milliseconds):
        try:
            value = reader("--x", text)
        except OptionError:
            continue
        assert value >= 0


def test_shares_have_commas():
    assert shares("--stages", "0.3,0.6") == (0.3, 0.6)
    with pytest.raises(OptionError, match="--stages takes numbers"):
        shares("--stages", "0.3;0.6")


def test_options_become_the_settings_of_a_pruning():
    config = config_of(
        {
            "criterion": "random",
            "ratio": None,
            "target_latency": "8ms",
            "stages": "0.2,0.4",
            "schedule": "iterative",
            "settings": ["train.distill_weight=2.5"],
            "epochs": 0,
        }
    )
    assert (config.ratio, config.target_latency_ms, config.epochs) == (None, 8.0, 0)
    assert (config.stages, config.settings) == ((0.2, 0.4), {"train.distill_weight": 2.5})


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"ratio": 1.5}, r"--ratio takes .*, got 1\.5"),
        ({"ratio": 1.5, "align": 0}, r"--ratio takes .*\n--align takes "),
        ({"criterion": "quux"}, "--criterion: no criterion of that name; there are .*sirfp"),
        ({"criterion": "sirpf"}, "--criterion: no criterion of that name; the nearest is sirfp "),
        ({"criterion": "Tailor"}, "the nearest is taylor "),
        ({"target_latency": "0ms"}, "--target-latency takes "),
        ({"ratio": 0.5, "target_macs": "1G"}, "One target at a time"),
        ({"ratio": 0.5, "target_latency": "8ms"}, "got --ratio and --target-latency; leave all but one out"),
        ({"stages": "0.2"}, "--stages belongs to --schedule iterative, got --schedule one-shot; .*--steps"),
        ({"steps": 3}, "--steps 3 belongs to --schedule iterative or gradual"),
        ({"settings": ["train.epochs=3"]}, "--set: train.epochs is decided by --epochs"),
        ({"init": "thin_air"}, "--init takes .*, got 'thin_air'"),
        ({"stage_epochs": -1}, "--stage-epochs takes "),
    ],
)
def test_wrong_values_are_named_by_their_option(given_options, message):
    with pytest.raises(OptionError, match=message):
        config_of({"criterion": "random", **given_options})
