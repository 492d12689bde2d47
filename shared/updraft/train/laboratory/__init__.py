"""Training of the laboratory's models: an edge and a cloud model, and a process reward model for what they write."""
