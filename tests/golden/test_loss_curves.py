"""Short training runs keep their losses: a change that should change nothing leaves them bit-identical.

On the platform that the curves were written on, they must be equal to the last bit; on any other, where sums come
in another order, to one part in ten thousand. After a change that is meant to move them, write them anew and say
why in the commit:

    VITRAL_WRITE_GOLDEN=1 pytest tests/golden
"""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import ARCHITECTURE, tiny_run
from vitral.card import ModelCard
from vitral.data.order import uniform
from vitral.files import write_json
from vitral.models import build
from vitral.runs.metrics import read_metrics
from vitral.runs.run import Run
from vitral.train.fit import fit
from vitral.weights.folder import save_model

CURVES = Path(__file__).with_name("loss_curves.json")
DRAWN = Path(__file__).with_name("drawn_weights.json")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums come in an order that depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def this_platform() -> str:
    """What the last bits depend on: processor, instructions that PyTorch uses, and its version."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__.partition('+')[0]}"


def arithmetic_weights(folder: Path) -> Path:
    """Weights to begin with that no generator draws, as versions of PyTorch draw truncated normal numbers otherwise."""
    preprocessing = tiny_run().resolved(num_classes=10).preprocessing
    model = build(ARCHITECTURE)
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            drawn = uniform(number, np.arange(weight.numel())).reshape(weight.shape)
            if weight.ndim > 1:
                weight.copy_(torch.from_numpy((2 * drawn - 1) * (3 / weight[0].numel()) ** 0.5))
    card = ModelCard(preprocessing=preprocessing, classes=tuple("0123456789"))
    save_model(folder, model, card)
    return folder


def losses(folder: Path, optimiser: str) -> list[float]:
    """Twelve training losses and the final test loss."""
    config = tiny_run(folder, optimiser=optimiser)
    weights = arithmetic_weights(folder.with_name("weights"))
    config = replace(config, model=replace(config.model, weights=weights))
    run = Run.create(config.out, recipe=config.recipe)
    fit(run, config)
    run.close()
    records = read_metrics(run.metrics_path)
    return [record["train/loss"] for record in records if "train/loss" in record] + [records[-1]["test/loss"]]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "muon"])
def test_losses_stay(tmp_path, optimiser):
    found = losses(tmp_path / "run", optimiser)
    saved = json.loads(CURVES.read_text()) if CURVES.exists() else {"platform": "", "losses": {}}
    if os.environ.get("VITRAL_WRITE_GOLDEN"):
        write_json(CURVES, {"platform": this_platform(), "losses": saved["losses"] | {optimiser: found}})
        return
    expected = saved["losses"][optimiser]
    assert len(found) == 13
    if saved["platform"] == this_platform():
        assert found == expected
    else:
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_seed_draws_the_same_weights():
    """The sums of all weights by name, for each way in which versions of PyTorch draw truncated normal numbers."""
    torch.manual_seed(0)
    way = f"{torch.nn.init.trunc_normal_(torch.empty(20)).sum().item():.3f}"
    torch.manual_seed(5)
    found = {name: weight.double().sum().item() for name, weight in build(ARCHITECTURE).named_parameters()}
    saved = json.loads(DRAWN.read_text()) if DRAWN.exists() else {}
    if os.environ.get("VITRAL_WRITE_GOLDEN"):
        write_json(DRAWN, saved | {way: found})
        return
    assert found == pytest.approx(saved[way], rel=1e-5, abs=1e-6)
