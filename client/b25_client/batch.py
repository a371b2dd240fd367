"""Many series in one call, of one moment: `POST /api/v1/dashboard/query`.

Belongs here: queries as values, and their answers. Does not belong here: what a metric is asked (`metrics`), the ten
numbers as a whole (`dashboard`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

from b25_client.errors import ApiError
from b25_client.metrics import Metrics, MetricsQuery, metrics_of, metrics_parameters
from b25_client.problems import error_told
from b25_client.request import Answer, Request

PATH = "/api/v1/dashboard/query"


class MetricQuery:
    """One metric, or several, with the arguments of `Client.metrics` but for `after`, which is the call's.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """

    def __init__(self, *metric_names: str, id: str | None = None, **asked: Unpack[MetricsQuery]) -> None:
        if "after" in asked:
            raise TypeError("after: is an argument of the call, for all its queries")
        self.id = id
        fields: dict[str, Any] = {}
        for name, text in metrics_parameters(metric_names, asked):
            fields.setdefault(name, []).append(text)
        self.fields = {name: texts[0] if len(texts) == 1 else texts for name, texts in fields.items()}


class TilesQuery:
    """Fields of the dashboard, such as `active_users`."""

    def __init__(self, *tiles: str, id: str | None = None) -> None:
        self.id = id
        self.fields: dict[str, Any] = {"tiles": list(tiles)}


BatchQuery = MetricQuery | TilesQuery


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to one query of a call.

    Attributes:
        id: of the query; its place where it had none.
        metrics: in the order asked for; empty where tiles were asked for.
        tiles: by name.
        problem: why this query has no answer, if so; the others have theirs.
    """

    id: str
    metrics: tuple[Metrics, ...] = ()
    tiles: Mapping[str, Any] = field(default_factory=dict)
    problem: ApiError | None = None

    def raise_problem(self) -> "BatchAnswer":
        """Itself.

        Raises:
            ApiError: it is an error.
        """
        if self.problem is not None:
            raise self.problem
        return self


def batch_request(queries: Sequence[BatchQuery], after: str | None) -> Request[tuple[BatchAnswer, ...]]:
    """Ask for all of them at once."""
    body: dict[str, Any] = {
        "queries": [one.fields if one.id is None else {"id": one.id, **one.fields} for one in queries]
    }
    if after is not None:
        body["after"] = after
    return Request(PATH, lambda answer: _read(answer, queries), body=body, is_read=True)


def _read(answer: Answer, queries: Sequence[BatchQuery]) -> tuple[BatchAnswer, ...]:
    return tuple(map(_answer, answer.json()["results"], queries))


def _answer(result: Mapping[str, Any], query: BatchQuery) -> BatchAnswer:
    identity, body = result["id"], result["body"]
    if result["status"] != 200:
        return BatchAnswer(identity, problem=error_told(body))
    if isinstance(query, TilesQuery):
        return BatchAnswer(identity, tiles=body)
    return BatchAnswer(identity, metrics=metrics_of(body))
