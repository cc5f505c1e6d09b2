"""nodens: cluster DNS on every node, answered from a persisted snapshot."""

__version__ = "0.1.0"
