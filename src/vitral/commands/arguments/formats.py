"""Names of the weight formats, which are listed in help without importing the code that reads and writes them."""

from vitral.errors import UserError, unknown_name

__all__ = ["EXPORTED_BESIDE", "EXPORTS", "FOLDER_FORMATS", "FORMATS", "check_format"]

FORMATS = (
    *("vitral", "google", "google-linen", "big_vision"),
    *("facebook-dinov2", "facebook-dinov3", "mae", "moco-v3", "timm", "torchvision"),
    *("transformers", "dinov2", "dinov3", "siglip", "clip", "open_clip"),
)
"""Formats of `vitral convert`: Vitral's, and every entry of `vitral.weights`' registry."""

FOLDER_FORMATS = ("vitral", "timm", "transformers", "dinov2", "dinov3", "siglip", "clip")
"""Formats of `vitral push`: those whose settings are written beside the weights."""

EXPORTS = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml", "html": ".html"}
"""Backends of `vitral export`, and how their files end: every entry of `vitral.export`'s registry."""

EXPORTED_BESIDE = {"openvino": (".bin",)}
"""Endings of the files that a backend writes beside the first."""

OTHER_NAMES = {
    **dict.fromkeys(("hf", "huggingface", "hugging-face", "transformer"), "transformers"),
    **dict.fromkeys(("jax", "flax", "npz", "vit_jax"), "google"),
    **dict.fromkeys(("pytorch", "torch", "safetensors", "pth"), "timm"),
    **dict.fromkeys(("openclip", "open-clip"), "open_clip"),
    **dict.fromkeys(("big-vision", "bigvision"), "big_vision"),
    "torch-vision": "torchvision",
    "openai": "clip",
}
"""Names that people give formats."""


def check_format(name: str, formats: tuple[str, ...]) -> None:
    """Raises UserError for a name that is not among the formats, with the one that is probably meant."""
    if name in formats:
        return
    if (meant := OTHER_NAMES.get(name.lower())) in formats:
        raise UserError(f"unknown format {name!r} (did you mean {meant}?): choose one of {', '.join(formats)}")
    raise unknown_name("format", name, formats)
