"""ResNet-50 with torchvision's state-dict names, so that its ImageNet weights load.

He et al., "Deep residual learning", CVPR 2016 (https://arxiv.org/abs/1512.03385), with
the stride in the 3 x 3 convolution as torchvision has it. Not imported from there: its
compiled part has to fit the build of PyTorch, CUDA or CPU, and is not needed.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return (self.bn3(self.conv3(x)) + shortcut).relu()


class ResNet50(nn.Module):
    """(N, channels, H, W) images -> (N, outputs) logits."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for number, blocks in enumerate(BLOCKS):
            layer = nn.Sequential(*_blocks(inputs, 64 * 2**number, blocks, number > 0))
            self.add_module(f"layer{number + 1}", layer)
            inputs = EXPANSION * 64 * 2**number
        self.fc = nn.Linear(inputs, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu"
                )

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(images)).relu())
        for number in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)))


def _blocks(inputs: int, width: int, count: int, halve: bool) -> Iterator[Bottleneck]:
    for number in range(count):
        yield Bottleneck(inputs, width, 2 if halve and not number else 1)
        inputs = EXPANSION * width


def build_resnet50(seed: int, *, channels: int, outputs: int) -> ResNet50:
    """Make a ResNet-50 with He's initialisation from a private seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet50(channels, outputs)
