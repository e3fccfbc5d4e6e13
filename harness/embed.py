"""`python -m harness.embed MODEL IMAGES`: turns images into embeddings with an encoder that a sweep found.

MODEL is a sweep's folder (its best encoder), one of its `models/<trial>` folders, or in MLflow a run's id,
`runs:/<id>`, `runs:/<id>/encoder` or `models:/<id>`. Images are decoded, cropped, resized and normalised as in the
evaluations of the trial that trained the encoder.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import RESULTS, check_output, temporary_name
from harness.messages import count, message_of, printable
from harness.progress import forgive_output, until_reader_leaves

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from harness.encoders.saved import SavedEncoder

SUFFIXES = (".npz", ".parquet", ".csv")
CHUNK = 2048
"""Images decoded before they are embedded: memory does not grow with their number."""


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.embed") -> int:
    """The command line, as `prog`; returns the exit status."""
    options = _parser(prog).parse_args(arguments)
    forgive_output()

    from harness.encoders.saved import SavedEncoder

    try:
        if not options.images and not options.onnx:
            raise ValueError("name images to embed, or a file for the encoder itself by --onnx FILE")
        if options.images:
            _check_output("--output", options.output, SUFFIXES)
        if options.onnx:
            _check_output("--onnx", options.onnx)
        with tempfile.TemporaryDirectory() as temporary:
            folder = model_folder(options.model, options.tracking_uri, Path(temporary))
            if options.onnx:
                print(printable(_write_onnx(SavedEncoder.load(folder, "cpu"), options.onnx)))
            if not options.images:
                return 0
            encoder = SavedEncoder.load(folder, options.device)
        files = image_files(options.images)
        size = encoder.backbone.feature_dim
        broken: dict[Path, str] = {}
        pieces = _refusing(embedded(encoder, files, broken), broken, options.on_broken, options.output)
        write_embeddings(options.output, pieces, size)
    except (ValueError, OSError) as error:
        print(message_of(error), file=sys.stderr)
        return 2
    channels, height, width = encoder.image_shape
    print(
        printable(
            f"{len(files) - len(broken)} images, as {channels} x {height} x {width}, through "
            f"{encoder.about['backbone']['name']} of {encoder.about['trial']}: {size} numbers each in {options.output}"
        )
    )
    return 0


def _refusing(
    pieces: Iterator[tuple[list[Path], np.ndarray]], broken: Mapping[Path, str], on_broken: str, output: Path
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """The pieces; once they are all there, what was broken is said; or is an error, as where nothing else is there."""
    from harness import image_file

    listing = output.with_name(f"{output.name}.broken.txt")
    empty = True
    for piece in pieces:
        empty = False
        yield piece
    if empty and on_broken == "skip":
        raise ValueError(f"no image can be decoded: {image_file.broken_in_words(list(broken.values()), listing)}")
    say_broken(broken, on_broken, listing)


def say_broken(broken: Mapping[Path, str], on_broken: str, listing: Path) -> None:
    """Says which images were left out because they are broken.

    Args:
        broken: file -> why it cannot be decoded.
        on_broken: `skip`, or `error`.
        listing: a file for their names, if they are many.

    Raises:
        ValueError: there are some, and they are not to be skipped.
    """
    from harness import image_file
    from harness.progress import say

    if not broken:
        return
    named = image_file.broken_in_words(list(broken.values()), listing)
    if on_broken != "skip":
        raise ValueError(f"{named}; mend or remove what is broken, or leave it out by --on-broken skip")
    say(f"skipped {named}")


def _write_onnx(encoder: SavedEncoder, file: Path) -> str:
    """Writes an encoder as ONNX and says what it takes."""
    from harness.encoders import to_onnx

    channels, height, width = to_onnx.write_onnx(encoder, file)
    return (
        f"{file}: ONNX, the same features as torch's to {to_onnx.TOLERANCE:g} of the largest; it takes float32 "
        f"[B, {channels}, {height}, {width}] in [0, 1], {to_onnx.image_steps(encoder)}"
    )


def image_files(given: Sequence[Path]) -> list[Path]:
    """The image files that are named, those of a folder with all below it; a file that was named before only once.

    A folder's are those of its data set: one that links lead to twice has two names, and is there by both.

    Raises:
        ValueError: a name that does not exist or is no text, a folder without images, or one that cannot be
            looked through, see `image_file.scan`.
    """
    from harness import image_file
    from harness.progress import say

    groups: list[list[Path]] = []
    for path in given:
        if path.is_dir():
            tree = image_file.scan(str(path))
            if not tree.all_images:
                raise ValueError(f"{path} holds no image ({image_file.SOME_ENDINGS})")
            if clutter := [one for folder in tree.walk() for one in folder.clutter]:
                hidden = "hidden, or of storage devices and archives"
                say(f"{path}: {count(len(clutter), 'image')} left out: {hidden} (such as {clutter[0]})")
            groups.append([Path(image.path) for image in tree.all_images])
        elif path.is_file():
            groups.append([path])
        else:
            raise ValueError(f"no file or folder {path}")
    check_names(str(path) for files in groups for path in files)
    kept: list[Path] = []
    before: set[tuple[Path, str]] = set()
    for files in groups:
        folders = {folder: folder.resolve() for folder in {path.parent for path in files}}
        real = [(folders[path.parent], path.name) for path in files]
        kept += [path for path, one in zip(files, real, strict=True) if one not in before]
        before.update(real)
    if left_out := sum(map(len, groups)) - len(kept):
        say(f"{count(left_out, 'image')} left out: named before")
    return kept


def check_names(names: Iterable[str]) -> None:
    """That tables and pages can hold the names of files.

    Raises:
        ValueError: one is not UTF-8, as of an archive from another system; names it.
    """
    wrong = [name for name in names if not _is_text(name)]
    if wrong:
        shown = wrong[0].encode("utf-8", "backslashreplace").decode()
        more = (
            f", nor {'are those' if len(wrong) > 2 else 'is that'} of {len(wrong) - 1} more" if len(wrong) > 1 else ""
        )
        raise ValueError(f"the name of {shown} is not UTF-8{more}; rename it (convmv does many)")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def model_folder(model: str, tracking_uri: str | None, temporary: Path) -> Path:
    """The folder of the saved encoder that `model` names; from MLflow it is fetched into `temporary`.

    Raises:
        ValueError: no such model.
    """
    path = Path(model)
    if re.match(r"(runs|models):/", model) or (re.fullmatch(r"[0-9a-f]{32}", model) and not path.exists()):
        from harness.tracking import models, server

        return models.fetch_model(model, server.tracking_uri(tracking_uri, RESULTS), temporary)
    if (path / "model.json").is_file():
        return path
    if not (path / "space.yaml").is_file():
        raise ValueError(
            f"{path} is no sweep's folder, no saved encoder's (models/<trial>) and no run of MLflow (runs:/<id>)"
        )
    from harness.encoders import export

    return export.kept_by(path)


def embedded(
    encoder: SavedEncoder, files: Sequence[Path], broken: dict[Path, str]
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Some files after others, so that memory does not grow with their number, and f32 [n, D] of them.

    Args:
        encoder: that embeds them.
        files: image files.
        broken: where those are noted that cannot be decoded, and why; they are left out.
    """
    import torch

    from harness import image_file
    from harness.progress import say, track

    converted: dict[str, list[str]] = {}
    upright = encoder.about["upright"]
    with track(len(files), "Embedding images") as advance:
        for start in range(0, len(files), CHUNK):
            some = files[start : start + CHUNK]
            decoded: list[Path] = []
            images: list[Tensor] = []
            for file in some:
                try:
                    images.append(image_file.decode(file, encoder.image_shape, upright=upright, converted=converted))
                    decoded.append(file)
                except ValueError as error:
                    broken[file] = str(error)
            if images:
                yield decoded, encoder.embed(torch.stack(images)).numpy()
            advance(len(some))
    for what, names in converted.items():
        say(f"{len(names):,} of {len(files):,} images {image_file.CONVERSIONS[what]}, such as {min(names)}")


