"""`vitral models` and `vitral plan`, and every kind of model trained and used on the command line."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.screen import Screen
from vitral.inspection.devices import DEVICES
from vitral.models import NAMES
from vitral.weights.folder import load_model


def test_models(screen: Screen) -> None:
    models = {model["name"]: model for model in screen.json("models")["models"]}
    counts = {
        "ViT-Ti/16": 5_717_416,
        "ViT-S/32": 22_878_952,
        "ViT-S/16": 22_050_664,
        "ViT-B/32": 88_224_232,
        "ViT-B/16": 86_567_656,
        "ViT-B/8": 86_576_872,
        "ViT-L/32": 306_535_400,
        "ViT-L/16": 304_326_632,
        "ViT-H/14": 632_045_800,
    }
    assert {name: models[name]["parameters"] for name in counts} == counts
    assert models["ViT-B/16"]["tokens"] == 197
    assert models["BiT-R50x1"] | {"width": 2048, "depth": None, "tokens": None} == models["BiT-R50x1"]
    assert list(models) == list(NAMES)


def test_models_at_another_size(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few models, as counting all takes ten seconds."""
    monkeypatch.setattr(
        "vitral.commands.models.NAMES", ("ViT-B/32", "ViT-B/28", "ViT-B/16", "R50+ViT-B/16", "BiT-R50x1")
    )
    output = screen.run("models", "--image-size", "112", "--classes", "10")
    lines = {cells[1].strip(): cells for line in output.splitlines() if len(cells := line.split("│")) > 2}
    assert set(lines) < set(NAMES)
    assert "ViT-B/32" not in lines, "112 pixels are no whole number of its patches"
    tokens, parameters = (lines["ViT-B/16"][column].strip() for column in (5, 6))
    assert (tokens, parameters) == ("50", f"{86_567_656 - 147 * 768 - 990 * 769:,}")


@pytest.mark.parametrize("name", ["ViT-B/16", "ViT-B_16", "vit_base_patch16_224"])
def test_one_model_in_detail(screen: Screen, name: str) -> None:
    model = screen.json("models", name, "--batch-size", "64")
    assert model["parts"] == {
        "cls_token": 768,
        "pos_embed": 197 * 768,
        "patch_embed": 590_592,
        "blocks": 12 * 7_087_872,
        "norm": 2 * 768,
        "head": 769_000,
    }
    assert sum(model["parts"].values()) == model["parameters"] == 86_567_656
    assert (model["architecture"]["patch_size"], model["family"]) == (16, "vision transformer")
    assert model["activation_bytes_float32"] > model["activation_bytes_bfloat16"] > 10**9
    output = screen.run("models", name)
    assert "85,054,464" in output
    assert "17.564 billion per image" in output


def test_a_resnet_in_detail(screen: Screen) -> None:
    model = screen.json("models", "BiT-R50x1")
    assert (model["family"], model["tokens"]) == ("resnet", None)
    assert set(model["parts"]) == {"stem", "stages", "norm", "head"}


