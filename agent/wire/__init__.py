"""Packets: bytes in, bytes out."""
