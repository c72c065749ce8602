"""Methods of models under the names and signatures that timm, transformers and DINOv2 have for them.

Loading and saving need `vitral.weights`, which is built on the models: those methods import it when they are called.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.card import ModelCard
from vitral.data.images.patch_rows import Images
from vitral.errors import UserError
from vitral.layers.pooling import NoHead, TwoHeads
from vitral.layers.positions import PositionState

__all__ = ["IntermediateMethods", "PretrainedMethods"]


class PretrainedMethods(nn.Module):
    """Loading, saving, publishing, and a new head."""

    config: Any
    card: ModelCard | None

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None, **options: Any) -> Any:
        """`vitral.load`, which also takes `OWNER/NAME` for a model on the Hub.

        Args:
            source: as in `vitral.load`, or OWNER/NAME if there is no such path.
            revision: branch, tag or commit on the Hub.
            options: as in `vitral.load`, such as `num_classes` or `device`.

        Raises:
            UserError: as in `vitral.load`, or the model is of another family.
        """
        from vitral.weights.load import load

        name = str(source)
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists():
            name = f"hf-hub:{name}"
        if revision is not None and not name.startswith("hf-hub:"):
            raise UserError(f"{source} is not on the Hub, so it has no revision {revision}: leave out revision")
        model = load(name if revision is None else f"{name}@{revision}", **options)
        if not isinstance(model, cls):
            raise UserError(f"{source} is a {type(model).__name__}, not a {cls.__name__}: load it with vitral.load")
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the model as a Vitral folder: `model.safetensors` and `config.json`.

        Raises:
            UserError: the model has no card, or one that does not fit it.
            OSError: the folder cannot be written.
        """
        from vitral.weights.folder import save_model

        save_model(Path(folder), self, self._card())  # pyright: ignore[reportArgumentType]

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        commit_message: str = "pushed by vitral",
        licence: str | None = None,
    ) -> str:
        """Uploads the model as a Vitral folder with a model card, like `vitral push`; returns the repository's URL.

        Args:
            repo_id: OWNER/NAME; created if there is no such repository.
            private: whether a new repository is private.
            revision: branch to upload to; main if None.
            commit_message: commit message.
            licence: licence of the weights as an identifier of the Hub, such as `apache-2.0`.

        Raises:
            UserError: the model has no card, you are not logged in, or the Hub refuses the upload.
        """
        from vitral.inspection.cost import forward_macs
        from vitral.weights.folder import ModelConfig
        from vitral.weights.hub import upload
        from vitral.weights.readme import render_readme

        config = ModelConfig(architecture=self.config, card=self._card())
        page = render_readme(config, name=repo_id, macs=forward_macs(self.config), run={}, licence=licence)
        with TemporaryDirectory(prefix="vitral-push-") as folder:
            self.save_pretrained(folder)
            (Path(folder) / "README.md").write_text(page)
            return upload(Path(folder), repo_id, private=private, revision=revision, message=commit_message)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the head by a zero head for other classes, without the tanh layer before it.

        The card names the classes by number and loses its metrics.

        Args:
            num_classes: number of classes; with 0 the model returns its pooled features, as in timm, and can be saved
                only after it got a head again.
            global_pool: timm's name of the pooling that the model has; it cannot be changed.

        Raises:
            UserError: `num_classes` is negative, or `global_pool` is another.
        """
        pool = getattr(self.config, "pool", "gap")
        own = {"cls": "token", "gap": "avg"}.get(pool, pool)
        if global_pool not in (None, own):
            raise UserError(f"this model pools {own!r}, and a new head does not change that: leave out global_pool")
        if num_classes < 0:
            raise UserError(f"num_classes must be 0 for no head, or a number of classes, not {num_classes}")
        changes: dict[str, Any] = {"num_classes": num_classes} if num_classes else {}
        if getattr(self.config, "representation_size", None) is not None:
            changes["representation_size"] = None
            self.pre_logits = nn.Identity()
        self.config = replace(self.config, **changes)
        old: nn.Linear = self.head  # pyright: ignore[reportAssignmentType]
        if num_classes:
            bias = self.config.head_bias
            width = getattr(self.config, "pooled_width", self.config.width)
            new = TwoHeads if getattr(self.config, "distillation", False) else nn.Linear
            self.head = new(width, num_classes, bias=bias is not None).to(old.weight).train(self.training)
            for name, parameter in self.head.named_parameters():
                nn.init.constant_(parameter, bias if name.endswith("bias") else 0.0)
        else:
            self.head = NoHead(old)
        if self.card is not None:
            classes = tuple(f"class {label}" for label in range(num_classes))
            self.card = replace(self.card, classes=classes, metrics={})

    def _card(self) -> ModelCard:
        if self.card is None:
            raise UserError("the model has no card with preprocessing and class names: set model.card")
        return self.card


class IntermediateMethods(PretrainedMethods, ABC):
    """Outputs of single blocks of a Transformer."""

    positions: Any
    blocks: nn.ModuleList
    norm: nn.Module
    fc_norm: nn.Module
    pool: nn.Module
    pre_logits: nn.Module
    pool_tokens: slice

    @abstractmethod
    def embed(self, images: Images) -> tuple[Float[Tensor, "b t d"], list[PositionState]]:
        """From images to the tokens of the first block, and the positions that each block needs."""

    @abstractmethod
    def classify(self, pooled: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *m classes"]:
        """The head."""

    def train(self, mode: bool = True) -> Any:
        """As in `nn.Module`. Positions that were interpolated count as trained ones from here on (see `Learned`)."""
        if mode and self.positions.resampled_from is not None:
            self.positions = replace(self.positions, resampled_from=None)
        super().train(mode)
        return self

    def forward_intermediates(
        self,
        x: Images,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Outputs of blocks, with timm's signature and results.

        Args:
            x: normalised images.
            indices: the last that many blocks, or these blocks; negative ones count from the end. None: all.
            return_prefix_tokens: whether each output is a pair with the class, distillation and register tokens, if the
                model has any.
            norm: whether the final norm is applied to each output.
            stop_early: whether later blocks are skipped; only with `intermediates_only`.
            output_fmt: `NCHW` for patches as maps (b d gh gw), `NLC` for tokens (b n d).
            intermediates_only: whether the final tokens are left out.

        Returns:
            The list of outputs in the order of the blocks; before it the final tokens (b t d) after the final norm,
            unless `intermediates_only`.

        Raises:
            UserError: there is no such block or format, or `stop_early` is given without `intermediates_only`.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise UserError(f"output_fmt must be NCHW or NLC, not {output_fmt!r}")
        if stop_early and not intermediates_only:
            raise UserError("stop_early skips the last blocks, which the final tokens need: set intermediates_only")
        selected = self._block_indices(indices)
        prefix = self.config.num_prefix_tokens
        tokens, outputs = self._block_outputs(x, selected, stop_early=stop_early)
        outputs = [self.norm(output) if norm else output for output in outputs]
        patches = [output[:, prefix:] for output in outputs]
        if output_fmt == "NCHW":
            rows, _ = self.config.grid_of((x.shape[2], x.shape[3]))
            patches = [rearrange(tokens, "b (gh gw) d -> b d gh gw", gh=rows).contiguous() for tokens in patches]
        results: list[Any] = patches
        if return_prefix_tokens and prefix:
            results = list(zip(patches, (output[:, :prefix] for output in outputs), strict=True))
        return results if intermediates_only else (self.norm(tokens), results)

    def get_intermediate_layers(
        self,
        x: Float[Tensor, "b c h w"],
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
        *,
        return_prefix_tokens: bool = False,
    ) -> tuple[Any, ...]:
        """Outputs of blocks, with DINOv2's signature, default and results; timm's differs in `norm`, which is off.

        Args:
            x: normalised images.
            n: the last that many blocks, or these blocks.
            reshape: whether patches are maps (b d gh gw) instead of tokens (b n d).
            return_class_token: whether each output is a pair with the class token (b d).
            norm: whether the final norm is applied.
            return_prefix_tokens: whether each output is a pair with all tokens before the patches, as in timm.

        Raises:
            UserError: there is no such block, or no class token, or both kinds of pairs are asked for.
        """
        if return_class_token and return_prefix_tokens:
            raise UserError("return_class_token and return_prefix_tokens exclude each other: set one of them")
        if return_class_token and not self.config.num_class_tokens:
            raise UserError(f"this model has no class token to return: it has pool {self.config.pool}")
        pairs = return_class_token or return_prefix_tokens
        outputs = self.forward_intermediates(
            x,
            n,
            return_prefix_tokens=pairs,
            norm=norm,
            stop_early=True,
            output_fmt="NCHW" if reshape else "NLC",
            intermediates_only=True,
        )
        if return_class_token:
            return tuple((patches, prefix[:, 0]) for patches, prefix in outputs)
        return tuple(outputs)

    def forward_features(self, x: Images) -> Float[Tensor, "b t d"]:
        """The final tokens after the final norm, as in timm: with `pooled_norm` they are not normed yet."""
        return self.forward_intermediates(x, [-1], intermediates_only=False, output_fmt="NLC")[0]

    def forward_head(self, x: Float[Tensor, "b t d"], pre_logits: bool = False) -> Tensor:
        """Logits of the tokens that `forward_features` returns; with `pre_logits`, what the head's last layer reads."""
        pooled = self.fc_norm(self.pool(x[:, self.pool_tokens]))
        return self.pre_logits(pooled) if pre_logits else self.classify(pooled)

    def _block_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        """Sorted numbers of the blocks that `indices` names."""
        depth = self.config.depth
        if indices is None:
            return list(range(depth))
        if isinstance(indices, int):
            if not 1 <= indices <= depth:
                raise UserError(f"the model has {depth} blocks: ask for 1 to {depth}, not {indices}")
            return list(range(depth - indices, depth))
        for index in indices:
            if not -depth <= index < depth:
                raise UserError(f"the model has {depth} blocks, numbered from 0: there is no {index}")
        return sorted({index % depth for index in indices})

    def _block_outputs(
        self, images: Tensor, selected: Sequence[int], *, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The last block's output, and that of each block in `selected`."""
        if images.ndim != 4:
            raise UserError("outputs of single blocks are those of whole images, of shape (b, c, h, w)")
        x, states = self.embed(images)
        outputs = []
        for index, (block, pos) in enumerate(zip(self.blocks, states, strict=True)):
            x = block(x, pos)
            if index in selected:
                outputs.append(x)
            if stop_early and index == selected[-1]:
                break
        return x, outputs
