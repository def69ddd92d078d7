"""captions -> composites: characters of one style pasted into the other (paper 3.2, CCA)."""
