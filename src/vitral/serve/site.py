"""The page for people, and the description of the interface for programs."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader

from vitral.page.assets import STATIC, render
from vitral.serve.problems import ProblemBody

__all__ = ["add_site"]


def add_site(app: FastAPI) -> None:
    """Adds `/`, `/docs` and their files, and the form of errors to the OpenAPI document.

    Nothing comes from another host: FastAPI's own page of the interface would load its scripts from one.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template, page = environment.get_template("docs.html"), render(service=True)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        document["components"]["schemas"][ProblemBody.__name__] = ProblemBody.model_json_schema()
        return document

    app.openapi = openapi

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return HTMLResponse(template.render(api=app.openapi(), base=request.base_url))

    app.mount("/page", StaticFiles(directory=STATIC), name="page")
