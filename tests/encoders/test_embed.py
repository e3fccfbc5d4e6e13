"""Encoders that a sweep found, saved and used: what comes out equals what the trial saw."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disk import files_of_at_most
from PIL import ExifTags, Image
from recorded_sweep import RecordedSweep
from trials import configure

from baselines.datasets.embeddings import EmbeddingsDataset
from baselines.datasets.image_folder import ImageFolder
from harness import embed
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.embeddings_file import read_embeddings
from harness.encoders import export
from harness.encoders.saved import PyfuncEncoder, SavedEncoder
from harness.files import checksum, no_space
from harness.pick import candidates
from harness.pick.command import main as pick
from harness.report import read
from harness.report.entry import Entry
from harness.report.model import Report
from harness.trial import run as trial
from harness.trial.rounds import Rounds

FINETUNE = {"name": "finetune", "epochs": 2, "batch_size": 20}
VARIANTS: dict[str, dict[str, Any]] = {
    "linear": {},
    "logistic": {"classifier": "logistic"},
    "ridge": {"classifier": "ridge", "ssl_method": "none"},
    "untrained, mlp": {"ssl_method": "none", "classifier": {"name": "mlp", "epochs": 2, "hidden_dim": 8}},
    "finetune": {"classifier": FINETUNE, "pretrain__epochs": 1},
    "joint": {"classifier": FINETUNE, "mode": "joint", "joint": {"unlabeled": "as_labeled", "weight": 0.1}},
    "knn": {"classifier": "knn", "data": {"fraction": 0.15, "normalize": False}, "labels": {"start": 20}},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Every variant, with the features and logits of the validation images as the trial's last model gave them."""
    sweep = RecordedSweep(tmp_path_factory.mktemp("embed"))
    sweep.features, sweep.logits = {}, {}
    run, ran = Rounds.run, []

    def spy(self: Rounds) -> None:
        run(self)
        ran.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rounds, "run", spy)
        for seed, variant in enumerate(VARIANTS):
            sweep.run(variant, seed, configure(**VARIANTS[variant]))
            model, images = ran[-1].last.model, ran[-1].context.data.val
            sweep.features[variant] = model.features("val")
            sweep.logits[variant] = model.logits("val")
            sweep.images = images[torch.arange(len(images))]
    return sweep


@pytest.fixture(scope="module")
def pictures(sweep, tmp_path_factory):
    """The validation images as files, in order."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(sweep.images):
        place = folder / ("b" if number > 99 else "a")
        place.mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place / f"{number:03}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_and_logits_are_those_of_the_trial(sweep, variant):
    saved = export.save_encoder(sweep.path, sweep.trials[variant], sweep.folders)
    encoder = SavedEncoder.load(saved, "cpu")
    embeddings = encoder.embed(sweep.images)
    assert torch.allclose(embeddings, sweep.features[variant], atol=1e-5)
    assert embeddings.std() > 0
    if variant == "knn":
        with pytest.raises(ValueError, match="no task head that can be saved"):
            encoder.logits(sweep.images)
    else:
        assert torch.allclose(encoder.logits(sweep.images), sweep.logits[variant], atol=1e-4)


@pytest.mark.parametrize("upright", [True, False])
def test_photographs_are_turned_as_those_that_the_encoder_learnt_from(sweep, tmp_path, upright):
    (name, *_) = sweep.trials.values()
    encoder = SavedEncoder.load(export.save_encoder(sweep.path, name, sweep.folders), "cpu")
    assert encoder.about["upright"] is True, "digits have no such setting"
    encoder = replace(encoder, about={**encoder.about, "upright": upright})
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = sweep.images[0, 0]
    Image.fromarray(image.numpy()).save(tmp_path / "1.png", exif=exif)
    seen = image.rot90(-1) if upright else image
    assert not torch.equal(image, image.rot90(-1))
    expected = encoder.embed(seen[None, None].contiguous())
    ((_, vectors),) = embed.embedded(encoder, [tmp_path / "1.png"], {})
    assert torch.equal(torch.from_numpy(vectors), expected)


def test_variants_do_not_agree_by_chance(sweep):
    first, *others = sweep.features.values()
    assert not any(torch.allclose(first, other, atol=1e-3) for other in others)


def test_the_best_trial_is_saved_once_and_all_on_request(sweep):
    report = read.read_report(sweep.path)
    values = {e.trials[s]: e.values["val/accuracy"][s] for e in report.confirmed for s in e.seeds}
    (best,) = export.chosen(report, "best")
    assert values[best] == max(values.values())
    assert sorted(export.chosen(report, "all")) == sorted(sweep.trials.values())
    assert export.chosen(report, "none") == []
    assert export.export_encoders(report, "best", sweep.folders) == []
    model = sweep.path / "models" / best / "model.json"
    before = model.stat().st_mtime_ns
    assert export.export_encoders(report, "best", sweep.folders) == []
    assert model.stat().st_mtime_ns == before


@pytest.fixture
def own_sweep(tmp_path, monkeypatch):
    """A sweep of the test's own, and the rounds of its last trial."""
    sweep, run = RecordedSweep(tmp_path), Rounds.run

    def spy(self: Rounds) -> None:
        run(self)
        sweep.ran = self

    monkeypatch.setattr(Rounds, "run", spy)
    return sweep


