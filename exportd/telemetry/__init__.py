"""The daemon's log and its metrics."""
