"""Pieces of benches/run. Python 3 standard library only."""
