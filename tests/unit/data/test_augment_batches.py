"""Augmentation of whole batches: every operation against torchvision or by hand, draws by their statistics."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from vitral.data.augment.apply import augment_batch
from vitral.data.augment.colour import jitter, three_augment
from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box, crop_offset
from vitral.data.augment.erasing import random_erase, sample_rectangle
from vitral.data.augment.mixing import Examples, mix
from vitral.data.augment.params import sample_params
from vitral.data.augment.randaugment import VARIANTS, randaugment
from vitral.data.batches import TrainingBatches
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.data.order import repeated_at, sample_at
from vitral.datasets.opening import open_data
from vitral.distributed.world import World

GENERATOR = np.random.Generator(np.random.PCG64(0))


def photographs(count: int = 4, size: tuple[int, int] = (24, 32)) -> torch.Tensor:
    """Smooth colour images that have every value."""
    coarse = torch.rand(count, 3, 5, 6, generator=torch.Generator().manual_seed(1)) * 255
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear").round().to(torch.uint8)


def choosing(variant: str, name: str, *, negative: bool = False, layers: int = 1, count: int = 4) -> np.ndarray:
    """Numbers that draw one operation."""
    names = list(VARIANTS[variant])
    one = [(names.index(name) + 0.5) / len(names), 0.2 if negative else 0.7, 0.5, 0.25]
    return np.tile(one, (count, layers))


class TestTorchvisionsForm:
    def test_has_the_same_operations(self):
        theirs = {name.lower() for name in v2.RandAugment._AUGMENTATION_SPACE}
        ours = {name.replace("_", "").replace("colour", "color") for name in VARIANTS["torchvision"]}
        assert {name.replace("ise", "ize") for name in ours} == theirs

    @pytest.mark.parametrize("magnitude", [0, 9, 15, 30])
    @pytest.mark.parametrize("negative", [False, True])
    @pytest.mark.parametrize("name", list(VARIANTS["torchvision"]))
    def test_each_operation_is_theirs(self, name, negative, magnitude):
        images, peer = photographs(), v2.RandAugment()
        title = name.title().replace("_", "").replace("Colour", "Color").replace("ise", "ize")
        title = {"Autocontrast": "AutoContrast"}.get(title, title)
        magnitudes, signed = peer._AUGMENTATION_SPACE[title]
        values = magnitudes(31, 24, 32)
        value = 0.0 if values is None else float(values[magnitude]) * (-1 if signed and negative else 1)
        expected = peer._apply_image_or_video_transform(
            images, title, value, interpolation=v2.InterpolationMode.NEAREST, fill={torch.Tensor: [0.0]}
        )
        numbers = choosing("torchvision", name, negative=negative)
        found = randaugment(images, numbers, variant="torchvision", magnitude=magnitude)
        assert (found.int() - expected.int()).abs().max() <= 1


class TestBigVisionsForm:
    def changed(self, name: str, magnitude: int, images: torch.Tensor | None = None, **draws: bool) -> torch.Tensor:
        images = photographs() if images is None else images
        return randaugment(images, choosing("big_vision", name, **draws), variant="big_vision", magnitude=magnitude)

    def test_has_the_sixteen_operations(self):
        assert set(VARIANTS["big_vision"]) == {
            *("autocontrast", "equalise", "invert", "rotate", "posterise", "solarise", "colour", "contrast"),
            *("brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y", "cutout", "solarise_add"),
        }

    def test_enhancing_by_magnitude_5_is_a_factor_of_1(self):
        for name in ("colour", "contrast", "brightness", "sharpness"):
            assert torch.equal(self.changed(name, 5), photographs())
        assert torch.equal(self.changed("brightness", 15), F.adjust_brightness(photographs(), 2.8))

    def test_contrast_is_towards_the_mean_count_of_a_histogram(self):
        grey = torch.full((4, 3, 32, 32), 100, dtype=torch.uint8)
        assert self.changed("contrast", 0, grey)[0, 0, 0, 0] == int(0.1 * 100 + 0.9 * (32 * 32 / 256))

    def test_thresholds_by_hand(self):
        images = torch.tensor([10, 100, 140, 250], dtype=torch.uint8).view(1, 1, 1, 4).expand(4, 3, 4, 4)
        assert self.changed("solarise", 5, images)[0, 0, 0].tolist() == [10, 100, 255 - 140, 255 - 250]
        assert self.changed("solarise", 15, images)[0, 0, 0].tolist() == [10, 100, 140, 250]
        assert self.changed("solarise_add", 10, images)[0, 0, 0].tolist() == [120, 210, 140, 250]
        assert self.changed("posterise", 10, images)[0, 0, 0].tolist() == [0, 96, 128, 240]
        assert self.changed("invert", 1, images)[0, 0, 0].tolist() == [245, 155, 115, 5]

    def test_what_is_moved_in_is_grey(self):
        moved = self.changed("translate_x", 1)
        assert (moved[..., :10] == 128).all()
        assert torch.equal(moved[..., 10:], photographs()[..., :-10])
        other = self.changed("translate_x", 1, negative=True)
        assert torch.equal(other[..., :-10], photographs()[..., 10:])

    def test_a_shear_is_counted_from_the_middle_of_the_first_pixel(self):
        """Row y is fetched from 0.3 y further right, rounded: row 8 from 2.4, which from the edge would be 2.55."""
        images, sheared = photographs(), self.changed("shear_x", 10)
        for row, further in ((0, 0), (1, 0), (2, 1), (6, 2), (8, 2), (9, 3)):
            assert torch.equal(sheared[:, :, row, : 32 - further], images[:, :, row, further:])
            assert (sheared[:, :, row, 32 - further :] == 128).all()
        turned = self.changed("shear_y", 10, images.transpose(2, 3).contiguous())
        assert torch.equal(turned.transpose(2, 3), sheared)

    def test_a_square_is_cut_out(self):
        cut = self.changed("cutout", 1)  # half a side of 4, around row 12 and column 8
        inside = torch.zeros(24, 32, dtype=torch.bool)
        inside[8:16, 4:12] = True
        assert (cut[:, :, inside] == 128).all()
        assert torch.equal(cut[:, :, ~inside], photographs()[:, :, ~inside])


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_operations_are_drawn_evenly(variant):
    """Chi-square over ten thousand draws, and over their signs."""
    config = AugmentConfig(randaugment=variant, randaugment_layers=2)
    draws = sample_params(config, seed=3, epoch=np.zeros(10_000, np.int64), index=np.arange(10_000))
    numbers = draws.uniforms["randaugment"]
    assert numbers.shape == (10_000, 8)
    for layer in range(2):
        names = (numbers[:, 4 * layer] * len(VARIANTS[variant])).astype(int)
        assert stats.chisquare(np.bincount(names, minlength=len(VARIANTS[variant]))).pvalue > 1e-3
        assert stats.binomtest(int((numbers[:, 4 * layer + 1] < 0.5).sum()), 10_000).pvalue > 1e-3


def test_each_image_has_its_own_operations():
    """One by one they change as they do together."""
    images, numbers = photographs(8), GENERATOR.random((8, 8))
    together = randaugment(images, numbers, variant="big_vision", magnitude=10)
    for row in range(8):
        alone = randaugment(images[row : row + 1], numbers[row : row + 1], variant="big_vision", magnitude=10)
        assert torch.equal(alone[0], together[row])


class TestColours:
    def test_three_choices(self):
        images = photographs(3)
        found = three_augment(images, np.array([[0.1, 0.0], [0.5, 0.0], [0.9, 0.5]]))
        grey = F.rgb_to_grayscale(images[:1], num_output_channels=3)
        assert (found[:1].int() - grey.int()).abs().max() <= 1
        assert torch.equal(found[1:2], F.solarize(images[1:2], 128))
        blurred = F.gaussian_blur(images[2:], kernel_size=[13, 13], sigma=[1.05, 1.05])
        assert (found[2:].int() - blurred.int()).abs().max() <= 1

    def test_each_is_drawn_as_often(self):
        numbers = sample_params(
            AugmentConfig(three_augment=True), seed=1, epoch=np.zeros(9000, np.int64), index=np.arange(9000)
        ).uniforms["three"]
        assert stats.chisquare(np.bincount((numbers[:, 0] * 3).astype(int))).pvalue > 1e-3

    @pytest.mark.parametrize(
        ("kind", "peer"), list(enumerate([F.adjust_brightness, F.adjust_contrast, F.adjust_saturation]))
    )
    def test_jitter_of_one_kind_is_torchvisions(self, kind, peer):
        numbers = np.full((4, 6), 0.5)
        numbers[:, kind] = [0.0, 0.3, 0.8, 0.99]
        found = jitter(photographs(), numbers, strength=0.4)
        for row, factor in enumerate(1 + 0.4 * (2 * numbers[:, kind] - 1)):
            expected = peer(photographs()[row : row + 1], factor)
            assert (found[row : row + 1].int() - expected.int()).abs().max() <= 1

    def test_the_order_matters_and_is_drawn(self):
        numbers = np.full((6, 6), 0.95)
        numbers[:, 3] = (np.arange(6) + 0.5) / 6
        found = jitter(photographs(1).expand(6, -1, -1, -1), numbers, strength=0.9)
        assert len({image.numpy().tobytes() for image in found}) > 1


class TestErasing:
    def test_rectangles_have_the_shares_of_their_definition(self):
        """Kolmogorov-Smirnov beside plain rejection with another generator."""
        found = [sample_rectangle(row, 100, 120) for row in GENERATOR.random((4000, 40))]
        rng = np.random.Generator(np.random.PCG64(3))
        pixels = rng.uniform(0.02, 1 / 3, 20_000) * 12_000
        aspect = np.exp(rng.uniform(math.log(0.3), math.log(10 / 3), 20_000))
        tall, wide = np.sqrt(pixels * aspect).round(), np.sqrt(pixels / aspect).round()
        fits = (tall < 100) & (wide < 120)
        assert stats.ks_2samp([h * w for _, _, h, w in found], (tall * wide)[fits]).pvalue > 1e-3
        assert stats.ks_2samp([h / w for _, _, h, w in found], (tall / wide)[fits]).pvalue > 1e-3
        assert stats.kstest([top / (101 - h) + 0.5 / (101 - h) for top, _, h, _ in found], "uniform").pvalue > 1e-3

    def test_only_what_was_drawn_is_erased(self):
        numbers = GENERATOR.random((200, 42))
        images = torch.ones(200, 3, 20, 30)
        for fill in ("mean", "noise"):
            out = random_erase(images, numbers, probability=0.25, fill=fill)
            changed = (out != 1).flatten(1).any(1).numpy()
            assert (changed == (numbers[:, 0] < 0.25)).all()
        assert (random_erase(images, numbers, probability=0.25, fill="mean") == 0).any()
        filled = torch.cat([image[image != 1] for image in out])
        assert abs(filled.mean()) < 0.05
        assert filled.std() == pytest.approx(1, abs=0.05)


def examples(count: int = 8) -> Examples:
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 10, 12).clone()
    return Examples(images=images, labels=torch.arange(count))


class TestMixing:
    def test_mixup_by_hand(self):
        config = AugmentConfig(mixup=1.0)  # the weight equals the uniform number, or 1 minus it if that is larger
        found = mix(examples(4), np.array([[0, 0.3, 0, 0, 0], [0, 0.9, 0, 0, 0]]), config)
        assert found.partners is not None
        assert found.partners.tolist() == [1, 0, 3, 2]
        torch.testing.assert_close(found.mix_weights, torch.tensor([0.7, 0.7, 0.9, 0.9]))
        torch.testing.assert_close(found.images[:, 0, 0, 0], torch.tensor([0.3, 0.7, 2.1, 2.9]))

    def test_cutmix_by_hand(self):
        """A weight of 3/4 replaces half the height and half the width in the middle."""
        found = mix(examples(2), np.array([[0, 0.75, 0.5, 0.5, 0]]), AugmentConfig(cutmix=1.0))
        inside = torch.zeros(10, 12, dtype=torch.bool)
        inside[2:7, 3:9] = True
        assert (found.images[0, 0, inside] == 1).all()
        assert (found.images[0, 0, ~inside] == 0).all()
        assert found.mix_weights is not None
        assert found.mix_weights.tolist() == pytest.approx([1 - 30 / 120] * 2)

    @pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
    def test_shares_are_of_the_beta_distribution(self, alpha):
        numbers = sample_params(
            AugmentConfig(mixup=alpha), seed=0, epoch=np.zeros(2, np.int64), index=np.arange(2), pairs=np.arange(4000)
        ).mix_uniforms
        found = mix(examples(8000), numbers, AugmentConfig(mixup=alpha)).mix_weights[::2].double().numpy()
        beta = np.random.Generator(np.random.PCG64(1)).beta(alpha, alpha, 20_000)
        assert stats.ks_2samp(found, np.maximum(beta, 1 - beta)).pvalue > 1e-3

    def test_both_have_half_of_the_pairs(self):
        config = AugmentConfig(mixup=0.8, cutmix=1.0)
        numbers = GENERATOR.random((4000, 5))
        found = mix(examples(8000), numbers, config)
        whole = (found.images[::2].flatten(1).std(1) == 0).numpy()
        assert ((numbers[:, 0] >= 0.5) <= whole).all()
        assert stats.binomtest(int((numbers[:, 0] < 0.5).sum()), 4000).pvalue > 1e-3

    def test_the_loss_of_a_cut_is_by_the_area_seen(self):
        found = mix(examples(200), GENERATOR.random((100, 5)), AugmentConfig(cutmix=1.0))
        own = (found.images == found.images.new_tensor(range(200))[:, None, None, None]).float().mean((1, 2, 3))
        torch.testing.assert_close(own, found.mix_weights)

    def test_unreadable_images_are_mixed_with_nothing(self):
        unreadable = replace(examples(4), labels=torch.tensor([0, -100, 2, 3]))
        found = mix(unreadable, np.array([[0, 0.4, 0, 0, 0], [0, 0.4, 0, 0, 0]]), AugmentConfig(mixup=1.0))
        assert found.mix_weights.tolist() == pytest.approx([1, 1, 0.6, 0.6])
        assert torch.equal(found.images[:2], unreadable.images[:2])

    def test_parts_of_a_batch_are_mixed_as_the_whole(self):
        numbers = GENERATOR.random((4, 5))
        config = AugmentConfig(mixup=0.8, cutmix=1.0)
        whole = mix(examples(), numbers, config)
        for half in range(2):
            rows = slice(4 * half, 4 * half + 4)
            part = replace(examples(), images=examples().images[rows], labels=examples().labels[rows])
            assert torch.equal(mix(part, numbers[2 * half : 2 * half + 2], config).images, whole.images[rows])

    def test_chunks_keep_what_belongs_together(self):
        whole = mix(examples(), GENERATOR.random((4, 5)), AugmentConfig(mixup=1.0))
        first, second = whole.chunk(2)
        assert torch.equal(torch.cat([first.mix_weights, second.mix_weights]), whole.mix_weights)
        assert torch.equal(torch.cat([first.partners, second.partners]), whole.partners)


class TestTensorFlowsCrop:
    def test_areas_and_aspects_are_those_of_its_definition(self):
        """Kolmogorov-Smirnov beside a direct simulation with another generator."""
        config, (width, height) = AugmentConfig(crop="inception_tf"), (160, 120)
        boxes = np.array([crop_box(config, (width, height), seed=1, epoch=0, index=i) for i in range(3000)])
        w, h = (boxes[:, 2] - boxes[:, 0]) * width, (boxes[:, 3] - boxes[:, 1]) * height
        rng, simulated = np.random.Generator(np.random.PCG64(2)), []
        while len(simulated) < 3000:
            aspect = rng.uniform(3 / 4, 4 / 3)
            low, high = (round(math.sqrt(area * width * height / aspect)) for area in (0.05, 1.0))
            if round(high * aspect) > width:
                high = math.floor((width + 0.4999999) / aspect)
            high = min(high, height)
            tall = rng.integers(min(low, high), high + 1)
            wide = round(tall * aspect)
            if 0.05 * width * height <= tall * wide and wide <= width:
                simulated.append((wide * tall, wide / tall))
        areas, aspects = np.array(simulated).T
        assert stats.ks_2samp(w * h, areas).pvalue > 1e-3
        assert stats.ks_2samp(w / h, aspects).pvalue > 1e-3
        # torchvision's form draws areas evenly instead, so the two differ
        other = np.array(
            [crop_box(AugmentConfig(crop="inception"), (160, 120), seed=1, epoch=0, index=i) for i in range(3000)]
        )
        assert stats.ks_2samp(w * h, np.prod(other[:, 2:] - other[:, :2], axis=1) * width * height).pvalue < 1e-6

    def test_boxes_are_whole_pixels_inside(self):
        for index in range(300):
            box = np.array(crop_box(AugmentConfig(crop="inception_tf"), (50, 37), seed=0, epoch=1, index=index))
            pixels = box * [50, 37, 50, 37]
            np.testing.assert_allclose(pixels, pixels.round(), atol=1e-9)
            assert (box >= 0).all()
            assert (box <= 1).all()

    def test_an_impossible_shape_keeps_the_whole_image(self):
        config = AugmentConfig(crop="inception_tf", crop_area=(0.9, 1.0))
        assert crop_box(config, (400, 20), seed=0, epoch=0, index=0) == (0, 0, 1, 1)


def test_every_place_of_a_simple_crop_is_as_likely():
    """An image of the input's size has nine places along each axis."""
    places = np.array([crop_offset(seed=2, epoch=0, index=index) for index in range(10_000)])
    across, down = (places * 9).astype(int).T
    assert stats.chisquare(np.bincount(9 * across + down, minlength=81)).pvalue > 1e-3


