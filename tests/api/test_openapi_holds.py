"""What our OpenAPI says of requests and answers is so: a small slice, always the same one.

`make fuzz-api` makes many more requests, and other ones each time.
"""

from __future__ import annotations

import pytest

from tests.api.openapi_cases import check, new_app, operations

APP = new_app()
OPERATIONS = {each.label: each for each in operations(APP)}
EXAMPLES = 20
"""Requests to each endpoint: a second or two, of which most is making them up."""


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_documented(label: str) -> None:
    statuses = check(APP, OPERATIONS[label], EXAMPLES)
    assert statuses[200] or OPERATIONS[label].path_parameters, "no request was one that is answered"
