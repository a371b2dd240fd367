"""The landing process: reading Kafka and the inbox, and handing batches to `storage.landing`."""
