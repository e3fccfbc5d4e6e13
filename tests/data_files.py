"""Small data sets for tests, in files of the formats in which people publish and keep them.

Each `write_...` takes a folder, pytest's `monkeypatch`, and u8 [N, C, H, W] and labels by split. It returns what the
plugin is to be given as its `root` or `path`.
"""

import hashlib
import io
import json
import pickle
import struct

import numpy as np
import pyarrow as pa
import scipy.io
from PIL import Image
from torchvision import datasets as published


def save(image, path):
    """Writes u8 [H, W] or [H, W, C] into an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, md5(path)]


def write_cifar(folder, monkeypatch, arrays, labels, name):
    """CIFAR-10 or CIFAR-100: pickled batches; the training images come in two."""
    theirs = getattr(published, name)
    key, names_key = {"CIFAR10": ("labels", "label_names"), "CIFAR100": ("fine_labels", "fine_label_names")}[name]
    place = folder / theirs.base_folder
    cut = len(labels["train"]) * 5 // 8

    def batch(split, part):
        known = np.asarray(labels[split])[part].tolist()
        return {"data": arrays[split][part].reshape(-1, 3072), key: known, "coarse_labels": [9] * len(known)}

    train = [
        dump(place / "first", batch("train", slice(0, cut))),
        dump(place / "second", batch("train", slice(cut, None))),
    ]
    monkeypatch.setattr(theirs, "train_list", train)
    monkeypatch.setattr(theirs, "test_list", [dump(place / "test", batch("test", slice(None)))])
    names = [f"class {k}" for k in range(int(np.max(labels["train"])) + 1)]
    file, digest = dump(place / "names", {names_key: names})
    monkeypatch.setattr(theirs, "meta", {"filename": file, "key": names_key, "md5": digest})
    return folder


def write_svhn(folder, monkeypatch, arrays, labels):
    """SVHN: a MATLAB file for each split, in which the digit 0 is class 10."""
    listed = {}
    for split, images in arrays.items():
        path = folder / f"{split}_32x32.mat"
        written = [label or 10 for label in np.asarray(labels[split]).tolist()]
        scipy.io.savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": np.array(written)[:, None]})
        listed[split] = ["http://nowhere", path.name, md5(path)]
    monkeypatch.setattr(published.SVHN, "split_list", listed)
    return folder


def write_fashion_mnist(folder, monkeypatch, arrays, labels):
    """Fashion-MNIST: IDX files."""
    place = folder / "FashionMNIST/raw"
    place.mkdir(parents=True)
    for split, name in (("train", "train"), ("test", "t10k")):
        count = len(labels[split])
        header = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28)
        (place / f"{name}-images-idx3-ubyte").write_bytes(header + arrays[split].tobytes())
        header = struct.pack(">BBBBI", 0, 0, 8, 1, count)
        (place / f"{name}-labels-idx1-ubyte").write_bytes(header + bytes(np.asarray(labels[split]).tolist()))
    return folder


def write_stl10(folder, monkeypatch, arrays, labels):
    """STL-10, of three classes that count from 1: images column by column."""
    place = folder / "stl10_binary"
    place.mkdir()
    listed = {}
    for split, images in ({"unlabeled": arrays["test"]} | arrays).items():
        (place / f"{split}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        listed[f"{split}_X.bin"] = md5(place / f"{split}_X.bin")
    for split, values in labels.items():
        (place / f"{split}_y.bin").write_bytes(bytes(label + 1 for label in np.asarray(values).tolist()))
        listed[f"{split}_y.bin"] = md5(place / f"{split}_y.bin")
    (place / "class_names.txt").write_text("airplane\nbird\ncar\n")
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(published.STL10, name, [[file, listed[file]] for file, _ in getattr(published.STL10, name)])
    return folder


def write_oxford_iiit_pet(folder, monkeypatch, arrays, labels):
    """Oxford-IIIT Pet, of two breeds: one grey JPEG an image, as bright as the image's first pixel."""
    place = folder / "oxford-iiit-pet"
    (place / "annotations").mkdir(parents=True)
    for split, theirs in (("train", "trainval"), ("test", "test")):
        lines = []
        for number, (image, label) in enumerate(zip(arrays[split], np.asarray(labels[split]).tolist(), strict=True)):
            name = f"{('Abyssinian', 'great_dane')[label]}_{theirs}{number}"
            save(np.full((40, 60, 3), image.flat[0], dtype=np.uint8), place / f"images/{name}.jpg")
            lines.append(f"{name} {label + 1} 1 1\n")
        (place / f"annotations/{theirs}.txt").write_text("".join(lines))
    return folder


def write_image_folder(folder, monkeypatch, arrays, labels):
    """A folder for each split, in it one for each class."""
    for split, images in arrays.items():
        for number, (image, label) in enumerate(zip(images, np.asarray(labels[split]).tolist(), strict=True)):
            save(image.transpose(1, 2, 0), folder / f"set/{split}/class{label}/{number:04}.png")
    return folder / "set"


def write_npz(folder, monkeypatch, arrays, labels):
    """One archive."""
    parts = {f"x_{split}": images for split, images in arrays.items()}
    parts |= {f"y_{split}": np.asarray(values) for split, values in labels.items()}
    np.savez(folder / "set.npz", **parts)
    return folder / "set.npz"


def write_huggingface(folder, monkeypatch, arrays, labels):
    """Hugging Face `datasets`: what `save_to_disk` of version 5.2 leaves, as far as it is read."""
    for split, images in arrays.items():
        save_split(folder / "saved" / split, [png(image) for image in images], np.asarray(labels[split]).tolist())
    (folder / "saved/dataset_dict.json").write_text(json.dumps({"splits": list(arrays)}))
    return folder / "saved"


def png(image):
    """The bytes of a file that holds u8 [C, H, W]."""
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "png")
    return stream.getvalue()


def table_of(files, labels, names=None, columns=("image", "label")):
    """An Arrow table of images as bytes, which says what it holds as `datasets` does."""
    names = names or [f"class {k}" for k in range(max(labels) + 1)]
    image, label = columns
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    table = pa.table({image: [{"bytes": file, "path": None} for file in files], label: labels})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save_split(folder, files, labels, shards=2, **about):
    """One split in Arrow streams."""
    folder.mkdir(parents=True)
    table, listed = table_of(files, labels, **about), []
    for shard in range(shards):
        name = f"data-{shard:05}-of-{shards:05}.arrow"
        first, last = (place * len(files) // shards for place in (shard, shard + 1))
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(first, last - first), max_chunksize=7)
        listed.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": listed, "_indices_data_files": None}))


def said(source):
    """The notes of a source, a line each."""
    return "\n".join(source.notes)


def content(source):
    """Split -> (value of the image, its class) of each."""
    return {
        name: [
            (int(image.flatten()[0]), None if part.labels is None else source.class_names[int(part.labels[place])])
            for place, image in enumerate(part.read(0, part.num_images))
        ]
        for name, part in source.splits.items()
    }
