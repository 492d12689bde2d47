"""Quality against cost: curves, baselines and how sure they are."""
