"""Drafts without a model: what the text itself, and earlier answers, suggest comes next."""
