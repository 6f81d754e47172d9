"""Confusion matrices, accuracies of classes, and which of many are shown."""

from __future__ import annotations

import numpy as np

from fp16engine.numerics.confusion import MOST_ROWS, accuracies, confusion_matrix, lowest, most_frequent


def test_a_matrix_counts_pairs_and_leaves_out_what_is_no_class() -> None:
    rng = np.random.default_rng(0)
    labels, given = rng.integers(0, 5, 200), rng.integers(-1, 7, 200)
    matrix = confusion_matrix(labels, given, 5)
    by_hand = [[int(np.sum((labels == i) & (given == j))) for j in range(5)] for i in range(5)]
    assert matrix.tolist() == by_hand


def test_accuracies_are_of_all_samples_of_a_class() -> None:
    labels, given = np.array([0, 0, 0, 1]), np.array([0, 1, -1, 1])
    counts = np.bincount(labels, minlength=3)
    assert accuracies(confusion_matrix(labels, given, 3), counts) == [1 / 3, 1.0, None]


def test_of_many_classes_the_least_accurate_are_shown_first_and_unknown_ones_last() -> None:
    shares = [None, *np.linspace(1, 0, MOST_ROWS + 4).tolist()]
    shown = lowest(shares)
    assert shown == list(range(MOST_ROWS + 4, 4, -1))
    assert lowest([None] * MOST_ROWS) == list(range(MOST_ROWS))


def test_confusions_come_by_how_often_and_equal_ones_in_order() -> None:
    matrix = np.array([[9, 1, 2], [0, 9, 2], [0, 0, 9]])
    assert most_frequent(matrix, "abc") == [("a", "c", 2), ("b", "c", 2), ("a", "b", 1)]
    many = np.ones((10, 10), np.int64)
    assert len(most_frequent(many, "abcdefghij")) == MOST_ROWS
