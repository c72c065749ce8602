"""The files that the attacks damage, by kind, and how Vitral reads each."""

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vitral
from models import small_model
from picture_files import picture_files
from tiny import tiny_run
from vitral.config import load_config, save_config
from vitral.data.config import DataConfig
from vitral.data.images.bands import read_bands
from vitral.data.images.decode import read_image
from vitral.data.images.preprocess import Preprocessing
from vitral.datasets.opening import open_data
from vitral.models import create
from vitral.serve.predictor import Predictor
from vitral.train.config import RunConfig
from vitral.weights.folder import save_model
from vitral.weights.save import save_as

__all__ = ["KINDS", "Target", "targets"]

KINDS = ("images", "models", "configurations", "tables")

BYTES = {b"\x89PNG": "png", b"\xff\xd8": "jpeg", b"\x93NUMPY": "npy"}
"""Formats of images that are damaged part by part, by their first bytes."""
SIZES = dict(image_size=16, patch_size=8, width=64, depth=2, num_heads=1, mlp_dim=32)
"""Of a model whose number of heads every format knows."""
PICTURE = np.full((4, 16, 24, 3), 90, np.uint8)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file to damage."""

    name: str
    content: bytes
    form: str | None
    """Name of its format in `mutations.formats`."""
    read: Callable[[bytes, Path], object]
    """Reads the damaged content; the folder is for files, and holds those beside it."""


class Hostile:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch /tmp/vitral-chaos-executed",)


def targets(kind: str, folder: Path) -> list[Target]:
    """The files of a kind.

    Args:
        kind: one of `KINDS`.
        folder: an empty folder for files beside them.
    """
    makers = {"images": images, "models": models, "configurations": configurations, "tables": tables}
    return list(makers[kind](folder))


def images(_: Path) -> Iterator[Target]:
    """Every format, mode and depth of picture, and images of any number of channels."""
    colour, grey = (Preprocessing(image_size=(32, 32), channels=channels, resize="crop") for channels in (3, 1))

    def read(content: bytes, _: Path) -> None:
        for preprocessing in (colour, grey):
            preprocessing.pixels(read_image(content, channels=preprocessing.channels, name="x"))

    def read_values(content: bytes, _: Path) -> None:
        read_bands(content, channels=3, name="x")

    for file in picture_files():
        form = next((form for start, form in BYTES.items() if file.content.startswith(start)), None)
        yield Target(name=file.name, content=file.content, form=form, read=read)
        if file.content[:4] in (b"II*\0", b"MM\0*"):
            yield Target(name=f"bands of {file.name}", content=file.content, form=None, read=read_values)
    for dtype in ("u1", "<f4", ">i2"):
        array = io.BytesIO()
        np.save(array, np.ones((3, 5, 7), dtype))
        yield Target(name=f"npy {dtype}", content=array.getvalue(), form="npy", read=read_values)


def predict(path: Path) -> None:
    """Loads a model, and predicts with it if it has a head."""
    predictor = Predictor(vitral.load(path), device="cpu", batch_size=4)
    if predictor.card.classes:
        list(predictor.predict([Image.fromarray(picture) for picture in PICTURE[:1]]))


def models(folder: Path) -> Iterator[Target]:
    """Weights in every container, and the files beside them."""
    model = small_model(**SIZES)

    def read(content: bytes, path: Path) -> None:
        path.write_bytes(content)
        predict(path)

    def read_in(where: Path, content: bytes, _: Path) -> None:
        (where / "model.safetensors").write_bytes(content)
        predict(where)

    for lineage, suffix, form in (("google", "npz", "zip"), ("timm", "safetensors", "safetensors")):
        save_as(model, folder / f"whole.{suffix}", lineage)
        content = (folder / f"whole.{suffix}").read_bytes()
        reader = lambda content, folder, suffix=suffix: read(content, folder / f"x.{suffix}")  # noqa: E731
        yield Target(name=f"{lineage} {suffix}", content=content, form=form, read=reader)
    with np.load(folder / "whole.npz") as arrays:
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
    yield Target(name="npz compressed", content=packed.getvalue(), form=None, read=lambda c, f: read(c, f / "y.npz"))
    state = {name: tensor.clone() for name, tensor in vitral.load(folder / "whole.safetensors").state_dict().items()}
    hostile = {"model": state, "args": {"lr": 1.0, "epochs": [3]}, "code": Hostile()}
    for name, holds, zipped in (
        ("pt", state, True),
        ("pt before 1.6", state, False),
        ("pt of a training", {"model": state, "epoch": 3, "args": {"lr": 1.0}}, True),
        ("pt with code", hostile, True),
        ("pt with code before 1.6", hostile, False),
    ):
        stream = io.BytesIO()
        torch.save(holds, stream, _use_new_zipfile_serialization=zipped)
        form = "zip" if zipped else None
        yield Target(name=name, content=stream.getvalue(), form=form, read=lambda c, f: read(c, f / "x.pt"))
    yield Target(name="pickle", content=pickle.dumps(hostile, 2), form=None, read=lambda c, f: read(c, f / "x.pt"))
    # without its checksum, so that the damage reaches what is behind it
    save_model(folder / "own", model, model.card)
    config = json.loads((folder / "own" / "config.json").read_text())
    (folder / "own" / "config.json").write_text(json.dumps({**config, "checksum": None}))
    content = (folder / "own" / "model.safetensors").read_bytes()
    yield Target(name="own weights", content=content, form="safetensors", read=partial(read_in, folder / "own"))
    save_as(model, folder / "transformers", "transformers")
    content = (folder / "transformers" / "model.safetensors").read_bytes()
    yield Target(
        name="transformers", content=content, form="safetensors", read=partial(read_in, folder / "transformers")
    )


def configurations(folder: Path) -> Iterator[Target]:
    """The JSON beside weights, of a run, and of a checkpoint."""

    def read(path: Path, content: bytes, _: Path) -> None:
        path.write_bytes(content)
        predict(path.parent)

    for name, model in {
        "vit": small_model(**SIZES),
        "hybrid": with_card(create("R+ViT-Ti/16", image_size=32, num_classes=3, width=12, depth=1, num_heads=3)),
        "resnet": with_card(create("BiT-R50x1", image_size=32, num_classes=3, stages=(1, 1), root_width=32)),
    }.items():
        save_model(folder / name, model, model.card)
        path = folder / name / "config.json"
        yield Target(name=f"own {name}", content=path.read_bytes(), form="json", read=partial(read, path))
    model = small_model(**SIZES)
    for lineage in ("timm", "transformers"):
        save_as(model, folder / lineage, lineage)
        for path in sorted((folder / lineage).glob("*.json")):
            other = folder / f"{lineage}-{path.stem}"
            save_as(model, other, lineage)
            yield Target(
                name=f"{lineage} {path.name}",
                content=path.read_bytes(),
                form="json",
                read=partial(read, other / path.name),
            )
    run = folder / "run.json"
    save_config(run, replace(tiny_run(folder / "run"), recipe="tiny"))

    def read_run(content: bytes, folder: Path) -> None:
        (folder / "x.json").write_bytes(content)
        load_config(RunConfig, folder / "x.json")

    yield Target(name="run.json", content=run.read_bytes(), form="json", read=read_run)


def with_card(model: vitral.ViT) -> vitral.ViT:
    """A model with three classes."""
    preprocessing = Preprocessing(image_size=model.config.image_hw, channels=3)
    model.card = vitral.ModelCard(preprocessing=preprocessing, classes=("a", "b", "c"))
    return model.eval()


def tables(folder: Path) -> Iterator[Target]:
    """Label files, tars and IDX files, with the images that they name."""
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        Image.fromarray(PICTURE[0] + np.uint8(number)).save(folder / name)
    rows = [{"image": name, "label": "ab"[number % 2]} for number, name in enumerate(names)]

    def read(suffix: str, content: bytes, folder: Path) -> None:
        path = folder / f"labels.{suffix}"
        path.write_bytes(content)
        for source in open_data(DataConfig(source="csv", root=path, images=folder, val_fraction=0.3)).values():
            for index in range(min(len(source), 3)):
                read_image(source.stored(index), channels=3, name=source.name(index))

    csv = "image,label\n" + "".join(f"{row['image']},{row['label']}\n" for row in rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    plain = "".join(f"{row['image']} {row['label']}\n" for row in rows)
    coco = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": number, "name": name} for number, name in enumerate("ab")],
        "annotations": [{"id": number, "image_id": number, "category_id": number % 2} for number in range(len(names))],
    }
    for name, suffix, text, form in (
        ("csv", "csv", csv, "lines"),
        ("csv of UTF-16", "csv", csv.encode("utf-16"), None),
        ("jsonl", "jsonl", lines, "lines"),
        ("plain list", "txt", plain, "lines"),
        ("records", "json", json.dumps(rows), "json"),
        ("coco", "json", json.dumps(coco), "json"),
    ):
        content = text if isinstance(text, bytes) else text.encode()
        yield Target(name=name, content=content, form=form, read=partial(read, suffix))
    yield from tars(folder, names)


def tars(folder: Path, names: list[str]) -> Iterator[Target]:
    """A WebDataset of images and their classes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number, name in enumerate(names):
            label = f'{{"label": {number % 2}}}' if number else "0"
            for suffix, data in (
                (".png", (folder / name).read_bytes()),
                ((".json", ".cls")[not number], label.encode()),
            ):
                member = tarfile.TarInfo(f"{number}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    def read(content: bytes, folder: Path) -> None:
        (folder / "x.tar").write_bytes(content)
        for source in open_data(DataConfig(source="tars", root=folder / "x.tar", val_fraction=0.3)).values():
            for index in range(min(len(source), 3)):
                read_image(source.stored(index), channels=3, name=source.name(index))

    yield Target(name="tar", content=stream.getvalue(), form="tar", read=read)
    for kind, data in (("images", bytes(6 * 16)), ("labels", bytes(6))):
        shape = (6, 4, 4) if kind == "images" else (6,)
        idx = bytes((0, 0, 8, len(shape))) + b"".join(side.to_bytes(4) for side in shape) + data
        yield Target(name=f"idx {kind}", content=idx, form=None, read=partial(read_idx, kind))


def read_idx(kind: str, content: bytes, folder: Path) -> None:
    """Reads a file of images or labels."""
    from vitral.data.sources.idx import read_images, read_labels

    path = folder / "x-idx"
    path.write_bytes(content)
    (read_images if kind == "images" else read_labels)(path)
