"""The dashboard page: its files, and the addresses where they are served. Its data is the API's."""
