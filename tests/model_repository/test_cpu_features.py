"""Which precision the network step chooses, by the features of the CPU."""

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
        ("auto", False, True, "", "bf16"),
        ("auto", False, True, "none", "bf16"),
        ("auto", False, False, "", "f32"),
        ("int8", True, True, "", "int8, and bf16 outside convolutions"),
        ("int8", True, False, "", "int8, and f32 outside convolutions"),
        ("bf16", True, True, "", "bf16"),
        ("f32", True, True, "", "f32"),
        ("f32", False, False, "none", "f32"),
    ],
)
def test_the_features_of_the_cpu_decide(cpu_features, requested, int8, bf16, no_ranges, chosen):
    cpu = cpu_features.CpuFeatures(int8=int8, bf16=bf16)

    assert str(cpu_features.choose_precision(requested, cpu, no_ranges)) == chosen


@pytest.mark.parametrize(
    ("requested", "no_ranges", "part"),
    [
        ("FP32", "", "'FP32'"),
        ("bf16", "", "bfloat16"),
        ("int8", "", "VNNI"),
        ("int8", "none", "VNNI"),
    ],
)
def test_a_precision_that_the_cpu_lacks_is_refused(cpu_features, requested, no_ranges, part):
    with pytest.raises(ValueError, match=part) as refused:
        cpu_features.choose_precision(requested, cpu_features.CpuFeatures(False, False), no_ranges)
    assert "auto" in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "int8"),
    [
        ("fpu sse2 avx2 avx512f avx512_vnni", True),
        ("fpu avx2 avx_vnni", True),
        ("fpu avx512f amx_tile amx_int8", True),
        ("fpu sse2 avx2 avx512f avx512_bf16", False),
        ("fpu sse2 avx2", False),
    ],
)
def test_int8_depends_on_the_flags_of_the_cpu(cpu_features, tmp_path, flags, int8):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: P\nflags\t\t: {flags}\nbugs\t\t: none\n")

    assert cpu_features.detect_cpu(openvino.Core(), cpuinfo).int8 == int8


def test_without_flags_there_is_no_int8(cpu_features, tmp_path):
    assert not cpu_features.detect_cpu(openvino.Core(), tmp_path / "absent").int8


@pytest.mark.parametrize("capabilities", [["FP32", "INT8"], ["FP32", "INT8", "BF16"]])
def test_bfloat16_depends_on_openvino(cpu_features, capabilities):
    class Core:
        def get_property(self, device, name):
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return capabilities

    assert cpu_features.detect_cpu(Core()).bf16 == ("BF16" in capabilities)
