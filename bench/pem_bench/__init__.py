"""Measurements of the network on this machine, and what a T4 could do at best."""
