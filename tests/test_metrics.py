import subprocess
import sys

import pytest
import torch
from sklearn import metrics as reference

from harness.metrics import (
    METRICS,
    calibration_error,
    classification_report,
    confusion_matrix,
    is_of_class,
    recalls,
    scores,
)


def draw(seed: int, num_images: int = 300, num_classes: int = 7, absent: int | None = None):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num_images,), generator=rng)
    guesses = torch.randint(num_classes, (num_images,), generator=rng)
    predictions = torch.where(torch.rand(num_images, generator=rng) < 0.6, labels, guesses)
    if absent is not None:
        labels[labels == absent] = 0
    return labels, predictions


def test_confusion_matrix_by_hand():
    matrix = confusion_matrix(torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 0, 2, 2]), 4)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_confusion_matrix_against_scikit_learn(seed):
    labels, predictions = draw(seed)
    expected = reference.confusion_matrix(labels, predictions, labels=range(7))
    assert confusion_matrix(labels, predictions, 7).tolist() == expected.tolist()


def test_scores_by_hand():
    # Recalls 3/4 and 1/2; F1 2*3/(4+4) and 2*1/(2+2).
    assert scores(torch.tensor([[3, 1], [1, 1]])) == pytest.approx(
        {"accuracy": 4 / 6, "balanced_accuracy": 0.625, "macro_f1": 0.625}
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("absent", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_scores_against_scikit_learn(seed, absent):
    labels, predictions = draw(seed, absent=absent)
    # Eight classes, of which the last occurs nowhere: it must not count.
    assert scores(confusion_matrix(labels, predictions, 8)) == pytest.approx(
        {
            "accuracy": reference.accuracy_score(labels, predictions),
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predictions),
            "macro_f1": reference.f1_score(labels, predictions, average="macro", zero_division=0),
        }
    )


@pytest.mark.parametrize("names", [list("abcdefg"), [f"a rather long class name {k}" for k in range(7)]])
@pytest.mark.parametrize("absent", [None, 2])
def test_classification_report_is_scikit_learns(names, absent):
    labels, predictions = draw(5, absent=absent)
    expected = reference.classification_report(
        labels, predictions, labels=range(7), target_names=names, zero_division=0
    )
    assert classification_report(confusion_matrix(labels, predictions, 7), names) == expected


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sharpness", [0.1, 3.0, 50.0])
def test_calibration_error_bin_by_bin(seed, sharpness):
    rng = torch.Generator().manual_seed(seed)
    p = (sharpness * torch.randn(200, 4, generator=rng)).softmax(1)
    p[:2], p[2:4] = torch.eye(4)[:2], 0.25  # at the ends of bins
    labels = torch.randint(4, (200,), generator=rng)
    error = 0.0
    for number in range(15):
        inside = [i for i in range(200) if number / 15 < float(p[i].max()) <= (number + 1) / 15]
        if inside:
            hits = [int(p[i].argmax() == labels[i]) for i in inside]
            sure = [float(p[i].max()) for i in inside]
            error += abs(sum(hits) - sum(sure)) / 200
    assert calibration_error(p, labels) == pytest.approx(error, abs=1e-6)


def test_who_is_sure_and_wrong_is_not_calibrated_and_who_is_right_is():
    sure, labels = torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 0])
    assert calibration_error(sure, labels) == 0
    assert calibration_error(sure, (labels + 1) % 3) == 1


def test_recall_by_class_is_scikit_learns():
    labels, predictions = draw(1, absent=2)
    expected = reference.recall_score(labels, predictions, labels=range(7), average=None, zero_division=0)
    ours = recalls(confusion_matrix(labels, predictions, 7), list("abcdefg"))
    assert ours == pytest.approx(
        {f"recall/{name}": value for name, value in zip("abdefg", expected[[0, 1, 3, 4, 5, 6]], strict=True)}
    )
    assert is_of_class("test/recall/a")
    assert not is_of_class("test/accuracy/recall")


def test_table_is_consistent_and_imports_nothing_heavy():
    for name, metric in METRICS.items():
        assert name == metric.name
        assert name.count("/") == 1
        assert metric.low < metric.high
        assert metric.description
    assert METRICS["val/accuracy"].goal == "maximize"
    assert METRICS["time/total_seconds"].goal == "minimize"
    assert {name.removeprefix("val/") for name in METRICS if name.startswith("val/")} == {
        name.removeprefix("test/") for name in METRICS if name.startswith("test/")
    }
    program = "import sys, harness.metrics; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
