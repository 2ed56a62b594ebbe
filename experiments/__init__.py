"""Experiments whose logs are in docs/results, and the tables and plots made of them."""
