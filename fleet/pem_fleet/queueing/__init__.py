"""A simulation of one server as queues, and its check against a measurement."""
