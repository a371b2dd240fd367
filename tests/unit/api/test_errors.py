"""Problems: RFC 9457 with the original's `error` beside it."""

import json

import psycopg
import pytest

from api.database import problem_of
from api.errors import BadRequest, Problem, TooManyRequests, Unavailable, internal_problem, invalid_parameter


def test_the_body_of_a_problem() -> None:
    problem = invalid_parameter("limit", "must be a whole number from 1 to 10000")
    assert json.loads(problem.body("r-1")) == {
        "type": "urn:b25-analytics:problem:invalid-parameter",
        "title": "Invalid limit parameter",
        "status": 400,
        "detail": "limit: must be a whole number from 1 to 10000",
        "error": "Invalid limit parameter",
        "request_id": "r-1",
        "parameter": "limit",
    }
    assert problem.all_headers() == {}


def test_retry_after_is_in_whole_seconds_in_body_and_header() -> None:
    problem = TooManyRequests("Slow down.", retry_after=0.2)
    assert json.loads(problem.body(""))["retry_after"] == 1
    assert problem.all_headers() == {"Retry-After": "1"}
    assert json.loads(problem.body(""))["error"] == "rate limit exceeded"


def test_a_defect_says_nothing_of_itself() -> None:
    assert (internal_problem().status, internal_problem().kind) == (500, "internal")


@pytest.mark.parametrize(
    ("error", "expected", "kind"),
    [
        (psycopg.errors.QueryCanceled(), Unavailable, "query-timeout"),
        (psycopg.errors.AdminShutdown(), Unavailable, "database-unavailable"),
        (psycopg.OperationalError("connection refused"), Unavailable, "database-unavailable"),
        (psycopg.InterfaceError("closed"), Unavailable, "database-unavailable"),
        (psycopg.errors.DiskFull(), Unavailable, "database-unavailable"),
        (psycopg.errors.DatetimeFieldOverflow(), BadRequest, "invalid-request"),
        (ConnectionResetError(), Unavailable, "database-unavailable"),
        (TimeoutError(), Unavailable, "database-unavailable"),
    ],
)
def test_what_errors_of_postgres_mean(error: Exception, expected: type[Problem], kind: str) -> None:
    problem = problem_of(error)
    assert isinstance(problem, expected)
    assert problem.kind == kind


def test_mistakes_of_ours_stay_mistakes() -> None:
    with pytest.raises(psycopg.errors.SyntaxError):
        problem_of(psycopg.errors.SyntaxError())
