"""The page that people see of a model on the Hub: `README.md`, written from what the model says of itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from vitral.data.images.preprocess import Preprocessing
from vitral.models import blank_model
from vitral.vit_config import ViTConfig
from vitral.weights.folder import ModelConfig
from vitral.weights.hub import HUB
from vitral.weights.settings import SETTINGS

__all__ = ["model_page"]

SHOWN = 40
"""Classes that are named; `config.json` has them all."""
METRICS = {"top1": ("accuracy", "top-1 accuracy"), "top5": ("top-5-accuracy", "top-5 accuracy")}
"""What the Hub calls a figure, and what people do."""
RECIPE = {
    "optimiser": "optim.name",
    "learning rate": "optim.lr",
    "weight decay": "optim.weight_decay",
    "schedule": "schedule.decay",
    "batch size": "train.batch_size",
    "running average of the weights": "train.ema",
    "label smoothing": "objective.label_smoothing",
    "crop": "augment.crop",
}
"""The settings of a run that a reader asks for first, and where `run.json` has them."""
IN_TIMM = 'model = timm.create_model("{place}", pretrained=True)'
IN_TRANSFORMERS = """model = transformers.AutoModelForImageClassification.from_pretrained("{place}")
processor = transformers.AutoImageProcessor.from_pretrained("{place}")"""
ENCODER = 'model = transformers.AutoModel.from_pretrained("{place}")'
LOADING = dict.fromkeys(SETTINGS, ENCODER) | {"timm": IN_TIMM, "transformers": IN_TRANSFORMERS}
"""How the formats' owners load a folder."""
PACKAGES = dict.fromkeys(SETTINGS, "transformers") | {"timm": "timm"}


def model_page(
    config: ModelConfig,
    *,
    name: str,
    macs: int,
    run: Mapping[str, Any],
    licence: str | None,
    form: str = "vitral",
    others: Sequence[str] = (),
) -> str:
    """The page, with the header in YAML that the Hub reads.

    Args:
        config: architecture and card.
        name: OWNER/NAME on the Hub.
        macs: multiplications and additions of one image's forward pass.
        run: the record of the training run; empty where there is none.
        licence: as the Hub names it, such as `apache-2.0`.
        form: the format in the repository.
        others: formats besides that can hold the model.
    """
    card = config.card
    sections = {
        "Architecture": _architecture(config, macs),
        "Training": _training(card.provenance, run),
        "Metrics": _table(["measure", "value"], [[key, _figure(key, card.metrics[key])] for key in card.metrics]),
        "Preprocessing": _preprocessing(card.preprocessing),
        "Classes": _classes(card.classes),
        "Use": _use(name, form, others),
        "Licence": f"`{licence}`" if licence else "",
    }
    parts = [f"---\n{_header(config, name, licence=licence, form=form).to_yaml()}\n---", f"# {name.split('/')[-1]}"]
    parts.append(_sentence(config))
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def _header(config: ModelConfig, name: str, *, licence: str | None, form: str) -> ModelCardData:
    provenance = config.card.provenance
    data, results = _data(provenance), []
    for key, value in config.card.metrics.items():
        split, _, measure = key.rpartition("/")
        if data and measure in METRICS:
            kind, title = METRICS[measure]
            results.append(
                EvalResult(
                    task_type="image-classification",
                    dataset_type=data,
                    dataset_name=data,
                    dataset_split=split or None,
                    metric_type=kind,
                    metric_name=title,
                    metric_value=value,
                )
            )
    weights = str(provenance.get("weights", ""))
    base = weights.removeprefix(HUB).partition("@")[0] if weights.startswith(HUB) else None
    return ModelCardData(
        license=licence,
        library_name=PACKAGES.get(form, "vitral"),
        pipeline_tag="image-classification",
        tags=["vitral", "vision-transformer" if isinstance(config.architecture, ViTConfig) else "resnet"],
        base_model=base,
        model_name=name.split("/")[-1],
        eval_results=results or None,
    )


