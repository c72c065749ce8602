"""Errors of the HTTP interface: problem+json (RFC 9457) with one sentence."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

__all__ = ["Problem", "ProblemBody", "add_handlers", "describe", "problem_response"]

MEDIA_TYPE = "application/problem+json"

CAUSES = {
    400: "The body or the image is damaged.",
    401: "The bearer token is missing or wrong.",
    408: "The body did not arrive in time.",
    413: "The body, the image or the number of images is too large.",
    415: "The body is no image, or of a type that is not read.",
    422: "A parameter is wrong.",
    429: "Too many images are waiting; Retry-After says when to try again.",
    503: "The model is not ready, or the service is stopping.",
    504: "The deadline passed before the answer was ready.",
}
"""What each status means, for the OpenAPI document."""


class ProblemBody(BaseModel):
    """An error."""

    type: str = Field(default="about:blank", description="Always about:blank: the status says it all.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="One sentence that names the problem and the fix.")


class Problem(Exception):
    """An error that the client gets as its answer."""

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None) -> None:
        """
        Args:
            status: of the response.
            detail: one sentence that names the problem and the fix.
            retry_after: seconds after which the client may try again.
        """
        super().__init__(detail)
        self.status, self.retry_after = status, retry_after
        self.detail = " ".join(detail.split())  # names of files may have line breaks

    def __reduce__(self) -> Any:
        return partial(Problem, retry_after=self.retry_after), (
            self.status,
            self.detail,
        )  # it travels between processes


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these errors."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}}
    return {status: {"description": CAUSES[status], "content": content} for status in statuses}


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A response with a problem+json.

    Args:
        status: of the response.
        detail: one sentence that names the problem and the fix.
        headers: of the response.
    """
    body = ProblemBody(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Makes every error of the application a problem+json."""

    async def problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return problem_response(error.status, error.detail, headers)

    async def wrong_parameter(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        return problem_response(422, f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}")

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        sentences = {
            404: f"there is no {request.url.path}: see /docs",
            405: f"{request.url.path} does not take {request.method}: see /docs",
        }
        return problem_response(error.status_code, sentences.get(error.status_code, str(error.detail)), error.headers)

    async def bug(request: Request, error: Exception) -> JSONResponse:
        return problem_response(500, "the service failed; its log says why")

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, wrong_parameter)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, bug)
