"""Requests made from the OpenAPI document, valid or not, never make an error of the service."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from models import small_model
from serve.running import Running, running
from vitral.weights.folder import save_model

CHECKS = [response_schema_conformance, status_code_conformance]
ROUTES = [
    ("POST", "/v1/predict"),
    ("POST", "/v1/features"),
    ("POST", "/v1/attention"),
    ("GET", "/v1/models"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("schema")
    model = small_model()
    assert model.card is not None
    save_model(folder / "model", model, model.card)
    with running(folder, "model") as service:
        yield service


def test_every_route_is_tried(service: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    assert {(route.ok().method.upper(), route.ok().path) for route in schema.get_all_operations()} == set(ROUTES)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_answers_everything(service: Running, method: str, path: str, mode: GenerationMode) -> None:
    if mode is GenerationMode.NEGATIVE and method == "GET":
        return  # they take nothing that could be wrong
    route = schemathesis.openapi.from_url(f"{service.url}/openapi.json")[path][method]

    @given(case=route.as_strategy(generation_mode=mode))
    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        response = case.call()
        assert response.status_code < 500 or response.status_code == 504  # of a timeout next to nothing
        case.validate_response(response, checks=CHECKS)

    check()
