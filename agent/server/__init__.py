"""Sockets, and the responder behind them."""
