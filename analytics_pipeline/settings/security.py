"""Who may do what, and how often."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator

from analytics_pipeline.settings.values import Duration, Section, TextList

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Cors(Section):
    """Browsers of other origins; they never send cookies here, so `*` opens nothing that has none."""

    enabled: bool = False
    """Answer browsers of other origins."""
    allowed_origins: TextList = Field(default=[])
    """Which, such as `https://page.example`, or `*`; never with cookies."""

    @field_validator("allowed_origins")
    @classmethod
    def _origins_are_origins(cls, value: list[str]) -> list[str]:
        if all(one == "*" or re.fullmatch(r"https?://[^/?#@\s*]+", one) for one in value):
            return value
        raise ValueError("write each as a browser does, like https://page.example:8443, or * alone for all")


class RateLimit(Section):
    """Requests per client."""

    enabled: bool = True
    """Limit requests per key, over all API processes, and per address without one; loopback without a key
    is exempt."""
    requests_per_minute: int = Field(default=1000, ge=1)
    """Requests a minute."""
    burst: int = Field(default=100, ge=1)
    """Requests at once."""


class Security(Section):
    """Without API keys only loopback is open, unless `allow_anonymous` says otherwise."""

    api_key_enabled: bool = False
    """Every request needs an API key, on loopback too ([security](security.md))."""
    allow_anonymous: bool = False
    """Without keys, allow `server.host` beyond loopback: everybody who reaches it may read and write."""
    session_lifetime: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=30))] = timedelta(hours=12)
    """How long the cookie of a page holds, at most `30d`."""
    audit_retention: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(days=365)
    """How long lines of the audit log are kept."""
    cors: Cors = Cors()
    rate_limit: RateLimit = RateLimit()