def _check_output(option: str, output: Path, endings: Sequence[str] = ()) -> None:
    if endings and output.suffix not in endings:
        near = output.with_suffix(output.suffix.lower())
        meant = near if near.suffix in endings else f"{output}{endings[0]}"
        raise ValueError(f"{option} {output}: ends in neither {' nor '.join(endings)}; did you mean {meant}?")
    check_output(option, output)


def write_embeddings(output: Path, pieces: Iterable[tuple[Sequence[Path], np.ndarray]], size: int) -> None:
    """Writes the file that the data set `embeddings` reads, or a .csv; whole, or not at all.

    Paths that are not absolute are written as they are from the folder of the file; where they lead up from it, links
    to folders are followed first, for from there `..` is another folder.

    Args:
        output: .npz (`files` [N], `embeddings` [N, D]), uncompressed, so that it can be mapped; .parquet (a row per
            image: `file`, `embeddings`); or .csv (a row per image: file, e0, e1, ...), for spreadsheets.
        pieces: some of the images after others, and f32 [n, D] of them.
        size: D.
    """
    write = {".npz": _write_npz, ".parquet": _write_parquet, ".csv": _write_csv}[output.suffix]
    temporary = temporary_name(output)

    @functools.cache
    def below(folder: Path) -> str:
        written = os.path.relpath(folder, output.parent)
        if written.startswith(os.pardir):
            return os.path.relpath(folder.resolve(), output.parent.resolve())
        return "" if written == os.curdir else written

    def named() -> Iterator[tuple[list[str], np.ndarray]]:
        for files, vectors in pieces:
            names = (one if one.is_absolute() else os.path.join(below(one.parent), one.name) for one in files)
            yield list(map(str, names)), vectors

    try:
        write(temporary, named(), size)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


