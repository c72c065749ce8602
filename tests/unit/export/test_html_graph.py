"""The second output of a page's model."""

import pytest
import torch

from models import small_model
from vitral.errors import UserError
from vitral.export import html_file
from vitral.export.html_file import page_network, plan_page
from vitral.export.html_graph import WithRollout
from vitral.export.html_runtime import Runtime
from vitral.inspection.attention import attention_over_image, attention_weights, rollout
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

VARIANTS = {
    "class token": {},
    "mean": {"pool": "gap"},
    "attention pooling": {"pool": "map"},
    "registers, rotary": {"num_registers": 2, "position": "rope", "width": 24},
    "relative": {"position": "relative"},
    "distillation": {"distillation": True},
    "SwiGLU, LayerScale, QK-norm": {"mlp": "swiglu", "layer_scale": 0.1, "qk_norm": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_layer_has_its_rollout(name: str) -> None:
    model = small_model(depth=3, **VARIANTS[name])
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        logits, found = WithRollout(model)(images)
        assert torch.equal(logits, model(images))
    weights = attention_weights(model, images)
    for layer in range(3):
        expected = attention_over_image(
            rollout(weights[: layer + 1]), grid=model.config.grid, queries=model.pool_tokens
        )
        assert torch.allclose(found[:, layer], expected, atol=1e-6)


def test_models_that_a_page_cannot_show_are_refused() -> None:
    model = small_model()
    model.card = None
    with pytest.raises(UserError, match="no trained head"):
        page_network(model)
    with pytest.raises(UserError, match="each patch"):
        page_network(small_model(pool="none"))


def test_large_models_have_weights_in_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_file, "load_runtime", lambda folder: Runtime(module=b"", wasm=bytes(1000)))
    assert plan_page(small_model(), None, None)[0] == "float32"
    wide = ViTConfig(image_size=32, patch_size=16, width=768, depth=2, num_heads=12, mlp_dim=3072, num_classes=3)
    precision, size = plan_page(small_model(wide), None, None)
    assert precision == "int8"
    assert size == pytest.approx(4 / 3 * sum(weight.numel() for weight in ViT(wide).parameters()), rel=0.01)
    assert plan_page(small_model(wide), "float16", None)[1] == pytest.approx(2 * size, rel=0.01)
