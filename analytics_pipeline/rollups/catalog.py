"""The metric catalog: every metric is declared here, once.

Belongs here: what a metric is, by name, events, value, dimensions and kind of state.
Does not belong here: how it is computed (`deltas`), combined (`levels`) or stored; all of that follows
from the declaration, as do the names and aggregations that the API accepts.
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups import declarations


class Kind(StrEnum):
    """What a series keeps beside count, sum, min and max."""

    VALUE = "value"
    QUANTILE = "quantile"
    """A histogram with logarithmic bins: any quantile within 0.5 %."""
    DISTINCT = "distinct"
    """The 1,024 smallest hashes: exact up to there, ±3.1 % (1σ) above."""
    ENDS = "ends"
    """The first and the last value, by (timestamp, id) of their events."""
    REGISTER = "register"
    """Not a metric: events, late events and set hash of each bucket."""


class Aggregation(StrEnum):
    """What one point of a metric can be."""

    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    DISTINCT = "distinct"
    RATIO = "ratio"
    FIRST = "first"
    LAST = "last"
    OHLC = "ohlc"
    """Four values at once: first, max, min and last, called open, high, low and close."""
    SKIPPED = "skipped"
    """Events whose value could not be added up: text where a number belongs, or more than 1e18. Of every value."""


STATE_VERSION = 2
"""Raised when the bytes or the arithmetic of a state change; part of every `metric_id`."""

TEXT_FIELDS = ("symbol", "strategy_id", "account_id", "asset", "severity")
"""Properties that are used as dimension or counted as distinct values."""

NUMBER_FIELDS = (
    "price",
    "quantity",
    "latency_ms",
    "commission",
    "pnl",
    "signal_strength",
    "volume",
    "bid",
    "ask",
    "balance",
)
"""Properties that are used in values; text in their place is skipped."""

SERIES_LIMIT = 1_000
"""The budget of a metric that declares none. Ids do not tell it: raise `STATE_VERSION` with it."""

_COUNTED = (Aggregation.COUNT,)
_SUMMED = (Aggregation.SUM, Aggregation.COUNT, Aggregation.AVG, Aggregation.MIN, Aggregation.MAX)
_AVERAGED = (Aggregation.AVG, Aggregation.COUNT, Aggregation.MIN, Aggregation.MAX)


@dataclass(frozen=True)
class Metric:
    """One declaration.

    Attributes:
        name: the name in SQL and REST.
        description: one sentence for people.
        unit: unit of the value, such as `ms`, `percent`, `quote` (the quote currency) or `1`.
        event_types: the events that count; empty means all.
        value: DuckDB expression over the event's columns and the declared fields, or None to count events.
            Rounded once per event to 1e-9.
        ratio: event types of numerator and denominator, instead of a value: `count` is how often the second
            came, `sum` 100 × how often the first did, so that their quotient is a percentage.
        property_name: the one property that is the value, of automatic metrics; they have no dimensions.
        dimension_sets: which groupings are kept; the empty one is the total. Without it there is no total, because
            adding up its series would mean nothing.
        kind: the state beside count, sum, min and max.
        aggregations: what may be asked for; the first is the default.
        name_by_dimension: whether rows of a dimension set carry `<name>.<dimension value>` as their name.
        is_carried: whether the last value of each series holds until the next one, so that the sum of these is the
            total, and the value of a part of the dimensions; no such sum is stored.
        series_limit: its cardinality budget, the most series of a dimension set in a UTC day; see `cardinality`.
        declared_at: file and line of the declaration, for those who have to mend it.
    """

    name: str
    description: str
    unit: str
    event_types: tuple[str, ...] = ()
    value: str | None = None
    ratio: tuple[str, str] | None = None
    property_name: str | None = None
    dimension_sets: tuple[tuple[str, ...], ...] = ((),)
    kind: Kind = Kind.VALUE
    aggregations: tuple[Aggregation, ...] = _COUNTED
    name_by_dimension: bool = False
    is_carried: bool = False
    series_limit: int = SERIES_LIMIT
    declared_at: str = field(
        default_factory=declarations.place_of_caller, init=False, compare=False, repr=False
    )

    @property
    def has_total(self) -> bool:
        """Whether a total is stored."""
        return () in self.dimension_sets

    @property
    def is_summed(self) -> bool:
        """Whether it adds up a value of events, which some may have in a form that cannot be."""
        return self.property_name is not None or (self.value is not None and self.kind is not Kind.DISTINCT)

    @property
    def default_aggregation(self) -> Aggregation:
        """What a point is when nobody says."""
        return self.aggregations[0]

    @cached_property
    def metric_id(self) -> str:
        """Hash of all that changes numbers, and of nothing else: two definitions never mix."""
        parts = (
            self.event_types,
            self.value,
            self.ratio,
            self.dimension_sets,
            self.kind.value,
            self.name_by_dimension,
            *(() if self.property_name is None else (self.property_name,)),
            *(() if self.series_limit == SERIES_LIMIT else (self.series_limit,)),
        )
        return hashlib.sha256(repr((STATE_VERSION, self.name, *parts)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Selection:
    """Which rows answer a metric name: those with this `metric_name` and `dimension_set`."""

    metric: Metric
    metric_name: str
    dimension_set: str


@dataclass(frozen=True, eq=False)
class Catalog:
    """The metrics that are computed together: checked when made, never changed, the same only as itself.

    Raises:
        ConfigurationError: a sentence for each declaration that breaks a rule (`declarations`).
    """

    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        """Refuse what could not be computed, asked for, or told apart."""
        if problems := declarations.problems_of(self.metrics, texts=TEXT_FIELDS, numbers=NUMBER_FIELDS):
            raise ConfigurationError(*problems)

    @cached_property
    def by_id(self) -> dict[str, Metric]:
        """The metrics by `metric_id`."""
        return {metric.metric_id: metric for metric in self.metrics}

    @cached_property
    def by_name(self) -> dict[str, Metric]:
        """The metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    @cached_property
    def version(self) -> str:
        """Changes with anything that changes numbers; written to every row of the ledger."""
        return hashlib.sha256("".join(sorted(self.by_id)).encode()).hexdigest()[:12]

    @cached_property
    def automatic(self) -> tuple[Metric, ...]:
        """Those that follow from definitions of custom events; see `rollups.automatic`."""
        return tuple(metric for metric in self.metrics if metric.property_name is not None)

    def resolve(self, metric_name: str) -> Selection | None:
        """Find the metric behind a name, the total by default, or None if there is none.

        `events.count.order.placed` selects the series of that event type of `events.count`.
        """
        metric = self.by_name.get(metric_name)
        if metric is not None:
            return Selection(metric, metric_name, "")
        for candidate in self.metrics:
            if candidate.name_by_dimension and metric_name.startswith(f"{candidate.name}."):
                return Selection(candidate, metric_name, ",".join(candidate.dimension_sets[-1]))
        return None


