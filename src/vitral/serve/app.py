"""The HTTP application: routes and what they answer."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import isfunction
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from vitral import __version__
from vitral.errors import unknown_name
from vitral.serve.batching import DeadlinePassed
from vitral.serve.config import ServeConfig
from vitral.serve.metrics import Metrics
from vitral.serve.observer import Lifecycle, Observer
from vitral.serve.pools import Loader, LocalPool, Served
from vitral.serve.problems import Problem, add_handlers, describe
from vitral.serve.schemas import FeatureAnswer, ModelList, PredictAnswer, as_model, as_outcome, predicted
from vitral.serve.service import Models, Service
from vitral.serve.site import add_site
from vitral.serve.uploads import REQUEST_BODY, ClientGone, Uploads
from vitral.serve.workers import WorkerPool

__all__ = ["create_app"]

BEARER = HTTPBearer(auto_error=False, description="The content of the service's token file.")

ERRORS = describe(400, 401, 408, 413, 415, 422, 429, 503, 504)

TopK = Annotated[int | None, Query(ge=1, description="Number of classes; by default 5, or all if there are fewer.")]
Layer = Annotated[
    int | None, Query(ge=1, description="The last layer of the attention rollout, from 1; by default all layers.")
]
ModelName = Annotated[str | None, Query(description="Name of the model, as in /v1/models; by default the first.")]
Timeout = Annotated[
    float | None, Query(gt=0, description="Seconds until the answer is useless, if fewer than the service's own limit.")
]


def create_app(models: Served | Mapping[str, Served] | Loader, *, config: ServeConfig | None = None) -> FastAPI:
    """The service as an ASGI application, whose lifespan starts and ends the threads of the models.

    `await app.state.models.reload()` replaces the models by what a new call of the function gives.

    Args:
        models: one model, or several by name, or a function that gives several; the first is the default. With
            `config.workers` they are sent to other processes, so they must be picklable, such as paths.
        config: limits; None: the defaults of `ServeConfig`.

    Raises:
        UserError: a model cannot be loaded, or has no card.
    """
    config = config or ServeConfig()
    metrics, lifecycle = Metrics(max_batch=config.max_batch), Lifecycle()
    load = _loader(models)
    pool = WorkerPool if config.workers else LocalPool
    served = Models(lambda observe: pool(load, config, observe), config, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.started = served.start()
        app.state.started.add_done_callback(lambda started: setattr(lifecycle, "failure", started.exception()))
        yield
        await served.close()

    app = FastAPI(
        title="Vitral",
        version=__version__,
        description="Classifies images with Vision Transformers.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads its scripts from another host
        redoc_url=None,
    )
    app.state.lifecycle, app.state.models = lifecycle, served
    app.add_middleware(Observer, metrics=metrics, lifecycle=lifecycle)
    add_handlers(app)

    @app.exception_handler(ClientGone)
    async def gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=499)  # nobody reads it: the number that nginx writes to its log

    routes = Routes(served, Uploads(config), config)
    app.include_router(_api(routes))
    app.include_router(_operations(routes, metrics, lifecycle))
    add_site(app)
    return app


def _loader(models: Served | Mapping[str, Served] | Loader) -> Loader:
    if isinstance(models, Mapping):
        return partial(dict, models)
    # models can be called too
    return models if isfunction(models) or isinstance(models, partial) else partial(dict, model=models)


@dataclass(frozen=True)
class Routes:
    """What all routes need."""

    models: Models
    uploads: Uploads
    config: ServeConfig

    @contextmanager
    def service(self, name: str | None, deadline: float) -> Iterator[Service]:
        """The model of that name, or the first, which stays until the context ends.

        Args:
            name: as in `/v1/models`; None: the first.
            deadline: of the request, which is refused before its body is read if the answer would be late.

        Raises:
            Problem: there is none, it is not ready, or its queue is full or too long for the deadline.
        """
        with self.models.used() as services:
            name = next(iter(services)) if name is None else name
            if name not in services:
                raise Problem(422, str(unknown_name("model", name, services)))
            services[name].check_ready(deadline)
            yield services[name]

    def deadline(self, request: Request, timeout: float | None) -> float:
        """The reading of `time.monotonic()` at which an answer is useless."""
        # other servers than `run_server`'s do not say when the head arrived
        arrived = getattr(request.state, "arrived", None) or time.monotonic()
        return arrived + min(self.config.timeout, timeout or self.config.timeout)

    @property
    def token(self) -> list[Any]:
        """Dependencies of routes that need the token; none if there is no token, so that the document shows none."""
        return [] if self.config.token is None else [Depends(self.check_token)]

    async def check_token(self, given: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> None:
        """Raises a `Problem` unless the request has the token."""
        assert self.config.token is not None
        # digests have one length, so that the time tells nothing of the token's
        digests = (
            hashlib.sha256(text.encode()).digest() for text in (given.credentials if given else "", self.config.token)
        )
        if not hmac.compare_digest(*digests):
            raise Problem(401, "the bearer token is missing or wrong: send Authorization: Bearer TOKEN")


def _api(routes: Routes) -> APIRouter:
    """The routes of the models."""
    router = APIRouter(prefix="/v1", dependencies=routes.token, tags=["models"])
    body = {"requestBody": REQUEST_BODY}

    @router.post("/predict", response_model=PredictAnswer, responses=ERRORS, openapi_extra=body)
    async def predict(
        request: Request, model: ModelName = None, top_k: TopK = None, timeout: Timeout = None
    ) -> Response:
        """Classifies images."""
        deadline = routes.deadline(request, timeout)
        with routes.service(model, deadline) as service:
            count = _top_k(service, top_k)
            async with routes.uploads.read(request) as uploads:
                work = service.compute(uploads, "probabilities", deadline=deadline)
                outcomes = await _until(request, work, deadline)
        images = [predicted(outcome, service.card, count) for outcome in outcomes]
        return _in_time(JSONResponse({"model": service.name, "images": images}), deadline)

    @router.post("/features", response_model=FeatureAnswer, responses=ERRORS, openapi_extra=body)
    async def features(request: Request, model: ModelName = None, timeout: Timeout = None) -> Response:
        """Computes the features before the head."""
        deadline = routes.deadline(request, timeout)
        with routes.service(model, deadline) as service:
            if "features" not in service.facts.tasks:
                raise Problem(422, f"the file of {service.name} has no features: serve the model it was exported from")
            async with routes.uploads.read(request) as uploads:
                outcomes = await _until(request, service.compute(uploads, "features", deadline=deadline), deadline)
        images = [as_outcome(outcome, "features", outcome.problem or outcome.result.tolist()) for outcome in outcomes]
        return _in_time(JSONResponse({"model": service.name, "images": images}), deadline)

    @router.post(
        "/attention",
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}, **ERRORS},
        openapi_extra=body,
    )
    async def attention(
        request: Request, model: ModelName = None, layer: Layer = None, timeout: Timeout = None
    ) -> Response:
        """Draws one image, darkened where the attention rollout is low; X-Image-SHA256 is the hash of what was read."""
        deadline = routes.deadline(request, timeout)
        with routes.service(model, deadline) as service:
            _check_layer(service, layer)
            async with routes.uploads.read(request) as uploads:
                if len(uploads) > 1:
                    raise Problem(422, f"attention is drawn of one image, not of {len(uploads)}: send several requests")
                work = service.compute(uploads, "attention", deadline=deadline, layer=layer)
                (outcome,) = await _until(request, work, deadline)
        headers = {"X-Image-SHA256": outcome.sha256}
        return _in_time(Response(outcome.result, media_type="image/png", headers=headers), deadline)

    @router.get("/models", response_model=ModelList, responses=describe(401))
    async def models() -> Response:
        """Lists the models."""
        return JSONResponse({"models": [as_model(service) for service in routes.models.services.values()]})

    return router


def _operations(routes: Routes, metrics: Metrics, lifecycle: Lifecycle) -> APIRouter:
    """The routes for those who run the service."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answers as long as the process lives."""
        return {"status": "alive"}

    @router.get("/readyz", responses=describe(503))
    async def readyz() -> dict[str, str]:
        """Answers 200 if every model has computed its first batch and the service is not about to stop."""
        if lifecycle.stopping:
            raise Problem(503, "the service is stopping")
        waiting = [name for name, service in routes.models.services.items() if not service.ready]
        if waiting:
            raise Problem(503, f"not ready: {', '.join(waiting)}", retry_after=1)
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response, responses=describe(401), dependencies=routes.token)
    async def prometheus() -> Response:
        """Figures in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _check_layer(service: Service, layer: int | None) -> None:
    count = service.facts.layers
    if not count:
        raise Problem(422, f"the model {service.name} has no attention between all patches, so it is not drawn")
    if layer is not None and layer > count:
        raise Problem(422, f"the model {service.name} has {count} layers: layer must be from 1 to {count}, not {layer}")


def _top_k(service: Service, top_k: int | None) -> int | None:
    count = len(service.card.classes)
    if not count:
        raise Problem(422, f"the model {service.name} has no trained head, so it predicts no classes: use /v1/features")
    if top_k is not None and service.card.target == "regression":
        raise Problem(422, f"the model {service.name} predicts a number and no classes: leave out top_k")
    if top_k is not None and top_k > count:
        raise Problem(
            422, f"the model {service.name} has {count} classes: top_k must be from 1 to {count}, not {top_k}"
        )
    return top_k


async def _until(request: Request, work: Coroutine[Any, Any, Any], deadline: float) -> Any:
    """The result of `work`, which is cancelled if the deadline passes or the client closes the connection.

    Raises:
        Problem: the deadline passed.
        ClientGone: the client closed the connection.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientGone
        raise DeadlinePassed
    except DeadlinePassed:
        raise _overdue() from None
    finally:
        task.cancel()
        gone.cancel()


def _in_time(response: Response, deadline: float) -> Response:
    """A response that is about to be sent: a busy event loop may have learnt late that its result was ready.

    Raises:
        Problem: the deadline passed.
    """
    if time.monotonic() > deadline:
        raise _overdue()
    return response


def _overdue() -> Problem:
    return Problem(504, "the deadline passed before the answer was ready")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
