"""What augmentations do to the images of a question, as pictures, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.config.plan import Plan
from harness.config.trial import TrialConfig
from harness.files import digest_of
from harness.plugins import registry
from harness.report.looks.views import draw_sheet
from harness.sweep.preflight import check_data, data_name
from harness.trial.portray import sheet_of_views
from harness.trial.pretraining import pretrains

MOST_SHEETS = 12
"""Augmentations that are shown, of a search over many."""


def show_views(plan: Plan, cache: Path, file: Path) -> Iterator[str]:
    """Writes a sheet for each augmentation of each data set; yields a line that names it.

    Args:
        plan: the question.
        cache: of decoded data.
        file: of the first sheet; of others with a number before its ending.

    Raises:
        ConfigError, FileNotFoundError: as of `check_data`.
        ValueError: nothing is trained with an augmentation.
    """
    data = {data_name(config): of for config, of in check_data(plan, cache)}
    wanted: dict[tuple[str, str], TrialConfig] = {}
    for candidate in plan.some_candidates():
        config = candidate.trial
        if (pretrains(config) or config.mode == "joint") and not data[data_name(config)].gives_features:
            about = config.augmentation.as_dict()
            wanted.setdefault((data_name(config), digest_of(about)), config)
    if not wanted:
        raise ValueError(f"{plan.name}: --show: no trial trains an encoder with an augmentation")
    for number, ((of, _), config) in enumerate(list(wanted.items())[:MOST_SHEETS], start=1):
        operations, pixels = sheet_of_views(data[of].pool, registry.build(config.augmentation))
        place = file if number == 1 else file.with_stem(f"{file.stem}_{number}")
        draw_sheet(operations, pixels).savefig(place, dpi=120)
        parts = ", ".join(operations[:-1])
        yield f"views: {place}: {config.dataset.name} under {config.augmentation.name}{f' ({parts})' if parts else ''}"
    if len(wanted) > MOST_SHEETS:
        yield f"views: {len(wanted) - MOST_SHEETS} augmentations more are not shown"
