"""The HTTP application: routes and what they answer."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from vitral import __version__
from vitral.errors import unknown_name
from vitral.models import Model
from vitral.serve.batching import DeadlinePassed
from vitral.serve.config import ServeConfig
from vitral.serve.metrics import Metrics
from vitral.serve.observer import Lifecycle, Observer
from vitral.serve.predictor import Predictor
from vitral.serve.problems import Problem, add_handlers, describe
from vitral.serve.schemas import FeatureAnswer, ModelList, PredictAnswer, as_model, as_outcome, predicted
from vitral.serve.service import Service
from vitral.serve.site import add_site
from vitral.serve.uploads import REQUEST_BODY, ClientGone, Uploads

__all__ = ["create_app"]

Served = Predictor | Model | str | Path
"""A predictor, a model with its card, or the path or name of one as in `vitral.load`."""

BEARER = HTTPBearer(auto_error=False, description="The content of the service's token file.")

ERRORS = describe(400, 401, 408, 413, 415, 422, 429, 503, 504)

TopK = Annotated[int | None, Query(ge=1, description="Number of classes; by default 5, or all if there are fewer.")]
ModelName = Annotated[str | None, Query(description="Name of the model, as in /v1/models; by default the first.")]
Timeout = Annotated[
    float | None, Query(gt=0, description="Seconds until the answer is useless, if fewer than the service's own limit.")
]


def create_app(models: Served | Mapping[str, Served], *, config: ServeConfig | None = None) -> FastAPI:
    """The service as an ASGI application, whose lifespan starts and ends the threads of the models.

    Args:
        models: one model, or several by name; the first is the default.
        config: limits; None: the defaults of `ServeConfig`.

    Raises:
        UserError: a model cannot be loaded, or has no card.
    """
    config = config or ServeConfig()
    metrics, lifecycle = Metrics(max_batch=config.max_batch), Lifecycle()
    named = models if isinstance(models, Mapping) else {"model": models}
    predictors = {name: model if isinstance(model, Predictor) else Predictor(model) for name, model in named.items()}
    services = {name: Service(name, predictor, config, metrics) for name, predictor in predictors.items()}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for service in services.values():
            service.start()
        yield
        for service in services.values():
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Vitral",
        version=__version__,
        description="Classifies images with Vision Transformers.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads its scripts from another host
        redoc_url=None,
    )
    app.state.lifecycle = lifecycle
    app.add_middleware(Observer, metrics=metrics, lifecycle=lifecycle)
    add_handlers(app)

    @app.exception_handler(ClientGone)
    async def gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=499)  # nobody reads it: the number that nginx writes to its log

    routes = Routes(services, Uploads(config), config)
    app.include_router(_api(routes))
    app.include_router(_operations(routes, metrics, lifecycle))
    add_site(app)
    return app


@dataclass(frozen=True)
class Routes:
    """What all routes need."""

    services: Mapping[str, Service]
    uploads: Uploads
    config: ServeConfig

    def service(self, name: str | None) -> Service:
        """The model of that name, or the first.

        Raises:
            Problem: there is none, it is not ready, or its queue is full.
        """
        name = next(iter(self.services)) if name is None else name
        if name not in self.services:
            raise Problem(422, str(unknown_name("model", name, self.services)))
        service = self.services[name]
        service.check_ready()
        return service

    def deadline(self, timeout: float | None) -> float:
        """The reading of `time.monotonic()` at which an answer is useless."""
        return time.monotonic() + min(self.config.timeout, timeout or self.config.timeout)

    async def check_token(self, given: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> None:
        """Raises a `Problem` unless the request has the token."""
        if self.config.token is None:
            return
        # digests have one length, so that the time tells nothing of the token's
        digests = (
            hashlib.sha256(text.encode()).digest() for text in (given.credentials if given else "", self.config.token)
        )
        if not hmac.compare_digest(*digests):
            raise Problem(401, "the bearer token is missing or wrong: send Authorization: Bearer TOKEN")


def _api(routes: Routes) -> APIRouter:
    """The routes of the models."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(routes.check_token)], tags=["models"])
    body = {"requestBody": REQUEST_BODY}

    @router.post("/predict", response_model=PredictAnswer, responses=ERRORS, openapi_extra=body)
    async def predict(
        request: Request, model: ModelName = None, top_k: TopK = None, timeout: Timeout = None
    ) -> Response:
        """Classifies images."""
        service, deadline = routes.service(model), routes.deadline(timeout)
        count = _top_k(service, top_k)
        async with routes.uploads.read(request) as uploads:
            work = service.compute(uploads, service.probabilities, deadline=deadline)
            outcomes = await _until(request, work, deadline)
        images = [predicted(outcome, service.predictor.card, count) for outcome in outcomes]
        return JSONResponse({"model": service.name, "images": images})

    @router.post("/features", response_model=FeatureAnswer, responses=ERRORS, openapi_extra=body)
    async def features(request: Request, model: ModelName = None, timeout: Timeout = None) -> Response:
        """Computes the features before the head."""
        service, deadline = routes.service(model), routes.deadline(timeout)
        async with routes.uploads.read(request) as uploads:
            outcomes = await _until(request, service.compute(uploads, service.features, deadline=deadline), deadline)
        images = [as_outcome(outcome, "features", outcome.problem or outcome.result.tolist()) for outcome in outcomes]
        return JSONResponse({"model": service.name, "images": images})

    @router.post(
        "/attention",
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}, **ERRORS},
        openapi_extra=body,
    )
    async def attention(request: Request, model: ModelName = None, timeout: Timeout = None) -> Response:
        """Draws one image, darkened where the attention rollout is low; X-Image-SHA256 is the hash of what was read."""
        service, deadline = routes.service(model), routes.deadline(timeout)
        if not service.draws_attention:
            raise Problem(422, f"the model {service.name} has no attention between all patches, so it is not drawn")
        async with routes.uploads.read(request) as uploads:
            if len(uploads) > 1:
                raise Problem(422, f"attention is drawn of one image, not of {len(uploads)}: send several requests")
            png, sha256 = await _until(request, service.draw_attention(uploads[0], deadline=deadline), deadline)
        return Response(png, media_type="image/png", headers={"X-Image-SHA256": sha256})

    @router.get("/models", response_model=ModelList, responses=describe(401))
    async def models() -> Response:
        """Lists the models."""
        return JSONResponse({"models": [as_model(service) for service in routes.services.values()]})

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
        waiting = [name for name, service in routes.services.items() if not service.ready]
        if waiting:
            raise Problem(503, f"not ready: {', '.join(waiting)}", retry_after=1)
        return {"status": "ready"}

    @router.get(
        "/metrics", response_class=Response, responses=describe(401), dependencies=[Depends(routes.check_token)]
    )
    async def prometheus() -> Response:
        """Figures in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _top_k(service: Service, top_k: int | None) -> int | None:
    count = len(service.classes)
    if not count:
        raise Problem(422, f"the model {service.name} has no trained head, so it predicts no classes: use /v1/features")
    if top_k is not None and service.predictor.card.target == "regression":
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
        raise Problem(504, "the deadline passed before the answer was ready") from None
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
