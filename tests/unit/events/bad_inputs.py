"""Everything strange that reaches a topic or the API, in one table, with what has to become of it.

`outcome` is a reason code, or OK for an event that lands; `posted` is the outcome of POST where it is another one.
Extend each class with your own.

The table holds at `NOW`; `live` gives the same for the present, without the cases that hold for a microsecond only.
"""

import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

OK = "ok"
NOW = datetime.fromisoformat("2024-05-15T12:00:00+00:00")
AT = "2024-05-15T11:59:30.25Z"


class Case(NamedTuple):
    """One input."""

    name: str
    value: bytes | None
    outcome: str
    posted: str | None = None
    is_steady: bool = True

    @property
    def posted_outcome(self) -> str:
        return self.posted or self.outcome


def raw(**fields: Any) -> bytes:
    """An event, with some fields replaced, and those set to `...` left out."""
    base = {"event_type": "order.placed", "timestamp": AT, "properties": {"price": 1.5}, **fields}
    return json.dumps({key: value for key, value in base.items() if value is not ...}).encode()


def props(text: str) -> bytes:
    """An event with this text as its properties."""
    return f'{{"event_type":"order.placed","timestamp":"{AT}","properties":{text}}}'.encode()


def value(text: str) -> bytes:
    """An event with this text as the value of one property."""
    return props(f'{{"a":{text}}}')


def top(text: str) -> bytes:
    """An event with more top-level text."""
    return f'{{"event_type":"order.placed","timestamp":"{AT}",{text}}}'.encode()


