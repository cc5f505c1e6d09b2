"""What a fleet of agents costs the API servers: their real source code against scripted API servers, in fast time."""
