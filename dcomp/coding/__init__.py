"""Arrays <-> bytes, losslessly (paper, section 4), as container/FORMAT.md specifies them. Numpy alone."""
