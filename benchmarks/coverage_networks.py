"""The networks of benchmarks/coverage.py: four libraries of segmentation networks and our own structural patterns.

Every network has random weights. Nothing is downloaded.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 19
IMAGE_HW = (256, 512)
PATTERN_HW = (32, 64)
_PATTERNS_FILE = Path(__file__).parent.parent / "tests/prunekit/pruning/conftest.py"


@dataclass(frozen=True)
class Case:
    """One row: how to build a network, and the size of the images it is given."""

    name: str
    build: Callable[[], nn.Module]
    image_HW: tuple[int, int] = IMAGE_HW

    def images_13HW(self) -> Tensor:
        """Return the example input: noise, the same each time."""
        return torch.randn(1, 3, *self.image_HW, generator=torch.Generator().manual_seed(0))


def all_cases(library: str = "") -> dict[str, Case]:
    """Return every row by name, or those of one library; the others are not imported then."""
    makers = {"pattern": _patterns, "torchvision": _torchvision, "transformers": _transformers, "smp": _smp}
    chosen = [makers[library]] if library else list(makers.values())
    return {case.name: case for make in chosen for case in make()}


# Families that differ in kind. Keywords go to timm: window attention is built for one image size.
_WINDOWED: Mapping[str, Any] = {"img_size": IMAGE_HW}
ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "resnet18": {},
    "resnext50_32x4d": {},
    "se_resnet50": {},
    "densenet121": {},
    "dpn68": {},
    "vgg11_bn": {},
    "inceptionv4": {},
    "efficientnet-b0": {},
    "mobilenet_v2": {},
    "mobileone_s0": {},
    "mit_b0": {},
    "tu-mobilenetv3_large_100": {},
    "tu-regnety_002": {},
    "tu-convnext_atto": {},
    "tu-maxvit_pico_rw_256": _WINDOWED,
    "tu-mobilevitv2_050": {},
    "tu-vit_tiny_patch16_224": _WINDOWED,
}


def _smp() -> list[Case]:
    import segmentation_models_pytorch as smp

    def builder(name: str, encoder: str) -> Callable[[], nn.Module]:
        factory = smp.MODEL_ARCHITECTURES_MAPPING[name]
        return lambda: factory(encoder_name=encoder, encoder_weights=None, classes=CLASSES, **ENCODERS[encoder])

    names = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    return [Case(f"smp/{name}/{encoder}", builder(name, encoder)) for name in names for encoder in ENCODERS]


def _torchvision() -> list[Case]:
    from torchvision import models

    def builder(name: str, options: Mapping[str, Any]) -> Callable[[], nn.Module]:
        return lambda: models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **options)

    names = models.list_models(module=models.segmentation)
    cases = [Case(f"torchvision/{name}", builder(name, {})) for name in names]
    with_aux = [name for name in names if not name.startswith("lraspp")]
    return cases + [Case(f"torchvision/{name}+aux", builder(name, {"aux_loss": True})) for name in with_aux]


# Sizes that make a network small enough for this benchmark; everything else is the library's default.
_VIT: Mapping[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 192,
}
_BEIT: Mapping[str, Any] = {**_VIT, "image_size": 224, "out_indices": [1, 2, 3, 4]}
_SAPIENS: Mapping[str, Any] = {
    **_VIT,
    "num_key_value_attention_heads": 2,
    "num_first_full_attention_layers": 1,
    "num_last_full_attention_layers": 1,
    "head_config": {"upsample_out_channels": [64, 64], "conv_out_channels": [64]},
}
_TIPS: Mapping[str, Any] = {
    "backbone": "tipsv2_vision_model",
    "backbone_options": {
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "out_indices": [1, 2, 3, 4],
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    },
}
_CONVNEXT: Mapping[str, Any] = {
    "backbone": "convnext",
    "backbone_options": {
        "hidden_sizes": [48, 96, 192, 384],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
}
CONFIGS: Mapping[str, tuple[Mapping[str, Any], tuple[int, int]]] = {
    "beit": (_BEIT, (224, 224)),
    "data2vec-vision": (_BEIT, (224, 224)),
    "dpt": ({**_VIT, "image_size": 384, "backbone_out_indices": [0, 1, 2, 3]}, (384, 384)),
    "mobilenet_v2": ({}, IMAGE_HW),
    "mobilevit": ({}, IMAGE_HW),
    "mobilevitv2": ({}, IMAGE_HW),
    "sapiens2": (_SAPIENS, IMAGE_HW),
    "segformer": ({}, IMAGE_HW),
    "tipsv2_dpt": (_TIPS, (224, 448)),
    "upernet": ({}, IMAGE_HW),
}


def _transformers() -> list[Case]:
    from transformers.models.auto.modeling_auto import (  # pyright: ignore[reportMissingImports]  no dependency
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES as NAMES,
    )

    # A model type that CONFIGS does not know is tried with its own defaults, and its error shown.
    cases = [_transformers_case(kind, kind, *CONFIGS.get(kind, ({}, IMAGE_HW))) for kind in NAMES]
    return [
        *cases,
        _transformers_case("upernet", "upernet-convnext", _CONVNEXT, IMAGE_HW),
    ]


def _transformers_case(kind: str, title: str, options: Mapping[str, Any], image_HW: tuple[int, int]) -> Case:
    def build() -> nn.Module:
        from transformers import (  # pyright: ignore[reportMissingImports]  no dependency
            AutoConfig,
            AutoModelForSemanticSegmentation,
        )

        own = dict(options)
        if "backbone" in own:
            own["backbone_config"] = AutoConfig.for_model(own.pop("backbone"), **own.pop("backbone_options"))
        return AutoModelForSemanticSegmentation.from_config(AutoConfig.for_model(kind, num_labels=CLASSES, **own))

    return Case(f"transformers/{title}", build, image_HW)


def _patterns() -> list[Case]:
    spec = importlib.util.spec_from_file_location("pruning_patterns", _PATTERNS_FILE)
    assert spec is not None
    assert spec.loader is not None
    blocks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(blocks)
    names = list(blocks.BLOCKS)
    rows = {name: [name] for name in names} | {"all in order": names, "all in reverse": names[::-1]}
    return [
        Case(f"pattern/{title}", lambda row=row: blocks.RandomNetwork(row, 0), PATTERN_HW)
        for title, row in rows.items()
    ]


_NORM = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]  no public base


@torch.no_grad()
def make_lively(network: nn.Module, images_13HW: Tensor) -> None:
    """Give a fresh network no constant parameter and batch statistics that fit: ones and zeros hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            scale = 1.0 if float(parameter.flatten()[0]) >= 0.5 else 0.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_((scale + 0.15 * noise) if scale else 0.1 * noise)
    norms = [m for m in network.modules() if isinstance(m, _NORM)]
    hooks = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    network.eval()(images_13HW)
    for hook in hooks:
        hook.remove()


def _take_statistics(norm: _NORM, inputs: tuple[Tensor, ...]) -> None:
    values_Cn = inputs[0].transpose(0, 1).flatten(1)
    if norm.running_mean is not None and norm.running_var is not None and values_Cn.shape[1] > 1:
        norm.running_mean.copy_(values_Cn.mean(1))
        norm.running_var.copy_(values_Cn.var(1).clamp_min(1e-3))
