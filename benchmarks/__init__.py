"""Measurements, and the clusters they are made on."""
