"""The programs that the benchmarks deploy."""
