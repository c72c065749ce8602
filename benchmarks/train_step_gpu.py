"""Is a training step on one GPU as fast as timm's, and as fast as a Transformer with nothing but its blocks?

A step is forward, softmax cross-entropy, backward and a fused AdamW update at 224 pixels, with bfloat16 autocast and
`torch.compile`, on random images in GPU memory. In one process, in alternating rounds:

- timm's model with its defaults;
- the plain block: linear patch embedding, fused qkv, scaled dot-product attention, tanh GELU, mean of the tokens, which
  stay in bfloat16;
- Vitral's model, the same step around it;
- the same model with the kernels of `vitral.layers.kernels`;
- Vitral's own step, as in `vitral train`: with these kernels, bytes from host memory, flips, normalisation, gradient
  clipping, and metrics (loss, accuracy, gradient norm).

    python benchmarks/train_step_gpu.py --models S/16 B/16 L/16

prints a Markdown table. `--curve 200` trains so many steps instead, and prints the losses of Vitral's model with and
without kernels. Results are in this folder as `train_step_gpu_HARDWARE_DATE.md`.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.params import sample_params
from vitral.data.batches import Batch
from vitral.data.config import DataConfig
from vitral.inspection.cost import forward_macs
from vitral.inspection.plan import throughput
from vitral.models import architecture, build
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.kernels import supports_kernels, use_kernels
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.profiling.setup import find_device
from vitral.train.session import Session
from vitral.vit_config import ViTConfig

SIZES = {"S/16": ("small", 512), "B/16": ("base", 256), "L/16": ("large", 128)}
"""timm's name of each model size, and the batch size."""

CONTENDERS = ["timm", "plain block", "Vitral's model", "with kernels", "Vitral's own step"]

CLASSES, LR = 1000, 1e-3