@pytest.mark.parametrize("classifier", [FINETUNE, "ridge"])
def test_the_encoder_of_a_trial_that_went_on_is_that_of_its_last_round(own_sweep, classifier):
    for rounds in (1, 2):
        own_sweep.run("a", 0, configure(ssl_method="none", classifier=classifier, labels__rounds=rounds))
        assert export.export_encoders(read.read_report(own_sweep.path), "best", own_sweep.folders) == []
        images = own_sweep.ran.context.data.val
        logits = SavedEncoder.load(export.kept_by(own_sweep.path), "cpu").logits(images[torch.arange(len(images))])
        assert torch.allclose(logits, own_sweep.ran.last.model.logits("val"), atol=1e-4), rounds


def test_the_one_encoder_that_is_kept_is_not_taken_for_the_best(own_sweep):
    own_sweep.run("a", 0, configure(ssl_method="none", classifier="ridge"))
    export.export_encoders(read.read_report(own_sweep.path), "best", own_sweep.folders)
    kept = own_sweep.path / "models" / own_sweep.trials["a"]
    assert export.kept_by(own_sweep.path) == kept
    own_sweep.run("b", 0, configure(ssl_method="none", classifier="ridge", labels__start=100))
    with pytest.raises(ValueError, match=f"the best trial, {own_sweep.trials['b']}, is not among models/; name one: "):
        export.kept_by(own_sweep.path)
    (own_sweep.path / "rows.jsonl").unlink()  # as where an encoder alone was copied
    assert export.kept_by(own_sweep.path) == kept


@pytest.mark.parametrize("which", ["best", "all"])
def test_encoders_that_would_stay_on_their_nodes_are_refused(tmp_path, which):
    file = tmp_path / "far.yaml"
    file.write_text("{name: far, method: grid, metric: {name: val/accuracy}, trial: {dataset: digits}}")
    plan = load_plan(file, {"log_model": which})
    export.check_export(plan, shared_stages=True)
    with pytest.raises(ConfigError, match=f"^far: log_model: {which} needs a folder of stages that all nodes share"):
        export.check_export(plan, shared_stages=False)
    export.check_export(load_plan(file, {}), shared_stages=False)


def test_a_data_set_of_features_has_no_encoder_to_keep(tmp_path):
    file = tmp_path / "given.yaml"
    file.write_text("{name: given, method: grid, metric: {name: val/accuracy}, trial: {dataset: embeddings}}")
    export.check_export(load_plan(file, {}), shared_stages=True)
    with pytest.raises(ConfigError, match="given: log_model: best: embeddings gives features, and there is no encoder"):
        export.check_export(load_plan(file, {"log_model": "best"}), shared_stages=True)


def test_of_the_seeds_the_best_on_validation_data_is_chosen():
    entry = Entry("c", {}, [1, 2, 3], {"val/accuracy": {1: 0.5, 2: 0.9, 3: 0.9}, "test/accuracy": {1: 1.0}},
                         [], {}, {1: "s1", 2: "s2", 3: "s3"}, "finished")  # fmt: skip
    shared = (Path("f"), {"metric": [{"name": "val/accuracy"}]}, {}, "test/accuracy")
    report = Report(*shared, True, [entry], [], None, {}, 0, 0)
    assert export.chosen(report, "best") == ["s2"]
    assert export.chosen(report, "all") == ["s1", "s2", "s3"]
    assert export.chosen(Report(*shared, False, [entry], [], None, {}, 0, 0), "best") == ["s1"]


