"""The service on Ray Serve: the same application in every replica.

    serve run vitral.serve.ray:app model=runs/photos replicas=2

`app` takes the arguments of `RayConfig`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from vitral.data.extra import optional
from vitral.errors import UserError
from vitral.serve.app import create_app
from vitral.serve.config import ServeConfig
from vitral.serve.predictor import Predictor
from vitral.weights.load import load

__all__ = ["RayConfig", "app"]


class RayConfig(BaseModel):
    """What is served, and by how many replicas."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(description="A run, a model's folder or file, an exported file, or hf-hub:OWNER/NAME.")
    checkpoint_key: str | None = Field(default=None, description="As --checkpoint-key of vitral serve.")
    prefix: str | None = Field(default=None, description="As --prefix of vitral serve.")
    num_heads: int | None = Field(default=None, description="As --num-heads of vitral serve.")
    gelu: str | None = Field(default=None, description="As --gelu of vitral serve.")
    name: str = Field(default="model", description="Name of the model.")
    replicas: int = Field(default=1, ge=1, description="Processes, of which each has the model; the least of them.")
    max_replicas: int | None = Field(default=None, description="Ray adds replicas under load up to so many.")
    gpus: float = Field(default=0.0, ge=0, description="GPUs of a replica; may be a fraction.")
    cpus: float = Field(default=1.0, ge=0, description="CPU cores of a replica.")
    precision: str = Field(default="auto", description="As --precision of vitral serve.")
    max_batch: int = Field(default=ServeConfig.max_batch, description="Images computed together.")
    max_wait: float = Field(default=ServeConfig.max_wait, description="Seconds that an image waits for others.")
    queue: int = Field(default=ServeConfig.queue, description="Images that may wait in a replica.")
    timeout: float = Field(default=ServeConfig.timeout, description="Seconds for a request.")
    token: str | None = Field(default=None, repr=False, description="Bearer token that requests must carry.")


def app(config: RayConfig):
    """A Ray Serve application.

    Raises:
        UserError: the configuration is out of range, or Ray Serve is not installed.
    """
    serve = optional("ray.serve", purpose="serving on Ray", extra="cluster")
    if config.max_replicas is not None and config.max_replicas < config.replicas:
        raise UserError(f"max_replicas must be at least replicas, {config.replicas}, not {config.max_replicas}")
    limits = ServeConfig(
        max_batch=config.max_batch,
        max_wait=config.max_wait,
        queue=config.queue,
        max_files=min(ServeConfig.max_files, config.queue),
        timeout=config.timeout,
        token=config.token,
    )
    options = {"num_replicas": config.replicas}
    if config.max_replicas is not None:
        options = {"autoscaling_config": {"min_replicas": config.replicas, "max_replicas": config.max_replicas}}
    fields = ("checkpoint_key", "prefix", "num_heads", "gelu")
    reading = {name: value for name in fields if (value := getattr(config, name)) is not None}
    build = partial(_build, config.name, config.model, config.precision, limits, reading)
    deployment = serve.deployment(
        serve.ingress(lambda: build())(),
        name="vitral",
        max_ongoing_requests=config.queue,  # the application batches what it is given, and refuses what is too much
        ray_actor_options={"num_cpus": config.cpus, "num_gpus": config.gpus},
        **options,
    )
    return deployment.bind()


def _build(name: str, model: str, precision: str, limits: ServeConfig, reading: dict[str, Any]) -> FastAPI:
    """The application of a replica, which gets no request before it is warm."""
    predictor = Predictor(load(model, **reading) if reading else model, precision=precision)
    app = create_app({name: predictor}, config=limits)
    start = app.router.lifespan_context

    @asynccontextmanager
    async def start_warm(app: FastAPI) -> AsyncIterator[None]:
        async with start(app):
            await asyncio.wrap_future(app.state.started)
            yield

    app.router.lifespan_context = start_warm
    return app
