"""Tests of nodens: folders mirror `agent/`; `e2e` runs the real process, `control_plane` a real API server."""
