"""The pictures of the concepts, `docs/pictures/`. Narrow, so that a telephone shows them in a readable size.

Belongs here: what each shows. Does not belong here: how a box looks (`drawing`).
"""

from collections.abc import Callable, Mapping

from documentation.drawing import Drawing


def flow() -> Drawing:
    """Where events come from, where they go, who reads what."""
    it = Drawing(
        560,
        560,
        "Producers write to Kafka topics and REST clients to the inbox; ingest lands both in Postgres; merges fill "
        "rollups; the API adds settled rollups and pending deltas, with Redis beside it",
    )
    it.box(30, 10, 160, 46, "Kafka producers")
    it.box(370, 10, 160, 46, "REST clients")
    it.arrow((110, 56), (110, 96))
    it.box(30, 96, 160, 46, "Kafka topics", look="store")
    it.arrow((420, 56), (420, 96), label=("POST",), at=(372, 80))
    it.box(370, 96, 160, 46, "API")
    it.arrow((370, 119), (335, 119), (335, 178), (306, 178))
    it.box(30, 178, 120, 46, "ingest")
    it.box(206, 160, 100, 36, "inbox", look="store")
    it.arrow((90, 142), (90, 178))
    it.arrow((206, 178), (178, 178), (178, 200), (150, 200))
    it.box(14, 262, 404, 284, "Postgres", look="frame")
    it.arrow((90, 224), (90, 296), label=("one transaction per batch",), at=(100, 248))
    it.box(30, 296, 170, 34, "events", look="store")
    it.box(30, 336, 170, 34, "dead letters", look="store")
    it.box(30, 376, 170, 34, "ledger, offsets", look="store")
    it.box(30, 416, 170, 34, "deltas", look="store")
    it.box(30, 496, 170, 34, "rollups 1m … 1d", look="store")
    it.arrow((115, 450), (115, 496), label=("merge, every minute",), at=(124, 478))
    it.box(290, 296, 112, 34, "marts", look="store")
    it.arrow((200, 313), (290, 313), label=("dbt",), at=(232, 307))
    it.line((200, 433), (440, 433))
    it.line((200, 513), (440, 513))
    it.arrow((440, 513), (440, 142), label=("settled", "+ pending"), at=(448, 350))
    it.box(462, 188, 84, 40, "Redis", look="store")
    it.arrow((490, 188), (490, 142))
    it.arrow((512, 142), (512, 188))
    return it


def exactly_once() -> Drawing:
    """One landing, and what a kill at any moment leaves."""
    it = Drawing(
        560,
        470,
        "A batch of offsets 120 to 179: events, dead letters, deltas, a ledger line and the moved offset are one "
        "transaction; only after COMMIT the offset goes to Kafka",
    )
    it.box(20, 14, 520, 44, "order.events, partition 2: next offset 120, Kafka holds up to 179", look="store")
    it.arrow((150, 58), (150, 96), label=("60 messages: decode, judge, compute deltas",), at=(160, 82))
    it.box(20, 96, 520, 250, "one transaction", look="frame")
    it.box(60, 130, 440, 34, "57 rows into events", look="store")
    it.box(60, 170, 440, 34, "1 dead letter, its bytes as they came", look="store")
    it.box(60, 210, 440, 34, "deltas of every metric, of the 57 rows", look="store")
    it.box(60, 250, 440, 34, "ledger: 60 read = 57 stored + 2 duplicates + 1 dead", look="store")
    it.box(60, 290, 440, 34, "offset 120 → 180, if it is still 120 and still ours", look="store")
    it.arrow((150, 346), (150, 392), label=("COMMIT",), at=(160, 374))
    it.box(40, 392, 220, 54, "all of it", "the next batch begins at 180", look="good")
    it.arrow((370, 346), (370, 392), label=("killed anywhere above",), at=(380, 374), look="dashed")
    it.box(300, 392, 220, 54, "nothing of it", "read again from 120", look="bad")
    return it


def deltas() -> Drawing:
    """Settled plus pending is live."""
    it = Drawing(
        560,
        400,
        "Landings add deltas, merges move them into all five levels in one transaction, readers add both halves in "
        "one statement",
    )
    it.box(20, 14, 200, 52, "landing", "one COMMIT per batch")
    it.arrow((120, 66), (120, 120), label=("events and their deltas",), at=(130, 96))
    it.box(20, 120, 200, 76, "pending", "deltas of 12:03, 12:04", "added to, never changed", look="store")
    it.arrow((220, 158), (340, 158), label=("merge, one",), at=(240, 150))
    it.words(240, 178, "transaction", is_left=True, is_small=True)
    it.box(340, 110, 200, 96, "settled", "1m  5m  15m  1h  1d", "all five move", "together", look="store")
    it.arrow((120, 196), (120, 300), (205, 300))
    it.arrow((440, 206), (440, 300), (355, 300))
    it.box(205, 272, 150, 56, "live", "one statement", look="good")
    it.words(160, 290, "+", is_small=True)
    it.words(398, 290, "+", is_small=True)
    it.words(
        280,
        362,
        "before, while and after a merge the sum is the same:",
        "what leaves one side arrives on the other in the same COMMIT",
        is_small=True,
    )
    return it


