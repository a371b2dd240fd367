"""Checks of what must always balance, with the numbers as metadata.

Belongs here: judging. Does not belong here: reading (`storage.audit`, `storage.books`).
ERROR = numbers are wrong or will be lost; WARN = late, or a producer is to blame.
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.reports import Record, table
from analytics_pipeline.defs.rollups.specs import KEYS
from analytics_pipeline.storage import audit, books, partitions
from analytics_pipeline.storage.tolerances import DAYS_AHEAD, DEAD_RATIO, DEAD_WINDOW, LATE_SECONDS
from analytics_pipeline.storage.verdicts import Check

Numbers = dict[str, dg.MetadataValue | str | int | float]

_ERROR = dg.AssetCheckSeverity.ERROR
_WARN = dg.AssetCheckSeverity.WARN
_LEDGER_WINDOW = timedelta(days=1)


@dg.multi_asset_check(
    name="books_of_landing",
    specs=[
        dg.AssetCheckSpec(
            "ledger_is_conserved",
            asset=EVENTS,
            description=(
                "Of a day: offsets follow one another without a gap; every message read was stored, a duplicate or a "
                "dead letter; everything that REST accepted was read or waits."
            ),
        ),
        dg.AssetCheckSpec(
            "partitions_are_ahead",
            asset=EVENTS,
            description="Events of the next two days have a partition to land in, without a hole.",
        ),
        dg.AssetCheckSpec(
            "dead_letter_ratio",
            asset=EVENTS,
            description="At most 5 % of the last hour's messages are dead letters.",
        ),
    ],
)
def books_of_landing(pipeline: Pipeline) -> Iterator[dg.AssetCheckResult]:
    """The ledger of a day, the partitions ahead, and an hour's dead letters."""
    now = pipeline.now()
    with pipeline.connection("checks") as connection:
        ledger = audit.verify_ledger(connection, since=now - _LEDGER_WINDOW)
        ahead = partitions.days_ahead(connection, now=now).get("events", 0.0)
        read, dead = books.read_and_dead(connection, now=now, window=DEAD_WINDOW)
    ratio = dead / read if read else 0.0
    is_conserved = all(check.holds for check in ledger)
    yield _result("ledger_is_conserved", EVENTS, is_conserved, _ERROR, _numbers(ledger))
    yield _result("partitions_are_ahead", EVENTS, ahead >= DAYS_AHEAD, _ERROR, {"days": ahead})
    yield _result(
        "dead_letter_ratio", EVENTS, ratio <= DEAD_RATIO, _WARN, {"read": read, "dead": dead, "ratio": ratio}
    )


@dg.multi_asset_check(
    name="books_of_rollups",
    specs=[
        dg.AssetCheckSpec(
            "equals_raw",
            asset=KEYS["1h"],
            description="The register counts, settled and pending, as many events of the last closed hour as raw has.",
        ),
        dg.AssetCheckSpec(
            "is_fresh",
            asset=KEYS["1m"],
            description="Nothing has waited five minutes to be landed or merged.",
        ),
        dg.AssetCheckSpec(
            "deltas_are_merged",
            asset=KEYS["1m"],
            description="No delta has waited five minutes for a live merge.",
        ),
    ],
)
def books_of_rollups(pipeline: Pipeline) -> Iterator[dg.AssetCheckResult]:
    """Event counts of the last closed hour, settled plus pending, and the age of what waits."""
    now = pipeline.now()
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    with pipeline.connection("checks") as connection:
        balances = books.levels_against_raw(connection, hour)
        freshness = books.freshness(connection, now=now)
    equal = all(balance.counted == balance.raw for balance in balances)
    levels: Numbers = {
        "hour": dg.MetadataValue.timestamp(hour),
        "raw events": balances[0].raw,
        "differences": sum(abs(balance.counted - balance.raw) for balance in balances),
        "levels": table([balance._asdict() for balance in balances]),
    }
    yield _result("equals_raw", KEYS["1h"], equal, _ERROR, levels)
    numbers = {name: age for name, age in freshness._asdict().items() if age is not None}
    yield _result("is_fresh", KEYS["1m"], freshness.oldest <= LATE_SECONDS, _WARN, numbers)
    age = freshness.oldest_pending or 0.0
    pending: Numbers = {"deltas": freshness.pending, "oldest (seconds)": age}
    yield _result("deltas_are_merged", KEYS["1m"], age <= LATE_SECONDS, _WARN, pending)


def _numbers(ledger: list[Check]) -> Numbers:
    found: Numbers = {check.name: check.broken for check in ledger}
    places: list[Record] = [
        {
            "check": check.name,
            "source": place.source,
            "partition": str(place.partition if place.partition is not None else ""),
            "batches": ", ".join(map(str, place.batches)),
            "problem": place.problem,
        }
        for check in ledger
        for place in check.places
    ]
    return found | ({"places": table(places)} if places else {})


def _result(
    name: str,
    asset: dg.AssetKey,
    passed: bool,
    severity: dg.AssetCheckSeverity,
    numbers: Numbers,
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name, asset_key=asset, passed=passed, severity=severity, metadata=numbers
    )
