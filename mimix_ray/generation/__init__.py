"""Prompts to videos, in batches, with the trained adapter."""
