"""A probe's head: standardised features, one dense layer at the end, nothing else learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny import ARCHITECTURE, tiny_run
from vitral.layers.probe import ProbeHead, add_probe, fold_probe
from vitral.objectives.mae import MAEConfig
from vitral.runs.run import Run
from vitral.train.fit import fit
from vitral.vit import ViT
from vitral.weights.folder import load_model


def head(inputs: int = 5, outputs: int = 3) -> ProbeHead:
    torch.manual_seed(0)
    return ProbeHead(torch.nn.Linear(inputs, outputs))


def features(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)) * 3 + 7


def test_features_are_normalised_as_by_batch_norm() -> None:
    """Outputs, running statistics and outputs in evaluation."""
    ours, theirs = head(), torch.nn.BatchNorm1d(5, affine=False, eps=1e-6, momentum=0.1)
    for seed in range(4):
        some = features(9, seed)
        torch.testing.assert_close(ours(some), ours.bias + theirs(some) @ ours.weight.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.norm.mean, theirs.running_mean)
    torch.testing.assert_close(ours.norm.var, theirs.running_var)
    some = features(9, 5)
    torch.testing.assert_close(ours.eval()(some), ours.bias + theirs.eval()(some) @ ours.weight.T, rtol=1e-4, atol=1e-5)


def test_one_layer_tells_the_same_in_the_end() -> None:
    probe = head()
    for seed in range(20):
        probe(features(9, seed))
    folded = probe.eval().folded()
    assert type(folded) is torch.nn.Linear
    torch.testing.assert_close(folded(features(9)), probe(features(9)), rtol=1e-4, atol=1e-4)


def test_only_the_head_learns_and_becomes_plain_again() -> None:
    model = ViT(ARCHITECTURE)
    names = set(model.state_dict())
    add_probe(model)
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["head.weight", "head.bias"]
    fold_probe(model)
    assert set(model.state_dict()) == names
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("changes", [{"distillation": True}, {"head_bias": None}])
def test_heads_that_cannot_be_folded_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"one head with a bias: set --model\.head-bias 0, and"):
        add_probe(ViT(replace(ARCHITECTURE, **changes)))


def test_a_run_probes_a_trained_model_and_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    first = tiny_run(tmp_path / "first", steps=60, ema=None)
    fitted(first)
    config = tiny_run(tmp_path / "probe", optimiser="sgd", ema=None, steps=60)
    config = replace(config, model=replace(config.model, weights=tmp_path / "first", probe=True))
    figures = fitted(config)
    before, after = (load_model(path) for path in (first.out, config.out))
    assert torch.equal(before.state_dict()["blocks.1.mlp.fc2.weight"], after.state_dict()["blocks.1.mlp.fc2.weight"])
    assert not torch.equal(before.head.weight, after.head.weight)
    assert figures["test/top1"] > 0.2, "chance is 0.1"
    assert after.card.metrics == figures


def fitted(config) -> dict[str, float]:
    run = Run.create(config.out, recipe=config.recipe)
    figures = fit(run, config)
    run.close()
    return figures


def test_what_a_probe_cannot_be_is_refused() -> None:
    config = tiny_run(ema=None)
    model = replace(config.model, probe=True)
    for changes in ({"train": replace(config.train, ema=0.9)}, {"model": replace(model, lora_rank=2)}):
        with pytest.raises(ValueError, match="a linear probe allows no LoRA adapters and no EMA"):
            replace(config, **{"model": model, **changes})
    with pytest.raises(ValueError, match="a linear probe learns classes"):
        replace(config, model=model, objective=MAEConfig())
