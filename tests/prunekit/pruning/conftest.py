"""Random small networks: a list of block names becomes a network, so that a failing case shrinks."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBn(nn.Module):
    def __init__(self, c: int, out: int, kernel: int = 3, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, out, kernel, padding=kernel // 2, groups=groups)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, c + 2), nn.Conv2d(c + 2, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.b(self.a(x)))


class Projected(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.skip = ConvBn(c, 8), nn.Conv2d(c, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.skip(x)


class Concat(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, 4), ConvBn(c + 4, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, self.a(x)], dim=1)
        return torch.cat([self.b(y), x], dim=1)  # x meets the second concat at another offset


class Split(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, 8), ConvBn(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.a(x).chunk(2, dim=1)
        return self.b(left * torch.sigmoid(right))


class Grouped(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, 8), ConvBn(8, 12, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


class Depthwise(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.c = ConvBn(c, 6), ConvBn(6, 12, groups=6), ConvBn(12, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x)))


class Transposed(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.up, self.bn = nn.ConvTranspose2d(c, 6, 2, stride=2), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.leaky_relu(self.bn(self.up(x))), 2)


class GroupedTransposed(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.up = ConvBn(c, 6), nn.ConvTranspose2d(6, 9, 3, padding=1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.a(x))


class Gate(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(c, 4), nn.Linear(4, c)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * weights[:, :, None, None]


class SpatialGate(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(c, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x))


class Shuffle(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, 8), ConvBn(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, c, h, w = x.shape
        return self.b(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class PixelShuffled(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(c, 12, 1), ConvBn(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.b(F.pixel_shuffle(self.a(x), 2)), 2)


class PerPixelLinear(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(c, 9), nn.Linear(9, 6)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        y = self.b(F.gelu(self.a(x.flatten(2).transpose(1, 2))))
        return y.transpose(1, 2).reshape(n, -1, h, w)


class Slopes(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.slope = nn.Conv2d(c, 7, 3, padding=1), nn.PReLU(7)
        self.scale = nn.Parameter(torch.rand(1, 7, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.slope(self.a(x)) * self.scale


class PooledContext(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, 4, 1), ConvBn(c + 4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(self.a(F.adaptive_avg_pool2d(x, 1)), size=x.shape[2:], mode="bilinear")
        return self.b(torch.cat([x, pooled], dim=1))


class ZeroPaddedSkip(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a = ConvBn(c, c + 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))


class ChannelNorms(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(c, 8, 1), nn.Conv2d(8, 6, 1)
        self.inner, self.outer = nn.GroupNorm(2, 8), nn.InstanceNorm2d(6, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.b(F.relu(self.inner(self.a(x)))))


class SelfProduct(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(c, 5, 1), nn.Conv2d(c, 5, 1), nn.Conv2d(c, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        scores = self.q(x).flatten(2).transpose(1, 2) @ self.k(x).flatten(2)
        return (self.v(x).flatten(2) @ scores.softmax(dim=-1).transpose(1, 2)).view(n, -1, h, w)


class GroupNormed(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(c, 12, 1), nn.GroupNorm(4, 12), ConvBn(12, 5)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.norm(self.a(x))))


class Unpooled(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.c = ConvBn(c, 6), ConvBn(6, 6), ConvBn(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled, where = F.max_pool2d(self.a(x), 2, return_indices=True)
        return self.c(F.max_unpool2d(self.b(pooled), where, 2))


class Unfolded(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.mix, self.b = nn.Conv2d(c, 5, 1), nn.Conv1d(45, 54, 1), ConvBn(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.mix(F.unfold(self.a(x), 3, padding=1))
        return self.b(F.fold(patches, x.shape[2:], 3, padding=1))


class EinsumAttention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Conv2d(c, 8, 1) for _ in range(4))
        self.out = nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).flatten(2).unflatten(1, (2, -1)) for layer in (self.q, self.k, self.v))
        weights = torch.einsum("bhdm,bhdn->bhmn", q, k).softmax(dim=-1)
        return self.out(torch.einsum("bhmn,bhdn->bhdm", weights, v).flatten(1, 2).unflatten(2, x.shape[2:]))


class Sampled(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.offset, self.b = ConvBn(c, 6), nn.Conv2d(c, 2, 1), ConvBn(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.tanh(self.offset(x)).permute(0, 2, 3, 1)
        return self.b(F.grid_sample(self.a(x), grid, align_corners=False))


class WrittenSize(nn.Module):
    """The 8 and the 2 stand in the source: this width cannot change."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.free = ConvBn(c, 8), ConvBn(8, 6), ConvBn(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        return self.free(self.b(self.a(x).view(n, 2, 4, h, w).transpose(1, 2).reshape(n, 8, h, w)))


