"""B25 Analytics: events from Kafka into Postgres exactly once, rolled up per interval, served over REST."""
