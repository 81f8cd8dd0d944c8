"""How many servers a load needs: the autoscaling loop rehearsed for real, one server simulated.

rehearsal/   `./run fleet-test`: real servers, HAProxy, Prometheus and locust on one machine
queueing/    `./run simulate`: one server's queues and batches as events, validated by a load test
"""

from importlib.metadata import version

__version__ = version("pem_fleet")