def test_a_recipe_is_planned_here_and_on_named_hardware(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitral.train.budget.SECONDS", 0.0)
    words = ["plan", "digits", "--model.depth", "1", "--train.steps", "40", "--watts", "60"]
    plan = screen.json(*words)
    here, there = plan["this_machine"], plan["named_hardware"]
    assert (here["steps"], here["fits"]) == (40, True)
    assert here["hours"] * 3600 > 40 * here["seconds_per_step"]
    assert here["kwh"] == pytest.approx(here["hours"] * 0.06)
    assert len(there) == len(DEVICES)
    assert there[0]["device"] == DEVICES["h100"].name
    assert there[0]["kwh"] == pytest.approx(there[0]["hours"] * 0.7)
    smaller = ("--resolution.sizes", "4", "--resolution.until", "50percent")
    output = screen.run(*words, *smaller, "--device", "t4")
    for text in (
        "40 steps",
        "4 pixels to 50percent",
        "exaFLOPs",
        "this machine",
        "(measured)",
        "60 W",
        "NVIDIA T4",
        "Assumed of named hardware",
    ):
        assert text in output
    assert "H100" not in output


def test_a_recipe_that_does_not_fit_is_planned_for_larger_devices(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitral.commands.recipe_plan.free_memory", lambda device: 1000)
    here = screen.json("plan", "digits", "--train.steps", "40")["this_machine"]
    assert (here["fits"], here["hours"], here["kwh"]) == (False, None, None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ViT-X/16"], "unknown model 'ViT-X/16'"),
        (["ViT-B/16", "--image-size", "100"], "image size 100x100 is not divisible by patch size 16x16"),
        (["ViT-B/16", "--classes", "0"], "--classes must be at least 1, not 0"),
        (["--batch-size", "0"], "--batch-size must be at least 1, not 0"),
    ],
)
def test_models_that_cannot_be(screen: Screen, words: list[str], sentence: str) -> None:
    assert sentence in screen.refusal("models", *words)


# plan


def test_a_plan_has_operations_time_and_memory(screen: Screen) -> None:
    plan = screen.json(
        "plan", "ViT-L/16", "--data", "jft300m", "--epochs", "14", "--batch-size", "4096", "--devices", "8"
    )
    assert plan["exaflops"] == pytest.approx(1567, rel=0.01)
    assert plan["steps"] == math.ceil(14 * 303_000_000 / 4096)
    assert plan["hours"] == pytest.approx(14 * 303e6 / plan["images_per_second"] / 3600)
    assert plan["images_per_second"] == pytest.approx(8 * 989.4e12 * 0.4 / (6 * plan["macs"]))
    assert plan["tpuv3_core_days_of_the_paper"] == 680
    assert plan["tpuv3_mfu_of_the_paper"] == pytest.approx(0.43, abs=0.01)
    stored, sharded, recomputed, least = plan["memory"]
    assert stored["state"] == 16 * plan["parameters"] == 8 * sharded["state"]
    assert recomputed["activations"] < stored["activations"]
    assert least["largest_batch"] > stored["largest_batch"]
    assert [one["fits"] for one in plan["memory"]] == [one["largest_batch"] >= 512 for one in plan["memory"]]


def test_a_measured_speed_replaces_the_peak(screen: Screen) -> None:
    plan = screen.json("plan", "ViT-mu/16", "--data", "7200", "--epochs", "10", "--images-per-second", "20")
    assert plan["hours"] == pytest.approx(1.0)
    assert plan["mfu"] == pytest.approx(20 * 6 * plan["macs"] / 989.4e12)


def test_a_plan_says_what_bounds_a_step_on_many_devices(screen: Screen) -> None:
    words = ("plan", "ViT-mu/16", "--batch-size", "512", "--images-per-second", "100")
    steps = screen.json(*words)["scaling"]
    assert [step["devices"] for step in steps] == [8, 16, 32, 64, 128, 256, 512]
    assert [step["compute"] for step in steps] == [pytest.approx(5.12 / step["devices"]) for step in steps]
    assert {step["bound"] for step in steps} == {"arithmetic"}
    assert {step["bound"] for step in screen.json(*words, "--images-read", "50")["scaling"]} == {"reading"}
    fast = screen.json(*words[:-1], "10000000")["scaling"]
    assert (fast[-1]["bound"], fast[-1]["images_per_second"] < 512 * 10_000_000) == ("gradients", True)
    assert screen.json(*words, "--device", "t4")["scaling"] == []


def test_a_printed_plan_states_its_assumptions(screen: Screen) -> None:
    output = screen.run("plan", "ViT-B/16", "--data", "jft300m", "--epochs", "7")
    for text in ("224 exaFLOPs", "NVIDIA H100", "40% of the peak (assumed)", "recomputed", "1,024", "Assumed:"):
        assert text in output
    assert "Not even one image fits" in screen.run("plan", "ViT-g/14", "--device", "t4", "--ema")
    assert "The batch does not fit" in screen.run("plan", "ViT-B/16", "--device", "t4", "--batch-size", "4096")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ViT-X/16"], "unknown model 'ViT-X/16'"),
        (["ViT-B/16", "--device", "abacus"], "unknown --device 'abacus': choose one of h100"),
        (["ViT-B/16", "--data", "dogs"], "unknown --data 'dogs': choose imagenet1k"),
        (["ViT-B/16", "--data", "0"], "unknown --data '0'"),
        (["ViT-B/16", "--mfu", "1.5"], "--mfu is a fraction of the peak, so at most 1, not 1.5"),
        (["ViT-B/16", "--mfu", "nan"], "--mfu must be above 0, not nan"),
        (["ViT-B/16", "--epochs", "0"], "--epochs must be above 0, not 0.0"),
        (["ViT-B/16", "--images-per-second", "-1"], "--images-per-second must be above 0, not -1.0"),
        (["digit"], "unknown model or recipe 'digit' (did you mean digits?)"),
        (["folder"], "--data.root"),
        (["digits", "--device", "abacus"], "unknown --device 'abacus'"),
        (["digits", "--watts", "0"], "--watts must be above 0"),
        (["digits", "--train.lr", "3"], "unknown option --train.lr"),
        (["ViT-B/16", "--devices", "3"], "--batch-size must be a multiple of --devices, not 1024 and 3"),
    ],
)
def test_plans_that_cannot_be(screen: Screen, words: list[str], sentence: str) -> None:
    assert sentence in screen.refusal("plan", *words)


