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


class _Translator(DagsterDbtTranslator):
    """Marts get the product's group and owners; names stay dbt's."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(group_name=MARTS, owners=OWNERS)


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
    """Run the chosen models, then their tests."""
    adopt(dbt_environment(pipeline.conninfo))
    # One folder for all runs: the pool lets them in one at a time, and the next is spared parsing.
    yield from dbt.cli(["build"], context=context, target_path=PROJECT.target_path / "runs").stream()