class TestRepeats:
    @pytest.mark.parametrize(("batch", "repeats"), [(12, 3), (16, 3), (8, 2)])
    def test_copies_lie_apart_and_differ(self, batch, repeats):
        position = np.arange(4 * batch)
        epoch, index = repeated_at(position, batch_size=batch, repeats=repeats, size=100, seed=1)
        for step in range(4):
            rows = slice(step * batch, (step + 1) * batch)
            pairs = set(zip(epoch[rows].tolist(), index[rows].tolist(), strict=True))
            assert len(pairs) == batch
            assert np.bincount(index[rows]).max() == repeats
            assert (index[rows][::2] != index[rows][1::2]).all()

    def test_every_image_comes_before_any_again(self):
        _, index = repeated_at(np.arange(60), batch_size=12, repeats=3, size=20, seed=1)
        assert (np.bincount(index, minlength=20) == 3).all()

    def test_once_is_the_plain_order(self):
        for ours, plain in zip(
            repeated_at(np.arange(50), batch_size=10, repeats=1, size=30, seed=2),
            sample_at(np.arange(50), size=30, seed=2),
            strict=True,
        ):
            assert (ours == plain).all()


EVERYTHING = AugmentConfig(
    flip=True, flip_vertical=True, shift=1, randaugment="big_vision", three_augment=True, colour_jitter=0.3,
    erase=0.5, mixup=0.8, cutmix=1.0,
)  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_all_together_are_the_same_again_and_vary(channels):
    images = photographs(6).permute(0, 2, 3, 1)[..., :channels].contiguous()
    preprocessing = Preprocessing(image_size=(24, 32), channels=channels)
    place = dict(seed=1, index=np.arange(6), pairs=np.arange(3))

    def varied(epoch: int) -> Examples:
        draws = sample_params(EVERYTHING, epoch=np.full(6, epoch), **place)
        return augment_batch(images, torch.arange(6), draws, config=EVERYTHING, preprocessing=preprocessing)

    first, again, later = varied(0), varied(0), varied(1)
    assert torch.equal(first.images, again.images)
    assert first.images.shape == (6, channels, 24, 32)
    assert not torch.equal(first.images, later.images)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_everything_stays_on_the_device_of_the_images(variant):
    """A meta tensor refuses to meet one of the host, as a GPU's does."""
    config = replace(EVERYTHING, randaugment=variant)
    draws = sample_params(config, seed=1, epoch=np.zeros(64, np.int64), index=np.arange(64), pairs=np.arange(32))
    images, labels = torch.empty(64, 24, 32, 3, dtype=torch.uint8), torch.empty(64, dtype=torch.long)
    preprocessing = Preprocessing(image_size=(24, 32), channels=3)
    found = augment_batch(images.to("meta"), labels.to("meta"), draws, config=config, preprocessing=preprocessing)
    assert found.partners is not None
    assert found.mix_weights is not None
    assert {column.device.type for column in (found.images, found.labels, found.partners, found.mix_weights)} == {
        "meta"
    }


