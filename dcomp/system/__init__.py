"""Files that are complete or absent, locks, and work in several processes."""
