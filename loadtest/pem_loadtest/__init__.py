"""An open-loop load test for fai-pem-m-ade servers that can report "this run proves nothing".

Locust runs the processes, the users and the statistics, but not the load: its `LoadTestShape` sets
a number of users, each of which waits for its answer before it sends again, so a slow server
lowers the load that measures it (a closed loop). Here a coordinator draws the arrival times
beforehand and the users are only the pool that sends them; latency counts from the planned time.

arrivals, shapes          when images are sent
images, image_requests    what is sent, and whether the answer is right
sender, worker            send the images, in each process of locust
coordinator               plans, gathers and evaluates, in one process
samples, counters         what clients and servers measured
verdict                   pass, missed goal or invalid
run_report, latency_plot  what is left of a run; capacity: the file that the autoscaler reads
"""

from importlib.metadata import version

__version__ = version("pem_loadtest")
