"""What the service says about its own work; shapes only."""

from pydantic import BaseModel, Field


class IngestionAnswer(BaseModel):
    """Totals of the ledger: of all processes, and the same after a restart."""

    events_ingested: int = Field(description="Events stored.", examples=[1250000])
    events_failed: int = Field(description="Messages that became dead letters.", examples=[12])
    batches_processed: int = Field(description="Landing transactions.", examples=[260])
    last_batch_size: int = Field(description="Messages read by the last batch.", examples=[5000])
    last_batch_duration: str = Field(description="From its first decoded row to COMMIT.", examples=["61.1ms"])
    total_latency: str = Field(description="Sum of the durations of all batches.", examples=["1m2.5s"])
