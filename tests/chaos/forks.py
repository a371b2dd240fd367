"""The process that has imported everything and from which all others are forked: a start costs 0.1 s instead of 2."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "tests.chaos.landing_process", "tests.chaos.run_process"])
