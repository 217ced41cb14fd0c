"""Metrics and per-job metadata."""
