"""The whole pipeline at a glance, again and again: what `analytics top` shows.

Belongs here: reading Postgres, Kafka, Prometheus and processes side by side, each of which may be away.
Does not belong here: drawing (`cli.top_view`), statements (`storage.overview`).
"""
