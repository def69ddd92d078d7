"""Videos to scores: weight-free metrics and the VLM judge's four axes (paper 4.1)."""
