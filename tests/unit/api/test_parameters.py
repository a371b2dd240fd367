"""Query strings: strict about what is known, and about what is not."""

import pytest

from api.errors import BadRequest
from api.parameters import MAX_FIELDS, Parameter, Query, without

TEXT = Parameter("text", "some text")
NUMBER = Parameter("number", "a number")
NEEDED = Parameter("needed", "must be there", required=True)
KNOWN = (TEXT, NUMBER, NEEDED)


def refusal(query_string: bytes, read: str = "text") -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        _read(query_string, read)
    return caught.value


def _read(query_string: bytes, read: str) -> None:
    query = Query(query_string, KNOWN)
    if read == "number":
        query.number(NUMBER, default=1, low=1, high=100)
    else:
        query.text({"text": TEXT, "needed": NEEDED}[read], limit=5)


def test_values_are_decoded() -> None:
    query = Query(b"_=17&_=18&text=%C3%A4+b&number=", KNOWN)
    assert query.text(TEXT) == "ä b"
    assert query.number(NUMBER, default=7, low=1, high=9) == 7


@pytest.mark.parametrize(
    "digits", [b"0", b"101", b"-5", b"1e2", b"1.0", b"0x1", b"1_0", b"%D9%A3", b"9" * 5000, b"NaN"]
)
def test_numbers_are_plain_digits_in_range(digits: bytes) -> None:
    problem = refusal(b"number=" + digits, "number")
    assert problem.extra == {"parameter": "number"}
    assert problem.detail == "number: must be a whole number from 1 to 100"
    assert problem.title == "Invalid number parameter"


def test_a_name_that_is_unknown_is_refused_without_being_repeated() -> None:
    near = refusal(b"Numbr=1", "number")
    assert (near.kind, near.detail) == (
        "unknown-parameter", "One of the query parameters is unknown here: did you mean number?"
    )  # fmt: skip
    assert refusal(b"secret=1", "number").detail == (
        "One of the query parameters is unknown here: there are text, number, needed."
    )
    assert Query(b"secret=1&number=2", (NUMBER,), is_all=False).number(NUMBER, default=1, low=1, high=9) == 2


def test_refusals_name_the_parameter_and_never_the_value() -> None:
    assert refusal(b"text=a%00").detail == "text: has control characters"
    assert refusal(b"text=secret").detail == "text: is longer than 5 characters"
    assert refusal(b"text=a&text=a").detail == "text: is given more than once"
    assert refusal(b"", "needed").title == "needed is required"
    assert refusal(b"needed=", "needed").title == "needed is required"


def test_query_strings_that_cannot_be_read() -> None:
    assert "percent-encoded" in refusal(b"text=%ff").detail
    assert "percent-encoded" in refusal(b"text=\xc3\xa4").detail
    assert str(MAX_FIELDS) in refusal(b"&".join(b"a=1" for _ in range(MAX_FIELDS + 1))).detail


def test_one_parameter_is_left_out() -> None:
    assert without(b"text=a+b&number=1&text=%C3%A4&number=2", NUMBER) == b"text=a+b&text=%C3%A4"
