"""A session in the engine's loop: drafts judged, spans written, tokens scored."""
