"""`/health`, `/healthz`, `/ready`: is Postgres there, is Redis there.

Belongs here: the routes. Does not belong here: the checks (`health_checks`), the second port (`side_servers`), which
passes these answers on.
"""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.access import PUBLIC
from api.dependencies import ServicesDependency

router = APIRouter(tags=["Health"])
PATHS = ("/health", "/healthz", "/ready")


class HealthAnswer(BaseModel):
    """State of the service and of what it depends on."""

    status: Literal["healthy", "degraded", "unhealthy"]
    database: Literal["connected", "disconnected"]
    cache: Literal["connected", "disconnected", "disabled"]
    service: str = Field(examples=["analytics"])
    timestamp: str = Field(examples=["2026-01-31T12:00:00Z"])
    detail: str | None = Field(default=None, description="What is wrong, if something is.")


async def get_health(services: ServicesDependency) -> Response:
    """503 only when Postgres is unreachable; without Redis the service is `degraded` and answers everything."""
    return services.health.answer(await services.health.check())


for _path, _summary in zip(
    PATHS,
    ("Is the service running", "The same, under its other name", "Is the service ready for traffic"),
    strict=True,
):
    router.add_api_route(
        _path,
        get_health,
        summary=_summary,
        operation_id=f"get_{_path.strip('/')}",
        response_model=HealthAnswer,
        dependencies=[PUBLIC],
        responses={503: {"model": HealthAnswer, "description": "Postgres is unreachable."}},
    )
