"""What each ATen op means for channel ids. An op without a rule freezes what it touches."""

from prunekit.pruning.interpreter import Rule
from prunekit.pruning.rules.elementwise import pointwise
from prunekit.pruning.rules.layers import (
    channel_norm,
    convolution,
    general_convolution,
    group_norm,
    layer_norm,
    linear,
    prelu,
    transposed_convolution,
)
from prunekit.pruning.rules.movement import along, moved, padded, parted, passed, viewed
from prunekit.pruning.rules.products import attention, product
from prunekit.pruning.rules.space import reduction, softmax, spatial

_MOVED = (
    "permute transpose t movedim swapaxes squeeze unsqueeze expand expand_as "
    "cat concat concatenate stack repeat numpy_T pixel_shuffle pixel_unshuffle"
)
_PASSED = (
    "dropout feature_dropout alpha_dropout contiguous clone to detach alias lift_fresh_copy _to_copy type_as float"
)
_SPATIAL = (
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d max_pool2d_with_indices upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d upsample_trilinear3d"
)
_REDUCTIONS = "mean sum amax amin max min var std norm linalg_vector_norm logsumexp prod argmax argmin any all var_mean"
_POINTWISE = (
    "relu relu6 hardtanh hardswish hardsigmoid silu gelu mish softplus elu selu celu leaky_relu sigmoid tanh "
    "where addcmul addcdiv lerp maximum minimum rsub native_dropout clamp"
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution),
    "convolution": general_convolution,
    "linear": linear,
    **dict.fromkeys(("batch_norm", "instance_norm", "_native_batch_norm_legit_no_training"), channel_norm),
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    "group_norm": group_norm,
    "prelu": prelu,
    "pointwise": pointwise,
    **dict.fromkeys(_POINTWISE.split(), pointwise),
    **dict.fromkeys(_SPATIAL.split(), spatial),
    **dict.fromkeys(_REDUCTIONS.split(), reduction),
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum"), softmax),
    **dict.fromkeys(_MOVED.split(), moved),
    **dict.fromkeys(_PASSED.split(), passed),
    **dict.fromkeys(("select", "slice", "narrow", "unbind"), along(0)),
    **dict.fromkeys(("flip",), along(0)),
    "roll": along(1),
    **dict.fromkeys(("pad", "constant_pad_nd"), padded),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view", "view_as"), viewed),
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), parted),
    **dict.fromkeys(("matmul", "bmm", "mm"), product),
    "scaled_dot_product_attention": attention,
}
