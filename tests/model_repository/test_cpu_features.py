"""Which precision the network step chooses, by the features of the CPU."""

from types import SimpleNamespace

import openvino
import pytest


@pytest.fixture
def cpu_features(load_model):
    return load_model("pem_network", "cpu_features")


@pytest.mark.parametrize(
    ("requested", "int8", "bf16", "no_ranges", "chosen"),
    [
        ("auto", True, True, "", "int8, and bf16 outside convolutions"),
        ("auto", True, False, "", "int8, and f32 outside convolutions"),
        ("auto", True, True, "none", "bf16 (no int8: none)"),
        ("auto", True, False, "none", "f32 (no int8: none)"),
        ("auto", False, True, "none", "bf16"),
        ("auto", False, False, "", "f32"),
        ("int8", True, True, "", "int8, and bf16 outside convolutions"),
        ("bf16", True, True, "", "bf16"),
        ("f32", False, False, "none", "f32"),
    ],
)
def test_the_features_of_the_cpu_decide(cpu_features, requested, int8, bf16, no_ranges, chosen):
    cpu = cpu_features.CpuFeatures(int8=int8, bf16=bf16)
    assert str(cpu_features.choose_precision(requested, cpu, no_ranges)) == chosen


@pytest.mark.parametrize(
    ("requested", "int8", "part"),
    [
        ("FP32", False, "'FP32'"),
        ("bf16", True, "bfloat16"),
        ("int8", False, "VNNI"),
        ("int8", True, "--calibration"),
    ],
)
def test_an_unavailable_precision_is_refused(cpu_features, requested, int8, part):
    with pytest.raises(ValueError, match=part):
        cpu_features.choose_precision(requested, cpu_features.CpuFeatures(int8, False), "none")


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "amx_int8", "avx512_bf16"])
def test_int8_depends_on_the_flags_of_the_cpu(cpu_features, tmp_path, flag):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu avx512f {flag} bmi\nbugs\t\t: none\n")
    assert cpu_features.detect_cpu(openvino.Core(), cpuinfo).int8 == (flag != "avx512_bf16")
    assert not cpu_features.detect_cpu(openvino.Core(), tmp_path / "absent").int8


@pytest.mark.parametrize("capabilities", [["FP32", "INT8"], ["FP32", "INT8", "BF16"]])
def test_bfloat16_depends_on_openvino(cpu_features, capabilities):
    properties = {("CPU", "OPTIMIZATION_CAPABILITIES"): capabilities}
    core = SimpleNamespace(get_property=lambda *name: properties[name])
    assert cpu_features.detect_cpu(core).bf16 == ("BF16" in capabilities)
