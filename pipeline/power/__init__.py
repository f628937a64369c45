"""Worlds with a known truth: what an experiment of some design would measure there, without training anything."""