def buckets() -> Drawing:
    """The states of a bucket."""
    it = Drawing(
        560,
        440,
        "A bucket is open while its time runs, settling when that is over, final when everything of its time has "
        "landed and is merged, restated when it changed afterwards",
    )
    it.box(30, 14, 190, 54, "open", "its time is not over")
    it.arrow((125, 68), (125, 126), label=("its time is over",), at=(136, 102))
    it.box(30, 126, 190, 54, "settling", "numbers may still come")
    it.arrow((125, 180), (125, 282), label=(), at=None)
    it.words(136, 206, "grace is over,", is_left=True, is_small=True)
    it.words(136, 224, "Kafka and the inbox hold nothing from before its end,", is_left=True, is_small=True)
    it.words(136, 242, "and no delta of it is pending", is_left=True, is_small=True)
    it.box(30, 282, 190, 54, "final", "nothing is outstanding", look="good")
    it.arrow((220, 309), (340, 309), label=("late event,",), at=(234, 301))
    it.words(234, 328, "backfill", is_left=True, is_small=True)
    it.box(340, 282, 190, 54, "restated", "revision + 1", look="bad")
    it.arrow((470, 336), (470, 376), (400, 376), (400, 336), label=("and again",), at=(408, 394))
    return it


def late_events() -> Drawing:
    """When an event is late, and what it changes."""
    it = Drawing(
        560,
        330,
        "The minute 12:00 ends at 12:01:00 and its grace at 12:01:30; what reaches Kafka before is on time, what comes "
        "later is late; after the bucket is final it restates it",
    )
    it.words(280, 22, "events of 12:00:40, by when they reach Kafka", is_small=True)
    it.line((20, 170), (530, 170))
    for x, text in ((40, "12:00:00"), (200, "12:01:00"), (280, "12:01:30"), (400, "")):
        it.line((x, 162), (x, 178))
        it.words(x, 196, text, is_small=True)
    it.box(40, 130, 160, 32, "the minute", look="store")
    it.box(200, 130, 80, 32, "grace")
    it.arrow((240, 74), (240, 128))
    it.words(240, 66, "on time", is_small=True)
    it.arrow((340, 74), (340, 168))
    it.words(340, 66, "late", is_small=True)
    it.arrow((470, 74), (470, 168))
    it.words(470, 48, "late, and", is_small=True)
    it.words(470, 66, "a restatement", is_small=True)
    it.line((400, 110), (400, 178), look="dashed")
    it.words(400, 100, "final", is_small=True)
    it.box(40, 226, 480, 84, "all three count in the bucket of 12:00", look="good")
    it.words(280, 300, "late ones are marked, and counted per bucket", is_small=True)
    return it


def retention() -> Drawing:
    """How a day goes."""
    it = Drawing(
        560,
        424,
        "A day of raw events goes step by step: planned, merged, frozen, detached, archived, verified, dropped; every "
        "step can be killed and is resumed",
    )
    steps = (
        ("planned", "the raw floor is above the day: nothing of it is in flight"),
        ("merged", "no delta of it is pending"),
        ("frozen", "never recomputed from live raw events again"),
        ("detached", "a table of its own; nobody waited for that"),
        ("archived", "written as Parquet"),
        ("verified", "read back: same count, same hash of the set"),
        ("dropped", "the table is gone, the rollups stay"),
    )
    for number, (name, meaning) in enumerate(steps):
        y = 14 + number * 58
        is_kept = name in {"archived", "verified"}
        it.box(20, y, 120, 38, name, look="bad" if name == "dropped" else "good" if is_kept else "")
        it.words(156, y + 24, meaning, is_left=True)
        if number:
            it.arrow((80, y - 20), (80, y))
    return it


def cache() -> Drawing:
    """Why a cached answer is never stale."""
    it = Drawing(
        560,
        380,
        "The key of an answer is the question and the version of every day that it covers; a landing changes the "
        "pending part of a version, a merge its revision, so the old entry is simply not found any more",
    )
    it.box(20, 14, 250, 74, "question", "metric, interval, range, …", "what the key may see")
    it.box(
        290,
        14,
        250,
        74,
        "version of each UTC day",
        "revision of its rollups",
        "pending batches: count, sum of ids",
    )
    it.arrow((145, 88), (145, 130))
    it.arrow((415, 88), (415, 130))
    it.box(20, 130, 520, 44, "key of the answer, and its ETag", look="store")
    it.arrow((280, 174), (280, 216))
    it.box(20, 216, 160, 56, "this process", "in memory", look="good")
    it.arrow((180, 244), (200, 244))
    it.box(200, 216, 160, 56, "Redis", "all processes", look="good")
    it.arrow((360, 244), (380, 244))
    it.box(380, 216, 160, 56, "Postgres", "once for all who wait", look="store")
    it.words(280, 308, "A landing adds a pending batch, a merge raises the revision:", is_small=True)
    it.words(280, 326, "the key is another one, and the old answer is never found again.", is_small=True)
    it.words(
        280, 350, "Each API process reads all versions many times a second, in one query.", is_small=True
    )
    return it


PICTURES: Mapping[str, Callable[[], Drawing]] = {
    "flow": flow,
    "exactly-once": exactly_once,
    "deltas": deltas,
    "buckets": buckets,
    "late-events": late_events,
    "retention": retention,
    "cache": cache,
}
"""By the name of the file."""
