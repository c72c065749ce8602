"""Classification of files, bytes, PIL images and arrays."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import SMALL, small_card, small_model
from photographs import add_unreadable_files, write_photographs
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.errors import UserError
from vitral.inspection.look import look
from vitral.serve.predictor import Failure, Prediction, Predictor
from vitral.vit import ViT
from vitral.weights.folder import save_model


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(small_model(), device="cpu", batch_size=7)


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))


def list_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_every_file_format_gives_the_probabilities_of_the_model(predictor: Predictor, photographs: Path) -> None:
    paths = list_files(photographs)
    results = list(predictor.predict(paths, top_k=3))
    assert [result.name for result in results] == [str(path) for path in paths]
    preprocessing = predictor.card.preprocessing
    for path, result in zip(paths, results, strict=True):
        pixels = torch.from_numpy(preprocessing.pixels(read_image(path, channels=3)).copy())
        with torch.no_grad():
            probabilities = predictor.model(preprocessing.normalise(pixels[None])).softmax(1)[0]
        assert isinstance(result, Prediction)
        expected = {f"class {label}": value for label, value in enumerate(probabilities.tolist())}
        assert dict(zip(result.classes, result.probabilities, strict=True)) == pytest.approx(expected, abs=1e-5)
        assert list(result.probabilities) == sorted(result.probabilities, reverse=True)


def test_paths_bytes_and_pil_images_give_the_same(predictor: Predictor, photographs: Path) -> None:
    path = photographs / "cat" / "005-rotated.jpeg"  # on its side unless its EXIF orientation is applied
    with Image.open(path) as opened:
        forms = [path, str(path), path.read_bytes(), opened]
        results = list(predictor.predict(forms))
    assert [result.name for result in results] == [str(path), str(path), "images[2]", "images[3]"]
    assert len({result.probabilities for result in results}) == 1
    alone = predictor(path)
    assert (alone.name, alone.classes) == (results[0].name, results[0].classes)
    # a matrix product of one row may round differently than one of four
    assert alone.probabilities == pytest.approx(results[0].probabilities, abs=1e-6)


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4), (5, 4, 4)])
def test_one_array_is_not_several_images(predictor: Predictor, shape: tuple[int, ...]) -> None:
    """Its rows would be classified one by one."""
    with pytest.raises(UserError, match="give a list of arrays"):
        predictor.predict(np.zeros(shape, np.uint8))


def test_an_array_of_four_axes_is_a_batch(predictor: Predictor) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), np.uint8)
    assert list(predictor.predict(images)) == list(predictor.predict(list(images)))


def test_arrays_are_classified_as_images(predictor: Predictor) -> None:
    image = noise()
    colour, grey = np.asarray(image), np.asarray(image.convert("L"))
    assert predictor(colour) == predictor(image)
    assert predictor(grey) == predictor(grey[:, :, None]) == predictor(image.convert("L"))
    assert predictor(grey) != predictor(colour)
    assert [result.name for result in predictor.predict([grey, colour])] == ["images[0]", "images[1]"]


@pytest.fixture
def without_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns off the check of annotations, as outside these tests."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("image", ["photo.jpg", Path("photo.jpg"), b"photo", Image.new("L", (2, 2))])
def test_predict_refuses_a_single_image(predictor: Predictor, image: object) -> None:
    with pytest.raises(ValueError, match="give a list of images"):
        predictor.predict(image)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 4, 3)), ValueError, r"images\[1\] is an array of float64 and shape \(4, 4, 3\): give uint8 of"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"images\[1\] is an array of uint8 and shape \(4, 4, 4\): give"),
        (np.zeros(4, np.uint8), ValueError, r"images\[1\] is an array of uint8 and shape \(4,\): give uint8 of"),
        (7, TypeError, r"images\[1\] is of type int: give a path, a file's content, a PIL image or a uint8 array"),
        (None, TypeError, r"images\[1\] is of type NoneType: give a path"),
    ],
)
def test_other_types_and_shapes_are_refused(
    predictor: Predictor, image: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(predictor.predict([noise(), image]))
    with pytest.raises(error, match=message.replace("1", "0", 1)):
        predictor(image)


def test_a_model_is_not_copied() -> None:
    model = small_model().train()
    predictor = Predictor(model, device=torch.device("cpu"))
    assert predictor.model is model
    assert not model.training


def test_exif_orientation_is_applied(predictor: Predictor, photographs: Path) -> None:
    path = photographs / "cat" / "005-rotated.jpeg"
    with Image.open(path) as stored:
        lying = Image.fromarray(np.asarray(stored))
        upright = Image.fromarray(np.asarray(stored.transpose(Image.Transpose.ROTATE_270)))
    assert predictor(upright).probabilities == predictor(path).probabilities
    assert predictor(lying).probabilities != predictor(path).probabilities


def test_predictions_do_not_depend_on_the_batch_size(photographs: Path) -> None:
    paths = list_files(photographs)[:20]
    few, many = (list(Predictor(small_model(), batch_size=size).predict(paths)) for size in (1, 64))
    for one, other in zip(few, many, strict=True):
        assert one.classes == other.classes
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_unreadable_files_give_failures_in_order(predictor: Predictor, tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photographs", per_class=2)
    unreadable = {str(path) for path in add_unreadable_files(root)}
    paths = [*list_files(root), tmp_path / "missing.jpg"]
    results = list(predictor.predict(paths))
    assert [result.name for result in results] == [str(path) for path in paths]
    failures = [result for result in results if isinstance(result, Failure)]
    assert {failure.name for failure in failures} == unreadable | {str(tmp_path / "missing.jpg")}
    for failure in failures:
        assert failure.reason.startswith(f"{failure.name} cannot be read as an image: ")
        assert "\n" not in failure.reason


def test_a_batch_of_unreadable_files_only(predictor: Predictor) -> None:
    results = list(predictor.predict([b"a cat"] * 9))
    assert [type(result) for result in results] == [Failure] * 9
    assert results[8].name == "images[8]"


def test_no_images_give_no_predictions(predictor: Predictor) -> None:
    assert list(predictor.predict([])) == []


def test_images_are_read_one_batch_at_a_time(predictor: Predictor) -> None:
    num_read = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal num_read
        while True:
            num_read += 1
            yield Image.new("RGB", (30, 20), (num_read % 256, 0, 0))

    results = predictor.predict(endless())
    assert num_read == 0
    names = [result.name for result in itertools.islice(results, 8)]
    assert names == [f"images[{number}]" for number in range(8)]
    assert num_read == 14


def test_a_batch_is_read_while_the_one_before_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, second_was_read = Predictor(small_model(), batch_size=2), threading.Event()
    read, overlapped = predictor._read, []

    def reading(image: Image.Image, name: str) -> np.ndarray:
        if name == "images[3]":
            second_was_read.set()
        return read(image, name)

    monkeypatch.setattr(predictor, "_read", reading)
    predictor.model.register_forward_hook(lambda *_: overlapped.append(second_was_read.wait(timeout=60)))
    names = [result.name for result in predictor.predict([noise() for _ in range(5)])]
    assert names == [f"images[{number}]" for number in range(5)]
    assert overlapped[0]


def test_answers_before_a_wrong_image_are_given(predictor: Predictor) -> None:
    images = [*(noise() for _ in range(7)), np.zeros((2, 2, 7), np.uint8)]
    results = predictor.predict(images)
    assert [next(results).name for _ in range(7)] == [f"images[{number}]" for number in range(7)]
    with pytest.raises(UserError, match=r"images\[7\]"):
        next(results)


def test_a_single_unreadable_image_is_an_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"missing\.jpg cannot be read"):
        predictor(tmp_path / "missing.jpg")


def test_top_k_is_five_by_default() -> None:
    image = Image.new("RGB", (10, 10))
    many = Predictor(small_model(num_classes=8))
    assert len(many(image).classes) == 5
    assert len(many(image, top_k=8).classes) == 8
    assert sum(many(image, top_k=8).probabilities) == pytest.approx(1)
    assert len(Predictor(small_model())(image).classes) == 3


@pytest.mark.parametrize("top_k", [0, -1, 4])
def test_a_top_k_out_of_range_is_refused_before_iteration(predictor: Predictor, top_k: int) -> None:
    message = f"3 classes.*not {top_k}"
    with pytest.raises(ValueError, match=message):
        predictor.predict([], top_k=top_k)
    with pytest.raises(ValueError, match=message):
        predictor(Image.new("RGB", (10, 10)), top_k=top_k)


def test_a_model_on_disk(tmp_path: Path) -> None:
    model = small_model(channels=1)
    save_model(tmp_path, model, model.card)
    image = noise()
    expected = Predictor(model)(image)
    for folder in (tmp_path, str(tmp_path)):
        assert Predictor(folder)(image) == expected


def test_logits_equal_the_model(predictor: Predictor) -> None:
    images = torch.randint(0, 256, (3, 16, 24, 3), dtype=torch.uint8)
    floats = predictor.card.preprocessing.normalise(images)
    torch.testing.assert_close(predictor.logits(images), predictor.model(floats).detach())


def test_a_model_in_training_mode_is_evaluated_without_dropout() -> None:
    model = small_model(dropout=0.5).train()
    predictor, image = Predictor(model), noise()
    assert predictor(image) == predictor(image)


def test_a_model_without_card_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no card.*vitral\.ModelCard"):
        Predictor(ViT(SMALL))


def test_a_card_with_other_classes_is_refused() -> None:
    model = small_model()
    model.card = small_card(replace(SMALL, num_classes=2))
    with pytest.raises(ValueError, match=r"2 classes, .* 3"):
        Predictor(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"device": "abacus"}, "device 'abacus' is not available"),
        ({"device": "meta"}, "device 'meta' is not available: choose auto, cpu, cuda, cuda:1, mps or xpu"),
        ({"precision": "float16"}, "unknown precision 'float16' .did you mean bfloat16.*: choose one of auto, float32"),
        ({"device": torch.device("mps")}, "device 'mps' is not available: PyTorch finds no GPU of Apple"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(small_model(), **arguments)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")]
)
def test_precision_on_a_cpu(precision: str, dtype: str) -> None:
    """Of the arithmetic; logits and features are float32."""
    computed: list[torch.dtype] = []
    model = small_model()
    model.blocks[0].mlp.fc1.register_forward_hook(lambda *arguments: computed.append(arguments[-1].dtype))
    predictor = Predictor(model, device="cpu", precision=precision)
    pixels = torch.zeros(2, *predictor.card.preprocessing.image_size, 3, dtype=torch.uint8)
    assert predictor.logits(pixels).dtype == predictor.extract_features(pixels).dtype == torch.float32
    assert computed == [getattr(torch, dtype)] * 2


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "dtype"), [("auto", "bfloat16"), ("float32", "float32")])
def test_precision_on_a_gpu(precision: str, dtype: str) -> None:
    computed: list[torch.dtype] = []
    model = small_model()
    model.blocks[0].mlp.fc1.register_forward_hook(lambda *arguments: computed.append(arguments[-1].dtype))
    Predictor(model, device="cuda", precision=precision)(noise())
    assert computed == [getattr(torch, dtype)]


@pytest.mark.gpu
def test_a_gpu_agrees_within_bfloat16_precision() -> None:
    image = noise()
    on_cpu, on_gpu = (Predictor(small_model(), device=device)(image, top_k=3) for device in ("cpu", "cuda"))
    expected = dict(zip(on_cpu.classes, on_cpu.probabilities, strict=True))
    assert dict(zip(on_gpu.classes, on_gpu.probabilities, strict=True)) == pytest.approx(expected, abs=0.1)


def test_attention_is_that_of_inspection(predictor: Predictor) -> None:
    assert isinstance(predictor.model, ViT)
    pixels = predictor.read(noise(), name="noise")
    attention = predictor.attention(torch.from_numpy(pixels[None]))
    torch.testing.assert_close(attention[0], look(predictor.model, noise(), name="noise").rollout)


def test_outputs_that_are_not_finite_are_failures() -> None:
    model = small_model()
    model.head.bias.data[1] = torch.nan
    predictor = Predictor(model, device="cpu")
    (result,) = predictor.predict([noise()])
    assert isinstance(result, Failure)
    assert "images[0]: the model's outputs are not finite" in result.reason
    with pytest.raises(UserError, match="not finite"):
        predictor(noise())
