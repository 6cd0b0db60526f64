"""What each ATen op means for channel ids. An op without a rule freezes what it touches."""

from prunekit.pruning.analysis.rules.elementwise import filled, like, made, pointwise
from prunekit.pruning.analysis.rules.layers import (
    channel_norm,
    convolution,
    general_convolution,
    group_norm,
    layer_norm,
    linear,
    prelu,
    transposed_convolution,
)
from prunekit.pruning.analysis.rules.movement import (
    interleaved,
    moved,
    padded,
    passed,
    repeated,
    shuffled,
    unshuffled,
    viewed,
)
from prunekit.pruning.analysis.rules.picking import gated, gathered, looked_up, parted, picked, reordered, scattered
from prunekit.pruning.analysis.rules.products import added_product, attention, einsum, embedding, product, sampled
from prunekit.pruning.analysis.rules.space import columns, folded, reduction, renormalised, softmax, spatial, unpooled
from prunekit.pruning.analysis.walk.interpreter import Rule
from prunekit.pruning.analysis.walk.values import LayerRule

_MOVED = (
    "permute transpose t mT movedim moveaxis swapaxes swapdims squeeze unsqueeze expand expand_as broadcast_to cat "
    "concat concatenate stack repeat tile numpy_T"
)
_PASSED = (
    "dropout feature_dropout alpha_dropout feature_alpha_dropout contiguous clone to detach alias lift_fresh_copy "
    "_to_copy type_as"
)
_SPATIAL = (
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices "
    "max_pool2d_with_indices max_pool3d_with_indices fractional_max_pool2d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d upsample_trilinear3d reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "fractional_max_pool3d"
)
_REDUCTIONS = (
    "mean sum amax amin max min var std norm linalg_vector_norm logsumexp prod argmax argmin any all "
    "var_mean std_mean median nanmedian nansum nanmean count_nonzero aminmax mode kthvalue"
)
_ALONG = "softmax log_softmax _softmax _log_softmax cumsum cumprod cummax cummin logcumsumexp sort argsort topk"
_SPLITS = "chunk unsafe_chunk split unsafe_split split_with_sizes tensor_split hsplit vsplit dsplit"
_LIKE = "zeros_like ones_like full_like empty_like zero"
_NEW = "new_zeros new_ones new_full new_empty new_empty_strided"
_POINTWISE = (
    "relu relu6 hardtanh hardswish hardsigmoid silu gelu mish softplus elu selu celu leaky_relu sigmoid tanh where "
    "addcmul addcdiv lerp maximum minimum rsub native_dropout clamp masked_fill copy"
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), LayerRule(convolution)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), LayerRule(transposed_convolution)),
    "convolution": LayerRule(general_convolution),
    "linear": LayerRule(linear),
    "embedding": LayerRule(embedding, first=0),
    **dict.fromkeys(
        ("batch_norm", "instance_norm", "_native_batch_norm_legit_no_training"), LayerRule(channel_norm, makes=False)
    ),
    **dict.fromkeys(("layer_norm", "rms_norm"), LayerRule(layer_norm, makes=False)),
    "group_norm": LayerRule(group_norm, makes=False),
    "prelu": LayerRule(prelu, makes=False),
    "pointwise": pointwise,
    **dict.fromkeys(_POINTWISE.split(), pointwise),
    **dict.fromkeys(_SPATIAL.split(), spatial),
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), unpooled),
    "im2col": columns,
    "col2im": folded,
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), sampled),
    **dict.fromkeys(_REDUCTIONS.split(), reduction),
    **dict.fromkeys(_ALONG.split(), softmax),
    "renorm": renormalised,
    **dict.fromkeys(_MOVED.split(), moved),
    **dict.fromkeys(_PASSED.split(), passed),
    **dict.fromkeys(_LIKE.split(), like),
    **dict.fromkeys(_NEW.split(), made),
    "fill": filled,
    "repeat_interleave": repeated,
    "pixel_shuffle": shuffled,
    "pixel_unshuffle": unshuffled,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), interleaved),
    **dict.fromkeys(("select", "slice", "narrow", "unbind"), picked),
    **dict.fromkeys(("slice_scatter", "select_scatter"), scattered),
    "flip": reordered("dims"),
    "roll": reordered("dims"),
    **dict.fromkeys(("index_select", "index"), looked_up),
    "gather": gathered,
    **dict.fromkeys(("pad", "constant_pad_nd"), padded),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view", "view_as", "reshape_as"), viewed),
    **dict.fromkeys(_SPLITS.split(), parted),
    "glu": gated,
    **dict.fromkeys(("matmul", "bmm", "mm", "mv"), product),
    **dict.fromkeys(("addmm", "baddbmm"), added_product),
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
}
