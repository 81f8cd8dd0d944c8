"""How many servers a load needs: the autoscaling loop, tested for real and simulated."""
