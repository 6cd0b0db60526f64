"""Options that say what a bundle holds, shared by `bundle` and `deploy`."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from prunekit_cli.options.data import parse_sides

if TYPE_CHECKING:
    from prunekit_export.bundling import BundleConfig

PrecisionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        metavar="fp32|fp16|int8",
        help="Number formats, a model each; may be repeated, or listed with commas.",
        show_default="fp32,fp16",
    ),
]
GraphOption = Annotated[
    str,
    typer.Option(
        metavar="labels|logits",
        help="labels: the models take pictures and give labels, with pre- and postprocessing inside; logits: they take "
        "prepared images, and the runtime does the rest.",
    ),
]
PictureSizeOption = Annotated[
    str | None,
    typer.Option(
        "--picture-size",
        metavar="HxW|any",
        help="Size of the pictures that the models take, height first.",
        show_default="that of the golden pictures if they share one, else any",
    ),
]
FoldOption = Annotated[
    str,
    typer.Option(metavar="exact|static|none", help="How batch norms and a CCS head are folded, see prunekit export."),
]
GoldenOption = Annotated[
    int, typer.Option("--golden", metavar="N", help="Number of validation images to check a device with, 4 to 64.")
]


def bundle_config(
    precision: list[str] | None,
    graph: str,
    picture_size: str | None,
    fold: str,
    golden: int,
    *,
    overwrite: bool = False,
) -> "BundleConfig":
    """Return what the options ask for.

    Raises:
        OptionError: the size has another form.
        ExportUsageError: a value is unknown or out of range.
    """
    from prunekit_export.bundling import BundleConfig

    names = [name.strip() for text in precision or () for name in text.split(",") if name.strip()]
    size = picture_size if picture_size in (None, "any") else parse_sides(picture_size, "--picture-size", least=1)
    return BundleConfig(
        precisions=tuple(dict.fromkeys(names)) or ("fp32", "fp16"),  # pyright: ignore[reportArgumentType]  checked there
        graph=graph,  # pyright: ignore[reportArgumentType]  checked there
        picture_size=cast("tuple[int, int]", size),
        fold=fold,  # pyright: ignore[reportArgumentType]  checked by ExportConfig
        golden=golden,
        overwrite=overwrite,
    )
