"""Looking over an installation: what is wrong with it, what a person should know, and what to do.

Belongs here: checks that judge. Does not belong here: asking servers (`storage`, `ingest`), showing (`cli.doctor`).
Nothing here changes anything.
"""
