"""Packets: bytes in, bytes out."""

IMPLEMENTATION = "python"
"""Which data plane answers: told by `nodens_build_info`, /status and the log."""
