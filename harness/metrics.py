"""Every metric with its unit, range and goal, and the scores that are computed from a confusion matrix.

The table is pure Python, so that a report needs no torch; the functions below import it when called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Goal = Literal["maximize", "minimize"]

FEW_STEPS = 500
"""A pre-training of fewer gradient steps says little about its method."""


@dataclass(frozen=True)
class Metric:
    """What a number under this name means.

    Attributes:
        name: `<group>/<quantity>`; the group says which data or which stage it was measured on.
        unit: `fraction`, `seconds`, `bytes`, `images`, `images/s`, `nats`, `flag`, or empty for a pure number.
        low: the smallest possible value.
        high: the largest possible value.
        goal: which direction is better; None where neither is.
        description: one line.
        shown: whether reports list it wherever it was measured; others are shown where they are a sweep's goal.
    """

    name: str
    unit: str
    low: float
    high: float
    goal: Goal | None
    description: str
    shown: bool = False


def _classification(split: str, data: str) -> list[Metric]:
    """The scores that validation and test data share."""
    return [
        Metric(f"{split}/accuracy", "fraction", 0, 1, "maximize", f"share of {data} images classified correctly", True),
        Metric(f"{split}/balanced_accuracy", "fraction", 0, 1, "maximize", f"mean recall over the classes in {data}"),
        Metric(f"{split}/macro_f1", "fraction", 0, 1, "maximize", f"mean F1 over the classes of {data}"),
        Metric(
            f"{split}/loss",
            "nats",
            0,
            math.inf,
            "minimize",
            f"mean negative log-likelihood (cross-entropy) on {data}; of heads that give probabilities: not svm, knn",
        ),
        Metric(
            f"{split}/ece",
            "fraction",
            0,
            1,
            "minimize",
            f"expected calibration error on {data} (Guo et al. 2017, 15 bins of equal width); not of svm, knn",
        ),
        Metric(
            f"{split}/recall",
            "fraction",
            0,
            1,
            "maximize",
            f"share of a class's {data} images classified correctly, as {split}/recall/<class>; the report has them in "
            "its picture of accuracy by class",
        ),
        Metric(f"{split}/aubc", "fraction", 0, 1, "maximize", f"mean height of the {data} accuracy-by-labels curve"),
    ]


def _encoder_scores() -> list[Metric]:
    """Measured of the encoder every `pretrain.knn_every` epochs; without labels on 2,048 images of the pool."""
    return [
        Metric(
            "pretrain/knn_accuracy",
            "fraction",
            0,
            1,
            "maximize",
            "leave-one-out k-NN accuracy (k 20, tau 0.1) among the validation images alone; not comparable with "
            "published k-NN accuracies",
        ),
        Metric(
            "pretrain/knn_pool_accuracy",
            "fraction",
            0,
            1,
            "maximize",
            "k-NN accuracy on validation with all training images as bank (k 200, tau 0.1), the field's protocol; with "
            "pretrain.knn_of_pool",
        ),
        Metric("pretrain/embedding_std", "", 0, math.inf, None, "mean standard deviation of features; 0 is collapse"),
        Metric(
            "pretrain/rankme",
            "",
            1,
            math.inf,
            "maximize",
            "effective rank of the features (Garrido et al. 2023), at most 2,048 and their number of dimensions",
        ),
        Metric(
            "pretrain/alpha_req",
            "",
            -math.inf,
            math.inf,
            None,
            "exponent of the decay of the features' eigenvalues (Agrawal et al. 2022); near 1 is best",
        ),
        Metric(
            "pretrain/alignment",
            "",
            0,
            4,
            "minimize",
            "mean squared distance between two views (Wang & Isola 2020); 0 also if collapsed: read with uniformity",
        ),
        Metric(
            "pretrain/uniformity",
            "nats",
            -8,
            0,
            "minimize",
            "how evenly the features fill the sphere (Wang & Isola 2020); 0 is collapse",
        ),
    ]


def _pretraining() -> list[Metric]:
    return [
        Metric("pretrain/loss", "", -math.inf, math.inf, "minimize", "self-supervised loss, mean over the epoch"),
        *_encoder_scores(),
        Metric("pretrain/steps", "", 0, math.inf, None, f"gradient steps so far; under {FEW_STEPS} say little"),
        Metric("pretrain/learning_rate", "", 0, math.inf, None, "learning rate at the end of the epoch"),
    ]


def _pretraining_of(section: str, which: str) -> list[Metric]:
    """The same of another encoder, but for what asks all labels."""
    of_pool = "pretrain/knn_pool_accuracy"
    return [
        replace(m, name=m.name.replace("pretrain/", f"{section}/"), description=f"as {m.name}, of {which}")
        for m in _pretraining()
        if m.name != of_pool
    ]


def _seconds(name: str, description: str) -> Metric:
    return Metric(f"time/{name}_seconds", "seconds", 0, math.inf, "minimize", description)


def _cached(stage: str) -> Metric:
    once = {"pretrain": "the pretrain stage", "selection_encoder": "the pre-training of `selection`"}
    which = once.get(stage, f"this round's {stage} stage")
    description = f"1 if {which} was read from the cache; its seconds are then those of its first computation"
    return Metric(f"stage/{stage}_cached", "flag", 0, 1, None, description)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in [
        *_classification("val", "validation"),
        *_classification("test", "test"),
        Metric("train/accuracy", "fraction", 0, 1, "maximize", "share of the labelled training images fitted"),
        *_pretraining(),
        *_pretraining_of("selection", "the encoder that chooses"),
        *_pretraining_of("teacher", "the teacher's encoder"),
        _seconds("pretrain", "self-supervised pre-training"),
        Metric(
            "joint/loss",
            "",
            -math.inf,
            math.inf,
            "minimize",
            "loss of labelled images (SSL methods) or of all, last epoch",
        ),
        Metric("joint/task_loss", "nats", 0, math.inf, "minimize", "cross-entropy of the labelled images, last epoch"),
        Metric("joint/ssl_loss", "", -math.inf, math.inf, "minimize", "SSL loss of the labelled images, last epoch"),
        Metric(
            "joint/unlabeled_ssl_loss", "", -math.inf, math.inf, "minimize", "that of unlabelled images, last epoch"
        ),
        Metric("joint/supervised", "nats", 0, math.inf, "minimize", "labelled part of a semi-supervised loss"),
        Metric("joint/unlabeled", "", 0, math.inf, "minimize", "unlabelled part of it, before its weight"),
        Metric("joint/used", "fraction", 0, 1, None, "share of the unlabelled images whose pseudo-label counted"),
        Metric("joint/embedding_std", "", 0, math.inf, None, "as pretrain/embedding_std, after a joint training"),
        Metric("joint/val_accuracy", "fraction", 0, 1, "maximize", "after an epoch, of the model that would be kept"),
        Metric("classifier/loss", "nats", 0, math.inf, "minimize", "cross-entropy of fine-tuning, mean over the epoch"),
        _seconds("encode", "features and representations of a fixed encoder, once per trial"),
        _seconds("selection_encoder", "training the encoder of `selection` and encoding the pool by it"),
        _seconds("teacher", "training the encoder and head of `teacher` and encoding the pool by it"),
        _seconds("select", "choosing the images to label, all rounds together"),
        _seconds("train", "training on the labelled images, all rounds together"),
        _seconds("evaluate", "measuring on validation and test, all rounds together"),
        _seconds("total", "all of these together, stages from the cache at the seconds they first took"),
        Metric("time/saved_seconds", "seconds", 0, math.inf, None, "of that total, what was read from the cache"),
        _seconds("round_select", "choosing the images of this round"),
        _seconds("round_train", "training of this round"),
        _seconds("round_evaluate", "measuring of this round"),
        _seconds("portrait", "the encoder's portrait (maps, neighbours, views) for the report; in no total"),
        _seconds("wall", "the trial from start to end as it ran, waiting and cached stages included"),
        Metric(
            "throughput/pretrain_images_per_second",
            "images/s",
            0,
            math.inf,
            "maximize",
            "images pre-trained on in a second, each image counted once however many views it has",
        ),
        Metric(
            "throughput/train_images_per_second",
            "images/s",
            0,
            math.inf,
            "maximize",
            "images that fine-tuning or joint training learnt from in a second, labelled and unlabelled",
        ),
        Metric("labels/used", "images", 0, math.inf, "minimize", "labels revealed for training"),
        Metric("labels/looked_at", "images", 0, math.inf, None, "labels that an upper bound read, bought or not"),
        Metric("labels/val", "images", 0, math.inf, "minimize", "labels of the validation images, used beside those"),
        Metric("memory/peak_bytes", "bytes", 0, math.inf, "minimize", "peak memory of the trial on its device"),
        _cached("pretrain"),
        _cached("selection_encoder"),
        _cached("select"),
        _cached("train"),
    ]
}
PER_ROUND = (
    "time/round_select_seconds",
    "time/round_train_seconds",
    "time/round_evaluate_seconds",
    "stage/select_cached",
    "stage/train_cached",
)
"""What is measured of each round and, unlike everything else of rounds, not of the trial when it ends."""
LABEL_FREE = (
    "pretrain/embedding_std",
    "pretrain/rankme",
    "pretrain/alpha_req",
    "pretrain/alignment",
    "pretrain/uniformity",
)
"""What is measured of an encoder without labels: per epoch, and at the trial's end, so that a search may improve it."""

