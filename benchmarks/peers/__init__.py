"""nodens beside every other server on one machine, in one run, on the same names: `python -m benchmarks.peers`."""
