"""Which of several processes this is: `torchrun` says so in the environment. The first alone writes and speaks."""

import os

COUNT = int(os.environ.get("WORLD_SIZE", 1))
NUMBER = int(os.environ.get("RANK", 0)) if COUNT > 1 else 0
FIRST = NUMBER == 0
COUNT_HERE = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
"""How many of them are on this machine, and share its cores."""
