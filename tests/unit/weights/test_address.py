"""A mistyped name of a model gets a sentence with the right one."""

from pathlib import Path

import pytest

from vitral.errors import UserError
from vitral.weights.address import check_address
from vitral.weights.load import load


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("google/vit-base-patch16-224", "is it on the Hub? name it hf-hub:google/vit-base-patch16-224"),
        ("timm/vit_base_patch16_224.augreg_in21k", "name it hf-hub:timm/vit_base_patch16_224.augreg_in21k"),
        ("https://huggingface.co/google/vit-base-patch16-224", "name the model hf-hub:google/vit-base-patch16-224"),
        ("https://huggingface.co/a/b/tree/main", "name the model hf-hub:a/b"),
        ("huggingface.co/a/b/resolve/v2/model.safetensors", "name the model hf-hub:a/b@v2"),
        ("https://hf.co/a/b?x=1", "name the model hf-hub:a/b"),
        ("ViT-S/16", "is a model without weights: name a checkpoint such as ViT-S/16@"),
        ("hf-hub:nope", "hf-hub:nope names no owner: write hf-hub:OWNER/nope"),
        ("hf-hub:", "write hf-hub:OWNER/NAME"),
        ("hf://a/b", "name it hf-hub:a/b"),
        ("hf_hub:a/b", "name it hf-hub:a/b"),
        ("https://dl.fbaipublicfiles.com/x.pth", "download the file"),
        ("runs/digits", "runs/digits does not exist: give the folder of a trained model"),
        ("weights/x.pth", "weights/x.pth does not exist: give the folder of a trained model"),
        ("nope", "nope does not exist: give the folder of a trained model"),
    ],
)
def test_the_advice(name: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (check_address, load):
        with pytest.raises(UserError) as caught:
            call(name)
        assert str(caught.value).endswith(advice) or advice in str(caught.value)
        assert "\n" not in str(caught.value)


def test_paths_and_addresses_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("google").mkdir()
    Path("google/vit").write_text("")
    for name in ("google/vit", "google", tmp_path, "hf-hub:google/vit", "hf-hub:google/vit@v1"):
        check_address(name)