def test_a_stage_that_is_gone_is_named(sweep, tmp_path):
    other = trial.Folders(sweep.folders.cache, tmp_path)
    with pytest.raises(ValueError, match="its train stage is no longer in"):
        export.save_encoder(sweep.path, sweep.trials["linear"], other)
    shutil.rmtree(sweep.path / "models", ignore_errors=True)
    lines = export.export_encoders(read.read_report(sweep.path), "all", other)
    assert len(lines) == len(VARIANTS)
    assert all(line.startswith("log_model: confirm-") for line in lines)


@pytest.mark.parametrize("size", [0, 200])
def test_a_full_disk_leaves_no_half_encoder_and_ends_the_sweep(sweep, size):
    shutil.rmtree(sweep.path / "models", ignore_errors=True)
    with files_of_at_most(size), pytest.raises(OSError, match=r"weights.pt") as caught:
        export.export_encoders(read.read_report(sweep.path), "best", sweep.folders)
    assert no_space(caught.value)
    assert [file for file in (sweep.path / "models").rglob("*") if file.is_file()] == []
    assert export.export_encoders(read.read_report(sweep.path), "best", sweep.folders) == []


def test_the_command_embeds_files_as_the_trial_did(sweep, pictures, tmp_path, capsys):
    model = export.save_encoder(sweep.path, sweep.trials["linear"], sweep.folders)
    assert embed.main([str(model), str(pictures), "--output", str(tmp_path / "e.npz"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert f"{len(sweep.images)} images, as 1 x 8 x 8, through dcnn3 of {sweep.trials['linear']}" in out
    with np.load(tmp_path / "e.npz", allow_pickle=False) as written:
        assert [Path(name).name for name in written["files"]] == [f"{n:03}.png" for n in range(len(sweep.images))]
        assert np.allclose(written["embeddings"], sweep.features["linear"].numpy(), atol=1e-5)
    two = [str(pictures / "a" / "001.png"), str(pictures / "a" / "000.png")]
    assert embed.main([str(model), *two, "--output", str(tmp_path / "e.csv"), "--device", "cpu"]) == 0
    with (tmp_path / "e.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header[:2] == ["file", "e0"]
    assert [row[0] for row in rows] == two
    assert np.allclose(np.array(rows)[:, 1:].astype(float), sweep.features["linear"].numpy()[[1, 0]], atol=1e-5)


def test_a_sweeps_folder_stands_for_its_best(sweep, pictures, tmp_path, capsys):
    for name in export.chosen(read.read_report(sweep.path), "all"):
        export.save_encoder(sweep.path, name, sweep.folders)
    (best,) = export.chosen(read.read_report(sweep.path), "best")
    one = str(pictures / "a" / "000.png")
    assert embed.main([str(sweep.path), one, "--output", str(tmp_path / "e.npz")]) == 0
    assert f"of {best}:" in capsys.readouterr().out


def test_images_of_another_size_are_cropped_and_resized_as_an_image_folder_does(sweep, tmp_path):
    model = export.save_encoder(sweep.path, sweep.trials["linear"], sweep.folders)
    rng = np.random.default_rng(0)
    for name, size in (("tall", (30, 20, 3)), ("wide", (9, 40, 3))):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / "train" / name / "0.png")
    trained_on = ImageFolder(path=str(tmp_path), size=8, channels=1).open().splits["train"].read(0, 2)
    expected = SavedEncoder.load(model, "cpu").embed(trained_on)
    arguments = [str(model), str(tmp_path / "train"), "--output", str(tmp_path / "e.npz"), "--device", "cpu"]
    assert embed.main(arguments) == 0
    assert np.allclose(np.load(tmp_path / "e.npz")["embeddings"], expected.numpy(), atol=1e-5)


def test_images_that_are_scaled_are_told(sweep, tmp_path, capsys):
    model = export.save_encoder(sweep.path, sweep.trials["linear"], sweep.folders)
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    file = str(tmp_path / "deep.png")
    assert embed.main([str(model), file, "--output", str(tmp_path / "e.npz"), "--device", "cpu"]) == 0
    assert f"1 of 1 images have 16 bits a channel, which are scaled to 8 (65535 to 255), such as {file}\n" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_what_is_written_is_what_a_data_set_of_embeddings_reads(sweep, pictures, tmp_path, monkeypatch, suffix):
    """From another folder than that of the images, in several pieces."""
    model = export.save_encoder(sweep.path, sweep.trials["linear"], sweep.folders)
    monkeypatch.chdir(pictures)
    monkeypatch.setattr(embed, "CHUNK", 50)
    output = tmp_path / f"e{suffix}"
    assert embed.main([str(model), "a", "b", "--output", str(output), "--device", "cpu"]) == 0
    assert [file.name for file in tmp_path.iterdir()] == [output.name]
    (part,) = read_embeddings(output).parts.values()
    expected = sweep.features["linear"].numpy()
    assert np.allclose(part.read(0, len(part)), expected, atol=1e-5)
    assert [Path(path).resolve() for path in part.paths] == sorted(pictures.resolve().glob("*/*.png"))
    rows = [f"{path},{int(Path(path).stem) % 2}" for path in part.paths]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *reversed(rows)]))
    source = EmbeddingsDataset(path=str(output), labels=str(tmp_path / "labels.csv")).open()
    assert source.splits["train"].labels.tolist() == [number % 2 for number in range(len(expected))]
    assert np.allclose(source.splits["train"].read(3, 70), expected[3:70], atol=1e-5)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("linked", ["output", "images"])
