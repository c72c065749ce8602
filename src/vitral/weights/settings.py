"""What a training checkpoint states about its model beside the tensors: arguments of a script, hyperparameters."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vitral.errors import UserError
from vitral.weights.lineages.timm_models import timm_models
from vitral.weights.lineages.timm_preprocessing import timm_preprocessing
from vitral.weights.settings_keys import unknown_settings

__all__ = ["Settings", "read_settings"]

SECTIONS = (
    *("args", "arguments", "opt", "config", "cfg", "hparams", "hyper_parameters", "hyperparameters", "params"),
    *("model", "model_args", "model_cfg", "model_config", "model_kwargs", "vision_cfg", "vision_config", "kwargs"),
    "backbone",
    "encoder",
)
"""Keys of the settings in a checkpoint, and of the sections in them that describe the model."""
MAX_DEPTH, MAX_NAMED = 4, 5
NAMES = ("arch", "architecture", "model", "model_name", "name", "backbone", "encoder", "timm_model")
"""Keys of the name of timm's architecture."""
ACTIVATIONS = ("hidden_act", "act_layer", "activation", "act", "activation_fn", "activation_function", "act_fn")
QUICK = ("quick_gelu", "force_quick_gelu", "use_quick_gelu")
EPSILONS = ("layer_norm_eps", "layernorm_eps", "norm_eps", "ln_eps")
HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads")
POOLS = ("global_pool", "gp")
UNCLEAR = ("pool", "pooling", "pool_type", "pooling_type", "mean_pooling", "use_mean_pooling", "qk_scale", "eps")
"""Keys that may be of the encoder and change what it computes, or of something else."""
UNDERSTOOD = frozenset((*SECTIONS, *NAMES, *ACTIVATIONS, *QUICK, *EPSILONS, *HEADS, *POOLS, *UNCLEAR))
"""Keys that are read, or named in a note of their own."""
USUAL = (None, False, "", "token", "cls", "cls_token")
"""Values of those keys that change nothing."""
FORMS = {
    **dict.fromkeys(("gelu", "gelu_python", "gelu_erf"), "erf"),
    **dict.fromkeys(("gelu_tanh", "gelutanh", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"), "tanh"),
    **dict.fromkeys(("quick_gelu", "quickgelu", "gelu_quick"), "quick"),
    **{name: name for name in ("relu", "silu", "swish", "mish", "elu", "leaky_relu", "tanh", "hardswish", "relu6")},
}
"""Activations by name; another word under such a key means something else."""
COMPUTED = ("erf", "tanh", "quick")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Facts about a model, each with its place in the file."""

    numerics: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    """By field of the architecture (`gelu`, `norm_eps`, `num_heads`): the stated values, and where each stands."""
    timm: Mapping[str, Any] = field(default_factory=dict)
    """timm's architecture, arguments and preprocessing, as in timm's `config.json`; empty without a name of timm's."""
    timm_note: str = ""
    """Where the name was found, if not by timm's own training script."""
    pool: str | None = None
    """timm's `global_pool`."""
    unclear: tuple[str, ...] = ()
    """Settings of keys in `UNCLEAR`, with their places."""
    unknown: tuple[str, ...] = ()
    """Places of settings that Vitral does not know, and that may be of the encoder."""

    def num_heads(self, width: int) -> tuple[int | None, list[str]]:
        """Number of attention heads, if the settings agree on one that fits the width, and a note on it."""
        values = self.numerics.get("num_heads", {})
        if len(values) != 1 or width % (heads := next(iter(values))):
            return None, []
        return heads, [f"num_heads is {heads}, as its settings state: {values[heads]}"]

    def overrides(self, *, given: Collection[str], gated: bool) -> tuple[dict[str, Any], list[str]]:
        """Fields of the architecture that the settings change, without the number of heads, and a note on each.

        Args:
            given: fields that the user gives, which count more.
            gated: whether the MLPs are gated: they have no GELU.

        Raises:
            UserError: the settings name an activation that Vitral does not compute, or several.
        """
        fields = {}
        notes = [f"its settings state {', '.join(self.unclear)}, which Vitral does not use"] if self.unclear else []
        if self.unknown:
            more = f" and {len(self.unknown) - MAX_NAMED} more" if len(self.unknown) > MAX_NAMED else ""
            named = ", ".join(self.unknown[:MAX_NAMED]) + more
            notes.append(f"ignored, because Vitral does not know these settings beside its tensors: {named}")
        for name, values in self.numerics.items():
            if name in given or name == "num_heads" or (name == "gelu" and gated):
                continue
            places = " and ".join(values.values())
            if name == "gelu" and (len(values) > 1 or not set(values) <= set(COMPUTED)):
                reason = "which contradict each other" if len(values) > 1 else "which Vitral does not compute"
                raise UserError(
                    f"its settings state {places}, {reason}: --gelu (in Python gelu=) sets one of {', '.join(COMPUTED)}"
                )
            if len(values) > 1:
                notes.append(f"its settings contradict each other, so they were not used: {places}")
                continue
            fields[name] = next(iter(values))
            notes.append(f"{name} is {fields[name]}, as its settings state: {places}")
        return fields, notes


def read_settings(content: Any) -> Settings:
    """The facts in the settings beside a state dict, in the content of a PyTorch file."""
    numerics: dict[str, dict[Any, str]] = {}
    names, args, images = dict[str, str](), dict[str, Any](), dict[str, Any]()
    unclear, unknown = list[str](), list[str]()
    for place, section in [("", content if isinstance(content, dict) else {}), *_sections(content)]:
        for key, value in section.items():
            where = f"{place}.{key}".removeprefix(".")
            name, read = _numeric(key, value)
            if name is not None:
                numerics.setdefault(name, {}).setdefault(read, f"{where} {value}")
            if key in NAMES and isinstance(value, str) and value.partition(".")[0] in timm_models():
                names.setdefault(value, where)
            if key in POOLS and isinstance(value, str):
                args.setdefault("global_pool", value)
            if place and key in UNCLEAR and isinstance(value, str | float | bool | None) and value not in USUAL:
                unclear.append(f"{where} {value}")
        unknown += unknown_settings(place, section, understood=UNDERSTOOD) if place else []
        images = {**_images(section), **images}
        if isinstance(kwargs := section.get("model_kwargs"), dict):
            args = {**args, **kwargs}
    timm, note = {}, ""
    if len(names) == 1:
        (name, where), *_ = names.items()
        timm = {"architecture": name, "model_args": args}
        unknown = [each for each in unknown if "model_kwargs." not in each]  # they are among the arguments
        if "arch" in content and "args" in content:  # timm's own script prepares images as this
            timm["pretrained_cfg"] = {**(timm_preprocessing(name) or {}), **images}
        else:
            note = f"read as timm's {name}, as {where} states, with the preprocessing of that model"
    return Settings(
        numerics=numerics,
        timm=timm,
        timm_note=note,
        pool=args.get("global_pool"),
        unclear=tuple(unclear),
        unknown=tuple(unknown),
    )


def _numeric(key: Any, value: Any) -> tuple[str | None, Any]:
    """The field of the architecture that a setting means, and its value; None if it is another setting."""
    if key in QUICK and value is True:
        return "gelu", "quick"
    if key in ACTIVATIONS and isinstance(value, str) and (form := FORMS.get(_last_part(value))):
        return "gelu", form
    if key in EPSILONS and isinstance(value, float) and 0 < value < 1:
        return "norm_eps", value
    if key in HEADS and isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return "num_heads", value
    return None, None


def _last_part(name: str) -> str:
    """`gelu` of `torch.nn.GELU` or `<class 'torch.nn.modules.activation.GELU'>`."""
    return name.lower().rstrip("'>").rpartition(".")[2]


def _images(section: Mapping[Any, Any]) -> dict[str, Any]:
    """The arguments of timm's scripts that change how images are prepared; None and empty ones change nothing."""
    found = {}
    for key in ("mean", "std"):
        value = section.get(key)
        if isinstance(value, list | tuple) and value and all(isinstance(number, int | float) for number in value):
            found[key] = [float(number) for number in value]
    if isinstance(ratio := section.get("crop_pct"), int | float) and ratio > 0:
        found["crop_pct"] = float(ratio)
    for key in ("interpolation", "crop_mode"):
        if isinstance(value := section.get(key), str) and value:
            found[key] = value
    return found


def _sections(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The settings in a checkpoint and the sections in them, by their place."""
    for key, value in content.items() if isinstance(content, dict) else ():
        section = value if isinstance(value, dict) else getattr(value, "__dict__", None)
        if key in SECTIONS and section and depth < MAX_DEPTH:
            inner = f"{place}.{key}".removeprefix(".")
            yield inner, section
            yield from _sections(section, inner, depth + 1)
