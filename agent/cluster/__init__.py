"""Cluster state: trimmed objects and their indexes."""
