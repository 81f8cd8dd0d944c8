"""The gateway: the process that clients talk to, and the only one that talks to tritonserver."""
