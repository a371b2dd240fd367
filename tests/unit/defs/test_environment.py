"""Where Dagster's storage is."""

import pytest
from sqlalchemy import make_url

from analytics_pipeline.defs.environment import URL_VARIABLE, dagster_environment
from analytics_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("database", "host"),
    [
        ({"host": "db.example", "port": 5433, "password": "p@ss/w:rd"}, "db.example"),
        ({"host": "/run/a b", "password": "p@ss/w:rd"}, "/run/a b"),
        ({"url": "postgresql://analytics_user:p%40ss%2Fw%3Ard@db.example/analytics"}, "db.example"),
    ],
)
def test_the_url_reaches_the_products_database_in_dagsters_schema(database, host):
    settings = Settings.model_validate({"database": database, "dagster": {"schema_name": "elsewhere"}})
    url = make_url(dagster_environment(settings)[URL_VARIABLE])
    assert (url.username, url.password, url.database) == ("analytics_user", "p@ss/w:rd", "analytics")
    assert url.query["host"] == host
    assert url.query["options"] == "-csearch_path=elsewhere -ctimezone=UTC"


def test_dagster_yaml_reads_that_variable_and_sends_nothing_home():
    import yaml

    from analytics_pipeline.settings import project_file

    instance = yaml.safe_load(project_file("dagster.yaml").read_text())
    assert instance["storage"]["postgres"]["postgres_url"] == {"env": URL_VARIABLE}
    assert instance["telemetry"] == {"enabled": False}