class Sliced(nn.Module):
    """The first three channels by position: those and their neighbours stay where they are."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.free = ConvBn(c, 8), ConvBn(3, 4), ConvBn(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.free(self.b(self.a(x)[:, :3]))


class SelectiveKernel(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, 8), ConvBn(c, 8, 5)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([self.a(x), self.b(x)], dim=1)
        pooled = F.adaptive_avg_pool2d(branches.sum(dim=1), 1)
        weights = self.up(F.relu(self.down(pooled))).view(x.shape[0], 2, -1, 1, 1).softmax(dim=1)
        return (branches * weights).sum(dim=1)


class Transformer(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(c, 8, 1), nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 16, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)
        self.back = nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(self.embed(x), 4).flatten(2).transpose(1, 2) + self.position
        y = self.layer(torch.cat([self.token.expand(len(y), -1, -1), y], dim=1))[:, 1:]
        return self.back(F.interpolate(y.transpose(1, 2).unflatten(2, (4, 4)), x.shape[2:]))


class Tokens(nn.Module):
    """Learnt queries and positions meet features; no norm over channels stands in the way."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.embed, self.queries = nn.Conv2d(c, 6, 1), nn.Parameter(torch.randn(5, 6))
        self.bias = nn.Parameter(torch.randn(1, 6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.embed(x) + self.bias
        return (self.queries @ features.flatten(2)).unflatten(2, x.shape[2:])


class WindowShift(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.mix, self.b = ConvBn(c, 6), nn.Linear(6, 6), ConvBn(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.roll(self.a(x), (1, 1), dims=(2, 3)).permute(0, 2, 3, 1)
        n, h, w, c = y.shape
        windows = y.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        y = self.mix(windows).view(n, h // 2, w // 2, 2, 2, -1).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, -1)
        return self.b(y.permute(0, 3, 1, 2).flip(3))


class Shared(nn.Module):
    """One convolution on two inputs, and a weight tied to another layer's."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.head = ConvBn(c, 6), ConvBn(c, 6), ConvBn(6, 4)
        self.left, self.right = nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1)
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.left(self.head(self.a(x))) + torch.relu(self.right(self.head(self.b(x))))


class StripPooled(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.rows, self.columns = ConvBn(c, 6), nn.Conv2d(6, 5, (3, 1), padding=(1, 0)), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        rows = self.rows(F.adaptive_avg_pool2d(x, (None, 1))).expand(-1, -1, -1, x.shape[3])
        columns = self.columns(F.adaptive_max_pool2d(x, (1, None))).expand(-1, -1, x.shape[2], -1)
        return torch.sigmoid(rows + columns)


class ChannelStatistics(nn.Module):
    """A spatial gate from the mean and the maximum over channels: those channels depend on each other."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.gate, self.b = ConvBn(c, 6), nn.Conv2d(2, 1, 3, padding=1), ConvBn(6, 5)
        self.c = ConvBn(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        both = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return self.c(self.b(x * torch.sigmoid(self.gate(both))))


class DualAttention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = ConvBn(c, 6), ConvBn(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        flat = x.flatten(2)
        weights = torch.bmm(flat, flat.transpose(1, 2)).softmax(dim=-1)
        return self.b(torch.bmm(weights, flat).view_as(x) + x)


class InPlace(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.c = ConvBn(c, 6), ConvBn(c, 4), ConvBn(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).clone()
        y[:, 1:5] = self.b(x)
        y.mul_(0.5).relu_()
        return self.c(y)


class RmsNormed(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.norm, self.up, self.down = nn.Linear(c, 6), nn.RMSNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x.permute(0, 2, 3, 1))
        return (y + self.down(F.silu(self.up(self.norm(y))))).permute(0, 3, 1, 2)


class Volume(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv3d(c, 7, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(7), ConvBn(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.norm(self.a(torch.stack([x, x.flip(2)], dim=2)))
        return self.b(frames.amax(dim=2))


class UnknownOp(nn.Module):
    """No rule knows a Fourier transform: what it touches stays, what comes before and after can go."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.c = ConvBn(c, 6), ConvBn(6, 5), ConvBn(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.fft.fft2(self.a(x)).abs())))


class Unshuffled(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b, self.c = ConvBn(c, 3), ConvBn(12, 8), ConvBn(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(F.pixel_unshuffle(self.a(x), 2))
        return self.c(F.interpolate(y, scale_factor=2, mode="nearest"))


class RelativeBias(nn.Module):
    """Attention with a learnt bias looked up by relative position, as windows have."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(c, 24), nn.Linear(8, 6)
        self.table = nn.Parameter(torch.randn(9, 2))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        places = torch.arange(h * w, device=x.device)
        index = (places[:, None] - places[None, :]).abs() % 9
        bias = self.table[index.reshape(-1)].view(h * w, h * w, -1).permute(2, 0, 1)
        weights = (q @ k.transpose(-2, -1) + bias).softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2)).transpose(1, 2).reshape(n, -1, h, w)


BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    cls.__name__: cls
    for cls in (
        Residual, Projected, Concat, Split, Grouped, Depthwise, Transposed, GroupedTransposed, Gate, SpatialGate,
        Shuffle, PixelShuffled, PerPixelLinear, Slopes, PooledContext, ZeroPaddedSkip, ChannelNorms, SelfProduct,
        GroupNormed, Unpooled, Unfolded, EinsumAttention, Sampled, WrittenSize, Sliced, SelectiveKernel, Transformer,
        Tokens, WindowShift, Shared, StripPooled, ChannelStatistics, DualAttention, InPlace,
        RmsNormed, Volume, UnknownOp, Unshuffled, RelativeBias,
    )
}  # fmt: skip


class RandomNetwork(nn.Module):
    def __init__(self, names: Sequence[str], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = ConvBn(3, 6)
        blocks, probe = [], self.stem(torch.zeros(2, 3, 8, 8))
        for name in names:
            blocks.append(BLOCKS[name](probe.shape[1]))
            probe = blocks[-1](probe)
        self.blocks = nn.Sequential(*blocks)
        self.image_concat = nn.Conv2d(probe.shape[1] + 3, 8, 1)
        self.classifier = nn.Conv2d(8, 4, 1)
        _randomise_norms(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(self.stem(images))
        return self.classifier(F.relu(self.image_concat(torch.cat([x, images], dim=1))))


def _randomise_norms(network: nn.Module) -> None:
    """Fresh norms hide mistakes: every scale is one, every mean zero."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


@pytest.fixture(scope="session")
def block_names() -> list[str]:
    return list(BLOCKS)


@pytest.fixture(scope="session")
def random_network() -> Callable[[Sequence[str], int], nn.Module]:
    return lambda names, seed: RandomNetwork(names, seed).eval()
