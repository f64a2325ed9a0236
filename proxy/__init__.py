"""pop3-sync-proxy: one POP3 mailbox, several computers, every message once on each."""

__version__ = "0.1.0"
