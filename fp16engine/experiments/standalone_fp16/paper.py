"""The figures that the standalone FP16 study printed (arXiv 2305.10947), to be set against ours.

Accuracies are percentages; Table 2's are means and standard deviations of 50 seeds, its seconds those of 100
epochs on an RTX 4080 with a batch of 256.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """A line of Table 2: parameters in millions; (mean, standard deviation) and seconds per precision."""

    parameters: float
    accuracy: dict[str, tuple[float, float]]
    seconds: dict[str, int]


def _row(
    parameters: float,
    fp16: tuple[float, float],
    fp32: tuple[float, float],
    mp: tuple[float, float],
    seconds: tuple[int, int, int],
) -> PaperRow:
    names = ("fp16", "fp32", "mp")
    return PaperRow(
        parameters,
        dict(zip(names, (fp16, fp32, mp), strict=True)),
        dict(zip(names, seconds, strict=True)),
    )


TABLE2 = {
    "alexnet": _row(2.09, (76.0, 0.3), (75.8, 0.3), (75.9, 0.3), (96, 174, 150)),
    "vgg16": _row(33.76, (83.7, 0.3), (83.9, 0.2), (83.8, 0.2), (377, 857, 455)),
    "vgg19": _row(38.36, (83.8, 0.2), (83.9, 0.3), (83.9, 0.2), (416, 937, 492)),
    "resnet32": _row(0.47, (80.9, 0.3), (80.9, 0.4), (80.9, 0.3), (413, 551, 483)),
    "resnet56": _row(0.86, (81.6, 0.4), (81.4, 0.6), (81.5, 0.6), (677, 905, 795)),
    "resnet110": _row(1.78, (81.8, 0.4), (81.4, 0.5), (81.8, 0.5), (1256, 1712, 1486)),
    "densenet121": _row(7.04, (72.1, 0.3), (72.6, 0.4), (73.0, 0.3), (539, 720, 641)),
    "densenet169": _row(12.65, (71.7, 0.5), (72.3, 0.3), (72.1, 0.3), (724, 966, 812)),
    "xception": _row(22.96, (75.9, 0.4), (76.3, 0.3), (76.3, 0.4), (324, 611, 412)),
    "mobilenetv2": _row(2.27, (69.4, 1.1), (70.0, 1.2), (70.0, 1.1), (353, 588, 411)),
    "vit8": _row(2.02, (71.0, 0.3), (71.3, 0.3), (71.2, 0.3), (316, 423, 410)),
    "vit12": _row(2.55, (71.1, 0.3), (71.4, 0.3), (71.5, 0.3), (425, 663, 629)),
}
TABLE2_POINTS = {"fp32": -0.2, "mp": -0.2}  # mean of FP16 minus these, in accuracy points


@dataclass(frozen=True)
class AugmentedRow:
    """A line of Table 3: accuracies as (mean, standard deviation) of 4 seeds, and FP16's speed-up."""

    accuracy: dict[str, tuple[float, float]]
    speed: float


TABLE3 = {
    "dnn": AugmentedRow({"fp16": (98.1, 0.2), "fp32": (98.1, 0.3)}, 1.9),
    "resnet56": AugmentedRow({"fp16": (82.9, 0.3), "fp32": (83.0, 0.3)}, 1.3),
    "resnet110": AugmentedRow({"fp16": (82.8, 0.3), "fp32": (82.1, 0.4)}, 1.3),
    "vit8": AugmentedRow({"fp16": (74.2, 0.3), "fp32": (74.5, 0.4)}, 1.4),
    "vit12": AugmentedRow({"fp16": (74.7, 0.3), "fp32": (74.9, 0.3)}, 1.6),
}

# Accuracy of Adam in FP16, by epsilon.
TABLE4 = {
    "resnet18": {1e-2: 74.4, 1e-3: 78.2, 1e-4: 74.7, 1e-5: 22.5, 1e-6: 12.8, 1e-7: 11.7},
    "resnet34": {1e-2: 78.5, 1e-3: 79.7, 1e-4: 77.7, 1e-5: 18.2, 1e-6: 17.0, 1e-7: 10.0},
}

# Of the DNN on MNIST, in its text: orders of magnitude, and the largest delta of a sample.
MNIST_DELTA, MNIST_GAMMA, MNIST_DELTA_MAX = 1e-3, 1e-1, 0.995