NOT_JSON = [
    Case("null value", None, "empty_message"),
    Case("empty value", b"", "empty_message"),
    Case("white space", b" \n\t", "not_json"),
    Case("one byte", b"\x8f", "not_json"),
    Case("random", bytes((i * 73 + i // 7) % 256 for i in range(65536)), "not_json"),
    Case("avro", b"\x00\x00\x00\x00\x07\x0corder", "not_json"),
    Case("gzip", zlib.compress(raw()), "not_json"),
    Case("truncated", raw()[:-1], "not_json"),
    Case("truncated in a string", raw()[:10], "not_json"),
    Case("trailing comma", raw()[:-1] + b",}", "not_json"),
    Case("trailing comma inside", props('{"a":1,}'), "not_json"),
    Case("trailing letter", raw() + b"x", "not_json"),
    Case("two documents", raw() + raw(), "not_json"),
    Case("two documents on lines", raw() + b"\n" + raw(), "not_json"),
    Case("leading zero", value("01"), "not_json"),
    Case("single quotes", b"{'event_type':'a'}", "not_json"),
    Case("comment", b"/* */" + raw(), "not_json"),
    Case("unquoted key", b"{event_type:1}", "not_json"),
    Case("missing colon", b'{"event_type" "a"}', "not_json"),
    Case("hexadecimal", value("0x10"), "not_json"),
    Case("plus", value("+1"), "not_json"),
    Case("dot without digits", value("1."), "not_json"),
    Case("bare minus", value("-"), "not_json"),
    Case("undefined", value("undefined"), "not_json"),
    Case("raw newline in a string", value('"a\nb"'), "not_json"),
    Case("bad escape", value('"\\x41"'), "not_json"),
    Case("short unicode escape", value('"\\u12"'), "not_json"),
    Case("padded with spaces", b" \r\n\t" + raw() + b" \n", OK),
]
SHAPE = [
    Case("json null", b"null", "not_an_object"),
    Case("true", b"true", "not_an_object"),
    Case("number", b"1", "not_an_object"),
    Case("string", b'"s"', "not_an_object"),
    Case("array", b"[]", "not_an_object", posted="empty_message"),
    Case("array of events", b"[" + raw() + b"]", "not_an_object", posted=OK),
    Case("empty object", b"{}", "missing_event_type"),
]
ENCODING = [
    Case(
        "lone surrogate in the first of equal fields",
        top('"user_id":"\\ud800","user_id":"u"'),
        "bad_encoding",
    ),
    Case("lone surrogate in the first of equal keys", props('{"a":"\\ud800","a":1}'), "bad_encoding"),
    Case("NUL in the first of equal fields", top('"user_id":"\\u0000","user_id":"u"'), OK),
    Case("NUL in the first of equal keys", props('{"a":"\\u0000","a":1}'), OK),
    Case("byte order mark alone", b"\xef\xbb\xbf", "bad_encoding"),
    Case("byte order mark inside a string", value('"\ufeff"'), OK),
    Case("overlong NUL", value('"#"').replace(b"#", b"\xc0\x80"), "bad_encoding"),
    Case("continuation byte alone", value('"#"').replace(b"#", b"\x80"), "bad_encoding"),
    Case("FE and FF", value('"#"').replace(b"#", b"\xfe\xff"), "bad_encoding"),
    Case("surrogates the wrong way round", value('"\\ude00\\ud83d"'), "bad_encoding"),
    Case("U+FFFF", value('"\\uffff\uffff"'), OK),
    Case("line separators", value('"\u2028\u2029\x7f"'), OK),
    Case("no-break space outside a string", b"\xc2\xa0" + raw(), "not_json"),
    Case("form feed outside a string", b"\x0c" + raw(), "not_json"),
    Case("raw tab in a string", value('"a\tb"'), "not_json"),
    Case("byte order mark", b"\xef\xbb\xbf" + raw(), "bad_encoding"),
    Case("UTF-16", raw().decode().encode("utf-16"), "bad_encoding"),
    Case("UTF-16 without a mark", raw().decode().encode("utf-16-le"), "not_json"),
    Case("UTF-32", raw().decode().encode("utf-32"), "bad_encoding"),
    Case("Latin-1", raw(user_id="x").replace(b'"x"', b'"\xe9"'), "bad_encoding"),
    Case("Latin-1 in properties", value('"#"').replace(b"#", b"\xe9"), "bad_encoding"),
    Case("Latin-1 in an unknown field", top('"x":"#"').replace(b"#", b"\xe9"), "bad_encoding"),
    Case("overlong", value('"#"').replace(b"#", b"\xc0\xaf"), "bad_encoding"),
    Case("encoded surrogate", value('"#"').replace(b"#", b"\xed\xa0\x80"), "bad_encoding"),
    Case("beyond Unicode", value('"#"').replace(b"#", b"\xf4\x90\x80\x80"), "bad_encoding"),
    Case("truncated character", value('"#"').replace(b"#", b"\xe2\x82"), "bad_encoding"),
    Case("lone high surrogate", value('"\\ud800"'), "bad_encoding"),
    Case("lone low surrogate", value('"\\udc00x"'), "bad_encoding"),
    Case("high surrogate, then a letter", value('"\\ud800\\u0041"'), "bad_encoding"),
    Case("lone surrogate in a key", props('{"\\ud800":1}'), "bad_encoding"),
    Case("lone surrogate in user_id", top('"user_id":"\\ud800"'), "bad_encoding"),
    Case("lone surrogate in an unknown field", top('"x":"\\ud800"'), "bad_encoding"),
    Case("surrogate pair", value('"\\ud83d\\ude00"'), OK),
    Case("zero-width and right-to-left marks", raw(event_type="a\u200b\u202eb"), OK),
    Case("emoji", raw(event_type="🚀", user_id="ü"), OK),
    Case("raw NUL", value('"#"').replace(b"#", b"\x00"), "not_json"),
    Case("escaped NUL in a value", value('"a\\u0000b"'), "nul_character"),
    Case("escaped NUL in a key", props('{"a\\u0000":1}'), "nul_character"),
    Case("escaped NUL deep inside", value('[{"b":["\\u0000"]}]'), "nul_character"),
    Case("an escaped backslash before u0000", value('"\\\\u0000"'), OK),
    Case("escaped NUL in the event name", raw(event_type="a\0b"), "bad_event_type"),
    Case("escaped NUL in user_id", raw(user_id="\0"), "bad_user_id"),
    Case("escaped NUL in session_id", raw(session_id="\0"), "bad_session_id"),
    Case("escaped NUL in an unknown field", top('"x":"\\u0000"'), OK),
]
NUMBERS = [
    Case("-1e-400", value("-1e-400"), "number_out_of_range"),
    Case("1e+0000000000000000308", value("1e+0000000000000000308"), OK),
    Case("0e400", value("0e400"), OK),
    Case("0e1000", value("0e1000"), OK),
    Case("0e1001", value("0e1001"), "number_out_of_range"),
    Case("0e999999999999", value("-0e999999999999"), "number_out_of_range"),
    Case("-2^63-1", value("-9223372036854775809"), OK),
    Case("0.1 + 0.2", value("0.30000000000000004"), OK),
    Case("a number in other digits", value("١"), "not_json"),
    Case("1e", value("1e"), "not_json"),
    Case("1_000", value("1_000"), "not_json"),
    Case("-NaN", value("-NaN"), "not_json"),
    Case("-01", value("-01"), "not_json"),
    Case("two points", value("1.2.3"), "not_json"),
    Case("NaN", value("NaN"), "not_json"),
    Case("Infinity", value("Infinity"), "not_json"),
    Case("-Infinity", value("-Infinity"), "not_json"),
    Case("1e400", value("1e400"), "number_out_of_range"),
    Case("-1e400", value("-1e400"), "number_out_of_range"),
    Case("1E+400", value("1E+400"), "number_out_of_range"),
    Case("1e131071", value("1e131071"), "number_out_of_range"),
    Case("many times 1e131071", value("[" + ",".join(["1e131071"] * 90) + "]"), "number_out_of_range"),
    Case("1e400 in an unknown field", top('"x":1e400'), "number_out_of_range"),
    Case("1e-5000", value("1e-5000"), "number_out_of_range"),
    Case("0e-16383", value("0e-16383"), "number_out_of_range"),
    Case("exponent of 2,000 digits", value("1e" + "9" * 2000), "number_out_of_range"),
    Case("exponent of 2,000 digits, negative", value("1e-" + "9" * 2000), "number_out_of_range"),
    Case("smallest double", value("5e-324"), OK),
    Case("largest double", value("1.7976931348623157e308"), OK),
    Case("2^53+1", value("9007199254740993"), OK),
    Case("2^63", value("9223372036854775808"), OK),
    Case("2^64", value("18446744073709551616"), OK),
    Case("308 digits", value("1" + "0" * 307), OK),
    Case("310 digits", value("1" + "0" * 309), "number_out_of_range"),
    Case("900 digits", value("9" * 900), "number_out_of_range"),
    Case("5,000 digits", value("9" * 5000), "number_out_of_range"),
    Case("5,000 decimals", value("0." + "1" * 5000), "property_too_large"),
    Case("900 decimals", value("0." + "1" * 900), OK),
    Case("-0.0", value("-0.0"), OK),
    Case("true where a number belongs", value("true"), OK),
    Case("a string where a number belongs", value('"5"'), OK),
]
STRUCTURE = [
    Case("equal keys, one of them escaped", props('{"a":1,"\\u0061":2}'), OK),
    Case("equal keys in an unknown field", top('"x":{"a":1,"a":1e1}'), OK),
    Case("200 nested empty objects in a list", value("[" + ",".join(["{}"] * 200) + "]"), OK),
    Case("brackets that do not match", value("[{]}"), "not_json"),
    Case("100,000 closing brackets", b"]" * 100_000, "not_json"),
    Case("a key that is no string", props("{1:1}"), "not_json"),
    Case("a comma alone", props("{,}"), "not_json"),
    Case("1 MB of white space", raw()[:-1] + b" " * 1_000_000 + b"}", OK),
    Case("duplicate keys beside an escaped colon", props('{"a":1,"a":2,"b":"\\u003a"}'), OK),
    Case("duplicate keys inside", props('{"a":[{"b":1,"b":2}],"c":"::"}'), OK),
    Case("duplicate keys", props('{"a":1,"a":2}'), OK),
    Case(
        "duplicate top-level keys",
        b'{"event_type":"a","event_type":"b","timestamp":"' + AT.encode() + b'"}',
        OK,
    ),
    Case("depth 98", value("[" * 98 + "]" * 98), OK),
    Case("depth 101", value("[" * 99 + "]" * 99), "too_deep"),
    Case("depth 1,025", value("[" * 1025 + "]" * 1025), "too_deep"),
    Case("depth 100,000", value("[" * 100_000 + "]" * 100_000), "too_deep"),
    Case("depth 100,000, unclosed", value("[" * 100_000), "too_deep"),
    Case("depth 100,000 of objects", value('{"a":' * 100_000 + "1" + "}" * 100_000), "too_deep"),
    Case("depth 100,000 in an unknown field", top('"x":' + "[" * 100_000 + "]" * 100_000), "too_deep"),
    Case("only opening brackets", b"[" * 100_000, "too_deep"),
    Case("brackets inside a string", value(json.dumps("[{" * 200)), OK),
    Case("50 keys", props(json.dumps({str(i): i for i in range(50)})), OK),
    Case("51 keys", props(json.dumps({str(i): i for i in range(51)})), "too_many_properties"),
    Case("100,000 keys", props(json.dumps({str(i): i for i in range(100_000)})), "too_many_properties"),
    Case("key of 1 MB", props(json.dumps({"k" * 1_000_000: 1})), "property_too_large"),
    Case("key of 1,024 bytes", props(json.dumps({"k" * 1024: 1})), OK),
    Case("key of 1,025 bytes", props(json.dumps({"k" * 1025: 1})), "property_too_large"),
    Case("value of 1,024 bytes", value(json.dumps("v" * 1024)), OK),
    Case("value of 1,025 bytes", value(json.dumps("v" * 1025)), "property_too_large"),
    Case(
        "value of 1,026 bytes in 513 characters",
        value(json.dumps("é" * 513, ensure_ascii=False)),
        "property_too_large",
    ),
    Case("array of 1,025 bytes", value(json.dumps(["v" * 1021])), "property_too_large"),
    Case("empty key", props('{"":1}'), OK),
    Case("__proto__", props('{"__proto__":{"a":1}}'), OK),
    Case("keys that equal column names", props('{"id":"x","timestamp":5,"properties":{}}'), OK),
    Case("properties null", raw(properties=None), OK),
    Case("properties missing", raw(properties=...), OK),
    Case("properties a list", raw(properties=[]), "bad_properties"),
    Case("properties a string", raw(properties="{}"), "bad_properties"),
    Case("properties a number", raw(properties=5), "bad_properties"),
]
DEFINED = {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer", "minimum": 1}}}
"""Schema of `defined.type`, for the cases of `JUDGED`."""


def judged(**properties: Any) -> bytes:
    return raw(event_type="defined.type", properties=properties)


JUDGED = [
    Case("as defined", judged(x=1), OK),
    Case("as defined, and more", judged(x=1, y="z"), OK),
    Case("required property missing", judged(y=1), "schema_violation"),
    Case("wrong type", judged(x="1"), "schema_violation"),
    Case("null for non-null", judged(x=None), "schema_violation"),
    Case("fraction for an integer", judged(x=1.5), "schema_violation"),
    Case("below the minimum", judged(x=0), "schema_violation"),
    Case("true for a number", judged(x=True), "schema_violation"),
    Case("no properties", raw(event_type="defined.type", properties=...), "schema_violation"),
    Case(
        "escaped name of the type",
        judged(x=0).replace(b"defined.type", b"defined\\u002etype"),
        "schema_violation",
    ),
    Case(
        "equal keys, the last is wrong", judged(x=1).replace(b'"x": 1', b'"x": 1, "x": 0'), "schema_violation"
    ),
    Case("equal keys, the last is right", judged(x=0).replace(b'"x": 0', b'"x": 0, "x": 1'), OK),
]
SCHEMA = [
    Case("unknown type", raw(event_type="never.seen"), OK),
    Case("type missing", raw(event_type=...), "missing_event_type"),
    Case("type null", raw(event_type=None), "missing_event_type"),
    Case("type empty", raw(event_type=""), "bad_event_type"),
    Case("type a number", raw(event_type=5), "bad_event_type"),
    Case("type an object", raw(event_type={}), "bad_event_type"),
    Case("type of 255 characters", raw(event_type="x" * 255), OK),
    Case("type of 255 wide characters", raw(event_type="é" * 255), OK),
    Case("type of 256 characters", raw(event_type="x" * 256), "bad_event_type"),
    Case("type with quotes, slashes, spaces", raw(event_type="a \"b\" 'c' /../ \\d; DROP TABLE events"), OK),
    Case("type with a newline", raw(event_type="a\nb"), "bad_event_type"),
    Case("type with DEL", raw(event_type="a\x7f"), "bad_event_type"),
    Case("type with C1", raw(event_type="a\x85"), "bad_event_type"),
    Case("id null", raw(id=None), OK),
    Case("id empty", raw(id=""), "bad_id"),
    Case("id a number", raw(id=5), "bad_id"),
    Case("id no UUID", raw(id="not-a-uuid"), "bad_id"),
    Case("id of 36 other characters", raw(id="g" * 36), "bad_id"),
    Case("id of 36 wide characters", raw(id="é" * 36), "bad_id"),
    Case("id with a dash too far", raw(id="0188f0e3b-7ac-7000-8000-00000000000"), "bad_id"),
    Case("id in upper case", raw(id="F47AC10B-58CC-4372-A567-0E02B2C3D479"), OK),
    Case("id without dashes", raw(id="a47ac10b58cc4372a5670e02b2c3d479"), OK),
    Case("id in braces", raw(id="{f47ac10b-58cc-4372-a567-0e02b2c3d479}"), "bad_id"),
    Case("id nil", raw(id="00000000-0000-0000-0000-000000000000"), OK),
    Case("user_id a number", raw(user_id=5), "bad_user_id"),
    Case("user_id an object", raw(user_id={}), "bad_user_id"),
    Case("user_id null", raw(user_id=None), OK),
    Case("user_id empty", raw(user_id=""), OK),
    Case("user_id of 255 characters", raw(user_id="u" * 255), OK),
    Case("user_id of 256 characters", raw(user_id="u" * 256), "bad_user_id"),
    Case("session_id a list", raw(session_id=[]), "bad_session_id"),
    Case("session_id of 256 characters", raw(session_id="s" * 256), "bad_session_id"),
    Case("unknown field", raw(version=2), OK),
]


def time_cases(now: datetime, raw_retention: timedelta) -> list[Case]:
    """The class "Time", for a present and a retention."""
    at, two, day, tick = (
        now - timedelta(seconds=30),
        timedelta(hours=2),
        timedelta(days=1),
        timedelta(microseconds=1),
    )
    line = (now - raw_retention).replace(hour=0, minute=0, second=0, microsecond=0)
    ahead, edge = now + timedelta(minutes=5), now.replace(minute=0, second=0, microsecond=0)
    return [
        Case("time missing", raw(timestamp=...), OK),
        Case("time null", raw(timestamp=None), OK),
        Case("time empty", raw(timestamp=""), "bad_timestamp"),
        Case("time a number (s)", raw(timestamp=1715774370), "bad_timestamp"),
        Case("time a number (ms)", raw(timestamp=1715774370250), "bad_timestamp"),
        Case("time a number (µs)", raw(timestamp=1715774370250000), "bad_timestamp"),
        Case("time a number (ns)", raw(timestamp=1715774370250000000), "bad_timestamp"),
        Case("time digits in a string", raw(timestamp="1715774370"), "bad_timestamp"),
        Case("time a date", raw(timestamp="2024-05-15"), "bad_timestamp"),
        Case("time without a zone", raw(timestamp="2024-05-15T11:59:30"), "bad_timestamp"),
        Case("time with a zone name", raw(timestamp="2024-05-15T11:59:30 Europe/Paris"), "bad_timestamp"),
        Case("time with a space", raw(timestamp=f"{at:%Y-%m-%d %H:%M:%S}Z"), OK),
        Case("time with +02:00", raw(timestamp=f"{at + two:%Y-%m-%dT%H:%M:%S}+02:00"), OK),
        Case("time with +0200", raw(timestamp=f"{at + two:%Y-%m-%dT%H:%M:%S}+0200"), OK),
        Case("time with +02", raw(timestamp=f"{at + two:%Y-%m-%dT%H:%M:%S}+02"), OK),
        Case(
            "time with +23:59",
            raw(timestamp=f"{at + timedelta(hours=23, minutes=59):%Y-%m-%dT%H:%M:%S}+23:59"),
            OK,
        ),
        Case(
            "time with +24:00",
            raw(timestamp=f"{at + timedelta(hours=24):%Y-%m-%dT%H:%M:%S}+24:00"),
            "bad_timestamp",
        ),
        Case("time without seconds", raw(timestamp=f"{at:%Y-%m-%dT%H:%M}Z"), OK),
        Case("time with nanoseconds", raw(timestamp=f"{at:%Y-%m-%dT%H:%M:%S}.123456789Z"), OK),
        Case("time with a comma", raw(timestamp=f"{at:%Y-%m-%dT%H:%M:%S},5Z"), OK),
        Case("time in the basic format", raw(timestamp="20240515T115930Z"), "bad_timestamp"),
        Case("time as a week date", raw(timestamp="2024-W20-3T11:59:30Z"), "bad_timestamp"),
        Case("time with white space", raw(timestamp=" 2024-05-15T11:59:30Z"), "bad_timestamp"),
        Case("time in other digits", raw(timestamp="٢٠٢٤-05-15T11:59:30Z"), "bad_timestamp"),
        Case("leap second", raw(timestamp="2016-12-31T23:59:60Z"), "bad_timestamp"),
        Case("February 30", raw(timestamp="2024-02-30T00:00:00Z"), "bad_timestamp"),
        Case("hour 24", raw(timestamp="2024-05-14T24:00:00Z"), "bad_timestamp"),
        Case("year 0", raw(timestamp="0000-01-01T00:00:00Z"), "bad_timestamp"),
        Case("year 1", raw(timestamp="0001-01-01T00:00:00Z"), "too_old"),
        Case("before year 1 in UTC", raw(timestamp="0001-01-01T00:00:00+23:59"), "too_old"),
        Case("year 1969", raw(timestamp="1969-12-31T23:59:59Z"), "too_old"),
        Case("10 years ago", raw(timestamp=f"{at - 3650 * day:%Y-%m-%dT%H:%M:%S}Z"), "too_old"),
        Case("10 years ahead", raw(timestamp=f"{at + 3650 * day:%Y-%m-%dT%H:%M:%S}Z"), "too_far_in_future"),
        Case("year 9999", raw(timestamp="9999-12-31T23:59:59.999999Z"), "too_far_in_future"),
        Case("after year 9999 in UTC", raw(timestamp="9999-12-31T23:59:59-23:59"), "too_far_in_future"),
        Case("rounded beyond year 9999", raw(timestamp="9999-12-31T23:59:59.9999999Z"), "bad_timestamp"),
        Case("year 10000", raw(timestamp="10000-01-01T00:00:00Z"), "bad_timestamp"),
        Case("exactly the retention line", raw(timestamp=f"{line:%Y-%m-%dT%H:%M:%S}Z"), OK),
        Case(
            "1 µs before the retention line", raw(timestamp=f"{line - tick:%Y-%m-%dT%H:%M:%S.%f}Z"), "too_old"
        ),
        Case("exactly 5 minutes ahead", raw(timestamp=f"{ahead:%Y-%m-%dT%H:%M:%S.%f}Z"), OK, is_steady=False),
        Case(
            "1 µs more than 5 minutes ahead",
            raw(timestamp=f"{ahead + tick:%Y-%m-%dT%H:%M:%S.%f}Z"),
            "too_far_in_future",
            is_steady=False,
        ),
        Case(
            "the time of a UUIDv7 beyond year 9999",
            raw(id="eab60d53-1e86-7ceb-bdbf-71a72e34a113", timestamp=...),
            "too_far_in_future",
        ),
        Case("on a bucket edge", raw(timestamp=f"{edge:%Y-%m-%dT%H:%M:%S}Z"), OK),
        Case("1 µs before a bucket edge", raw(timestamp=f"{edge - tick:%Y-%m-%dT%H:%M:%S.%f}Z"), OK),
        Case("1 µs after a bucket edge", raw(timestamp=f"{edge + tick:%Y-%m-%dT%H:%M:%S.%f}Z"), OK),
        Case("time an object", raw(timestamp={"$date": "2024-05-15T11:59:30Z"}), "bad_timestamp"),
        Case("time true", raw(timestamp=True), "bad_timestamp"),
        Case("time with 5,000 decimals", raw(timestamp=f"{at:%Y-%m-%dT%H:%M:%S}.{'1' * 5000}Z"), OK),
        Case("minute 60", raw(timestamp="2024-05-15T11:60:00Z"), "bad_timestamp"),
        Case("negative year", raw(timestamp="-2024-05-15T11:59:30Z"), "bad_timestamp"),
        Case("February 29 of no leap year", raw(timestamp="2023-02-29T00:00:00Z"), "bad_timestamp"),
    ]


TIME = time_cases(NOW, timedelta(days=90))
CASES = [*NOT_JSON, *SHAPE, *ENCODING, *NUMBERS, *STRUCTURE, *SCHEMA, *TIME]


def live(now: datetime, raw_retention: timedelta) -> list[Case]:
    """The table for the present."""
    moved = [
        case._replace(
            value=case.value and case.value.replace(AT.encode(), f"{now:%Y-%m-%dT%H:%M:%S.%f}Z".encode())
        )
        for case in CASES
        if case not in TIME
    ]
    return [*moved, *(case for case in time_cases(now.astimezone(UTC), raw_retention) if case.is_steady)]