def test_names_lead_to_the_images_through_links_to_folders(tmp_path, monkeypatch, suffix, linked):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "here" / "images").mkdir(parents=True)
    (tmp_path / "here" / "images" / "a.png").write_bytes(b"")
    (tmp_path / "here" / "images" / "b.png").symlink_to("a.png")
    (tmp_path / "here" / "out").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "far" / "away" / "linked").symlink_to(tmp_path / "here" / "images")
    monkeypatch.chdir(tmp_path / "here")
    folder, images = {"output": ("out", "images"), "images": (".", "out/linked")}[linked]
    output = Path(folder) / f"e{suffix}"
    pieces = [([Path(images) / "a.png", Path(images) / "b.png"], np.eye(2, dtype=np.float32))]
    embed.write_embeddings(output, pieces, 2)
    for file in (output, output.absolute(), output.resolve()):
        (part,) = read_embeddings(file).parts.values()
        real = [Path(path).parent.resolve() / Path(path).name for path in part.paths]
        assert real == [tmp_path / "here" / "images" / name for name in ("a.png", "b.png")]
        assert linked == "output" or part.paths[0] == str(tmp_path / "here" / images / "a.png"), "as it was written"
    pool, _ = candidates.of_embeddings(output, None)
    assert all(Path(pool.file(position)).is_file() for position in range(2))


def test_embedding_that_fails_leaves_no_file(tmp_path):
    def pieces():
        yield [Path("a")], np.zeros((1, 2), np.float32)
        raise ValueError("cannot decode")

    with pytest.raises(ValueError, match="cannot decode"):
        embed.write_embeddings(tmp_path / "e.npz", pieces(), 2)
    assert not list(tmp_path.iterdir())


def test_an_encoder_takes_images_of_its_trial_alone(sweep):
    encoder = SavedEncoder.load(export.save_encoder(sweep.path, sweep.trials["linear"], sweep.folders), "cpu")
    images = sweep.images
    assert encoder.embed(images.numpy()).equal(encoder.embed(images))
    wrong = {
        "int64 [144, 1, 8, 8]": images.long(),
        "float32 [144, 1, 8, 8]": images.float().numpy(),
        "uint8 [144, 1, 16, 16]": images.repeat(1, 1, 2, 2),
        "uint8 [144, 3, 8, 8]": images.repeat(1, 3, 1, 1),
        "uint8 [144, 8, 8, 1]": images.permute(0, 2, 3, 1),
        "uint8 [1, 8, 8]": images[0],
        "uint8 []": images[0, 0, 0, 0],
    }
    for form, given in wrong.items():
        for use in (encoder.embed, encoder.logits):
            with pytest.raises(ValueError, match=rf"^images are uint8 \[N, 1, 8, 8\], not {re.escape(form)}$"):
                use(given)


def test_pyfunc_validates_its_images(sweep):
    model = export.save_encoder(sweep.path, sweep.trials["linear"], sweep.folders)
    encoder = PyfuncEncoder(SavedEncoder.load(model, "cpu"))
    images = sweep.images.permute(0, 2, 3, 1).numpy()
    assert np.allclose(encoder.predict(images), sweep.features["linear"].numpy(), atol=1e-5)
    assert np.allclose(encoder.predict(images, {"output": "logits"}), sweep.logits["linear"].numpy(), atol=1e-4)
    for wrong in (images.astype(np.float32), images[:, :7], images[0], sweep.images.numpy()):
        with pytest.raises(ValueError, match=r"images are uint8 \[N, 8, 8, 1\], not"):
            encoder.predict(wrong)
    with pytest.raises(ValueError, match="'pixels' is not embeddings or logits"):
        encoder.predict(images, {"output": "pixels"})


