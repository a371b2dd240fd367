"""`python -m analytics_pipeline` is `analytics`."""

import sys

from analytics_pipeline.cli import main

sys.exit(main())
