"""The core ATen ops one by one, channels at every dimension: what the analysis frees is exact, the rest is frozen.

A network has a branch for each sample of an op and each place of the channels. A branch makes its operands by
convolutions, moves the channels to their place, runs the op, and reads every result through a linear layer along the
dimension that follows the channels; everything else is the network's output, so that no wrong coupling can hide.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunekit.pruning import analyse, masked, pruned
from prunekit.pruning.analysis.rules import RULES
from prunekit.pruning.surgery import make_plan

Sample = Callable[..., Any]
A = torch.ops.aten
PRODUCTS = ("mm", "matmul", "addmm", "mv", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention")
WIDTH = 8
# The places of each rank, without the channels; all even and none of them the width.
PLACES = {2: (2,), 3: (2, 6), 4: (2, 4, 6), 5: (2, 4, 2, 6)}
TOLERANCE = 1e-8  # in float64, where no rounding decides a pooling

NOT_OF_A_FLOAT_NETWORK = {
    "sym_numel": "returns a number",
    "sym_size": "returns a number",
    "sym_storage_offset": "returns a number",
    "sym_stride": "returns a number",
    "_local_scalar_dense": "returns a number that torch.export cannot know",
    "as_strided": "reads memory by strides; torch.export refuses what is not contiguous",
    "bitwise_and": "takes whole numbers",
    "bitwise_not": "takes whole numbers",
    "bitwise_or": "takes whole numbers",
    "bitwise_xor": "takes whole numbers",
    "empty": "returns memory as it is",
    "empty_strided": "returns memory as it is",
    "empty_like": "returns memory as it is",
    "new_empty": "returns memory as it is",
    "new_empty_strided": "returns memory as it is",
    "scalar_tensor": "returns one constant",
    "pointwise": "a rule, no op",
    "numpy_T": "is permute on more than two dimensions",
    "_embedding_bag": "sums learnt vectors, of which a bag needs a parameter",
    "embedding_dense_backward": "a gradient",
    "avg_pool2d_backward": "a gradient",
    "_adaptive_avg_pool2d_backward": "a gradient",
    "convolution_backward": "a gradient",
    "max_pool2d_with_indices_backward": "a gradient",
    "native_group_norm_backward": "a gradient",
    "native_layer_norm_backward": "a gradient",
    "group_norm": "needs a module, whose groups are counted: drawn networks have it",
    "prelu": "needs a parameter: drawn networks have it",
    "embedding": "needs a parameter: drawn networks have it",
    "linear": "needs a parameter: every branch ends in one",
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), "needs a parameter: drawn networks have it"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), "needs a parameter"),
    "_fft_c2r": "takes complex numbers",
    "lift_fresh_copy": "comes from constants alone",
}


# Operands are x, y and z; d is the second and the last dimension in turn. All values lie between 0.1 and 0.9.
SAMPLES: dict[int, dict[str, list[Sample]]] = {rank: {} for rank in PLACES}
IN_PLACE: dict[int, dict[str, list[Sample]]] = {rank: {} for rank in PLACES}


def sample(rank: int, names: str, *forms: Callable[[Any], Sample]) -> None:
    """Add samples of each of `names`, the first of them in place too where torch has that."""
    for name in names.split():
        SAMPLES[rank].setdefault(name, []).extend(form(getattr(A, name)) for form in forms)
        if hasattr(A, f"{name}_"):
            IN_PLACE[rank].setdefault(name, []).append(forms[0](in_place(name)))


def in_place(name: str) -> Sample:
    def run(x: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(A, f"{name}_")(x.clone() if isinstance(x, Tensor) else torch.tensor(x), *args, **kwargs)

    return run


def places(*shape: int) -> Tensor:
    """Return positions below 2, the same in each test."""
    return torch.arange(torch.Size(shape).numel()).reshape(shape) % 2


sample(3, "amax amin sum mean nansum nanmean logsumexp all any", lambda op: lambda x, d: op(x, [d]))
sample(3, "amax amin sum mean nansum nanmean logsumexp", lambda op: lambda x: op(x, [1, 2], keepdim=True))
sample(3, "var std var_mean std_mean", lambda op: lambda x, d: op(x, [d], correction=0))
sample(
    3, "var std var_mean std_mean", lambda op: lambda x, d: op(x, [d], False, True), lambda op: lambda x: op(x, False)
)
sample(3, "max min median nanmedian mode all any argmax argmin prod", lambda op: lambda x, d: op(x, d, True))
sample(3, "max min median nanmedian argmax argmin prod sum mean var std all any amax", lambda op: lambda x: op(x))
sample(3, "max min maximum minimum", lambda op: lambda x, y: op(x, y))
sample(3, "norm linalg_vector_norm", lambda op: lambda x, d: op(x, 2, [d], True), lambda op: lambda x: op(x, 1.0))
sample(
    3, "cumsum cumprod cummax cummin logcumsumexp argsort sort softmax log_softmax", lambda op: lambda x, d: op(x, d)
)
sample(3, "topk kthvalue", lambda op: lambda x, d: op(x, 2, d))
sample(3, "topk", lambda op: lambda x: op(x, 2))
sample(3, "sort argsort", lambda op: lambda x, d: op(x, stable=True, dim=d, descending=True))
sample(3, "_softmax _log_softmax", lambda op: lambda x, d: op(x, d, False))
sample(3, "renorm", lambda op: lambda x, d: op(x, 2, d, 0.5))
sample(3, "aminmax", lambda op: lambda x, d: op(x, dim=d, keepdim=True), lambda op: lambda x: op(x))
sample(3, "count_nonzero", lambda op: lambda x, d: op(x - 0.5 > 0, d), lambda op: lambda x: op(x))

sample(3, "permute", lambda op: lambda x: op(x, [2, 0, 1]))
sample(
    3,
    "movedim moveaxis transpose swapaxes swapdims",
    lambda op: lambda x: op(x, 0, -1),
    lambda op: lambda x: op(x, 1, 2),
)
sample(2, "t", lambda op: lambda x: op(x))
sample(3, "mT squeeze contiguous clone detach alias", lambda op: lambda x: op(x))
sample(3, "unsqueeze", lambda op: lambda x, d: op(x, d))
sample(3, "squeeze", lambda op: lambda x, d: op(x[:, :, :1], d), lambda op: lambda x: op(x.unsqueeze(1), [1]))
sample(3, "expand", lambda op: lambda x: op(x, [3, *x.shape]))
sample(3, "broadcast_to", lambda op: lambda x: op(x, [3, *x.shape]))
sample(3, "expand_as view_as reshape_as type_as to copy rsub", lambda op: lambda x, y: op(x, y))
sample(3, "to", lambda op: lambda x: op(x, torch.float64))
sample(3, "_to_copy", lambda op: lambda x: op(x, dtype=torch.float64))
sample(3, "cat concat concatenate stack", lambda op: lambda x, y, d: op([x, y], d))
sample(3, "repeat tile", lambda op: lambda x: op(x, [1, 2, 1]), lambda op: lambda x: op(x, [2, 1, 1, 3]))
sample(3, "repeat_interleave", lambda op: lambda x, d: op(x, 2, d), lambda op: lambda x: op(x, 2))
sample(3, "repeat_interleave", lambda op: lambda x: op(x, 1 + places(x.shape[1]), 1))
sample(4, "pixel_shuffle pixel_unshuffle channel_shuffle", lambda op: lambda x: op(x, 2))
sample(4, "native_channel_shuffle", lambda op: lambda x: op(x.clone(memory_format=torch.contiguous_format), 2))
sample(
    4,
    "view reshape _unsafe_view",
    lambda op: lambda x: op(x.clone(memory_format=torch.contiguous_format), [x.shape[0], -1, x.shape[3]]),
)
sample(
    3,
    "view reshape",
    lambda op: (
        lambda x: op(x.clone(memory_format=torch.contiguous_format), [x.shape[0], 2, x.shape[1] // 2, x.shape[2]])
    ),
)
sample(3, "flatten", lambda op: lambda x: op(x, 1), lambda op: lambda x: op(x, 0, 1), lambda op: lambda x: op(x))
sample(3, "unflatten", lambda op: lambda x, d: op(x, d, [2, x.shape[d] // 2]))
sample(3, "select", lambda op: lambda x, d: op(x, d, 1))
sample(
    3, "slice", lambda op: lambda x, d: op(x, d, 1), lambda op: lambda x, d: op(x, d, 0, 2), lambda op: lambda x: op(x)
)
sample(3, "slice", lambda op: lambda x, d: A.cat([op(x, d, x.shape[d] // 2), op(x, d, 0, x.shape[d] // 2)], d))
sample(3, "narrow", lambda op: lambda x, d: op(x, d, 0, 2))
sample(3, "unbind", lambda op: lambda x, d: op(x, d), lambda op: lambda x: op(x))
sample(3, "chunk unsafe_chunk tensor_split", lambda op: lambda x, d: op(x, 2, d), lambda op: lambda x: op(x, 2))
sample(3, "split unsafe_split", lambda op: lambda x, d: op(x, x.shape[d] // 2, d), lambda op: lambda x, d: op(x, 1, d))
sample(3, "split split_with_sizes", lambda op: lambda x, d: op(x, [1, x.shape[d] - 1], d))
sample(3, "tensor_split", lambda op: lambda x, d: op(x, [x.shape[d] // 2], d), lambda op: lambda x, d: op(x, [1], d))
sample(3, "hsplit vsplit dsplit", lambda op: lambda x: op(x, 2))
sample(3, "slice_scatter", lambda op: lambda x, y, d: op(x, y.narrow(d, 0, 1), d, 1, 2))
sample(3, "select_scatter", lambda op: lambda x, y, d: op(x, y.select(d, 0), d, 1))
sample(3, "flip", lambda op: lambda x, d: op(x, [d]), lambda op: lambda x: op(x, [0, 1]))
sample(3, "roll", lambda op: lambda x, d: op(x, [1], [d]), lambda op: lambda x: op(x, [1]))
sample(
    3, "index_select", lambda op: lambda x, d: op(x, d, places(3)), lambda op: lambda x, y: op(x, 1, A.argmax(y, 1)[0])
)
sample(
    3, "gather", lambda op: lambda x, y, d: op(x, d, A.argsort(y, d)), lambda op: lambda x, d: op(x, d, places(2, 2, 2))
)
sample(3, "gather", lambda op: lambda x, y: op(x, 1, A.argmax(y, 1, True)))
sample(
    3, "index", lambda op: lambda x: op(x, [None, places(3)]), lambda op: lambda x: op(x, [places(3), None, places(3)])
)
sample(
    3,
    "index_put",
    lambda op: lambda x, y: op(x, [places(1)], y[:1]),
    lambda op: lambda x, y: op(x, [y > 0.5], x[0, 0, 0]),
)
sample(3, "scatter scatter_add", lambda op: lambda x, y, d: op(x, d, torch.zeros_like(y, dtype=torch.int64), y))
sample(3, "scatter", lambda op: lambda x, d: op(x, d, places(2, 2, 2), 0.5))
sample(3, "scatter_reduce", lambda op: lambda x, y, d: op(x, d, torch.zeros_like(y, dtype=torch.int64), y, "amax"))
sample(3, "masked_scatter", lambda op: lambda x, y, z: op(x, y > 0.5, z))
sample(
    3, "masked_fill", lambda op: lambda x, y: op(x, y > 0.5, 2.0), lambda op: lambda x, y: op(x, y > 0.5, y[0, 0, 0])
)
sample(3, "where", lambda op: lambda x, y, z: op(x > 0.5, y, z), lambda op: lambda x, y: op(x > 0.5, y, 2.0))
sample(3, "where", lambda op: lambda x, y: op(x > 0.5, 2.0, y), lambda op: lambda x: op(x > 0.5, 2.0, 1.0).double())
sample(3, "nonzero", lambda op: lambda x: op(x).sum(0))
sample(3, "diagonal", lambda op: lambda x: op(x), lambda op: lambda x: op(x, 0, 1, 2))
sample(3, "glu", lambda op: lambda x, d: op(x, d), lambda op: lambda x: op(x))
sample(3, "fill", lambda op: lambda x: op(x, 0.5), lambda op: lambda x, y: op(x, y[0, 0, 0]))
sample(3, "zeros_like ones_like zero", lambda op: lambda x, y: y * op(x), lambda op: lambda x: op(x))
sample(3, "full_like", lambda op: lambda x, y: y * op(x, 2.0))
sample(
    3,
    "new_zeros new_ones",
    lambda op: lambda x: A.cat([x, op(x, list(x.shape))], 1),
    lambda op: lambda x: x * op(x, [1]),
)
sample(3, "new_full", lambda op: lambda x: x * op(x, [x.shape[1], 1], 0.5))
sample(3, "full", lambda op: lambda x: x * op([x.shape[1], 1], 0.5))
sample(3, "arange", lambda op: lambda x: x * op(x.shape[1])[:, None], lambda op: lambda x: x + op(0, x.shape[2]).sin())
sample(3, "arange", lambda op: lambda x: op(x.shape[1]).to(x) @ x, lambda op: lambda x: x.sum(2) * (op(x.shape[1]) > 2))
sample(
    3,
    "rand randn",
    lambda op: lambda x: x * op([x.shape[1], 1]),
    lambda op: lambda x: x @ op([x.shape[0], x.shape[2], 3]),
)
sample(3, "randperm", lambda op: lambda x: x * op(x.shape[1])[:, None])
sample(
    3,
    "dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout",
    lambda op: lambda x: op(x, 0.5, False),
)
sample(3, "dropout native_dropout", lambda op: lambda x: op(x, 0.5, True))

sample(
    4,
    "constant_pad_nd",
    lambda op: lambda x: op(x, [1, 1, 0, 2, 1, 0], 0.5),
    lambda op: lambda x: op(x, [-1, 0, 0, -1]),
)
sample(4, "pad", lambda op: lambda x: op(x, [1, 1, 0, 1, 1, 1]), lambda op: lambda x: op(x, [1, 1], "constant", 0.5))
sample(
    4, "pad", *(lambda op, mode=m: lambda x: op(x, [1, 1, 1, 1], mode) for m in ("reflect", "replicate", "circular"))
)
for n in (1, 2, 3):
    r = n + 2
    sample(r, f"max_pool{n}d avg_pool{n}d", lambda op, n=n: lambda x: op(x, [2] * n))
    sample(
        r,
        f"max_pool{n}d avg_pool{n}d",
        lambda op, n=n: lambda x: op(x, [1] * (n - 1) + [3], [1] * n, [0] * (n - 1) + [1]),
    )
    sample(r, f"adaptive_avg_pool{n}d adaptive_max_pool{n}d", lambda op, n=n: lambda x: op(x, [1] * n))
    sample(r, f"adaptive_avg_pool{n}d", lambda op, n=n: lambda x: op(x, list(x.shape[-n:])))
    sample(r, f"upsample_nearest{n}d _upsample_nearest_exact{n}d", lambda op, n=n: lambda x: op(x, [3] * n))
    sample(r, f"upsample_nearest{n}d", lambda op, n=n: lambda x: op(x, None, [2.0] * n))
    sample(r, f"reflection_pad{n}d replication_pad{n}d", lambda op, n=n: lambda x: op(x, [1] * 2 * n))
    sample(r, f"reflection_pad{n}d replication_pad{n}d", lambda op, n=n: lambda x: op(x, [1, -1] + [0] * (2 * n - 2)))
sample(3, "max_pool2d avg_pool2d", lambda op: lambda x: op(x, [2, 2]))
sample(3, "max_pool1d_with_indices", lambda op: lambda x: op(x, [2]))
sample(3, "upsample_linear1d", lambda op: lambda x: op(x, [3], False))
sample(4, "max_pool2d_with_indices", lambda op: lambda x: op(x, [2, 2]))
sample(4, "_adaptive_avg_pool2d", lambda op: lambda x: op(x, [1, 1]))
sample(
    4,
    "upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa",
    lambda op: lambda x: op(x, [3, 5], False),
)
sample(4, "upsample_bilinear2d", lambda op: lambda x: op(x, None, False, [2.0, 2.0]))
sample(
    4,
    "fractional_max_pool2d",
    lambda op: lambda x: op(x, [1, 1], [1, 1], A.new_full(x, [x.shape[0], x.shape[1], 2], 0.5)),
)
sample(
    4, "fractional_max_pool2d", lambda op: lambda x: op(x, [1, 1], [1, 1], A.rand([x.shape[0], x.shape[1], 2]).to(x))
)
sample(
    5,
    "fractional_max_pool3d",
    lambda op: lambda x: op(x, [1] * 3, [1] * 3, A.new_full(x, [x.shape[0], x.shape[1], 3], 0.5)),
)
sample(
    5,
    "max_unpool3d",
    lambda op: (
        lambda x, y: op(x, A.argsort(A.flatten(y, 2), 2).view_as(y), [2 * n for n in x.shape[2:]], [2] * 3, [0] * 3)
    ),
)
sample(
    4,
    "max_unpool2d",
    lambda op: (
        lambda x, y: op(
            y,
            A.max_pool2d_with_indices(A.upsample_nearest2d(x, None, [2.0, 2.0]), [2, 2])[1],
            [2 * x.shape[2], 2 * x.shape[3]],
        )
    ),
)
sample(
    4,
    "grid_sampler_2d grid_sampler",
    lambda op: lambda x: op(x, A.new_zeros(x, [x.shape[0], 3, 3, 2]) + 0.1, 0, 0, False),
)
sample(4, "grid_sampler_2d", lambda op: lambda x, y: op(x, A.slice(A.flatten(y, 2), 2, 0, 2).unsqueeze(1), 0, 0, False))
sample(4, "im2col", lambda op: lambda x: op(x, [2, 2], [1, 1], [0, 0], [1, 1]))
sample(3, "col2im", lambda op: lambda x: op(A.cat([x] * 4, 1)[:, :, :1], [2, 2], [2, 2], [1, 1], [0, 0], [1, 1]))
sample(5, "max_pool3d_with_indices", lambda op: lambda x: op(x, [2, 2, 2]))
sample(5, "_adaptive_avg_pool3d", lambda op: lambda x: op(x, [1, 1, 1]))
sample(5, "upsample_trilinear3d", lambda op: lambda x: op(x, [3, 3, 3], True))
sample(5, "grid_sampler_3d", lambda op: lambda x: op(x, A.new_zeros(x, [x.shape[0], 2, 2, 2, 3]) + 0.1, 0, 0, False))

sample(2, "mm matmul", lambda op: lambda x, y: op(x, y.t()), lambda op: lambda x, y: op(x.t(), y))
sample(
    2,
    "addmm",
    lambda op: lambda x, y, z: op(z[:1, :1], x, y.t()),
    lambda op: lambda x, z: op(z, x, A.new_ones(x, [x.shape[1]] * 2)),
)
sample(2, "mv", lambda op: lambda x, y: op(x, y[0]))
sample(3, "bmm matmul", lambda op: lambda x, y: op(x, y.mT), lambda op: lambda x, y: op(x.mT, y))
sample(3, "bmm", lambda op: lambda x: op(x, A.new_ones(x, [x.shape[0], x.shape[2], 3])))
sample(3, "baddbmm", lambda op: lambda x, y: op(x[:, :, :1], x, y.mT))
sample(
    3, "einsum", lambda op: lambda x, y: op("abc,abc->ab", [x, y]), lambda op: lambda x, y: op("abc,abc->ac", [x, y])
)
sample(
    3,
    "einsum",
    lambda op: lambda x, y: op("abc,adc->abd", [x, y]),
    lambda op: lambda x, y: op("...a,...a->...", [x, y]),
)
sample(
    4,
    "scaled_dot_product_attention",
    lambda op: lambda x, y, z: op(x, y, z),
    lambda op: lambda x, y, z: op(x, y, z, scale=0.5),
)
sample(4, "scaled_dot_product_attention", lambda op: lambda x, y: op(x, x, x, attn_mask=A.sum(y, [3], True), scale=0.5))
sample(3, "_cdist_forward", lambda op: lambda x, y: op(x, y, 2.0, None))
sample(2, "_pdist_forward", lambda op: lambda x: op(x))
sample(4, "_fft_r2c", lambda op: lambda x: op(x, [3], 0, True).abs())
sample(4, "batch_norm instance_norm", lambda op: lambda x: op(x, None, None, None, None, True, 0.1, 1e-5, False))
sample(4, "_native_batch_norm_legit", lambda op: lambda x: op(x, None, None, True, 0.1, 1e-5))
sample(
    4,
    "_native_batch_norm_legit_no_training",
    lambda op: lambda x: op(x, None, None, A.new_zeros(x, [x.shape[1]]), A.new_ones(x, [x.shape[1]]), 0.1, 1e-5),
)
sample(
    4, "layer_norm rms_norm", lambda op: lambda x: op(x, [x.shape[3]]), lambda op: lambda x: op(x, list(x.shape[2:]))
)
sample(4, "native_layer_norm", lambda op: lambda x: op(x, [x.shape[3]], None, None, 1e-5))
sample(
    4,
    "native_group_norm",
    lambda op: lambda x: op(x, None, None, x.shape[0], x.shape[1], x.shape[2] * x.shape[3], 2, 1e-5),
)
sample(
    3, "clamp", lambda op: lambda x, y: op(x, y), lambda op: lambda x, y: op(x, max=y), lambda op: lambda x: op(x, 0.3)
)
sample(3, "lerp", lambda op: lambda x, y, z: op(x, y, z), lambda op: lambda x, y: op(x, y, 0.3))
sample(3, "addcmul addcdiv", lambda op: lambda x, y, z: op(x, y, z, value=2))
sample(3, "pow fmod remainder", lambda op: lambda x, y: op(x, y), lambda op: lambda x: op(x, 2.0))
sample(3, "pow", lambda op: lambda x: op(2.0, x))
sample(3, "rsub", lambda op: lambda x: op(x, 2.0))
sample(3, "acosh", lambda op: lambda x: op(x + 1))
sample(3, "hardswish leaky_relu elu celu softplus hardtanh gelu", lambda op: lambda x: op(x - 0.5))
sample(
    3, "add sub mul div", lambda op: lambda x, y: op(x, y[:, :1]), lambda op: lambda x, y: op(x, y[:, 0, 0, None, None])
)


def plain(name: str) -> None:
    """Sample an element-wise op by its schema."""
    for overload in getattr(A, name).overloads():
        op = getattr(getattr(A, name), overload)
        needed = [a for a in op._schema.arguments if not a.has_default_value()]
        kinds = "".join("x" if str(a.type) == "Tensor" else "n" for a in needed)
        if torch.Tag.pointwise in op.tags and "x" in kinds and "out" not in overload:
            rest = [0.3 if str(a.type) != "int" else 2 for a in needed if str(a.type) != "Tensor"]
            forms: dict[str, Sample] = {
                "x": lambda x, op=op: op(x),
                "xx": lambda x, y, op=op: op(x, y),
                "xxx": lambda x, y, z, op=op: op(x, y, z),
                "xn": lambda x, op=op, rest=rest: op(x, *rest),
                "nx": lambda x, op=op, rest=rest: op(*rest, x),
            }
            if kinds in forms:
                SAMPLES[3].setdefault(name, []).append(forms[kinds])


def core() -> set[str]:
    """Return the names of the core ops of this torch."""
    packets = {name: getattr(A, name) for name in dir(A) if hasattr(getattr(A, name), "overloads")}
    return {n for n, p in packets.items() if any(torch.Tag.core in getattr(p, o).tags for o in p.overloads())}


PLAIN: list[str] = []
NAMES = sorted((core() | set(RULES)) - set(NOT_OF_A_FLOAT_NETWORK))
for known in NAMES:
    if not any(known in table for table in SAMPLES.values()):
        plain(known)
        PLAIN.append(known)
# Element-wise ops share one rule: a network holds many of them.
TOGETHER = [PLAIN[k : k + 12] for k in range(0, len(PLAIN), 12)] + [[name] for name in NAMES if name not in PLAIN]


class Branch(nn.Module):
    """Up to three operands with channels at `place`, one op, and a linear layer along each result's channels."""

    def __init__(self, run: Sample, rank: int, place: int, width: int = WIDTH, *, alive: bool) -> None:
        super().__init__()
        self.run, self.rank, self.place, self.alive = run, rank, place, alive
        self.makers = nn.ModuleList(
            nn.Conv1d(3, width, 1) for name in inspect.signature(run).parameters if name in "xyz"
        )
        self.readers = nn.ModuleList()
        self.dims: list[int | None] = []

    def values(self, images_BCN: Tensor) -> list[Tensor]:
        """Return the results of the op."""
        places = PLACES[self.rank]
        operands = []
        for maker in self.makers:
            x = maker(images_BCN[..., : torch.Size(places[1:]).numel()])
            x = x.mean(2) if self.rank == 2 else x.unflatten(2, places[1:])
            # A masked channel is zero behind tanh and 0.5 behind a sigmoid.
            operands.append((x.sigmoid() * 0.8 + 0.1 if self.alive else x.tanh()).movedim(1, self.place))
        leaves = [leaf for leaf in pytree.tree_leaves(self.run(*operands)) if isinstance(leaf, Tensor)]
        return [leaf if leaf.is_floating_point() else leaf.double() for leaf in leaves]

    def read_along_channels(self, images_BCN: Tensor) -> None:
        """Add the linear layers: the channels are where a result is shorter if the operands have fewer of them."""
        torch.manual_seed(0)
        wide = self.values(images_BCN)
        try:
            narrow = Branch(self.run, self.rank, self.place, WIDTH - 2, alive=self.alive).double().values(images_BCN)
        except (RuntimeError, IndexError, ValueError):
            narrow = wide
        for many, few in zip(wide, narrow, strict=True):
            dims = [d for d in range(many.dim()) if many.shape[d] != few.shape[d]]
            reader = nn.Linear(many.shape[dims[0]], 2).double() if dims else nn.Identity()
            self.readers.append(reader)
            self.dims.append(dims[0] if dims else None)

    def forward(self, images_BCN: Tensor) -> list[Tensor]:
        triples = zip(self.readers, self.dims, self.values(images_BCN), strict=True)
        return [x if dim is None else reader(x.movedim(dim, -1)) for reader, dim, x in triples]


