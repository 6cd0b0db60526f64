"""The network of a dry run: everything that a table needs, in six layers."""

from torch import Tensor, nn


def tiny_net(num_classes: int) -> nn.Module:
    """Return a network with a residual sum; its logits have a quarter of the images' size."""
    return TinyNet(num_classes)


class TinyNet(nn.Module):
    """Stem, one residual block, head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = _layer(3, 48, stride=2)
        self.down = _layer(48, 64, stride=2)
        self.block = nn.Sequential(_layer(64, 64), _layer(64, 64))
        self.head = _layer(64, 48)
        self.classifier = nn.Conv2d(48, num_classes, 1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits at a quarter of the images' size."""
        features = self.down(self.stem(images_B3HW))
        return self.classifier(self.head(features + self.block(features)))


def _layer(before: int, after: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
