"""The autoscaling loop with real servers, HAProxy, Prometheus and locust on one machine."""
