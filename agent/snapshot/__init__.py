"""Generations: compile, persist, recover."""
