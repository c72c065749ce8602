"""Published checkpoints by name: the table against timm's registry, and loading through a local Hub."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import close_session
from safetensors.torch import save
from timm.models import get_pretrained_cfg

import vitral
from hub import Hub, serving
from vitral.cli import main
from vitral.errors import UserError
from vitral.models import architecture
from vitral.runs.assessment import load_assessment
from vitral.weights.address import to_address
from vitral.weights.pretrained import Pretrained, find_pretrained, list_pretrained


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    close_session()
    with serving(tmp_path / "cache", monkeypatch) as hub:
        yield hub
    close_session()


def publish(hub: Hub, entry: Pretrained, *, num_classes: int, **sizes: int) -> torch.nn.Module:
    """Puts a model of timm with random weights where the checkpoint is, as timm stores it."""
    name, _, tag = entry.hub_id.removeprefix("timm/").partition(".")
    model = timm.create_model(name, num_classes=num_classes, **sizes).eval()
    torch.nn.init.normal_(model.get_classifier().weight, std=0.1)
    config = {"architecture": name, "num_classes": num_classes, "pretrained_cfg": {"tag": tag}}
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": save(model.state_dict())}
    hub.repos[entry.hub_id] = {"main": files}
    return model


def test_every_checkpoint_is_in_timms_registry() -> None:
    assert len(list_pretrained()) > 100
    for name, entry in list_pretrained().items():
        config = get_pretrained_cfg(entry.hub_id.removeprefix("timm/"))
        assert config is not None, name
        stated = (config.hf_hub_id, config.license, config.input_size, config.num_classes)
        size = entry.image_size
        assert stated == (entry.hub_id, entry.licence, (3, size, size), entry.num_classes), name


def test_names_are_those_of_vitrals_models() -> None:
    for name, entry in list_pretrained().items():
        config = architecture(name.partition("@")[0])
        width = re.search(r"_(tiny|small|medium|base|large|so400m|huge|giant)_", entry.hub_id)
        assert width is not None
        assert getattr(config, "width", 0) > 0, name
        assert entry.top1 is None or 70 < entry.top1 < 90, name
        assert (entry.top1 is None) == (entry.num_classes != 1000), name


@pytest.mark.parametrize("name", ["ViT-Ti/16@augreg-in21k", "R26+ViT-S/32@augreg-in21k-ft-in1k", "ViT-S/14@dinov2"])
def test_parameters_are_counted(name: str) -> None:
    entry = list_pretrained()[name]
    with torch.device("meta"):
        model = timm.create_model(entry.hub_id.removeprefix("timm/").partition(".")[0], num_classes=entry.num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters
    assert entry.num_bytes == 4 * entry.parameters


def test_a_checkpoint_is_loaded_by_its_name(hub: Hub) -> None:
    entry = list_pretrained()["ViT-Ti/16@augreg-in21k-ft-in1k"]
    theirs = publish(hub, entry, num_classes=1000)
    ours = vitral.load(entry.name)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-4)


def test_fine_tuning_without_weights_takes_a_checkpoint(
    hub: Hub, tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = list_pretrained()["ViT-S/16@augreg-in21k"]
    publish(hub, entry, num_classes=7, depth=1)
    short = ("--train.steps", "1", "--train.batch-size", "2", "--data.workers", "0", "--train.track", "none")
    main(["train", "finetune", "--data.root", str(photographs), "--out", str(tmp_path / "run"), *short])
    assert f"fine-tuning {entry.name}" in capsys.readouterr().err
    setup = json.loads((tmp_path / "run" / "run.json").read_text())["model"]
    assert setup["weights"] == entry.address
    assert setup["architecture"]["width"] == 384
    # it is in the cache now, so the run is compared with its linear probe
    found = load_assessment(tmp_path / "run")
    assert found is not None
    assert found.baselines.linear_probe is not None
    assert found.baselines.linear_probe.model == entry.name


def test_without_a_network_fine_tuning_names_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        main(["train", "finetune", "--data.root", "photos"])
    message = capsys.readouterr().err.splitlines()[-1]
    for way in ("hf download timm/vit_small_patch16_224.augreg_in21k", "--model.weights", "vitral train folder"):
        assert way in message


def test_an_unknown_checkpoint_is_refused_with_the_closest() -> None:
    with pytest.raises(UserError, match=r"no checkpoint ViT-B/16@dinov1 \(did you mean ViT-B/16@dino"):
        find_pretrained("ViT-B/16@dinov1")
    assert find_pretrained("hf-hub:me/ViT-B@main") is None
    assert find_pretrained("runs/digits") is None


def test_a_folder_of_that_name_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "ViT-S/16@dino"
    assert to_address(name) == "hf-hub:timm/vit_small_patch16_224.dino"
    Path(name).mkdir(parents=True)
    assert to_address(name) == name


def test_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "--pretrained", "--json"])
    checkpoints = json.loads(capsys.readouterr().out)["checkpoints"]
    assert [entry["name"] for entry in checkpoints] == list(list_pretrained())
    main(["models", "ViT-S/16", "--pretrained"])
    assert "ViT-S/16@augreg-in21k-ft-in1k" in capsys.readouterr().out
