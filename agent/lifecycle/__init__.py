"""Start, reload, stop."""
