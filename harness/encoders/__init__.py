"""Trained encoders as things to use: saved by a sweep, loaded without it."""
