"""exportd: scheduled, exact data export from Postgres."""

__version__ = "0.1.0"
