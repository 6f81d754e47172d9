"""Data sets: images and labels in memory, read from published files, people's own images, or the package.

Text to translate is read by `parallel_text` and turned into numbers by `tokenizer.Tokenizer`.
"""

from .augment import Augmentation
from .cifar import cifar10, cifar100
from .dataset import Dataset, Split
from .digits import digits
from .idx import fashion_mnist, mnist
from .images import image_folder
from .loaders import load, names
from .text import ParallelText, parallel_text

__all__ = [
    "Augmentation",
    "Dataset",
    "ParallelText",
    "Split",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "image_folder",
    "load",
    "mnist",
    "names",
    "parallel_text",
]
