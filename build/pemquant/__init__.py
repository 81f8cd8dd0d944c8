"""Reduced precision: FP16 and INT8 graphs, and the gate that each must pass."""
