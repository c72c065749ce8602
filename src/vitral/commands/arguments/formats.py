"""Names of the weight formats, which are listed in help without importing the code that reads and writes them."""

__all__ = ["EXPORTS", "FOLDER_FORMATS", "FORMATS"]

FORMATS = (
    *("vitral", "google", "google-linen", "big_vision"),
    *("facebook-dinov2", "facebook-dinov3", "mae", "moco-v3", "timm", "torchvision"),
    *("transformers", "dinov2", "dinov3", "siglip", "clip", "open_clip"),
)
"""Formats of `vitral convert`: Vitral's, and every entry of `vitral.weights`' registry."""

FOLDER_FORMATS = ("vitral", "timm", "transformers", "dinov2", "dinov3", "siglip", "clip")
"""Formats of `vitral push`: those whose settings are written beside the weights."""

EXPORTS = {"onnx": ".onnx", "torch": ".pt2"}
"""Backends of `vitral export`, and how their files end: every entry of `vitral.export`'s registry."""
