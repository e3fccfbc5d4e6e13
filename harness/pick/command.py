"""`python -m harness.pick IMAGES --sweep FOLDER --labels FILE`: the images to label next.

IMAGES is a folder of images, or a file of embeddings. What is written into --output: `round-1.csv` with path, rank,
score, why and an empty label, a contact sheet `round-1.html`, and `round-1.json` with tasks for Label Studio. Label
them in the CSV or there, name the file among --labels, and call it again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import CACHE, RESULTS
from harness.messages import count, message_of, printable
from harness.progress import forgive_output, until_reader_leaves

if TYPE_CHECKING:
    from harness.pick.candidates import Candidates
    from harness.pick.choice import Way
    from harness.trial.selection import Bought

NEAR = 0.98
"""Cosine from which two images count as duplicates, if nothing else is said."""

BUDGET = 100
"""Images of a batch where neither --budget nor the sweep says how many."""


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.pick") -> int:
    """The command line, as `prog`; returns the exit status."""
    options = _parser(prog).parse_args(arguments)
    forgive_output()

    from harness.config.schema import ConfigError
    from harness.trial.memory import keep_freed_memory

    keep_freed_memory()
    try:
        with warnings.catch_warnings():  # a few labels of many classes are what one begins with
            warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
            _run(options)
    except ConfigError as error:
        print(printable("\n".join(error.problems)), file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(message_of(error), file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True)
class Asked:
    """What a sweep, or the command line, says of how to choose.

    Attributes:
        selector: name, or name and hyper-parameters.
        classifier: the same of the head.
        budget: images of a batch.
        said: where the selector comes from, to follow its name; empty where the command line names it.
    """

    selector: Any
    classifier: Any
    budget: int
    said: str


def _run(options: argparse.Namespace) -> None:
    from harness.pick import batch, choice, files, labels, sheet, wishes

    wished = wishes.Wishes(options.diversity, options.balance, options.exclude_duplicates)
    if options.round is not None and options.round < 1:
        raise ValueError(f"--round {options.round}: rounds are counted from 1")
    asked = asked_of(options)
    pool, trained_classes = _pool(options)
    known = labels.Known(pool.names, pool.folder)
    named, notes = labels.read_labels(options.labels, known, options.label_column)
    for note in notes:
        print(printable(note), file=sys.stderr)
    classes, whose = _classes(options.classes, trained_classes, set(named.values()))
    bought = labels.bought(named, classes)
    unlabeled = len(pool.names) - len(named)
    if not unlabeled:
        raise ValueError(f"all {len(named)} images have a label: there is nothing to choose from")
    if not 1 <= asked.budget <= unlabeled:
        raise ValueError(f"--budget {asked.budget}: {unlabeled} images have no label yet; use 1 .. {unlabeled}")
    way = choice.way_of(asked.selector, asked.classifier, seed=options.seed, budget=asked.budget, num_labels=len(named))
    if options.stop:
        _tell_worth(way, pool, bought, classes, asked.budget)
        return
    number, remedy = options.round, files.ANOTHER_ROUND
    if number is None:
        number = files.round_of(options.output, known, named.keys(), options.labels)
        remedy = f"name it among --labels (with --label-column, if they are not in `label`), {remedy}"
    table = files.batch_file(options.output, number)
    files.check_not_filled(table, remedy)
    started = time.perf_counter()
    picks = batch.next_batch(way, pool.features, bought, classes, wished, budget=asked.budget, number=number)
    seconds = time.perf_counter() - started
    if not picks:
        raise ValueError(
            f"--exclude-duplicates {wished.duplicates}: each of the {unlabeled} images without a label is a duplicate "
            "of a labelled one; nothing is written"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    files.write_csv(table, picks, pool)
    files.write_tasks(table.with_suffix(".json"), picks, pool, options.image_url)
    so_far = f"{count(len(named), 'label')} of {len(classes)} classes ({whose})"
    about = f"{way.selector.name}{asked.said} chose {len(picks)} of {unlabeled:,} images, knowing {so_far}"
    shown = sheet.write_sheet(table.with_suffix(".html"), f"Round {number}: to be labelled", [f"{about}."], picks, pool)
    print(printable(f"{about}: round {number}, seed {options.seed}, {seconds:.1f} s"))
    if len(picks) < asked.budget:
        print(printable(f"only {len(picks)} of {asked.budget}: all others are duplicates of these or of labelled ones"))
    unseen = len(picks) - shown
    print(
        printable(
            f"{table}, .html{f' ({unseen} without a picture: no such file)' if unseen else ''}, .json for Label Studio"
        )
    )


def _tell_worth(way: Way, pool: Candidates, bought: Bought, classes: list[str], batch: int) -> None:
    from harness.pick import worth

    worth.check_enough(bought, classes)
    inputs = pool.features[bought.positions]
    curve = worth.measure_curve(inputs, bought.labels, bought.num_classes, way.classifier, way.seed)
    told = worth.worth_in_words(worth.worth_of(curve, batch, way.seed), curve, batch, way.classifier.name)
    print(printable("\n".join(told)))


def asked_of(options: argparse.Namespace) -> Asked:
    """From the best trial of --sweep, what the command line says coming first.

    Raises:
        ValueError: neither names a selector, or the sweep has no finished trial.
    """
    from harness.plain_yaml import parse_yaml

    tree: dict[str, Any] = {}
    said = ""
    if options.sweep:
        from harness.config.schema import read_yaml
        from harness.encoders import export
        from harness.report import read

        best = export.chosen(read.read_report(options.sweep), "best")
        if not best:
            raise ValueError(f"{options.sweep}: no trial of this sweep has finished")
        tree = dict(read_yaml(options.sweep / "trials" / best[0] / "config.yaml"))
        said = f" of {best[0]}, the best trial of {options.sweep.name},"
    elif not options.selector:
        raise ValueError("name a finished sweep, --sweep FOLDER, or a selector, such as --selector typiclust")
    selector = parse_yaml(options.selector) if options.selector else tree["selector"]
    classifier = parse_yaml(options.classifier) if options.classifier else tree.get("classifier", "logistic")
    asked = tree.get("labels", {}).get("budget")
    budget = (asked[0] if isinstance(asked, list) and asked else asked) or BUDGET
    budget = budget if options.budget is None else options.budget
    return Asked(selector, classifier, budget, "" if options.selector else said)


def _pool(options: argparse.Namespace) -> tuple[Candidates, tuple[str, ...]]:
    """The images, and the classes of their encoder, which may be none."""
    from harness.pick import candidates

    if not options.images.is_dir() or any(options.images.glob("*.npy")):
        if options.encoder:
            raise ValueError(f"--encoder {options.encoder}: {options.images} is no folder of images to be embedded")
        pool, notes = candidates.of_embeddings(options.images, options.paths)
        for note in notes:
            print(printable(note), file=sys.stderr)
        return pool, ()

    import tempfile

    from harness import embed
    from harness.encoders.saved import SavedEncoder

    model = options.encoder or options.sweep
    if not model:
        raise ValueError(f"{options.images} is a folder of images: name what embeds them, --encoder or --sweep")
    with tempfile.TemporaryDirectory() as temporary:
        folder = embed.model_folder(str(model), options.tracking_uri, Path(temporary))
        encoder = SavedEncoder.load(folder, options.device)
    pool = candidates.of_folder(options.images, encoder, options.cache, options.on_broken)
    return pool, tuple(encoder.about["class_names"])


def _classes(given: str | None, trained: tuple[str, ...], seen: set[str]) -> tuple[list[str], str]:
    """Every class, in the order of their numbers, and who says so.

    Raises:
        ValueError: fewer than two are known, or --classes is no list of them.
    """
    from harness.tables import names_of

    if given is not None:
        classes, said = _named_classes(unicodedata.normalize("NFC", given)), "--classes"  # as labels are
    elif trained and seen <= set(trained):
        classes, said = list(trained), "those of the encoder"
    else:
        classes, said = list(names_of(seen)), "those seen so far"
    if not classes:
        raise ValueError("there are no labels so far to tell the classes by: name every class, --classes A,B,C")
    if len(classes) < 2:
        raise ValueError(f"1 class ({said}): name every class that there is, --classes A,B,C")
    return classes, said


def _named_classes(given: str) -> list[str]:
    """The classes of --classes, which are a row of CSV: a name with a comma stands in quotes.

    Raises:
        ValueError: they are none, or a class has no name or that of another.
    """
    try:
        (row,) = csv.reader([given], skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise ValueError(f"--classes {given}: {error}; a name with a comma stands in quotes") from None
    classes = [name.strip() for name in row] or [""]
    if "" in classes:
        raise ValueError(f"--classes {given}: class {classes.index('') + 1} has no name; leave out its comma")
    if doubled := [name for name in classes if classes.count(name) > 1]:
        raise ValueError(f"--classes {given}: {doubled[0]!r} stands there {classes.count(doubled[0])} times")
    return classes


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Chooses the images to label next.")
    add = parser.add_argument
    add("images", type=Path, help="a folder of images, or a file of their embeddings (.npz, .npy, .parquet)")
    add("--sweep", type=Path, metavar="FOLDER", help="a finished sweep: its best trial's selector, head and encoder")
    add("--selector", metavar="NAME", help="instead of the sweep's; or '{name: typiclust, max_clusters: 300}'")
    add("--encoder", metavar="MODEL", help="as for harness.embed: models/<trial>, a sweep, or a run of MLflow")
    add("--classifier", metavar="NAME", help="the head; default: the sweep's, else logistic")
    add(
        "--labels",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="a table of path and label, or Label Studio's JSON",
    )
    add("--label-column", metavar="NAME", help="of the labels in --labels; default: found by its name")
    add("--classes", metavar="A,B,C", help="every class that there is; default: the encoder's, else those seen so far")
    add("--budget", type=int, metavar="N", help=f"images to be chosen; default: the sweep's budget, else {BUDGET}")
    add("--output", type=Path, default=Path("picks"), metavar="FOLDER", help="of the batches; default: picks")
    add("--round", type=int, metavar="N", help="number of the batch; default: after those that have been labelled")
    add("--seed", type=int, default=0)
    add("--diversity", type=float, default=0.0, metavar="W", help="weight of images unlike each other and the labelled")
    add("--balance", type=float, default=0.0, metavar="W", help="weight of as many images of each predicted class")
    add(
        "--exclude-duplicates",
        type=float,
        nargs="?",
        const=NEAR,
        metavar="COSINE",
        help=f"leave out what is as like a chosen or labelled image as that; default: {NEAR}",
    )
    add("--stop", action="store_true", help="choose nothing: say what the next batch is worth, by the labels so far")
    add("--paths", type=Path, metavar="FILE", help="of embeddings without: a table (.csv) with a column path")
    add(
        "--image-url",
        default="/data/local-files/?d=",
        metavar="URL",
        help="before the path of an image in Label Studio",
    )
    add(
        "--on-broken",
        choices=["error", "skip"],
        default="error",
        help="images that cannot be decoded: all are named and nothing is chosen (default), or they are left out",
    )
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--cache", type=Path, default=CACHE, metavar="FOLDER", help="of embeddings; default: %(default)s")
    add("--tracking-uri", metavar="URI", help=f"of MLflow, for a run; default: that of {RESULTS}")
    return parser
