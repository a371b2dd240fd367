"""Which addresses an archive may have."""

import pytest
from pydantic import ValidationError

from analytics_pipeline.settings import Retention


@pytest.mark.parametrize("address", ["file:///srv/archive", "s3://bucket", "s3://bucket/a/b", None, ""])
def test_folders_and_buckets_are_addresses(address: str | None) -> None:
    assert Retention(archive_uri=address).archive_uri == (address or None)


@pytest.mark.parametrize(
    "address",
    [
        "/srv/archive",
        "file://srv",
        "file:///",
        "http://bucket",
        "s3://",
        "s3://key:secret@bucket/a",
        "s3://b/a?region=x",
    ],
)
def test_anything_else_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Retention(archive_uri=address)
    [problem] = caught.value.errors(include_input=False, include_url=False)
    assert "file:///folder or s3://bucket/folder" in problem["msg"]
    assert "secret" not in problem["msg"]


def test_letters_are_not_kept_longer_than_their_ledger() -> None:
    with pytest.raises(ValidationError, match="dead_letters is kept longer than ledger"):
        Retention(dead_letters="366d")
