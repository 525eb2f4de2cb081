"""Results as tables, plots and plain data: sizes, listings, benchmarks, curves and fronts."""