_QUOTE = "quote"
_BY_SYMBOL_AND_STRATEGY = ((), ("symbol",), ("strategy_id",))


def _count(name: str, description: str, event_type: str) -> Metric:
    return Metric(
        name=name,
        description=description,
        unit="1",
        event_types=(event_type,),
        dimension_sets=_BY_SYMBOL_AND_STRATEGY,
    )


def _orders(what: str) -> Metric:
    return _count(f"trading.orders_{what}", f"Orders {what}.", f"order.{what}")


def _of_fills(name: str, description: str, value: str) -> Metric:
    return Metric(
        name=name,
        description=description,
        unit=_QUOTE,
        event_types=("order.filled",),
        value=value,
        dimension_sets=_BY_SYMBOL_AND_STRATEGY,
        aggregations=_SUMMED,
    )


def _percent(name: str, description: str, numerator: str, denominator: str) -> Metric:
    return Metric(
        name=name,
        description=description,
        unit="percent",
        event_types=(denominator, numerator),
        ratio=(numerator, denominator),
        dimension_sets=_BY_SYMBOL_AND_STRATEGY,
        aggregations=(Aggregation.RATIO,),
    )


def _distinct(name: str, description: str, field: str) -> Metric:
    return Metric(
        name=name,
        description=description,
        unit="1",
        value=field,
        kind=Kind.DISTINCT,
        aggregations=(Aggregation.DISTINCT,),
    )


