"""Which partitions go."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.retention.plan import Kind, Partition, Policy, line, plan

NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RAW = Policy("events", Kind.RAW, timedelta(days=3))


def day(days_ago: int, parent: str = "events") -> Partition:
    lower = line(timedelta(), NOW) - days_ago * DAY
    return Partition(parent, f"{parent}_{lower:%Y%m%d}", lower, lower + DAY)


def names(found: tuple[Partition, ...]) -> list[str]:
    return [partition.name for partition in found]


def test_whole_days_beyond_the_line_go_and_the_floor_rises_to_it():
    decided = plan([day(n) for n in range(6)], [RAW], now=NOW, floor=EPOCH)
    assert names(decided.removals) == ["events_20261118", "events_20261119"]
    assert decided.floor == datetime(2026, 11, 20, tzinfo=UTC)


def test_a_day_stays_while_any_of_its_events_is_within_the_policy():
    just_before = datetime(2026, 11, 22, 23, 59, 59, 999999, tzinfo=UTC)
    keep = Policy("events", Kind.RAW, DAY)
    assert plan([day(2)], [keep], now=just_before, floor=EPOCH).removals == ()
    assert plan([day(2)], [keep], now=datetime(2026, 11, 23, tzinfo=UTC), floor=EPOCH).removals == (day(2),)


def test_a_table_without_policy_is_left_alone():
    assert plan([day(900, "other")], [RAW], now=NOW, floor=EPOCH).removals == ()


def test_a_rollup_partition_stays_while_raw_events_of_its_time_remain():
    rollup = Policy("metric_states_1m", Kind.ROLLUP, DAY)
    assert plan([day(2, "metric_states_1m")], [RAW, rollup], now=NOW, floor=EPOCH).removals == ()
    assert len(plan([day(5, "metric_states_1m")], [RAW, rollup], now=NOW, floor=EPOCH).removals) == 1


def test_raw_goes_before_rollups_and_old_before_new():
    rollup = Policy("a_rollup", Kind.ROLLUP, timedelta(days=3))
    found = plan([day(9, "a_rollup"), day(4), day(8)], [rollup, RAW], now=NOW, floor=EPOCH).removals
    assert names(found) == ["events_20261115", "events_20261119", "a_rollup_20261114"]


kinds = st.sampled_from(list(Kind))
keeps = st.integers(min_value=1, max_value=60).map(lambda hours: timedelta(hours=hours * 7))
times = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
floors = st.one_of(st.just(EPOCH), times)
policies = st.dictionaries(st.sampled_from("abcd"), st.tuples(kinds, keeps), min_size=1).map(
    lambda found: [Policy(parent, kind, keep) for parent, (kind, keep) in found.items()]
)
partitions = st.lists(
    st.builds(
        lambda parent, start, days: Partition(parent, f"{parent}{start:%Y%m%d}", start, start + days * DAY),
        st.sampled_from("abcde"),
        times.map(lambda at: at.replace(hour=0, minute=0, second=0, microsecond=0)),
        st.sampled_from([1, 30]),
    ),
    unique_by=lambda partition: partition.name,
)


@given(partitions, policies, times, floors)
def test_nothing_within_its_policy_goes_and_everything_beyond_it_does(known, rules, now, floor):
    decided = plan(known, rules, now=now, floor=floor)
    by_parent = {rule.parent: rule for rule in rules}
    for partition in decided.removals:
        assert partition.upper <= now - by_parent[partition.parent].keep
    for partition in set(known) - set(decided.removals):
        rule = by_parent.get(partition.parent)
        is_guarded = rule is not None and rule.kind is not Kind.MART and partition.upper > decided.floor
        assert rule is None or partition.upper > line(rule.keep, now) or is_guarded


@given(partitions, policies, times, floors)
def test_the_floor_never_falls_and_never_passes_what_raw_policies_keep(known, rules, now, floor):
    raised = plan(known, rules, now=now, floor=floor).floor
    assert raised >= floor
    assert raised == floor or any(raised == line(rule.keep, now) for rule in rules if rule.kind is Kind.RAW)


@given(partitions, policies, times, floors, st.integers(min_value=0, max_value=1000))
def test_later_runs_remove_what_earlier_ones_would_and_a_second_run_finds_nothing(
    known, rules, now, floor, hours
):
    first = plan(known, rules, now=now, floor=floor)
    later = plan(known, rules, now=now + timedelta(hours=hours), floor=floor)
    assert set(first.removals) <= set(later.removals)
    rest = [partition for partition in known if partition not in first.removals]
    assert plan(rest, rules, now=now, floor=first.floor).removals == ()
