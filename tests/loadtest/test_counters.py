"""What the servers counted, read from the text of their metrics."""

import pytest

from pem_loadtest.counters import describe, parse

BEFORE = """\
# HELP nv_inference_request_success Number of successful inference requests
nv_inference_request_success{model="fai-pem-m-ade",version="1"} 10
nv_inference_request_success{model="pem_network",version="1"} 12
"""
AFTER = """\
nv_inference_request_success{model="fai-pem-m-ade",version="1"} 30
nv_inference_request_success{model="pem_network",version="1"} 32
nv_inference_count{model="pem_network",version="1"} 20
nv_inference_exec_count{model="pem_network",version="1"} 8
nv_inference_queue_duration_us{model="pem_network",version="1"} 4e+05
nv_inference_compute_input_duration_us{model="pem_network",version="1"} 10000
nv_inference_compute_infer_duration_us{model="pem_network",version="1"} 600000
nv_inference_compute_output_duration_us{model="pem_network",version="1"} 10000
"""


def test_counters_are_summed_over_versions_and_reasons() -> None:
    text = 'nv_x{model="a",version="1"} 2\nnv_inference_y{model="a",reason="R",version="1"} 2\n'
    assert parse(text + text.replace('"R"', '"S"')) == {("nv_inference_y", "a"): 4}


def test_a_stage_is_described_per_request() -> None:
    stages = describe(parse(BEFORE), parse(AFTER))
    assert stages["pem_network"] == pytest.approx(
        {"requests": 20, "batch": 2.5, "queue_ms": 20, "compute_ms": 31}
    )
    assert "pem_preprocess" not in stages, "it did nothing"
