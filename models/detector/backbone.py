"""The residual network of a detector, in four stages; the last runs on regions (docs/reference.md, detector backbone).

Every convolution is followed by a batch norm with fixed statistics, which `weights.py` folds into it: what is left is
a convolution with a bias. Shape letters: N pictures or regions, C channels, h, w cells.
"""

from typing import NamedTuple

import paddle
import paddle.nn as nn
import paddle.nn.functional as F


class Stage(NamedTuple):
    """A row of bottleneck blocks.

    Attributes:
        blocks: how many. inner: channels of the 3x3 convolutions. out: channels of the stage's output.
        groups: of the 3x3 convolutions. stride: of the first block's 3x3 convolution and shortcut.
    """

    blocks: int
    inner: int
    out: int
    groups: int = 1
    stride: int = 2


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 convolution and a shortcut, each but the last followed by ReLU."""

    def __init__(self, width, stage, is_first):
        super().__init__()
        stride = stage.stride if is_first else 1
        self.conv1 = nn.Conv2D(width, stage.inner, 1)
        self.conv2 = nn.Conv2D(stage.inner, stage.inner, 3, stride=stride, padding=1, groups=stage.groups)
        self.conv3 = nn.Conv2D(stage.inner, stage.out, 1)
        self.downsample = nn.Sequential(nn.Conv2D(width, stage.out, 1, stride=stride)) if is_first else None

    def forward(self, hidden):
        """[N, width, h, w] -> [N, out, h / stride, w / stride]."""
        shortcut = hidden if self.downsample is None else self.downsample(hidden)
        return self.rest(F.relu(self.conv1(hidden)), shortcut)

    def rest(self, hidden, shortcut):
        """What follows the first convolution and its ReLU, and the shortcut."""
        return F.relu(self.conv3(F.relu(self.conv2(hidden))) + shortcut)


def build_stage(width, stage):
    """The blocks of a Stage, on `width` channels."""
    blocks = [Bottleneck(stage.out if number else width, stage, number == 0) for number in range(stage.blocks)]
    return nn.Sequential(*blocks)


class Stem(nn.Layer):
    """7x7 convolution with stride 2, ReLU, 3x3 maximum with stride 2."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2D(3, width, 7, stride=2, padding=3)

    def forward(self, pictures):
        return F.max_pool2d(F.relu(self.conv1(pictures)), 3, stride=2, padding=1)


class Backbone(nn.Layer):
    """Stem and the stages before the regions are cut out.

    Args:
        stem: channels of the stem. stages: list of Stage.
    """

    def __init__(self, stem, stages):
        super().__init__()
        self.stem = Stem(stem)
        self.depth = len(stages)
        for number, (width, stage) in enumerate(zip([stem, *(s.out for s in stages)], stages, strict=False), 1):
            setattr(self, f"layer{number}", build_stage(width, stage))

    def forward(self, pictures):
        """[N, 3, H, W] float32, see `pictures.py` -> [N, C, h, w], h = H / 16 or so."""
        return self.stages(pictures)[-1]

    def stages(self, pictures):
        """The outputs of the stem and of every stage, as a list."""
        found = [self.stem(pictures)]
        for number in range(1, self.depth + 1):
            found.append(getattr(self, f"layer{number}")(found[-1]))
        return found


def average(hidden):
    """[N, C, h, w] -> [N, C]: the mean over all cells."""
    return paddle.mean(hidden, axis=[2, 3])
