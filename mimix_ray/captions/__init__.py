"""Clips to character-action captions: Cross-Character Embedding, CCE (paper 3.1)."""
