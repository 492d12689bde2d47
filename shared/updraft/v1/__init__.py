"""Generated from protos/updraft/v1 by scripts/protos; do not edit."""
