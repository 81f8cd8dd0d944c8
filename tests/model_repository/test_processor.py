"""Which precision the network step takes, by what the processor has."""

import openvino
import pytest


@pytest.fixture
def processor(load_model):
    return load_model("pem_network", "processor")


@pytest.mark.parametrize(
    ("wanted", "int8", "bf16", "no_ranges", "taken"),
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
def test_the_processor_decides(processor, wanted, int8, bf16, no_ranges, taken):
    has = processor.Processor(int8=int8, bf16=bf16)

    assert str(processor.choose(wanted, has, no_ranges)) == taken


@pytest.mark.parametrize(
    ("wanted", "no_ranges", "sentence"),
    [
        ("FP32", "", "precision must be one of auto, int8, bf16, f32, got 'FP32'"),
        ("bf16", "", "precision bf16 needs a processor with bfloat16, which this one is not"),
        ("int8", "", "precision int8 needs a processor with INT8 dot products"),
        ("int8", "none", "precision int8 needs a processor with INT8 dot products"),
    ],
)
def test_what_the_processor_has_not_is_one_sentence(processor, wanted, no_ranges, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        processor.choose(wanted, processor.Processor(int8=False, bf16=False), no_ranges)


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
def test_int8_is_told_by_the_flags_of_the_processor(processor, tmp_path, flags, int8):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: P\nflags\t\t: {flags}\nbugs\t\t: none\n")

    assert processor.this_processor(openvino.Core(), cpuinfo).int8 == int8


def test_where_no_flags_are_told_there_is_no_int8(processor, tmp_path):
    assert not processor.this_processor(openvino.Core(), tmp_path / "absent").int8


@pytest.mark.parametrize("capabilities", [["FP32", "INT8"], ["FP32", "INT8", "BF16"]])
def test_bfloat16_is_told_by_openvino(processor, capabilities):
    class Core:
        def get_property(self, device, name):
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return capabilities

    assert processor.this_processor(Core()).bf16 == ("BF16" in capabilities)
