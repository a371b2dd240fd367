"""The marts as assets: dbt's models, with their tests as checks, downstream of `events`.

Belongs here: how dbt's nodes appear, and running them. Does not belong here: what they compute (`dbt_models`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    dbt_assets,
)

from analytics_pipeline.defs.conventions import MARTS, MARTS_POOL, OWNERS
from analytics_pipeline.defs.marts.resources import PROJECT, dbt_environment
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.settings import adopt
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.table_sizes import size_of


class _Translator(DagsterDbtTranslator):
    """Marts get the product's group and owners, tests a description; names stay dbt's."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(group_name=MARTS, owners=OWNERS)

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None or spec.description:
            return spec
        node = manifest["nodes"][unique_id]
        what = node.get("test_metadata", {}).get("name", node["name"])
        where = f"column {node['column_name']}" if node.get("column_name") else "rows"
        told = f"dbt's test {what} of the {where} of {asset_spec.key.to_user_string()}, after each filling."
        return spec._replace(description=told)


@dbt_assets(
    manifest=PROJECT.manifest_path,
    project=PROJECT,
    name="dbt_build",
    dagster_dbt_translator=_Translator(
        # all sources are landing's: they are one asset
        settings=DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True)
    ),
    pool=MARTS_POOL,
    retry_policy=dg.RetryPolicy(max_retries=1, delay=10),
)
def marts(context: dg.AssetExecutionContext, dbt: DbtCliResource, pipeline: Pipeline) -> Iterator[Any]:
    """Run the chosen models, then their tests; each model says how large its table is."""
    adopt(dbt_environment(pipeline.conninfo))
    # One folder for all runs: the pool lets them in one at a time, and the next is spared parsing.
    invocation = dbt.cli(["build"], context=context, target_path=PROJECT.target_path / "runs")
    with pipeline.connection("marts") as connection:
        for event in invocation.stream():
            yield _sized(event, connection)


def _sized(event: Any, connection: Connection) -> Any:
    if not isinstance(event, dg.Output):
        return event
    size = size_of(connection, event.output_name)
    return event.with_metadata(
        {**event.metadata, "rows (estimate)": size.rows, "MB": round(size.bytes / 1e6, 1)}
    )