def _sentence(config: ModelConfig) -> str:
    kind = "Vision Transformer" if isinstance(config.architecture, ViTConfig) else "BiT ResNet"
    height, width = config.architecture.image_hw
    data = _data(config.card.provenance)
    source = f", trained on {data}" if data else ""
    return f"A {kind} that tells {len(config.card.classes)} classes apart in images of {height}x{width} pixels{source}."


def _architecture(config: ModelConfig, macs: int) -> str:
    model, built = blank_model(config.architecture), config.architecture
    rows = [
        ["parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}"],
        ["multiply-adds of an image", f"{macs:,}"],
        ["input", f"{built.channels} x {built.image_hw[0]} x {built.image_hw[1]}"],
    ]
    if isinstance(built, ViTConfig):
        gh, gw = built.grid
        names = ("width", "depth", "num_heads", "mlp_dim", "mlp", "gelu", "pool", "position", "num_registers")
        rows.append(["patches", f"{gh} x {gw} of {built.patch_hw[0]}x{built.patch_hw[1]} pixels"])
    else:
        names = ("stages", "root_width", "width_factor")
    return _table(["part", "size"], rows + [[f"`{name}`", f"{getattr(built, name)}"] for name in names])


def _training(provenance: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    rows = [[key, _public(str(value))] for key, value in provenance.items()]
    for title, place in RECIPE.items():
        group, field = place.split(".")
        if (value := (run.get(group) or {}).get(field)) is not None:
            rows.append([title, str(value)])
    recipe = run.get("recipe") or provenance.get("recipe")
    command = f"\n\n```console\n$ vitral train {recipe}\n```\n\nis the recipe it began with." if recipe else ""
    return _table(["what", "value"], rows) + command


def _preprocessing(seen: Preprocessing) -> str:
    height, width = seen.image_size
    colour = "grey" if seen.channels == 1 else "colour"
    whole = f"the whole image is resized to {height}x{width}"
    centre = f"the centre of {height}x{width} is cut out of the image resized to 1/{seen.crop_ratio:g} of that"
    return (
        f"As {colour}, {whole if seen.resize == 'squash' else centre} ({seen.interpolation}); "
        f"values of 0 to 1 have {_numbers(seen.mean)} subtracted and are divided by {_numbers(seen.std)}."
    )


def _classes(classes: tuple[str, ...]) -> str:
    more = f" and {len(classes) - SHOWN:,} more, all in `config.json`" if len(classes) > SHOWN else ""
    return ", ".join(_plain(name) for name in classes[:SHOWN]) + more + "."


def _use(name: str, form: str, others: Sequence[str]) -> str:
    place = f"{HUB}{name}"
    parts = [
        _python(f'import vitral\n\npredictor = vitral.Predictor("{place}")\nprint(predictor("photo.jpg").classes[0])')
    ]
    if form in LOADING:
        there = place if form == "timm" else name
        parts.append(_python(f"import {PACKAGES[form]}\n\n{LOADING[form].format(place=there)}"))
    for other in others:
        folder = f"local-dir:{other}-model" if other == "timm" else f"{other}-model"
        parts.append(
            f"In {PACKAGES[other]}, after `vitral convert {place} {other}-model --to {other}`:\n\n"
            + _python(f"import {PACKAGES[other]}\n\n{LOADING[other].format(place=folder)}")
        )
    return "\n\n".join(parts)


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _table(head: list[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """`text` as a cell of a table: on one line, without the sign that would end it."""
    return " ".join(text.split()).replace("|", "\\|")


def _figure(key: str, value: float) -> str:
    return f"{value:.4f}" if key.endswith("loss") else f"{value:.2%}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _data(provenance: Mapping[str, Any]) -> str:
    return _public(str(provenance.get("data", "")))


def _public(value: str) -> str:
    """A path by its last name alone: where things lay on somebody's disk is nobody's business."""
    return value if value.startswith(HUB) else Path(value).name