# models of other kinds, in every command


@pytest.mark.parametrize(
    "words",
    [
        ["--model.position", "rope", "--model.pool", "map"],
        ["--model.position", "relative", "--model.num-registers", "2", "--model.pool", "cls"],
        ["--model.name", "ViT-mu/2", "--model.position-injection", "every_layer"],
    ],
)
def test_a_transformer_of_another_kind_in_every_command(screen: Screen, tmp_path: Path, words: list[str]) -> None:
    run = tmp_path / "run"
    screen.run("train", "digits", *words, "--model.depth", "1", "--train.steps", "2", "--out", run)
    assert screen.json("eval", run)["num_images"] == 359
    with Image.open(screen.run("inspect", run).strip()) as picture:
        assert picture.format == "PNG"


def test_a_resnet_in_every_command(screen: Screen, tmp_path: Path) -> None:
    run, digit = tmp_path / "run", tmp_path / "digit.png"
    tiny = ["--model.name", "BiT-R50x1", "--model.stages", "1", "--model.root-width", "32", "--optim.name", "adamw"]
    screen.run("train", "digits", *tiny, "--train.steps", "2", "--out", run)
    assert screen.json("eval", run)["num_images"] == 359
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(digit)
    assert len(screen.json("predict", run, digit)["predictions"]) == 1
    assert screen.refusal("inspect", run) == f"{run} is a ResNet, which has no attention to draw"
    again = tmp_path / "again"
    finetune = ["--model.weights", run, "--data.source", "digits", "--data.root", "None", "--data.workers", "0"]
    screen.run("train", "finetune", *finetune, "--train.steps", "2", "--out", again)
    assert screen.json("eval", again)["num_images"] == 359


def test_adapters_leave_a_plain_model(screen: Screen, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finetune = ["--model.weights", trained, "--data.source", "digits", "--data.root", "None", "--data.workers", "0"]
    lora = ["--model.lora-rank", "2", "--optim.lr", "0.1"]
    screen.run("train", "finetune", *finetune, *lora, "--train.steps", "3", "--out", run)
    before, after = load_model(trained).state_dict(), load_model(run).state_dict()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {"blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "head.weight", "head.bias"}
    # with the classes kept, the head is the trained one's: both learn from there
    assert screen.json("eval", run)["top1"] == pytest.approx(load_model(run).card.metrics["test/top1"], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--model.name", "BiT-R50x1"],
            "muon updates the blocks of a Transformer, and there are none to train: choose --optim.name adamw",
        ),
        (["--model.name", "R50+ViT-B/16"], "image size 8x8 is not divisible by patch size 16x16"),
        (["--model.name", "ViT-Q/16"], "unknown model 'ViT-Q/16'"),
        (["--model.pool", "none"], "training needs one feature vector for each image"),
        (["--model.lora-rank", "2"], "LoRA adapts a pretrained model: set --model.weights"),
        (["--model.stem-stages", "1"], "patch size 2x2 is not a multiple of 4x4"),
        (["--model.position", "relative", "--model.position-injection", "every_layer"], "cannot go with"),
    ],
)
def test_models_that_cannot_be_trained(screen: Screen, tmp_path: Path, words: list[str], sentence: str) -> None:
    assert sentence in screen.refusal("train", "digits", *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
