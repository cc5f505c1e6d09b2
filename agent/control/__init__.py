"""Orders that a person gives to the agent, as small documents on disk (decision 0030)."""
