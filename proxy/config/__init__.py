"""The configuration file and its environment variables, as typed settings."""
