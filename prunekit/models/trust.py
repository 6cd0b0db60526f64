"""What a run or a model file may name: networks that are built without code or files that prunekit does not bring.

Such a file can come from anybody, so it is held to the lists below. They are data, looked at before anything is
imported: a name that is not on them is refused whatever module it lies in, and arguments are looked at as well, for a
library can be told by one to unpickle a file or to fetch another network.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import Tensor
from torch.overrides import TorchFunctionMode

from prunekit.errors import UntrustedCodeError
from prunekit.models.spec import ModelSpec

FACTORIES: Final[Mapping[str, frozenset[str]]] = {"prunekit.models.street:street_net": frozenset({"width"})}
"""Python factories, and the arguments of each."""

SMP_ARGUMENTS: Final = frozenset(
    {
        *("encoder", "encoder_name", "encoder_depth", "encoder_output_stride", "encoder_output_indices"),
        *("decoder_use_norm", "decoder_use_batchnorm", "psp_use_batchnorm", "decoder_channels", "upsampling"),
        *("decoder_attention_type", "decoder_interpolation", "decoder_pab_channels", "decoder_pyramid_channels"),
        *("decoder_segmentation_channels", "decoder_merge_policy", "decoder_dropout", "psp_out_channels"),
        *("psp_dropout", "decoder_atrous_rates", "decoder_aspp_separable", "decoder_aspp_dropout", "decoder_readout"),
        *("decoder_intermediate_channels", "decoder_fusion_channels", "activation"),
    }
)
TIMM_ARGUMENTS: Final = frozenset(
    {
        *("img_size", "dynamic_img_size", "strict_img_size", "patch_size", "window_size", "always_partition"),
        *("drop_rate", "drop_path_rate", "act_layer", "norm_layer"),
    }
)
"""What a timm encoder ("tu-") takes besides; checkpoint_path, which unpickles a file, is not among it."""
TORCHVISION_ARGUMENTS: Final = frozenset({"aux_loss", "progress"})

_HF_SHARED: Final = frozenset({"num_channels", "hidden_act", "initializer_range", "layer_norm_eps", "image_size"})
HF_ARGUMENTS: Final[Mapping[str, frozenset[str]]] = {
    "segformer": _HF_SHARED
    | {
        *("num_encoder_blocks", "depths", "sr_ratios", "hidden_sizes", "patch_sizes", "strides", "num_attention_heads"),
        *("mlp_ratios", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"),
        *("drop_path_rate", "decoder_hidden_size", "reshape_last_stage"),
    },
    "mobilenet_v2": _HF_SHARED
    | {
        *("depth_multiplier", "depth_divisible_by", "min_depth", "expand_ratio", "output_stride", "finegrained_output"),
        *("first_layer_is_expansion", "tf_padding", "classifier_dropout_prob"),
    },
    "mobilevit": _HF_SHARED
    | {
        *("patch_size", "hidden_sizes", "neck_hidden_sizes", "num_attention_heads", "mlp_ratio", "expand_ratio"),
        *("conv_kernel_size", "output_stride", "hidden_dropout_prob", "attention_probs_dropout_prob", "qkv_bias"),
        *("classifier_dropout_prob", "aspp_out_channels", "atrous_rates", "aspp_dropout_prob"),
    },
    "mobilevitv2": _HF_SHARED
    | {
        *("patch_size", "expand_ratio", "conv_kernel_size", "output_stride", "classifier_dropout_prob"),
        *("aspp_out_channels", "atrous_rates", "aspp_dropout_prob", "n_attn_blocks", "base_attn_unit_dims"),
        *("width_multiplier", "ffn_multiplier", "attn_dropout", "ffn_dropout"),
    },
}
"""Types of transformers' networks, and the settings of each. Not among them: those that take a backbone, which can be
named as a place to fetch from, and any setting that chooses an implementation, which can be one to fetch and run."""

# No ":" (hf-hub:..., local-dir:..., python:..., http:...) and no "/" or "\": a name, never a place.
_NAME: Final = re.compile(r"[A-Za-z0-9_.+-]*")


def check_foreign(spec: ModelSpec, text: str) -> None:
    """Refuse a network that a file must not name by itself; nothing is imported.

    Args:
        spec: the network.
        text: the same as it was written, for the message.

    Raises:
        UntrustedCodeError: its factory is not on the list, or an argument is not, or names a place.
    """
    if spec.kind == "python" and spec.name not in FACTORIES:
        raise UntrustedCodeError(f"The network {text!r} runs code that is not part of prunekit")
    if spec.kind == "hf" and spec.name not in HF_ARGUMENTS:
        raise UntrustedCodeError(f"The network {text!r} is read from a folder, but a run contains its own settings")
    known = _arguments(spec)
    for key, value in spec.args.items():
        if key not in known:
            raise UntrustedCodeError(f"The network {text!r} sets {key}, which prunekit does not know to be harmless")
        if not is_plain(value):
            raise UntrustedCodeError(f"The network {text!r} sets {key} to a location of code or files")


def _arguments(spec: ModelSpec) -> frozenset[str]:
    if spec.kind == "python":
        return FACTORIES[spec.name]
    if spec.kind == "hf":
        return HF_ARGUMENTS[spec.name]
    if spec.kind == "torchvision":
        return TORCHVISION_ARGUMENTS
    encoder = str(spec.args.get("encoder", spec.args.get("encoder_name", "")))
    return SMP_ARGUMENTS | TIMM_ARGUMENTS if encoder.startswith("tu-") else SMP_ARGUMENTS


def is_plain(value: Any) -> bool:
    """Tell whether an argument holds numbers, flags and names alone, however deep its lists are."""
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    if isinstance(value, str):
        return _NAME.fullmatch(value) is not None
    return value is None or isinstance(value, int | float)


class Bounded(TorchFunctionMode):
    """Refuses to build a network whose tensors are larger than its weights explain.

    A few words in a file can ask for any size. What torch allocates takes no memory before it is filled, so a tensor
    may be looked at after it was made.

    Raises:
        UntrustedCodeError: in the block, at the tensor that is too much.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self.most_bytes, self.left_bytes = most_bytes, most_bytes

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch; count what it made if it made it from numbers alone."""
        del types
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and not any(isinstance(given, Tensor) for given in (*args, *kwargs.values())):
            self.left_bytes -= made.untyped_storage().nbytes()
            if self.left_bytes < 0:
                raise UntrustedCodeError(
                    f"The network needs more than {self.most_bytes / 2**30:.3g} GiB before it is pruned, which is out "
                    "of all proportion to its weights"
                )
        return made
