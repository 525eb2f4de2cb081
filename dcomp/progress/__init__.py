"""Progress of a stage: observers, the CSV log, the state of a stopped training."""