@pytest.mark.parametrize("per", ["pair", "batch"])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_draw_for_their_shares_as_one_does_for_all(processes, per):
    config = replace(EVERYTHING, mix_per=per, repeats=3)
    preprocessing = Preprocessing(image_size=(8, 8), channels=1)
    whole = TrainingBatches(
        source=open_data(DataConfig(source="digits"))["train"],
        preprocessing=preprocessing,
        augment=config,
        batch_size=16,
        seed=4,
    )

    def examples_of(batches: TrainingBatches) -> Examples:
        batch = batches[5]
        assert batch.augment_params is not None
        return augment_batch(
            batch.images, batch.labels, batch.augment_params, config=config, preprocessing=preprocessing
        )

    ranges = [World(rank=rank, size=processes).local_range(16) for rank in range(processes)]
    parts = [examples_of(replace(whole, rows=rows)) for rows in ranges]
    expected = examples_of(whole)
    for name in ("images", "labels", "partners", "mix_weights"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(expected, name))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mixup": -1.0}, "mixup must be at least 0, not -1"),
        ({"erase": 1.5}, "erase must be at least 0 and at most 1, not 1.5"),
        ({"repeats": 0}, "randaugment_layers and repeats must be at least 1"),
        ({"randaugment": "torchvision", "randaugment_magnitude": 31}, "torchvision's magnitudes are 0 to 30, not 31"),
    ],
)
def test_values_out_of_range(values, reason):
    with pytest.raises(ValueError, match=reason):
        AugmentConfig(**values)
