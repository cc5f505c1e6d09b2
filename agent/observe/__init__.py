"""Logs, metrics, admin endpoint."""