ALIGNMENT = "pretrain/alignment"
"""The one of these that needs pixels, of which it makes views."""

WATCHED = ("pretrain/knn_accuracy", "joint/val_accuracy")
"""What early stopping judges an epoch by; a training reports one of them."""


def known(name: str) -> Metric | None:
    """The metric of this name; `val/accuracy/knn` is that of a classifier beside the first, and means the same."""
    return METRICS.get(name) or METRICS.get("/".join(name.split("/")[:2]))


def step_kind(name: str) -> Literal["epoch", "labels"]:
    """The axis a metric belongs to: training is measured per epoch, its results per number of labels."""
    per_epoch = ("pretrain/", "selection/", "teacher/", "throughput/", "classifier/", "joint/val_accuracy")
    return "epoch" if name.startswith(per_epoch) else "labels"


def varies_by_run(name: str) -> bool:
    """Whether a metric says how a trial ran: of one that is run again it differs, what it computes the same."""
    return name.startswith(("time/", "throughput/", "stage/", "memory/"))


def is_of_trial(name: str) -> bool:
    """Whether a metric is told when a trial ends and of no single round: its sums, areas and scores of the encoder."""
    sums = varies_by_run(name) and name not in PER_ROUND
    return sums or name.endswith("/aubc") or step_kind(name) == "epoch"


