"""Files and models that Vitral does not read: each is recognised and refused by its name."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["unsupported_file", "unsupported_model", "unsupported_tensors"]

MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights: run git lfs pull, or download the file itself"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file: convert it to .safetensors with the library that wrote it"),
    (b"GGUF", "a GGUF file: convert it to .safetensors with the library that wrote it"),
    (b"\x1f\x8b", "a gzip archive: unpack it, and name a file in it"),
    (b"BZh", "a bzip2 archive: unpack it, and name a file in it"),
    (b"\xfd7zXZ", "an xz archive: unpack it, and name a file in it"),
    (b"7z\xbc\xaf", "a 7-Zip archive: unpack it, and name a file in it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it, and name a file in it"),
    (b"\xff\xd8\xff", "a JPEG image, not the weights: name the model first, then images"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image, not the weights: name the model first, then images"),
    (b"\x93NUMPY", "a single NumPy array, without a name: supported are .npz archives"),
)
"""First bytes of other kinds of files."""
ONNX = re.compile(rb"\x08[\x01-\x20](\x12|:|\x1a|B)")
"""Version of the format, then the next field: producer, graph, producer's version or operators."""
PICKLE = re.compile(rb"\x80[\x02-\x05][^\x8a]")
MARKUP = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)

MODEL_TYPES = {
    "beit": "BEiT",
    "data2vec-vision": "data2vec",
    "sam": "SAM",
    "sam_vision_model": "SAM",
    "sam2": "SAM",
    "cait": "CaiT",
    "swin": "Swin",
    "swinv2": "Swin",
    "aimv2": "AIMv2",
    "aimv2_vision_model": "AIMv2",
    "internvl": "InternVL",
    "internvl_vision": "InternVL",
    "vitdet": "ViTDet",
    "hiera": "Hiera",
    "mvitv2": "MViTv2",
    "vivit": "ViViT",
    "timesformer": "TimeSformer",
    "videomae": "VideoMAE",
}
"""Names of models by transformers' `model_type`, or the start of timm's `architecture`."""
TENSOR_NAMES: tuple[tuple[str, str], ...] = (
    (r"(^|\.)data2vec_vision\.", "data2vec"),
    (r"(^|\.)layers\.\d+\.blocks\.\d+\.\S*(relative_position_bias_table|cpb_mlp)", "Swin"),
    (r"^features\.\d+\.\d+\.attn\.(relative_position_bias_table|cpb_mlp)", "Swin"),
    (r"\.attention\.projection_layer\.weight$|(^|\.)encoder\.layers\.\d+\.ls1$", "InternVL"),
    (r"(^|\.)beit\.|(^|\.)(attn|relative_position_bias|rel_pos_bias)\.relative_position_bias_table$", "BEiT"),
    (r"\.lambda_1$", "BEiT or data2vec"),
    (r"(^|\.)encoder\.layer\.\d+\.attention\.(rel_pos_h|qkv\.weight)$|(^|\.)simfp_\d", "ViTDet"),
    (r"(^|\.)stages\.\d+\.blocks\.\d+\.attn\.(rel_pos_h|pool_[qkv]\S*)$", "MViTv2"),
    (
        r"(^|\.)hiera\.|(^|\.)encoder\.stages\.\d+\.layers\.\d+\.attn\.qkv\.|(^|\.)blocks\.\d+\.proj\.weight$|(^|\.)pos_embed_window$",
        "Hiera",
    ),
    (r"\.attn\.rel_pos_h$", "SAM"),
    (r"(^|\.)blocks_token_only\.\d", "CaiT"),
    (r"(^|\.)preprocessor\.patchifier\.|\.rms_norm1\.weight$", "AIMv2"),
    (r"(^|\.)temporal_(attention|layernorm)\.|(^|\.)time_embeddings$", "TimeSformer"),
    (r"(^|\.)embeddings\.detection_tokens$", "YOLOS"),
    (r"(^|\.)layers\.\d+\.message_attn\.", "X-CLIP"),
    (r"(^|\.)pre_layernorm\.weight$", "OWL-ViT"),
)
"""Names of models by the names of their tensors; the first match counts."""
VIDEO = "ViViT or VideoMAE"
"""Models whose patches have a third axis."""
PARTS = {
    **dict.fromkeys(("BEiT", "data2vec", "BEiT or data2vec"), "relative position biases"),
    "SAM": "windows and positions by axis",
    "ViTDet": "windows and positions by axis",
    "CaiT": "talking-heads attention",
    "Swin": "shifted windows",
    "AIMv2": "RMSNorm",
    "Hiera": "stages and pooled attention",
    "MViTv2": "stages and pooled attention",
    **dict.fromkeys(("ViViT", "VideoMAE", VIDEO), "patches of several frames"),
    "TimeSformer": "attention over time",
    "YOLOS": "detection tokens",
    "X-CLIP": "attention over frames",
    "OWL-ViT": "merged class and patch tokens",
}
"""What Vitral lacks for each of these models."""
INSTEAD = {"InternVL": "load the same encoder from timm, such as hf-hub:timm/vit_intern300m_patch14_448.ogvl_dist"}
"""Where another project's file of a model is read."""
QUANTISED = (
    (r"\.(absmax|quant_map|SCB|quant_state\.\S+|weight_format)$", "bitsandbytes"),
    (r"\.(qweight|qzeros|g_idx)$", "GPTQ or AWQ"),
    (r"\.(_packed_params\.\S+|weight_scale|weight_zero_point|zero_point)$", "8-bit numbers"),
)
"""Names that only quantised layers have."""


