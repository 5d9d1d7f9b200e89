"""The configuration: one TOML file, read strictly, every problem reported at once with its line."""
