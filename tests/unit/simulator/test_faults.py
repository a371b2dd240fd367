"""The simulator's faults are what it says: late, twice, or broken beyond landing."""

import json
from datetime import timedelta
from random import Random

import pytest

from analytics_pipeline.events.decode import decode_posted
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.times import from_micros
from analytics_pipeline.settings import Settings
from analytics_pipeline.simulator.envelope import SECOND, Message
from analytics_pipeline.simulator.faults import BREAKAGES, BURST, MAX_DELAY, Faults, Ratios
from tests.unit.simulator.streams import START, messages, slots

COUNT = 20_000
NOW = from_micros(START) + timedelta(hours=1)


def rejected(value: bytes) -> str | None:
    """The reason code, or None for a good event."""
    try:
        decode_posted(value, now=NOW, limits=Limits())
    except Rejected as error:
        return str(error.reason)
    return None


@pytest.mark.parametrize("kind", BREAKAGES)
def test_every_breakage_makes_a_dead_letter(kind: str) -> None:
    for message in messages(1, 100, 200):
        assert rejected(message.value) is None
        broken = BREAKAGES[kind](message.value)
        assert broken == message.value or rejected(broken) is not None


def test_breakages_have_many_reasons() -> None:
    sample = next(message for message in messages(1, 100, 200) if b'"user_id"' in message.value)
    reasons = {rejected(breakage(sample.value)) for breakage in BREAKAGES.values()}
    assert None not in reasons
    assert len(reasons) >= 8


def test_broken_messages_come_at_their_ratio() -> None:
    sent = messages(2, 100, COUNT, Ratios(broken=0.01))
    broken = [message for message in sent if rejected(message.value) is not None]
    assert len(broken) == pytest.approx(0.01 * COUNT, rel=0.3)


def test_duplicates_are_the_same_bytes_under_the_same_key() -> None:
    sent = messages(3, 100, COUNT, Ratios(duplicate=0.01))
    seen: dict[str, Message] = {}
    for message in sent:
        assert seen.setdefault(json.loads(message.value)["id"], message) == message
    assert COUNT - len(seen) == pytest.approx(0.01 * COUNT, rel=0.3)


def test_late_events_are_minutes_behind_and_count_as_late() -> None:
    grace = Settings().analytics.aggregation.grace
    sent = messages(4, 100, 5 * COUNT, Ratios(late=0.05))
    delays: list[int] = []
    for slot, message in zip(slots(100, 5 * COUNT), sent, strict=True):
        behind = slot - message.time
        if behind < 2 * SECOND:
            continue
        delays.append(behind)
        assert message.time >= START, "of a time whose prices are known"
        assert json.loads(message.value)["event_type"] == "market.data.update"
        minute_end = message.time // (60 * SECOND) * 60 * SECOND + 60 * SECOND
        assert minute_end + grace.total_seconds() * SECOND <= slot
    assert len(delays) > BURST
    assert len(set(delays)) == len(delays) / BURST, "a burst is late by the same"


def test_bursts_of_late_messages_come_at_their_ratio() -> None:
    faults = Faults(Random(6), Ratios(late=0.05), START)
    faults.remember(messages(6, 100, 1)[0])
    later = START + MAX_DELAY
    drawn = [faults.draw(later) for _ in range(50 * COUNT)]
    assert drawn.count("late") == pytest.approx(0.05 * len(drawn), rel=0.2)


def test_without_ratios_nothing_is_wrong() -> None:
    sent = messages(5, 100, 2_000)
    assert len({json.loads(message.value)["id"] for message in sent}) == len(sent)


def test_all_ratios_together_leave_the_rate_alone() -> None:
    assert len(messages(6, 100, 3_000, Ratios(0.3, 0.3, 0.3))) == 3_000
