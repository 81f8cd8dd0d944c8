"""A load test for fai-pem-m-ade servers that can say "this run proves nothing".

arrivals, shapes    when images are sent
images, asking    what is sent, and whether the answer is right
player              sends them, in each process of locust
conductor           plans, gathers and judges, in one process
samples, counters   what clients and servers measured
verdict             pass, missed goal or invalid
report, plot        what is left of a run; capacity: the file that the autoscaler reads
crosscheck          the same load from MLPerf LoadGen
"""

from importlib.metadata import version

__version__ = version("pem_loadtest")