def unsupported_file(start: bytes) -> str | None:
    """What a file is, if it is of a known kind without weights that Vitral reads: a part of a sentence.

    Args:
        start: the first bytes of the file, a hundred or more if it is longer.
    """
    for magic, kind in MAGICS:
        if start.startswith(magic):
            return kind
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it, and name a file in it"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite file: convert it to .safetensors with the library that wrote it"
    if ONNX.match(start):
        return "an ONNX file: export model.state_dict() to .safetensors instead"
    if MARKUP.match(start):
        return "a web page, not the weights: download the file itself"
    if PICKLE.match(start):
        return "a Python pickle, which could run code: save the tensors as .safetensors"
    if start and not re.search(rb"[^\t\n\r\x20-\x7e\x80-\xff]", start):
        return "a text file"
    return None


def unsupported_model(tensors: Mapping[str, Tensor], upstream_config: Mapping[str, Any]) -> str | None:
    """The kind of model that Vitral does not read, by its configuration or the names of its tensors, and what Vitral
    lacks for it: a part of a sentence.
    """
    stated = str(upstream_config.get("model_type") or upstream_config.get("architecture"))
    families = (
        family for start, family in MODEL_TYPES.items() if stated == start or re.match(rf"{start}(v2)?_", stated)
    )
    family = next(families, None) or _first(TENSOR_NAMES, tensors)
    if family is None and any(tensor.ndim == 5 and "patch_embed" in name for name, tensor in tensors.items()):
        family = VIDEO
    if family is None:
        return None
    reason = f"whose {PARTS[family]} Vitral does not compute" if family in PARTS else "which Vitral does not read"
    return f"{family}, {reason}" + (f": {INSTEAD[family]}" if family in INSTEAD else "")


def unsupported_tensors(tensors: Mapping[str, Tensor], upstream_config: Mapping[str, Any]) -> str | None:
    """Why the tensors of a file are not weights that can be read: a part of a sentence."""
    settings = upstream_config.get("quantization_config")
    scheme = settings.get("quant_method") if isinstance(settings, Mapping) else None
    scheme = scheme or ("an unknown method" if settings else _first(QUANTISED, tensors))
    if scheme is not None:
        return f"it is quantised with {scheme}: name the model that it was made from"
    for name, tensor in tensors.items():
        if tensor.is_quantized or tensor.dtype in (torch.int8, torch.uint8) or "float8" in str(tensor.dtype):
            if tensor.ndim > 1:
                return f"it is quantised: {name} has {_dtype(tensor)}; name the model that it was made from"
        elif tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex():
            kind = "no values" if tensor.is_meta else "complex numbers" if tensor.is_complex() else "a sparse layout"
            return f"{name} has {kind}: save dense tensors of real numbers"
    return None


def _first(patterns: Iterable[tuple[str, str]], names: Iterable[str]) -> str | None:
    names = list(names)
    return next((title for pattern, title in patterns if any(re.search(pattern, name) for name in names)), None)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
