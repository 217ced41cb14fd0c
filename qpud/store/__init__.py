"""SQLite: the only place that speaks SQL."""
