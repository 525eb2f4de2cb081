"""What is told of work under way, and what is kept of it: observers, the CSV log, the state of a stopped training."""
