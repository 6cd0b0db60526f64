"""What pretrained weights want of their images, filled into the recipe of a training that starts from them."""

from dataclasses import dataclass
from typing import Final

from prunekit.models.own_preprocessing import own_preprocessing
from prunekit.recipe import Recipe, merge, parse_recipe

_IMAGENET: Final = "ImageNet's, assumed: the library does not say"
_ADOPTED: Final = ("channels", "pixel_scale", "mean", "std")


@dataclass(frozen=True)
class Adopted:
    """A recipe with the preprocessing of the weights that it starts from, and whose that is."""

    recipe: Recipe
    source: str
    """Empty where the training starts from no pretrained weights."""


def with_pretrained_preprocessing(recipe: Recipe) -> Adopted:
    """Fill in mean, standard deviation, scale and channel order of the library's weights where the recipe is silent.

    Raises:
        ModelError: the network's name cannot be read.
    """
    if not recipe.model.pretrained:
        return Adopted(recipe, "")
    said, own = recipe.data.model_fields_set, own_preprocessing(recipe.model.name)
    if set(_ADOPTED) <= said:
        return Adopted(recipe, "as the recipe says")
    if own is None:
        return Adopted(recipe, _IMAGENET)
    filled = {f"data.{name}": own.settings[name] for name in _ADOPTED if name in own.settings and name not in said}
    return Adopted(parse_recipe(merge(recipe.model_dump(exclude_unset=True), filled)), own.source)
