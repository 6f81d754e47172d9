"""The standalone FP16 study (arXiv 2305.10947) as experiments: Tables 2 to 4 and Figures 1 to 5.

Every entry says what the study ran at full size; how a caller makes it smaller is `Request`'s business.
"""

from __future__ import annotations

from ..experiment import Arm, Case, Experiment, plain_arms
from ..runs.spec import PROBABILITIES
from . import figures, paper, tables
from .update_forms import UPDATE_FORMS

SGD = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "schedule": "constant"}
# The study does not print Adam's learning rate; 1e-3 is the default of the framework it used.
ADAM = {"optimizer": "adam", "lr": 1e-3, "schedule": "constant"}
EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
SMALLEST = 2.0**-24  # positive number of binary16

_PRECISIONS = plain_arms("fp16", "fp32", "mp")


def _table2(name: str, title: str, claim: str, report: tables.Report) -> Experiment:
    """Return an experiment on the runs of Table 2, which several figures show."""
    return Experiment(
        name=name,
        title=title,
        claim=claim,
        cases=tuple(Case(model) for model in paper.TABLE2),
        arms=_PRECISIONS,
        seeds=50,
        epochs=100,
        batch_size=256,
        training=SGD,
        report=report,
    )


def _mnist(name: str, title: str, claim: str, report: tables.Report) -> Experiment:
    return Experiment(
        name=name,
        title=title,
        claim=claim,
        cases=(Case("dnn", "mnist"),),
        arms=plain_arms("fp16", "fp32"),
        seeds=1,
        epochs=100,
        batch_size=256,
        training=SGD,
        keep=(PROBABILITIES,),
        report=report,
    )


def _adam_arms() -> tuple[Arm, ...]:
    """Adam as the study ran it (FP16 state, textbook form), in FP32, and in FP16 as this engine does."""
    arms = []
    for eps in EPSILONS:
        plain = 0.0 if eps < SMALLEST / 2 else eps  # it rounds to zero in binary16, which has to be said
        arms += [
            Arm(f"FP16 plain, eps {eps:g}", "fp16", {"eps": plain, "state": "plain"}),
            Arm(f"FP16 native, eps {eps:g}", "fp16", {"eps": eps, "state": "native"}),
            Arm(f"FP32, eps {eps:g}", "fp32", {"eps": eps}),
        ]
    return tuple(arms)


_ALL = (
    _table2(
        "table2",
        "Table 2: accuracy and training time of twelve networks on CIFAR-10",
        "FP16 classifies within 0.2 points of FP32 and of mixed precision on the mean, and trains 1.6 and "
        "1.3 times as fast.",
        tables.table2,
    ),
    Experiment(
        name="table3",
        title="Table 3: with augmented images",
        claim="With flips, brightness and rotations FP16 still classifies as well as FP32, and trains 1.3 to "
        "1.9 times as fast.",
        cases=tuple(Case(model, "mnist" if model == "dnn" else "cifar10") for model in paper.TABLE3),
        arms=plain_arms("fp16", "fp32"),
        seeds=4,
        epochs=300,
        batch_size=256,
        training={**SGD, "augment": "study"},
        report=tables.table3,
    ),
    Experiment(
        name="table4",
        title="Table 4: Adam in FP16, by epsilon",
        claim="Adam with FP16 state works with eps from 1e-2 to 1e-4 and collapses from 1e-5 down, where eps "
        "vanishes next to the square root of an underflowed second moment.",
        cases=tuple(Case(model) for model in paper.TABLE4),
        arms=_adam_arms(),
        seeds=1,
        epochs=100,
        batch_size=256,
        training=ADAM,
        report=tables.table4,
    ),
    _table2(
        "figure1",
        "Figure 1: accuracy over training time",
        "For every network FP16 needs the least time for about the same accuracy.",
        figures.figure1,
    ),
    _mnist(
        "figure2",
        "Figure 2: floating-point error against classification tolerance",
        "On MNIST the mean δ is about 1e-3 and the mean Γ about 1e-1, some hundred times larger.",
        figures.figure2,
    ),
    _mnist(
        "figure3",
        "Figure 3: the DNN on MNIST",
        "Training and test accuracy of FP16 follow those of FP32.",
        figures.figure3,
    ),
    _table2(
        "figure4",
        "Figure 4: test accuracy over the epochs",
        "None of the three precisions is ahead throughout.",
        figures.figure4,
    ),
    _table2(
        "figure5",
        "Figure 5: final test accuracy over the seeds",
        "The spread over 50 seeds is alike, but for some outliers of FP16.",
        figures.figure5,
    ),
)
EXPERIMENTS = {experiment.name: experiment for experiment in (*_ALL, UPDATE_FORMS)}
