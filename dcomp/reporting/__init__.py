"""Where the bytes of a container go, and how that is shown."""
