"""What operators see: metrics, health, readiness."""
