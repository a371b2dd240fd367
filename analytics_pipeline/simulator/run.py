"""Running the simulator: `analytics simulate`, and the history of a first start.

The two ways in, with their exact forms:

    run(settings, *, rate=None, duration=None, history=False, seed=None, stop=None) -> int
    produce_history(settings, now, *, seed=None) -> dict[str, int]

`run` sends `rate` events a second (default `simulator.rate`) for `duration` (a timedelta; without it until
SIGTERM or SIGINT) and returns the exit code. `history=True` sends the history first. With `stop`, a
`threading.Event`, it installs no signal handlers and ends when the event is set.

`produce_history` sends `simulator.history_events` events of the last `simulator.history` and returns the
count per topic. Its events depend on (`now`, seed, settings) alone, ids included: a caller that keeps the
`now` of its first attempt can call it again after a crash, and what had landed already counts as duplicate.
Without a seed, `now` is it.
"""

import secrets
import signal
import time
from datetime import UTC, datetime, timedelta
from threading import Event

import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings
from analytics_pipeline.simulator.delivery import Delivery
from analytics_pipeline.simulator.envelope import SECOND, TOPICS
from analytics_pipeline.simulator.faults import Ratios
from analytics_pipeline.simulator.history import default_seed, past_events
from analytics_pipeline.simulator.pace import Pace
from analytics_pipeline.simulator.stream import Stream

log = structlog.get_logger()

REPORT_INTERVAL = 60.0


def run(
    settings: Settings,
    *,
    rate: float | None = None,
    duration: timedelta | None = None,
    history: bool = False,
    seed: int | None = None,
    stop: Event | None = None,
) -> int:
    """Simulate until told to stop; 0, or 3 when Kafka did not take everything.

    Raises:
        ConfigurationError: Kafka is switched off, or its topics are not those of the simulator.
    """
    if stop is None:
        stop = _stopped_by_signals()
    rate = settings.simulator.rate if rate is None else rate
    seed = settings.simulator.seed if seed is None else seed
    seed = secrets.randbits(32) if seed is None else seed
    log.info("simulator_starts", seed=seed, rate=rate, duration=str(duration or "until stopped"))
    delivery = Delivery(settings.kafka, stop)
    if delivery.wait_until_ready():
        if history:
            _send_history(settings, datetime.now(UTC), seed, delivery, stop)
        _send_live(settings, rate, duration, seed, delivery, stop)
    lost = delivery.close()
    log.info("simulator_stopped", sent=delivery.sent.total(), lost=lost)
    return EnvironmentFault.exit_code if lost else 0


def produce_history(settings: Settings, now: datetime, *, seed: int | None = None) -> dict[str, int]:
    """Send the time before `now`; see this module's text.

    Raises:
        ConfigurationError: as for `run`.
        EnvironmentFault: Kafka did not take everything; calling again with the same `now` is safe.
    """
    stop = Event()
    delivery = Delivery(settings.kafka, stop)
    delivery.wait_until_ready()
    seed = settings.simulator.seed if seed is None else seed
    _send_history(settings, now, default_seed(now) if seed is None else seed, delivery, stop)
    lost = delivery.close(timedelta(seconds=60))
    if lost:
        raise EnvironmentFault(
            f"Kafka did not take {lost} events of the history; see its log, then start again"
        )
    return {topic: delivery.sent[topic] for topic in TOPICS}


def _send_history(settings: Settings, now: datetime, seed: int, delivery: Delivery, stop: Event) -> None:
    began = time.monotonic()
    for number, message in enumerate(past_events(settings.simulator, now, seed)):
        delivery.send(message, at_event_time=True)
        if number % 1000 == 0:
            delivery.poll()
            if stop.is_set():
                return
    log.info(
        "history_sent",
        seed=seed,
        events=delivery.sent.total(),
        until=now.isoformat(),
        seconds=round(time.monotonic() - began, 1),
    )


def _send_live(
    settings: Settings, rate: float, duration: timedelta | None, seed: int, delivery: Delivery, stop: Event
) -> None:
    simulator = settings.simulator
    ratios = Ratios(simulator.late_ratio, simulator.duplicate_ratio, simulator.broken_ratio)
    began = time.monotonic()
    stream = Stream(seed=seed, start=time.time_ns() // 1000, rate=rate, ratios=ratios)
    pace = Pace(rate, began)
    end = None if duration is None else began + duration.total_seconds()
    latest, given_up, next_report = 0, 0.0, began + REPORT_INTERVAL
    while not stop.is_set():
        now = time.monotonic()
        is_over = end is not None and now >= end
        slots = pace.due(min(now, end) if end is not None else now)
        # Asked anew each time: the wall clock may be set while the monotonic one goes on.
        wall = time.time() - now
        for number in range(slots.number):
            latest = max(latest, int((wall + slots.first + number * slots.step) * SECOND))
            delivery.send(stream.message(latest))
        if is_over:
            return
        delivery.poll()
        if pace.given_up > given_up:
            log.warning("simulator_fell_behind", seconds=round(pace.given_up - given_up, 1))
            given_up = pace.given_up
        if now >= next_report:
            log.info(
                "simulator_runs",
                sent=delivery.sent.total(),
                failed=delivery.failed,
                seconds=round(now - began),
            )
            next_report = now + REPORT_INTERVAL
        stop.wait(pace.nap(time.monotonic()))


def _stopped_by_signals() -> Event:
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
