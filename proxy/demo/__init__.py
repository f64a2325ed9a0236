"""The whole thing on one machine: an embedded upstream with sample mail, and devices that play."""