class PlainBlock(nn.Module):
    """Two residual branches without options."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class PlainTransformer(nn.Module):
    """Patches by a linear layer, learned positions, a class token, plain blocks, the mean of all tokens, a head."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        self.embed = nn.Linear(3 * self.patch**2, config.width)
        self.token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, 197, config.width))
        blocks = (PlainBlock(width=config.width, heads=config.num_heads) for _ in range(config.depth))
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        b, c, h, w = images.shape
        p = self.patch
        patches = images.view(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // p**2, c * p**2)
        embedded = self.embed(patches)
        tokens = torch.cat([self.token.expand(b, -1, -1), embedded], dim=1) + self.positions
        return self.head(self.norm(self.blocks(tokens.to(embedded.dtype))).mean(1))


def peer_step(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """A training step without Vitral's loop; it returns the loss."""
    compiled = torch.compile(model.cuda().train())
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1, fused=True)

    def step() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(compiled(images), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def with_kernels(config: ViTConfig) -> nn.Module:
    """Vitral's model as it trains on GPUs that have the kernels."""
    model = build(config)
    if not supports_kernels(torch.device("cuda")):
        raise SystemExit("this GPU has no kernels: leave `with kernels` out of --contenders")
    use_kernels(model)
    return model


def own_step(config: ViTConfig, *, batch_size: int) -> Callable[[], object]:
    """A step of `vitral train`, with its batch in page-locked memory."""
    augment = AugmentConfig(flip=True)
    run = RunConfig(
        recipe="benchmark",
        model=ModelSetup(architecture=config),
        data=DataConfig(source="digits"),
        augment=augment,
        optim=OptimConfig(lr=LR, weight_decay=0.1, clip=1.0),
        train=TrainConfig(batch_size=batch_size, device="cuda"),
    ).resolved(num_classes=CLASSES)
    session = Session(run, classes=tuple(map(str, range(CLASSES))))
    labels = torch.randint(CLASSES, (batch_size,))
    images = torch.randint(256, (batch_size, 224, 224, 3), dtype=torch.uint8)
    draws = sample_params(augment, seed=0, epoch=0 * labels.numpy(), index=torch.arange(batch_size).numpy())
    return partial(session.train_step, Batch(images=images, labels=labels, augment_params=draws).pin_memory(), lr=LR)


def training_steps(name: str, contenders: list[str]) -> dict[str, Callable[[], object]]:
    """The training step of each contender, by name."""
    size, batch_size = SIZES[name]
    images = torch.rand(batch_size, 3, 224, 224, device="cuda") * 2 - 1
    labels = torch.randint(CLASSES, (batch_size,), device="cuda")
    config = architecture(f"ViT-{name}")
    theirs = timm.create_model(f"vit_{size}_patch16_224")
    steps: dict[str, Callable[[], Callable[[], object]]] = {
        "timm": lambda: peer_step(theirs, images, labels),
        "plain block": lambda: peer_step(PlainTransformer(config), images, labels),
        "Vitral's model": lambda: peer_step(build(config), images, labels),
        "with kernels": lambda: peer_step(with_kernels(config), images, labels),
        "Vitral's own step": lambda: own_step(config, batch_size=batch_size),
    }
    return {each: steps[each]() for each in contenders}


def print_curves(name: str, steps: int) -> None:
    """Losses with and without kernels, from the same weights, on images that show their class."""
    batch_size, config = SIZES[name][1], architecture(f"ViT-{name}")
    curves: dict[str, list[float]] = {}
    for each, model in {"plain": build(config), "with kernels": with_kernels(config)}.items():
        model.init_weights(torch.Generator().manual_seed(0))
        random = torch.Generator("cuda").manual_seed(0)
        signs = torch.randn(10, 3, 14, 14, device="cuda", generator=random)
        images = torch.empty(batch_size, 3, 224, 224, device="cuda")
        labels = torch.empty(batch_size, dtype=torch.long, device="cuda")
        step, losses = peer_step(model, images, labels), []
        for _ in range(steps):
            drawn = torch.randint(10, (batch_size,), device="cuda", generator=random)
            noise = torch.randn(batch_size, 3, 224, 224, device="cuda", generator=random)
            images.copy_(0.2 * F.interpolate(signs[drawn], size=(224, 224)) + noise)
            labels.copy_(drawn)
            losses.append(step())
        curves[each] = [float(loss) for loss in losses]
    print("| steps | plain | with kernels |\n|--:|--:|--:|")
    for end in range(steps // 10, steps + 1, steps // 10):
        means = [statistics.mean(losses[end - steps // 10 : end]) for losses in curves.values()]
        print(f"| {end - steps // 10 + 1} to {end} | {means[0]:.4f} | {means[1]:.4f} |")


def seconds_of(step: Callable[[], object], steps: int) -> float:
    """Seconds of one step, on the GPU's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / steps


def main() -> None:
    parser = argparse.ArgumentParser(description="Training step at 224 pixels on one GPU: Vitral and timm.")
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES), help="sizes (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: 7)")
    parser.add_argument("--steps", type=int, default=10, help="steps per round (default: 10)")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="steps (default: all)")
    parser.add_argument("--curve", type=int, metavar="STEPS", help="print loss curves of so many steps, and no times")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "this needs a CUDA GPU: on a CPU, benchmarks/train_step_cpu.py is the same benchmark\n")
    torch.manual_seed(0)
    device = torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}, timm {timm.__version__}")
    if options.curve:
        for name in options.models:
            print(f"\n{name}\n")
            print_curves(name, options.curve)
        return
    print(f"median of {options.rounds} rounds of {options.steps} steps\n")
    print(f"| model | batch | step | img/s | relative to {options.contenders[0]} | MFU |\n|---|--:|---|--:|--:|--:|")
    for name in options.models:
        batch_size, steps = SIZES[name][1], training_steps(name, options.contenders)
        for step in steps.values():
            seconds_of(step, 3)  # compiles
        times: dict[str, list[float]] = {each: [] for each in steps}
        for _ in range(options.rounds):
            for each, step in steps.items():
                times[each].append(seconds_of(step, options.steps))
        rates = {each: batch_size / statistics.median(times[each]) for each in steps}
        gpu, macs = find_device(device), forward_macs(architecture(f"ViT-{name}"))
        first = options.contenders[0]
        for each, rate in rates.items():
            mfu = f"{rate / throughput(macs, device=gpu, devices=1, utilisation=1.0):.1%}" if gpu else "-"
            print(
                f"| {name} | {batch_size} | {each} | {rate:,.0f} | {rate / rates[first]:.3f} | {mfu} |",
                flush=True,
            )
        del steps
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