_DECLARED: tuple[Metric, ...] = (
    Metric(
        name="events.count",
        description="Events, in total and as events.count.<type>.",
        unit="1",
        dimension_sets=((), ("event_type",)),
        name_by_dimension=True,
    ),
    _orders("placed"),
    _orders("filled"),
    _orders("canceled"),
    _orders("rejected"),
    Metric(
        name="trading.total_volume",
        description="Traded volume: price × quantity of filled orders.",
        unit="quote",
        event_types=("order.filled",),
        value="price * quantity",
        dimension_sets=_BY_SYMBOL_AND_STRATEGY,
        aggregations=_SUMMED,
    ),
    _of_fills("trading.realized_pnl", "Profit and loss that filled orders realized.", "pnl"),
    _of_fills("trading.commission", "Commission of filled orders.", "commission"),
    _percent("trading.order_fill_rate", "Orders filled per order placed.", "order.filled", "order.placed"),
    _percent("trading.error_rate", "Orders rejected per order placed.", "order.rejected", "order.placed"),
    Metric(
        name="trading.order_latency",
        description="Time from placing an order to its fill.",
        unit="ms",
        event_types=("order.filled",),
        value="latency_ms",
        dimension_sets=_BY_SYMBOL_AND_STRATEGY,
        kind=Kind.QUANTILE,
        aggregations=(
            Aggregation.AVG,
            Aggregation.COUNT,
            Aggregation.SUM,
            Aggregation.MIN,
            Aggregation.MAX,
            Aggregation.P50,
            Aggregation.P95,
            Aggregation.P99,
        ),
    ),
    _count("trading.positions_opened", "Positions opened.", "position.opened"),
    _count("trading.positions_closed", "Positions closed.", "position.closed"),
    _count("strategies.signals", "Signals of strategies.", "signal.generated"),
    Metric(
        name="strategies.signal_strength",
        description="Strength of the signals of strategies.",
        unit="1",
        event_types=("signal.generated",),
        value="signal_strength",
        dimension_sets=_BY_SYMBOL_AND_STRATEGY,
        aggregations=_AVERAGED,
    ),
    Metric(
        name="market.price",
        description="Market price of a symbol.",
        unit="quote",
        event_types=("market.data.update",),
        value="price",
        dimension_sets=(("symbol",),),
        kind=Kind.ENDS,
        aggregations=(
            Aggregation.LAST,
            Aggregation.FIRST,
            Aggregation.MIN,
            Aggregation.MAX,
            Aggregation.AVG,
            Aggregation.COUNT,
            Aggregation.OHLC,
        ),
    ),
    Metric(
        name="market.volume",
        description="Market volume of a symbol.",
        unit="base",
        event_types=("market.data.update",),
        value="volume",
        dimension_sets=(("symbol",),),
        aggregations=_SUMMED,
    ),
    Metric(
        name="market.spread",
        description="Ask − bid of a symbol.",
        unit="quote",
        event_types=("market.data.update",),
        value="ask - bid",
        dimension_sets=(("symbol",),),
        aggregations=_AVERAGED,
    ),
    Metric(
        name="accounts.balance",
        description="Balance of an account in an asset.",
        unit="asset",
        event_types=("balance.updated",),
        value="balance",
        dimension_sets=(("account_id", "asset"),),
        kind=Kind.ENDS,
        aggregations=(
            Aggregation.LAST,
            Aggregation.FIRST,
            Aggregation.MIN,
            Aggregation.MAX,
            Aggregation.AVG,
            Aggregation.COUNT,
        ),
        is_carried=True,
    ),
    Metric(
        name="alerts.triggered",
        description="Alerts.",
        unit="1",
        event_types=("alert.triggered",),
        dimension_sets=((), ("severity",)),
    ),
    _distinct("users.active", "Distinct users that caused an event.", "user_id"),
    _distinct("sessions.active", "Distinct sessions that caused an event.", "session_id"),
    _distinct("strategies.active", "Distinct strategies named by an event.", "strategy_id"),
)
"""All declarations."""

BUILT_IN = Catalog(_DECLARED)
"""The catalog that every process has, before anybody defines events of their own."""

SKIPPED = "_skipped"
"""The dimension set of a metric's count of events whose value could not be added up."""

REGISTER_ID = "register"
REGISTER_NAME = "_register"


def dimension_set_name(dimensions: tuple[str, ...]) -> str:
    """How a dimension set is stored: sorted names with commas, '' for the total."""
    return ",".join(sorted(dimensions))
