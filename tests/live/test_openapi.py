"""The OpenAPI document is true: schemathesis asks every address in many ways and compares what comes with what is promised.

PREDSEG_SCHEMATHESIS=500 for a longer look.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.live.serving import READ, WRITE, Running, running
from tests.patience import PATIENCE

EXAMPLES = int(os.environ.get("PREDSEG_SCHEMATHESIS", "5"))


@pytest.fixture(scope="module")
def up() -> Iterator[Running]:
    with running() as found:
        yield found


def test_every_answer_is_one_that_was_promised(up: Running) -> None:
    """Every address but the stream, which never ends."""
    api = schemathesis.openapi.from_url(f"{up.url}/openapi.json").exclude(path="/v1/changes")
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) == 12
    for operation in operations:
        asked(operation, GenerationMode.POSITIVE)
        if operation.body or operation.query:  # else nothing can be wrong
            asked(operation, GenerationMode.NEGATIVE)


def asked(operation: Any, mode: GenerationMode) -> None:
    posted = operation.method.upper() == "POST"
    key, ignored = (WRITE, []) if posted else (READ, [negative_data_rejection])  # parameters that nobody knows are ignored

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(operation.as_strategy(generation_mode=mode))
    def answered(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE, excluded_checks=ignored)

    answered()


def test_the_document_names_every_address_and_both_keys(up: Running) -> None:
    _, document, _ = up.ask("/openapi.json", key="")
    assert set(document["paths"]) == {
        *(f"/v1/{kind}" for kind in ("track", "identify", "page", "screen", "group", "alias", "batch")),
        *("/v1/customers/{customer_id}", "/v1/segments", "/v1/segments/{name}", "/v1/changes", "/health", "/metrics"),
    }
    assert set(document["components"]["securitySchemes"]) == {"write_key", "read_key"}
