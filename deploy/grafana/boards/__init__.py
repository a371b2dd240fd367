"""The dashboards, by the name of their file."""

from deploy.grafana.boards import api, business, pipeline, postgres

BOARDS = {
    "pipeline": pipeline.BOARD,
    "api": api.BOARD,
    "postgres": postgres.BOARD,
    "business": business.BOARD,
}
