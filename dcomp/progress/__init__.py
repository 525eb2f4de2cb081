"""Progress of a stage: metrics, observers, logs, the state of a stopped training."""
