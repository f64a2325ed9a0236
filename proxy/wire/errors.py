"""Whose fault it was."""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """The peer broke the protocol; the connection is of no further use."""


class LocalProtocolError(Exception):
    """We misused a machine: a bug of ours."""
