"""Accuracy: statistics over seeds, and the tables made of them."""