Named = Iterable[tuple[list[str], "np.ndarray"]]


def _write_npz(output: Path, pieces: Named, size: int) -> None:
    import numpy as np

    names: list[str] = []
    with tempfile.TemporaryFile(dir=output.parent) as vectors:  # their number, which comes first, is known last
        for some, values in pieces:
            names += some
            vectors.write(np.ascontiguousarray(values, "<f4").data.cast("B"))
        vectors.seek(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(names), size)}
        with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("files.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.array(names, dtype=np.str_), allow_pickle=False)
            with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(vectors, member, 1 << 20)


def _write_parquet(output: Path, pieces: Named, size: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("file", pa.string()), ("embeddings", pa.list_(pa.float32(), size))])
    with pq.ParquetWriter(output, schema) as table:
        for names, vectors in pieces:
            rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size)
            table.write_batch(pa.record_batch([pa.array(names), rows], schema=schema))


def _write_csv(output: Path, pieces: Named, size: int) -> None:
    with output.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["file", *(f"e{number}" for number in range(size))])
        for names, vectors in pieces:
            for name, row in zip(names, vectors, strict=True):
                table.writerow([name, *(f"{value:.9g}" for value in row)])


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Turns images into embeddings.")
    parser.add_argument("model", help="a sweep's folder, one of its models/<trial>, or a run of MLflow (runs:/<id>)")
    parser.add_argument("images", nargs="*", type=Path, help="image files, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("embeddings.npz"), metavar="FILE", help=", ".join(SUFFIXES))
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="write the encoder as ONNX; images may be left out")
    parser.add_argument(
        "--on-broken",
        choices=["error", "skip"],
        default="error",
        help="images that cannot be decoded: all are named and nothing is written (default), or they are left out",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--tracking-uri", metavar="URI", help="of MLflow, for a run; default: that of results/runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
