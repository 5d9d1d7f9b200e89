"""Whether a destination lets exportd do what it needs: what is tried, what was found, what to grant."""
