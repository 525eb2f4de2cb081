"""Networks, data and training: the only rooms that import torch."""
