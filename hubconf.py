"""Entry points of `torch.hub.load`: models by name, and trained models from any source."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitral.models import Model

dependencies = ["einops", "huggingface_hub", "jaxtyping", "numpy", "PIL", "pydantic", "safetensors", "torch"]

sys.path.insert(0, str(Path(__file__).parent / "src"))  # torch.hub downloads the repository, and installs nothing


def create(name: str, **overrides: Any) -> "Model":
    """A new model with initial weights, such as `torch.hub.load(REPO, "create", "ViT-B/16", num_classes=10)`."""
    import vitral

    return vitral.create(name, **overrides)


def pretrained(source: str, **options: Any) -> "Model":
    """A trained model: a path or `hf-hub:OWNER/NAME`, with the options of `vitral.load`."""
    import vitral

    return vitral.load(source, **options)
