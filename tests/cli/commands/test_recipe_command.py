import tomllib

from prunekit.recipe import Recipe, parse_recipe


def test_the_printed_recipe_is_the_default_recipe(invoke):
    printed = invoke("recipe").stdout
    assert parse_recipe(tomllib.loads(printed)) == Recipe()


def test_every_setting_is_printed_with_its_meaning(invoke):
    printed = invoke("recipe").stdout
    described = [
        field.description
        for section in Recipe.model_fields.values()
        for field in section.annotation.model_fields.values()
    ]
    assert all(text in printed for text in described if text)