class Branches(nn.Module):
    def __init__(self, names: Sequence[str], images_BCN: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.branches = nn.ModuleList()
        self.texts: list[str] = []
        for name in names:
            self._add_samples(name, images_BCN)

    def _add_samples(self, name: str, images_BCN: Tensor) -> None:
        forms = [(*form, range(form[0])) for form in samples(name, SAMPLES)]
        forms += [(rank, run, f"{text} in place", [1]) for rank, run, text in samples(name, IN_PLACE)]
        for rank, run, text, places_of_channels in forms:
            for place in places_of_channels:
                for alive in (False, True) if name in PRODUCTS else (len(self.texts) % 2 == 0,):
                    self._add(Branch(run, rank, place, alive=alive).double(), f"{text} at {place}", images_BCN)

    def _add(self, branch: Branch, text: str, images_BCN: Tensor) -> None:
        try:
            branch.read_along_channels(images_BCN)
        except (RuntimeError, IndexError, ValueError):
            return  # torch does not run this sample with the channels there
        self.branches.append(branch)
        self.texts.append(f"{text}, {'never zero' if branch.alive else 'zero where masked'}")

    def forward(self, images_BCN: Tensor) -> list[list[Tensor]]:
        return [branch(images_BCN) for branch in self.branches]


def samples(name: str, tables: dict[int, dict[str, list[Sample]]]) -> Iterator[tuple[int, Sample, str]]:
    for rank, table in tables.items():
        for number, run in enumerate(table.get(name, [])):
            if "d" in inspect.signature(run).parameters:
                for d in (1, -1):
                    yield rank, with_dim(run, d), f"{name} {rank} #{number} over {d}"
            else:
                yield rank, run, f"{name} {rank} #{number}"


def with_dim(run: Sample, d: int) -> Sample:
    forms = {1: lambda x: run(x, d=d), 2: lambda x, y: run(x, y, d=d), 3: lambda x, y, z: run(x, y, z, d=d)}
    return forms[len(inspect.signature(run).parameters) - 1]


def test_every_op_has_a_sample_or_a_reason() -> None:
    assert [name for name in NAMES if not any(samples(name, SAMPLES))] == []


@pytest.mark.parametrize("names", TOGETHER, ids=lambda names: names[0])
def test_an_op_is_exact_or_frozen(names: list[str]) -> None:
    images_BCN = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = Branches(names, images_BCN).eval()
    assert {text.split()[0] for text in network.texts} == set(names), "no sample runs"
    coupling = analyse(network, (images_BCN,))
    generator = torch.Generator().manual_seed(1)
    keep = {
        group.name: sorted(torch.randperm(group.width, generator=generator)[: -(-group.width // 2)].tolist())
        for group in coupling.free
    }
    plan = make_plan(coupling, keep)
    outputs = []
    for version in (masked(network, plan), pruned(network, plan)):
        torch.manual_seed(2)
        with torch.no_grad():
            outputs.append(version(images_BCN))
    for text, want, got in zip(network.texts, *outputs, strict=True):
        for expected, found in zip(want, got, strict=True):
            torch.testing.assert_close(
                found, expected, rtol=0, atol=TOLERANCE, equal_nan=True, msg=lambda m, text=text: f"{text}: {m}"
            )
