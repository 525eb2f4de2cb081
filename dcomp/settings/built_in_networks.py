"""Networks that dcomp can make, by name.

The command line lists them and imports no torch, so each is named by the place of its class.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltInNetwork:
    """Where a network is defined, and the arguments that it is made with where nothing else is said.

    Attributes:
        place: `module:class`, of `dcomp.learning.architectures`.
        classes: number of outputs.
        grayscale: whether its images have one channel, not three.
        size: height and width of its images.
        dropout: rate of its dropout layers.
    """

    place: str
    classes: int
    grayscale: bool
    size: int
    dropout: float


BUILT_IN_NETWORKS = {
    "lenet300": BuiltInNetwork("lenet:LeNet300", classes=10, grayscale=True, size=28, dropout=0.0),
    "lenet5": BuiltInNetwork("lenet:LeNet5", classes=10, grayscale=True, size=28, dropout=0.0),
    "alexnet": BuiltInNetwork("alexnet:AlexNet", classes=1000, grayscale=False, size=227, dropout=0.5),
    "vgg16": BuiltInNetwork("vgg:VGG16", classes=1000, grayscale=False, size=224, dropout=0.5),
    "vgg16-cifar": BuiltInNetwork("vgg:VGG16Cifar", classes=10, grayscale=False, size=32, dropout=0.5),
}
