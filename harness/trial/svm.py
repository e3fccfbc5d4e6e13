"""A support vector machine, searched over a grid; its scores are decision values, not probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SVM_WIDTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
"""gamma of the RBF kernel, in units of scikit-learn's `scale`: 1 / (D x variance of the inputs)."""


def svm_grid(inputs: Tensor) -> list[dict[str, Any]]:
    """The settings that are tried for inputs f32 [L, D].

    SimCLR-UAL's grid has C and gamma from 0.1 or 0.01 to 1000 in powers of ten. Here gamma is relative to the inputs,
    since no absolute one fits all of them: of hundreds of standardised dimensions every pair is so far apart that from
    gamma = 0.01 on no image is like another. A linear kernel is also tried with C down to 0.001, which these ask for.
    """
    scale = 1 / (inputs.shape[1] * float(inputs.var(correction=0)) or 1.0)
    return [
        {"kernel": ["rbf"], "C": [0.1, 1, 10, 100, 1000], "gamma": [width * scale for width in SVM_WIDTHS]},
        {"kernel": ["linear"], "C": [0.001, 0.01, 0.1, 1, 10, 100, 1000]},
    ]


def search_svm(inputs: Tensor, labels: Tensor, class_weight: str, seed: int) -> dict[str, Any]:
    """The best settings of the grid by cross-validation: 5 folds, fewer where a class has fewer images.

    Args:
        inputs: f32 [L, D].
        labels: i64 [L].
        class_weight: as in the configuration; under `balanced` the mean recall decides, not the accuracy.
        seed: of the folds.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.svm import SVC

    weighted = {"class_weight": None if class_weight == "none" else class_weight}
    smallest = int(torch.bincount(labels)[labels.unique()].min())
    if smallest < 2 or len(labels.unique()) < 2:
        return {"kernel": "linear", "C": 1.0} | weighted  # nothing to cross-validate on
    folds = StratifiedKFold(min(5, smallest), shuffle=True, random_state=seed % 2**32)
    scoring = "accuracy" if class_weight == "none" else "balanced_accuracy"
    search = GridSearchCV(SVC(**weighted), svm_grid(inputs), cv=folds, refit=False, scoring=scoring)
    return dict(search.fit(inputs.numpy(), labels.numpy()).best_params_) | weighted


def svm_scores(
    parameters: dict[str, Any], inputs: Tensor, labels: Tensor, num_classes: int
) -> Callable[[Tensor], Tensor]:
    """The function f32 [n, D] -> decision values f32 [n, K], one class against the rest, of the machine so trained."""
    from sklearn.svm import SVC

    seen = labels.unique()
    if len(seen) == 1:
        only = F.one_hot(seen, num_classes).float()
        return lambda x: only.expand(len(x), -1)
    model = SVC(**parameters, decision_function_shape="ovr").fit(inputs.numpy(), labels.numpy())

    def predict(x: Tensor) -> Tensor:
        decision = model.decision_function(x.numpy())
        if decision.ndim == 1:  # two classes
            decision = np.stack([-decision, decision], axis=1)
        scores = torch.full((len(x), num_classes), float(decision.min()) - 1)  # below every class that was seen
        scores[:, seen] = torch.from_numpy(decision.astype(np.float32))
        return scores

    return predict