@pytest.fixture
def model(sweep, tmp_path):
    """A saved encoder of the test's own."""
    source = export.save_encoder(sweep.path, sweep.trials["linear"], sweep.folders)
    for name in ("model.json", "weights.pt"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: (m / "weights.pt").write_bytes(b"half"), "is damaged: its checksum"),
        (lambda m: (m / "weights.pt").unlink(), "has no weights.pt"),
        (lambda m: (m / "model.json").write_text("{"), "cannot be read"),
        (lambda m: (m / "model.json").write_text("{}"), "has no 'format'"),
        (lambda m: change(m, format=9), "has format 9; this version reads format 1"),
        (lambda m: change(m, backbone={"name": "dcnn4"}), "did you mean 'dcnn3'?"),
        (lambda m: change(m, backbone=None), "model.json: backbone: expected a backbone's name or a mapping"),
        (lambda m: change(m, backbone={"name": "dcnn3", "wide": 5}), "dcnn3 has no hyper-parameter 'wide'"),
        (lambda m: change(m, inputs={}), "model.json: inputs: "),
        (lambda m: change(m, inputs=None), "model.json: inputs: "),
        (lambda m: change(m, head={"name": "zzz"}), "model.json: head.name: expected logistic | "),
        (lambda m: change(m, head={"name": "knn"}), "model.json: head.name: knn cannot be saved"),
        (lambda m: change(m, image_shape=[3, 8]), "image_shape: expected channels, height and width, not [3, 8]"),
        (lambda m: change(m, image_shape="x"), "image_shape: expected channels, height and width, not 'x'"),
        (lambda m: change(m, precision="fp8"), "model.json: precision: expected auto | float32 | bfloat16, not 'fp8'"),
        (lambda m: change(m, channels_last="x"), "model.json: channels_last: expected"),
        (lambda m: change(m, class_names=None), "model.json: class_names: expected a list of names, not None"),
        (lambda m: (m / "model.json").write_text("[]"), "cannot be read"),
        (lambda m: change(m, backbone={"name": "dcnn3", "width": 5}), "the weights do not fit backbone dcnn3"),
    ],
)
def test_a_damaged_encoder_is_one_line_and_exit_2(model, pictures, capsys, damage, message):
    damage(model)
    assert embed.main([str(model), str(pictures), "--output", str(model / "e.npz")]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (model / "e.npz").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
@pytest.mark.parametrize("command", [embed.main, pick])
def test_cuda_where_there_is_none_is_one_line_and_exit_2(model, pictures, tmp_path, capsys, command):
    arguments = [str(pictures / "a"), "--encoder", str(model), "--selector", "random", "--classes", "0,1"]
    arguments = [str(model), str(pictures / "a")] if command is embed.main else arguments
    assert command([*arguments, "--output", str(tmp_path / "e.npz"), "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "device cuda: this machine has no CUDA device; use cpu or auto\n"


def change(model: Path, **values: Any) -> None:
    about = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(about | values))


def test_no_code_is_executed_by_loading(model):
    """Weights that hold an object are refused, even where the checksum is right."""
    torch.save({"backbone": Path("x"), "head": None}, model / "weights.pt")
    change(model, weights=checksum(model / "weights.pt"))
    with pytest.raises(ValueError, match="holds more than tensors"):
        SavedEncoder.load(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such", "{pictures}"], "no/such is no sweep's folder, no saved encoder's"),
        (["{model}", "no/such.png"], "no file or folder no/such.png"),
        (["{model}", "{empty}"], "holds no image (.jpg"),
        (["{model}", "{pictures}/notes.txt"], "cannot decode"),
        (["{model}", "{pictures}", "--output", "e.json"], "did you mean e.json.npz?"),
        (["{model}", "{pictures}", "--output", "no/such/e.npz"], "no folder"),
        (["{unsaved}", "{pictures}"], "--resume --set log_model=best"),
        (["{model}"], "name images to embed, or a file for the encoder itself by --onnx FILE"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(model, pictures, tmp_path, monkeypatch, capsys, arguments, message):
    for name in ("empty", "unsaved"):
        (tmp_path / name).mkdir()
    (tmp_path / "unsaved" / "space.yaml").write_text("name: unsaved")
    monkeypatch.chdir(tmp_path)
    places = {"model": model, "pictures": pictures, "empty": tmp_path / "empty", "unsaved": tmp_path / "unsaved"}
    assert embed.main([argument.format(**places) for argument in arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
