"""The outage of 11 December 2024 in small, told in a terminal and measured while it is told: `make demo`."""
