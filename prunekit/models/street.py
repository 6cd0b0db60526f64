"""street_net: a small real-time network for street scenes, the default of `prunekit train`."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunekit.errors import ModelError


def street_net(num_classes: int, width: int = 32) -> nn.Module:
    """Build the network with random (Kaiming) weights.

    `width` is the channel count at stride 4; strides 8 and 16 have twice and four times that. With width 32 and 11
    classes: 0.942 M parameters, 0.293 GMACs at 128x192 (torch.utils.flop_counter, MACs = FLOPs / 2).

    Raises:
        ModelError: `width` is no even number from 2 on (the context branches have half their stage's channels).
    """
    if width < 2 or width % 2:
        raise ModelError(
            f"street_net's width must be an even number of channels from 2 on, got {width}. Write width=32."
        )
    return StreetNet(num_classes, width)


class StreetNet(nn.Module):
    """Plain residual encoder to stride 16, row and scene context, two-step decoder, logits at stride 4.

    Any image size works, odd ones too: each upsampling takes its size from the map it is joined with.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn_relu(3, width, stride=2), conv_bn_relu(width, width, stride=2))
        self.stage4 = nn.Sequential(ResidualBlock(width, width), ResidualBlock(width, width))
        self.stage8 = stage(width, 2 * width, blocks=3)
        self.stage16 = stage(2 * width, 4 * width, blocks=2)
        self.context = Context(4 * width)
        self.lateral16 = conv_bn_relu(4 * width, 2 * width, kernel=1)
        self.fuse8 = conv_bn_relu(4 * width, 2 * width)
        self.lateral8 = conv_bn_relu(2 * width, width, kernel=1)
        self.fuse4 = conv_bn_relu(2 * width, 2 * width)
        self.classifier = nn.Conv2d(2 * width, num_classes, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Logits of the features' own scale: at a tenth of it the first epochs go into growing them.
        nn.init.kaiming_normal_(self.classifier.weight, nonlinearity="linear")

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits at a quarter of the images' size, rounded up."""
        x4 = self.stage4(self.stem(images_B3HW))
        x8 = self.stage8(x4)
        x16 = self.context(self.stage16(x8))
        y8 = self.fuse8(torch.cat([upsample(self.lateral16(x16), x8), x8], dim=1))
        y4 = self.fuse4(torch.cat([upsample(self.lateral8(y8), x4), x4], dim=1))
        return self.classifier(y4)


class Context(nn.Module):
    """Adds to every place what its row and the whole scene hold: in street scenes the row tells sky from road.

    The scene branch has no batch norm: with one image a batch there would be one value a channel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.row = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(channels, channels // 2, (3, 1), padding=(1, 0), bias=False),
                norm=nn.BatchNorm2d(channels // 2),
                relu=nn.ReLU(),
            )
        )
        self.scene = nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, channels // 2, 1), relu=nn.ReLU()))
        self.merge = conv_bn(channels // 2, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        row_BCH1 = self.row(x.mean(dim=3, keepdim=True))
        scene_BC11 = self.scene(x.mean(dim=(2, 3), keepdim=True))
        return F.relu(x + self.merge(row_BCH1 + scene_BC11))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which projects where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(in_channels, out_channels, stride=stride)
        self.conv2 = conv_bn(out_channels, out_channels)
        same = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(in_channels, out_channels, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, after the ReLU."""
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


def stage(in_channels: int, out_channels: int, *, blocks: int) -> nn.Sequential:
    """Return `blocks` residual blocks, the first of which halves the size."""
    rest = (ResidualBlock(out_channels, out_channels) for _ in range(blocks - 1))
    return nn.Sequential(ResidualBlock(in_channels, out_channels, stride=2), *rest)


def conv_bn(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution (padding keeps the size) and its batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))


def conv_bn_relu(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm, ReLU."""
    block = conv_bn(in_channels, out_channels, kernel=kernel, stride=stride)
    block.append(nn.ReLU())
    return block


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Resize a map bilinearly to another's size."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
