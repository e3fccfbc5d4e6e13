"""What a trial tells beside metrics, and the files that it becomes in the trial's folder."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.plain_yaml import to_yaml


@dataclass(frozen=True)
class Training:
    """Where a training of the encoder stands.

    Attributes:
        name: "pretrain", "selection" and "teacher" (the pre-training of theirs), "finetune" or "joint".
        epoch: the number, from 1, of the epoch that has ended.
        epochs: that it has in all.
    """

    name: str
    epoch: int
    epochs: int


def _yaml(value: Any) -> bytes:
    return to_yaml(value).encode()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _table_of_picks(picks: Sequence[tuple[int, str, str]]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows([("position", "file", "class"), *picks])
    return text.getvalue().encode(errors="surrogateescape")


def _kept(file: str, encode: Callable[[Any], bytes] = _json) -> Any:
    """A field that becomes a file; `{labels}` in its name stands for the number of labels used."""
    return field(default=None, metadata={"file": file, "encode": encode})


@dataclass(frozen=True)
class Details:
    """What comes with a record: plain values, which travel between processes; None where there is nothing to tell.

    Attributes:
        training: of an epoch: the training that it belongs to; no file.
        config: of a trial that begins: its configuration as plain mappings.
        selected: of a round: the positions in the pool that were picked, in the selector's order.
        picks: of a round: the same with what people know them by: (position, file or name, class) of each.
        class_counts: of a round: the labels bought so far by class.
        pool_counts: the pool's images by class.
        confusion_matrix: of a round, see `trial_files.Confusion`; on test data where the trial reads
            them, else on validation data.
        hits: of a round: the images that the models up to this one got right, see `harness.records.hits`: its file in
            base64.
        stages: the names of the stages that hold the round's model, `train` of a classifier if one was trained, the
            machine's choices, see `ComputeConfig`, and what the encoder is shown, see `harness.plugins.inputs`.
        portrait: of the encoder at the end: its file in base64.
        album: of the images of the portrait: its file in base64.
        error: of a trial that failed: the traceback.
    """

    training: Training | None = None
    config: Mapping[str, Any] | None = _kept("config.yaml", _yaml)
    selected: Sequence[int] | None = _kept("selected_{labels}.json")
    picks: Sequence[tuple[int, str, str]] | None = _kept("selected_{labels}.csv", _table_of_picks)
    class_counts: Sequence[int] | None = _kept("class_counts_{labels}.json")
    pool_counts: Sequence[int] | None = _kept("class_counts_pool.json")
    confusion_matrix: Mapping[str, Any] | None = _kept("confusion_matrix_{labels}.json")
    hits: str | None = _kept("hits.npz", base64.b64decode)
    stages: Mapping[str, Any] | None = _kept("stages.json")
    portrait: str | None = _kept("portrait.npz", base64.b64decode)
    album: str | None = _kept("album.npz", base64.b64decode)
    error: str | None = _kept("error.txt", str.encode)

    def files(self, labels: int) -> Iterator[tuple[str, bytes]]:
        """The name and content of each file that this becomes after `labels` labels."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is not None and "file" in item.metadata:
                yield item.metadata["file"].format(labels=labels), item.metadata["encode"](value)
