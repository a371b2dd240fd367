"""What Schemathesis, which loads this in a process of its own, does not know: NDJSON, its key, that nothing lands."""

import json
from typing import Any

import schemathesis

from analytics_pipeline.settings import environment

OWN_KEY = "TEST_OWN_KEY_ID"


@schemathesis.serializer("application/x-ndjson")
def write_ndjson(_context: Any, value: Any) -> bytes:
    """Text as it is: what is no JSON is a case, too."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Whoever revokes the key of all requests learns nothing more, and whoever waits for a landing learns little."""
    wait = (case.query or {}).get("wait")
    if str(wait).isdigit() and int(wait) > 1:
        case.query["wait"] = 1
    if (case.path_parameters or {}).get("key_id") == environment()[OWN_KEY]:
        case.path_parameters["key_id"] = "000000000000"
