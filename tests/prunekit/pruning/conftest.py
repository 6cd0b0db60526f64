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


BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    cls.__name__: cls
    for cls in (
        Residual, Projected, Concat, Split, Grouped, Depthwise, Transposed, GroupedTransposed, Gate, SpatialGate,
        Shuffle, PixelShuffled, PerPixelLinear, Slopes, PooledContext, ZeroPaddedSkip, ChannelNorms, SelfProduct,
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
