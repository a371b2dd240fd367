"""`/api/v1/internal`: what the service says about its own work."""

import orjson
from fastapi import APIRouter, Response

from api.access import READ
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.operations.schemas import IngestionAnswer
from api.times import format_duration

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/internal/ingestion-metrics"


@router.get(
    PATH,
    summary="Ingestion totals",
    response_model=IngestionAnswer,
    responses=errors(429, 503),
    dependencies=[READ],
)
async def get_ingestion_metrics(services: ServicesDependency) -> Response:
    """From the ledger, so the same whichever process answers."""
    totals, last = await services.ledger.read(services.database, services.clock())
    content = {
        "events_ingested": totals.stored,
        "events_failed": totals.dead,
        "batches_processed": totals.batches,
        "last_batch_size": last.read,
        "last_batch_duration": format_duration(last.seconds),
        "total_latency": format_duration(totals.seconds),
    }
    return Response(orjson.dumps(content), media_type="application/json")
