"""The embedded stack of `analytics up`: Kafka, Postgres and Redis from packages, and a supervisor.

Belongs here: starting, watching and stopping processes of one machine, their folders, ports and secrets.
Does not belong here: anything production needs; there, a service manager starts the same commands.
"""
