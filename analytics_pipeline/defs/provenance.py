"""What a materialization that is reported, and not yielded, has to tell, so that Dagster can say what is stale.

A yielded result carries these tags by itself. Belongs here: the tags. Does not belong here: the versions (`specs`).
"""

import dagster as dg

_CODE = "dagster/code_version"
_INPUT = "dagster/input_data_version/"
_POINTER = "dagster/input_event_pointer/"


def made_by(code_version: str, *inputs: dg.AssetKey) -> dict[str, str]:
    """Tags of a materialization by this version of the code, from these assets as they are now.

    The inputs are named without a version: rollups follow each landing, so newer events never make them stale.
    """
    names = [key.to_user_string() for key in inputs]
    return {
        _CODE: code_version,
        **{f"{_INPUT}{name}": "INITIAL" for name in names},
        **{f"{_POINTER}{name}": "NULL" for name in names},
    }