def is_of_class(name: str) -> bool:
    """Whether a metric is that of one class, such as `test/recall/cat`; there may be hundreds."""
    return name.split("/")[1:2] == ["recall"]


def recalls(matrix: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """`recall/<class>` of each class that has images, in [0, 1], of i64 [K, K], rows = true class."""
    share = (matrix.diagonal() / matrix.sum(1)).tolist()
    return {f"recall/{name}": value for name, value in zip(class_names, share, strict=True) if not math.isnan(value)}


def calibration_error(probabilities: Tensor, labels: Tensor, num_bins: int = 15) -> float:
    """Expected calibration error, Eq. (3) of Guo et al. 2017, https://arxiv.org/abs/1706.04599; in [0, 1].

    Images are grouped by the probability of their predicted class into bins of equal width, each open at its lower end;
    the gap between accuracy and mean probability is averaged over the images.

    Args:
        probabilities: f32 [N, K], rows sum to 1; N >= 1.
        labels: i64 [N].
        num_bins: M.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    bins = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1
    gaps = confidence.new_zeros(num_bins).index_add_(0, bins, (predicted == labels).double() - confidence)
    return float(gaps.abs().sum() / len(labels))


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Counts images by class and predicted class.

    Args:
        labels: i64 [N], the true classes, 0 .. K-1.
        predictions: i64 [N], the predicted classes, 0 .. K-1.
        num_classes: K.

    Returns:
        i64 [K, K] on the labels' device; row = true class, column = predicted class.
    """
    assert labels.shape == predictions.shape
    cells = labels.long() * num_classes + predictions.to(labels.device).long()
    return cells.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


def scores(matrix: Tensor) -> dict[str, float]:
    """Accuracy, balanced accuracy and macro F1 of a confusion matrix.

    A class without true images has no recall and is left out of the balanced accuracy; a class with neither
    true nor predicted images is left out of the macro F1. Both are scikit-learn's rules.

    Args:
        matrix: i64 [K, K], rows = true class, with at least one image.

    Returns:
        `accuracy`, `balanced_accuracy` and `macro_f1`, each in [0, 1].
    """
    matrix = matrix.double()
    hits, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    assert true.sum() > 0, "no images were evaluated"
    f1 = 2 * hits / (true + predicted)  # NaN where the class does not occur
    return {
        "accuracy": (hits.sum() / true.sum()).item(),
        "balanced_accuracy": (hits / true).nanmean().item(),
        "macro_f1": f1.nanmean().item(),
    }


def classification_report(matrix: Tensor, class_names: Sequence[str]) -> str:
    """Precision, recall and F1 per class as text, in scikit-learn's layout.

    Args:
        matrix: i64 [K, K], rows = true class.
        class_names: K names, in label order.

    Returns:
        What `sklearn.metrics.classification_report(..., labels=range(K), zero_division=0)` prints.
    """
    assert matrix.shape == (len(class_names), len(class_names))
    matrix = matrix.double()
    hits, support = matrix.diagonal(), matrix.sum(1)
    precision = (hits / matrix.sum(0)).nan_to_num()
    recall = (hits / support).nan_to_num()
    f1 = (2 * hits / (support + matrix.sum(0))).nan_to_num()

    width = max(len("weighted avg"), *map(len, class_names))
    total = int(support.sum())

    def line(name: str, values: Sequence[float], count: int) -> str:
        return f"{name:>{width}s} " + "".join(f" {value:>9.2f}" for value in values) + f" {count:>9}\n"

    columns = (precision, recall, f1)
    text = f"{'':>{width}s} " + "".join(f" {name:>9}" for name in ("precision", "recall", "f1-score", "support"))
    text += "\n\n"
    for k, name in enumerate(class_names):
        text += line(name, [column[k].item() for column in columns], int(support[k]))
    accuracy = (hits.sum() / total).item()
    text += f"\n{'accuracy':>{width}s} " + f" {'':>9}" * 2 + f" {accuracy:>9.2f} {total:>9}\n"
    text += line("macro avg", [column.mean().item() for column in columns], total)
    text += line("weighted avg", [(column @ support / total).item() for column in columns], total)
    return text


def area_under_curve(curve: list[tuple[int, float]]) -> float:
    """The mean accuracy over the label budget: the trapezoid area under (labels, accuracy), divided by its width.

    In [0, 1]; the accuracy itself where the curve has a single point.
    """
    if len(curve) == 1:
        return curve[0][1]
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(curve))
    return area / (curve[-1][0] - curve[0][0])
