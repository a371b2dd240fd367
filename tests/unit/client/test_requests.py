"""What the client asks, as text, and what it makes of answers."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from b25_client import dead_letters, definitions, errors
from b25_client.batch import TilesQuery, batch_request
from b25_client.definitions import DefinitionVersion
from b25_client.discovery import ErrorBound
from b25_client.filters import Filter
from b25_client.keys import VARIABLE, find_api_key
from b25_client.landings import LandingWait, landing_request
from b25_client.metrics import metrics_request
from b25_client.problems import error_of, error_told
from b25_client.request import Answer, Request, path_of, read_record
from b25_client.restatements import Feed, RestatementsPage
from b25_client.retries import Retries
from b25_client.stored_events import EventPagesQuery, event_of, export_request, page_request, request_behind
from b25_client.transport import finish, http_options

AT = datetime(2026, 1, 31, 13, 30, tzinfo=timezone(timedelta(hours=1)))


def json_answer(text: str, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode())


def test_metrics_are_asked_for_by_their_parameters() -> None:
    request = metrics_request("a.b", {"start_time": AT, "group_by": ["x", "y"], "interval": None})
    assert list(request.parameters) == [
        ("metric_name", "a.b"),
        ("start_time", "2026-01-31T12:30:00Z"),
        ("group_by", "x,y"),
    ]
    assert (
        metrics_request("a", {"end_time": "2026-01-01T00:00:00Z"}).parameters[-1][1] == "2026-01-01T00:00:00Z"
    )


def test_filters_durations_and_truth_are_written_as_the_service_reads_them() -> None:
    asked = {
        "dimension": [Filter("symbol", "in", ["A", "B"]), "side:ne:BUY"],
        "last": timedelta(hours=36),
        "counts": True,
        "explain": False,
    }
    assert list(metrics_request("m", asked).parameters)[1:] == [
        ("dimension", 'symbol:in:"A","B"'),
        ("dimension", "side:ne:BUY"),
        ("last", "36h"),
        ("counts", "1"),
        ("explain", "0"),
    ]
    assert ("last", "90s") in metrics_request("m", {"last": timedelta(seconds=90)}).parameters
    with pytest.raises(ValueError, match="last"):
        metrics_request("m", {"last": timedelta(0)})


def test_events_are_asked_for_by_several_values() -> None:
    asked: EventPagesQuery = {
        "event_type": ["a", "b.*"],
        "property": [Filter("p", "eq", 5), "q:exists:true"],
        "fields": ["id", "properties.p"],
        "id": UUID(int=1),
        "limit": 5,
    }
    assert list(page_request(asked).parameters) == [
        ("event_type", "a"),
        ("event_type", "b.*"),
        ("property", "p:eq:5"),
        ("property", "q:exists:true"),
        ("fields", "id,properties.p"),
        ("id", "00000000-0000-0000-0000-000000000001"),
        ("limit", "5"),
    ]
    assert ("format", "csv") in export_request({"user_id": "u"}, "csv").parameters


def test_the_next_page_is_the_same_question_without_counting_again() -> None:
    page = finish(
        page_request({}),
        json_answer(
            '{"events":[],"start_time":"2026-01-01T00:00:00Z","end_time":"2026-01-02T00:00:00Z","next_cursor":"c"}'
        ),
    )
    request = request_behind(page, {"event_type": "a", "total": "exact"}, is_back=False)
    assert request is not None
    assert list(request.parameters) == [("event_type", "a"), ("cursor", "c")]
    assert request_behind(page, {}, is_back=True) is None


@pytest.mark.parametrize("asked", [{"limit": object()}, {"colour": "red"}, {"cursor": b"x"}])
def test_an_argument_that_is_not_known_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        page_request(asked)
    with pytest.raises(TypeError, match="limit"):
        export_request({"limit": 5}, "csv")


@pytest.mark.parametrize(
    ("operator", "value", "text"),
    [
        ("eq", "5", 'p:eq:"5"'),
        ("eq", 5.5, "p:eq:5.5"),
        ("ne", True, "p:ne:true"),
        ("eq", None, "p:eq:null"),
        ("eq", 'a"b', 'p:eq:"a\\"b"'),
        ("in", ["BUY", 1], 'p:in:"BUY",1'),
        ("prefix", "a,b", "p:prefix:a,b"),
        ("exists", False, "p:exists:false"),
    ],
)
def test_a_filter_is_written_as_json_types_it(operator: Any, value: Any, text: str) -> None:
    assert Filter("p", operator, value).text == text


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("eq", float("nan")),
        ("eq", 1e300),
        ("eq", 10**50),
        ("eq", [1]),
        ("in", "ab"),
        ("in", []),
        ("in", ["a,b"]),
        ("prefix", 5),
        ("exists", "yes"),
        ("gt", {}),
    ],
)
def test_a_filter_that_cannot_be_written_is_refused_when_it_is_made(operator: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Filter("p", operator, value)


def test_an_event_has_what_was_asked_for() -> None:
    found = event_of(
        {"timestamp": "2026-01-31T12:00:00.123456Z", "properties.a.b": None, "properties.c": [1]}
    )
    assert found.timestamp == datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)
    assert (found.id, found.event_type, found.properties) == (None, None, {})
    assert found.values == {"a.b": None, "c": [1]}


def test_a_table_keeps_columns_that_have_one_name_apart() -> None:
    found = finish(
        metrics_request("m", {}),
        json_answer(
            '{"cached":true,"warnings":["w"],"result":{"metric_name":"m","interval":"1h","aggregation":"ohlc",'
            '"start_time":"2026-01-01T00:00:00Z","end_time":"2026-01-02T00:00:00Z","data_points":['
            '{"timestamp":"2026-01-01T01:00:00Z","value":4,"open":1,"high":5,"low":0.5,"close":4,'
            '"dimensions":{"value":"x","b":true},"incomplete":true},'
            '{"timestamp":"2026-01-01T02:00:00Z","value":4,"dimensions":{"value":7,"b":null},"predecessor":true}]}}'
        ),
    )
    assert (found.is_cached, found.warnings) == (True, ("w",))
    rows = found.to_arrow().to_pylist()
    assert rows[0] == {
        "timestamp": datetime(2026, 1, 1, 1, tzinfo=UTC),
        "value": 4.0,
        "open": 1.0,
        "high": 5.0,
        "low": 0.5,
        "close": 4.0,
        "dimension_value": "x",
        "b": "true",
        "is_incomplete": True,
        "is_predecessor": False,
        "is_pending": False,
        "is_unbounded": False,
        "is_filled": False,
        "state": None,
        "revision": 0,
    }
    assert (rows[1]["dimension_value"], rows[1]["b"], rows[1]["open"]) == ("7", None, None)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from b25_client.arrow import ArrowDecoder

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(errors.MissingLibrary, match="pip install pyarrow"):
        ArrowDecoder()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (413, errors.InvalidRequest),
        (418, errors.ApiError),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (500, errors.ServiceUnavailable),
        (503, errors.ServiceUnavailable),
        (599, errors.ServiceUnavailable),
    ],
)
def test_every_problem_has_its_exception(status: int, kind: type[errors.ApiError]) -> None:
    told = error_of(
        json_answer(
            '{"type":"urn:x:problem:some-kind","title":"T","status":1,"detail":"D","error":"T","request_id":"r",'
            '"retry_after":7,"parameter":"p"}',
            status,
        )
    )
    assert type(told) is kind
    assert (told.status, told.kind, told.title, told.detail) == (status, "some-kind", "T", "D")
    assert (told.request_id, told.retry_after, told.extra) == ("r", 7.0, {"parameter": "p"})
    plain = error_of(json_answer("<html>", status, retry_after="3", x_request_id="q"))
    assert (type(plain), plain.type, plain.retry_after, plain.request_id) == (kind, "about:blank", 3.0, "q")
    assert plain.title


def test_a_search_without_result_says_where_to_go_on() -> None:
    told = error_told({"status": 400, "type": "urn:x:scan-budget", "next_cursor": "c", "previous_cursor": 5})
    assert isinstance(told, errors.ScanBudgetExceeded)
    assert (told.next_cursor, told.previous_cursor) == ("c", None)


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>"), (200, "[]"), (200, '{"events":1}'), (302, ""), (200, "[" * 100_000)]
)
def test_an_answer_of_something_else_is_not_taken_for_one(status: int, body: str) -> None:
    with pytest.raises(errors.UnexpectedAnswer):
        finish(page_request({}), json_answer(body, status))


def test_paths_are_made_of_parts() -> None:
    assert path_of("a", "b/c ?") == "/a/b%2Fc%20%3F"


def test_a_landing_is_waited_for_as_long_as_it_was_asked_for() -> None:
    now = [0.0]
    waiting = LandingWait("t", 40, lambda: now[0])
    assert list(waiting.request().parameters) == [("wait", "30")]
    now[0] = 30.5
    assert list(waiting.request().parameters) == [("wait", "10")]
    assert waiting.request().takes == 10
    now[0] = 40
    with pytest.raises(errors.NotLanded):
        waiting.request()
    assert not LandingWait("t", 0, lambda: 0.0).request().parameters
    with pytest.raises(ValueError, match="30"):
        landing_request("t", 31)


def test_a_client_is_made_of_what_can_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    usual: dict[str, Any] = {"api_key": None, "timeout": 30.0, "headers": None}
    for wrong in ({"timeout": 0}, {"timeout": float("inf")}, {"timeout": float("nan")}, {"api_key": "a b"}):
        with pytest.raises(ValueError, match=r"\w") as caught:
            http_options("http://x", **(usual | wrong))
        assert "a b" not in str(caught.value)
    for url in ("localhost:9097", "ftp://x", "http://user:secret@x"):
        with pytest.raises(ValueError, match="url") as caught:
            http_options(url, **usual)
        assert "secret" not in str(caught.value)
    monkeypatch.setenv(VARIABLE, "k1")
    assert http_options("http://x", **usual)["headers"]["Authorization"] == "Bearer k1"
    assert find_api_key("k2") == "k2"
    monkeypatch.setenv(VARIABLE, "")
    assert "Authorization" not in http_options("http://x", **usual)["headers"]


@pytest.mark.parametrize(
    ("request_", "may_repeat"),
    [
        (batch_request([TilesQuery("active_users")], None), True),
        (definitions.compatibility_request("a", schema=None, last=None), True),
        (definitions.trial_request("a", {}, schema=None, version=None), True),
        (dead_letters.replay_request({"all": True}, dry_run=True, limit=None, after=None), True),
        (dead_letters.replay_request({"all": True}, dry_run=False, limit=None, after=None), False),
        (dead_letters.discard_request({"all": True}, "x", dry_run=False, limit=None), False),
        (definitions.activity_request("a", is_active=True, if_match=None), False),
        (definitions.delete_request("a", if_match=None), False),
        (
            definitions.change_request(
                "a", schema={}, display_name=None, description=None, version=1, if_match=None
            ),
            False,
        ),
    ],
)
def test_what_only_reads_is_asked_again_and_what_writes_never(
    request_: Request[Any], may_repeat: bool
) -> None:
    attempts = Retries(most=1).attempts(request_)
    busy = error_of(json_answer("{}", 503))
    if may_repeat:
        assert attempts.after(busy) > 0
    with pytest.raises(errors.ServiceUnavailable):
        attempts.after(busy)


def test_a_record_has_what_it_knows_and_lacks_nothing() -> None:
    content = {"version": 1, "schema": {}, "created_at": "2026-01-01T00:00:00Z", "is_current": True, "new": 1}
    found = read_record(DefinitionVersion, content)
    assert (found.version, found.created_at) == (1, datetime(2026, 1, 1, tzinfo=UTC))
    del content["version"]
    with pytest.raises(KeyError):
        read_record(DefinitionVersion, content)
    assert read_record(ErrorBound, {}) == ErrorBound()


def test_a_feed_begins_where_it_was_left_or_now() -> None:
    page = RestatementsPage((), None, "c2")
    feed = Feed({"limit": 5}, None)
    assert ("limit", "1") in feed.request().parameters
    assert feed.take(RestatementsPage((), "older", "c1")) is None
    assert {("limit", "5"), ("cursor", "c1")} == set(feed.request().parameters)
    assert feed.take(page) is None
    assert ("cursor", "c2") in feed.request().parameters
