"""A laboratory for inference-time compute: a reasoning task with exact checks, and models trained on it from scratch."""
