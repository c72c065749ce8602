"""Settings that may change when a run resumes."""

from typing import Any, NamedTuple

from vitral.config import to_dict
from vitral.errors import UserError
from vitral.train.config import RunConfig

__all__ = ["Change", "changes_between"]

NEUTRAL = (
    *("train.device", "train.compile", "train.parallel", "train.shards", "train.recompute"),
    *("train.evaluate", "train.log", "train.track", "checkpoint", "data.workers", "data.cache", "data.memory"),
)
"""Hardware, speed, logging and checkpoints: the result stays the same but for rounding."""

EFFECTIVE = (
    *("train.steps", "train.epochs", "train.accumulate", "train.precision", "train.ema", "train.ema_warmup"),
    *("train.patience",),
    *("optim", "schedule", "resolution", "augment", "objective", "data.on_error", "data.cache_side"),
)
"""Settings that may change for the remaining steps."""

FIXED = ("optim.name", "optim.momentum_dtype", "augment.repeats", "objective.name")
"""Exceptions to the above, which must match the checkpoint or the order of samples; so must all settings not listed."""

METADATA = ("out", "command", "changes", "folder")
"""Settings that only describe the run."""

ORDER = ("seed", "data", "augment.repeats", "train.batch_size")
"""Settings that determine the order of samples."""


MEASURED = ("objective.mean", "objective.std", "objective.balanced_weights")
"""Settings that a run computes from its data where they are not given."""


class Change(NamedTuple):
    """A setting whose value changed."""

    name: str
    old: Any
    new: Any

    @property
    def affects_result(self) -> bool:
        """Whether the result changes by more than rounding."""
        return not _among(self.name, NEUTRAL)

    def check(self) -> None:
        """Checks that a resumed run may change the setting.

        Raises:
            UserError: it may not.
        """
        toggled = self.name == "train.ema" and None in (self.old, self.new)
        allowed = _among(self.name, (*NEUTRAL, *EFFECTIVE)) and not _among(self.name, FIXED) and not toggled
        if allowed:
            return
        reason = "samples would be repeated or skipped" if _among(self.name, ORDER) else "it would be a different run"
        hint = ", raise --train.accumulate to save memory" if self.name == "train.batch_size" else ""
        raise UserError(
            f"{self.name} was {self.old} and cannot become {self.new} when a run resumes, because {reason}: "
            f"remove it{hint}, or start a new run"
        )

    def describe(self, step: int) -> str:
        """The change as a sentence, for the user and for `run.json`."""
        return f"{self.name} is {self.new} instead of {self.old} from step {step} on"


def changes_between(before: RunConfig, after: RunConfig) -> list[Change]:
    """The settings that differ.

    Args:
        before: the configuration of the checkpoints.
        after: the configuration to resume with.

    Raises:
        UserError: a setting differs that may not change.
    """
    classes = before.model.architecture.num_classes
    old, new = (_flatten(to_dict(config.resolved(num_classes=classes))) for config in (before, after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name) and name not in METADATA]
    names = [name for name in names if new.get(name) or name not in MEASURED]
    changes = [Change(name, old.get(name), new.get(name)) for name in names]
    for change in changes:
        change.check()
    return changes


def _among(name: str, settings: tuple[str, ...]) -> bool:
    """Whether a setting is one of these, or below one."""
    return any(name == setting or name.startswith(f"{setting}.") for setting in settings)


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dictionary with keys such as `optim.lr`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
