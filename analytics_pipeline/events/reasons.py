"""Why a message could not become an event: the reason codes of dead letters and of 400 answers.

Belongs here: the codes, what each means, and what a producer does about it. Does not belong here: deciding which
one applies.
Codes are part of the contract with producers: add, never rename.
"""

from enum import StrEnum


class Reason(StrEnum):
    """A reason code; `meaning` and `advice` are sentences for the producer."""

    EMPTY_MESSAGE = "empty_message"
    NOT_JSON = "not_json"
    BAD_ENCODING = "bad_encoding"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_EVENT_TYPE = "missing_event_type"
    BAD_EVENT_TYPE = "bad_event_type"
    BAD_ID = "bad_id"
    BAD_USER_ID = "bad_user_id"
    BAD_SESSION_ID = "bad_session_id"
    BAD_PROPERTIES = "bad_properties"
    TOO_MANY_PROPERTIES = "too_many_properties"
    PROPERTY_TOO_LARGE = "property_too_large"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    NUL_CHARACTER = "nul_character"
    BAD_TIMESTAMP = "bad_timestamp"
    TOO_OLD = "too_old"
    TOO_FAR_IN_FUTURE = "too_far_in_future"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    SCHEMA_VIOLATION = "schema_violation"
    REFUSED_BY_DATABASE = "refused_by_database"

    @property
    def meaning(self) -> str:
        """What is wrong, in one sentence."""
        return _MEANINGS[self]

    @property
    def advice(self) -> str:
        """What the producer should do, in one sentence."""
        return _ADVICE[self]


_MEANINGS = {
    Reason.EMPTY_MESSAGE: "The message has no value (a tombstone) or an empty one.",
    Reason.NOT_JSON: "The value is not one JSON document.",
    Reason.BAD_ENCODING: "The value is not UTF-8, begins with a byte order mark, or escapes half a surrogate pair.",
    Reason.TOO_DEEP: "The value nests deeper than 100 levels.",
    Reason.NOT_AN_OBJECT: "The value is JSON, but not an object.",
    Reason.MISSING_EVENT_TYPE: "The field event_type is missing or null.",
    Reason.BAD_EVENT_TYPE: "event_type must be a string of 1 to 255 characters without control characters.",
    Reason.BAD_ID: "id must be a UUID.",
    Reason.BAD_USER_ID: "user_id must be a string of at most 255 characters without NUL.",
    Reason.BAD_SESSION_ID: "session_id must be a string of at most 255 characters without NUL.",
    Reason.BAD_PROPERTIES: "properties must be a JSON object.",
    Reason.TOO_MANY_PROPERTIES: "properties has more keys than allowed.",
    Reason.PROPERTY_TOO_LARGE: "The name or value of a property is larger than allowed.",
    Reason.NUMBER_OUT_OF_RANGE: "A number is not finite as a 64-bit float, or its exponent is outside -324 to 1000.",
    Reason.NUL_CHARACTER: "A name or string in properties holds the character U+0000, which cannot be stored.",
    Reason.BAD_TIMESTAMP: "timestamp must be an ISO 8601 date and time with a zone, like 2024-05-01T12:00:00.123Z.",
    Reason.TOO_OLD: "The event is older than raw events are kept.",
    Reason.TOO_FAR_IN_FUTURE: "The event's time is further ahead of the clock than allowed.",
    Reason.UNKNOWN_FIELD: "The event has a field that is not part of the contract, and strict is on.",
    Reason.UNKNOWN_EVENT_TYPE: "The event's type has no active definition, and custom_events.strict is on.",
    Reason.SCHEMA_VIOLATION: "properties do not satisfy the JSON Schema of the event's definition.",
    Reason.REFUSED_BY_DATABASE: "The database refused to store the event.",
}

_ADVICE = {
    Reason.EMPTY_MESSAGE: "Send the event's JSON as the value; tombstones mean nothing here.",
    Reason.NOT_JSON: "Send one JSON object per message, without an envelope, a schema id or compression of your own.",
    Reason.BAD_ENCODING: "Encode the JSON as UTF-8 without a byte order mark.",
    Reason.TOO_DEEP: "Flatten the event.",
    Reason.NOT_AN_OBJECT: "Send each event as an object in a message of its own, also where you have a list of them.",
    Reason.MISSING_EVENT_TYPE: "Give every event its event_type.",
    Reason.BAD_EVENT_TYPE: "Take a short fixed name such as order.placed, and put what varies into properties.",
    Reason.BAD_ID: "Send a UUID, or leave id out; an id of your own belongs into properties.",
    Reason.BAD_USER_ID: "Send the id as a string, also where it is a number.",
    Reason.BAD_SESSION_ID: "Send the id as a string, also where it is a number.",
    Reason.BAD_PROPERTIES: "Send an object, or leave properties out.",
    Reason.TOO_MANY_PROPERTIES: "Send fewer, or ask the operators for a higher max_properties.",
    Reason.PROPERTY_TOO_LARGE: "Shorten it, or ask the operators for a higher max_property_bytes.",
    Reason.NUMBER_OUT_OF_RANGE: "Send finite numbers; where more range is needed, send a string.",
    Reason.NUL_CHARACTER: "Remove U+0000 from strings, or encode binary data as base64.",
    Reason.BAD_TIMESTAMP: "Send ISO 8601 with a zone, not a number since 1970.",
    Reason.TOO_OLD: "Look at the producer's clock and at the age of what it sends; days that are gone take no events.",
    Reason.TOO_FAR_IN_FUTURE: "Set the producer's clock by NTP; once the time has come, a replay lands the event.",
    Reason.UNKNOWN_FIELD: "Put your own fields into properties.",
    Reason.UNKNOWN_EVENT_TYPE: "Define the type first, then have the dead letters replayed.",
    Reason.SCHEMA_VIOLATION: "Send what the schema asks for, or have the definition changed and the letters replayed.",
    Reason.REFUSED_BY_DATABASE: "Tell the operators: the SQLSTATE in the detail says what Postgres objects to.",
}
