"""Limits of the HTTP service."""

from dataclasses import dataclass, field

from vitral.errors import UserError

__all__ = ["ServeConfig"]


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How requests are batched, and what a request may ask for.

    Raises:
        UserError: a value is out of range.
    """

    max_batch: int = 32
    """Images that are computed together at most."""
    max_wait: float = 0.005
    """Seconds that an image waits at most for others to share its batch; 0 where batches save no time."""
    queue: int = 256
    """Images of one model that may wait or be computed at a time; requests beyond it are refused with 429."""
    timeout: float = 30.0
    """Seconds from the head of a request to its answer; a request may ask for less."""
    body_timeout: float = 30.0
    """Seconds that a client has to send its request."""
    max_body: int = 32 * 2**20
    """Bytes of a request's body."""
    max_files: int = 32
    """Images in a request."""
    workers: int = 0
    """Processes that read and compute images; 0: the service's own."""
    compile: bool = False
    """Whether models are compiled by torch.compile, which takes longer to start."""
    token: str | None = field(default=None, repr=False)
    """Bearer token that requests must carry; None: the service is open."""

    def __post_init__(self) -> None:
        # written out: help must not wait for pydantic, which vitral.config imports
        for name, least in {
            "max_batch": 1,
            "queue": 1,
            "max_body": 1,
            "max_files": 1,
            "max_wait": 0,
            "workers": 0,
        }.items():
            if (value := getattr(self, name)) < least:
                raise UserError(f"{name} must be at least {least}, not {value}")
        for name in ("timeout", "body_timeout"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be above 0 seconds, not {getattr(self, name)}")
        if self.max_files > self.queue:
            raise UserError(
                f"max_files must be at most queue, or a request could never be taken: {self.max_files} > {self.queue}"
            )
        if self.token == "":
            raise UserError("the token is empty: give None to leave the service open")
