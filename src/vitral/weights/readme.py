"""`README.md` of a model on the Hub, written from its configuration, its card and its training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from vitral.data.images.preprocess import Preprocessing
from vitral.errors import shortened
from vitral.files import markdown_text
from vitral.models import blank_model
from vitral.vit_config import ViTConfig
from vitral.weights.address import HUB_PREFIX
from vitral.weights.folder import ModelConfig
from vitral.weights.upstream_config import CONFIG_FILES

__all__ = ["render_readme", "without_folder"]

MAX_LISTED_CLASSES = 40
"""Number of class names on the page; `config.json` has all of them."""
METRICS = {"top1": ("accuracy", "top-1 accuracy"), "top5": ("top-5-accuracy", "top-5 accuracy")}
"""For each metric: its type on the Hub, and its title."""
RECIPE = {
    "optimiser": "optim.name",
    "learning rate": "optim.lr",
    "weight decay": "optim.weight_decay",
    "schedule": "schedule.decay",
    "batch size": "train.batch_size",
    "EMA of the weights": "train.ema",
    "label smoothing": "objective.label_smoothing",
    "crop": "augment.crop",
}
"""Settings of the training run on the page, and their keys in `run.json`."""
IN_TIMM = 'model = timm.create_model("{source}", pretrained=True)'
IN_TRANSFORMERS = """model = transformers.AutoModelForImageClassification.from_pretrained("{source}")
processor = transformers.AutoImageProcessor.from_pretrained("{source}")"""
ENCODER = 'model = transformers.AutoModel.from_pretrained("{source}")'
LOADING = dict.fromkeys(CONFIG_FILES, ENCODER) | {"timm": IN_TIMM, "transformers": IN_TRANSFORMERS}
"""Code that loads a folder of each format in its own package."""
ANSWERS = {"class": "classes[0]", "multi-label": "classes", "regression": "value"}
"""Attribute of a `Prediction` that has the answer."""
PACKAGES = dict.fromkeys(CONFIG_FILES, "transformers") | {"timm": "timm"}


def render_readme(
    config: ModelConfig,
    *,
    name: str,
    macs: int,
    run: Mapping[str, Any],
    licence: str | None,
    format: str = "vitral",
    other_formats: Sequence[str] = (),
) -> str:
    """Renders the page, with the YAML header that the Hub reads.

    Args:
        config: architecture and card.
        name: OWNER/NAME on the Hub.
        macs: multiply-adds of one image's forward pass.
        run: content of `run.json`; empty if there is none.
        licence: identifier on the Hub, such as `apache-2.0`.
        format: format of the files in the repository.
        other_formats: other formats that can store the model.
    """
    card = config.card
    sections = {
        "Architecture": _architecture(config, macs),
        "Training": _training(card.provenance, run),
        "Metrics": _table(["metric", "value"], [[key, _metric_value(key, card.metrics[key])] for key in card.metrics]),
        "Preprocessing": _preprocessing(card.preprocessing),
        "Classes": _classes(card.classes) if card.classes else "",
        "Use": _use(name, format, other_formats, answer=ANSWERS[card.target] if card.classes else None),
        "Licence": f"`{licence}`" if licence else "",
    }
    parts = [f"---\n{_header(config, name, licence=licence, format=format).to_yaml()}\n---", f"# {name.split('/')[-1]}"]
    parts.append(_summary(config))
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def _header(config: ModelConfig, name: str, *, licence: str | None, format: str) -> ModelCardData:
    provenance = config.card.provenance
    data, results = _data(provenance), []
    for key, value in config.card.metrics.items():
        split, _, metric = key.rpartition("/")
        if data and metric in METRICS:
            metric_type, title = METRICS[metric]
            results.append(
                EvalResult(
                    task_type="image-classification",
                    dataset_type=data,
                    dataset_name=data,
                    dataset_split=split or None,
                    metric_type=metric_type,
                    metric_name=title,
                    metric_value=value,
                )
            )
    weights = str(provenance.get("weights", ""))
    base = weights.removeprefix(HUB_PREFIX).partition("@")[0] if weights.startswith(HUB_PREFIX) else None
    return ModelCardData(
        license=licence,
        library_name=PACKAGES.get(format, "vitral"),
        pipeline_tag="image-classification" if config.card.classes else "image-feature-extraction",
        tags=["vitral", "vision-transformer" if isinstance(config.architecture, ViTConfig) else "resnet"],
        base_model=base,
        model_name=name.split("/")[-1],
        eval_results=results or None,
    )


def _summary(config: ModelConfig) -> str:
    family = "Vision Transformer" if isinstance(config.architecture, ViTConfig) else "BiT ResNet"
    height, width = config.architecture.image_hw
    data = _data(config.card.provenance)
    source = f", trained on {markdown_text(data)}" if data else ""
    if not config.card.classes:
        return f"A {family} that turns images of {height}x{width} pixels into features{source}. It has no trained head."
    classes, images = config.card.classes, f"images of {height}x{width} pixels"
    if config.card.target == "regression":
        return f"A {family} that predicts a number, {markdown_text(classes[0])}, from {images}{source}."
    if config.card.target == "multi-label":
        return f"A {family} that gives {images} any of {len(classes)} labels{source}."
    return f"A {family} that classifies {images} into {len(classes)} classes{source}."


def _architecture(config: ModelConfig, macs: int) -> str:
    model, architecture = blank_model(config.architecture), config.architecture
    rows = [
        ["parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}"],
        ["multiply-adds per image", f"{macs:,}"],
        ["input", f"{architecture.channels} x {architecture.image_hw[0]} x {architecture.image_hw[1]}"],
    ]
    if isinstance(architecture, ViTConfig):
        gh, gw = architecture.grid
        names = ("width", "depth", "num_heads", "mlp_dim", "mlp", "gelu", "pool", "position", "num_registers")
        rows.append(["patches", f"{gh} x {gw} of {architecture.patch_hw[0]}x{architecture.patch_hw[1]} pixels"])
    else:
        names = ("stages", "root_width", "width_factor")
    return _table(["part", "size"], rows + [[name, f"{getattr(architecture, name)}"] for name in names])


def _training(provenance: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    rows = [[key, without_folder(str(value))] for key, value in provenance.items()]
    for title, key in RECIPE.items():
        group, field = key.split(".")
        if (value := (run.get(group) or {}).get(field)) is not None:
            rows.append([title, str(value)])
    recipe = run.get("recipe") or provenance.get("recipe")
    recipe = " ".join(str(recipe or "").replace("`", "").split())  # or it could end the block of code
    command = f"\n\nThe run started from this recipe:\n\n```console\n$ vitral train {recipe}\n```" if recipe else ""
    return _table(["setting", "value"], rows) + command


def _preprocessing(preprocessing: Preprocessing) -> str:
    height, width = preprocessing.image_size
    steps = [f"Convert the image to {'grey' if preprocessing.channels == 1 else 'RGB'}."]
    if preprocessing.bands:
        steps = [f"Read the {preprocessing.channels} channels of a TIFF or NumPy file, without changing their values."]
    if preprocessing.resize == "squash":
        steps.append(f"Resize the whole image to {height}x{width} pixels ({preprocessing.interpolation}).")
    elif preprocessing.keeps_aspect:
        p, q = preprocessing.patch_hw
        steps.append(
            f"Resize the whole image ({preprocessing.interpolation}), keeping its aspect ratio, to the largest size "
            f"with at most {preprocessing.num_patches} patches of {p}x{q} pixels, as NaFlex does. The model takes each "
            "patch with its row and column."
        )
    else:
        size = "x".join(map(str, preprocessing.resized_hw))
        resized = "whole image to" if preprocessing.resize == "squash_crop" else "image until it covers"
        steps.append(f"Resize the {resized} {size} pixels ({preprocessing.interpolation}).")
        steps.append(f"Crop the central {height}x{width} pixels.")
    mean, std = _numbers(preprocessing.mean), _numbers(preprocessing.std)
    scale = "Subtract" if preprocessing.bands else "Scale the values to the range 0 to 1, subtract"
    steps.append(f"{scale} {mean} and divide by {std}.")
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def _classes(classes: tuple[str, ...]) -> str:
    hidden = max(len(classes) - MAX_LISTED_CLASSES, 0)
    more = f" and {hidden:,} more, all in `config.json`" if hidden else ""
    return ", ".join(markdown_text(shortened(name)) for name in classes[:MAX_LISTED_CLASSES]) + more + "."


def _use(name: str, format: str, other_formats: Sequence[str], *, answer: str | None) -> str:
    model_id = f"{HUB_PREFIX}{name}"
    predict = f'predictor = vitral.Predictor("{model_id}")\nprint(predictor("photo.jpg").{answer})'
    load = f'model = vitral.load("{model_id}")  # model.features(images).pooled'
    parts = [_python(f"import vitral\n\n{predict if answer else load}")]
    if format in LOADING:
        repository = model_id if format == "timm" else name
        loading = _loading(format, classifier=answer is not None)
        parts.append(_python(f"import {PACKAGES[format]}\n\n{loading.format(source=repository)}"))
    for other in other_formats:
        folder = f"local-dir:{other}-model" if other == "timm" else f"{other}-model"
        parts.append(
            f"To use it in {PACKAGES[other]}, first run `vitral convert {model_id} {other}-model --to {other}`:\n\n"
            + _python(
                f"import {PACKAGES[other]}\n\n{_loading(other, classifier=answer is not None).format(source=folder)}"
            )
        )
    return "\n\n".join(parts)


def _loading(format: str, *, classifier: bool) -> str:
    """Code that loads a folder; without a head, transformers' is an encoder."""
    return LOADING[format] if classifier or format != "transformers" else ENCODER


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _table(head: list[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *([markdown_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _metric_value(key: str, value: float) -> str:
    return f"{value:.4f}" if key.endswith(("loss", "r2", "mae", "rmse")) else f"{value:.2%}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _data(provenance: Mapping[str, Any]) -> str:
    return without_folder(str(provenance.get("data", "")))


def without_folder(value: str) -> str:
    """Last part of a path, so that the page shows no folders of a private disk."""
    return value if value.startswith(HUB_PREFIX) else Path(value).name
