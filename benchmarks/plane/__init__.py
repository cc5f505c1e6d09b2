"""What a data plane does while something else goes on, and two workers: `python -m benchmarks.plane`."""
