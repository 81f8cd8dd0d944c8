import pytest

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.model_config import read_model_config


def test_a_named_configuration_is_read_where_there_is_one() -> None:
    network = MODEL_REPOSITORY / "pem_network"
    assert read_model_config(network).backend == "python"
    assert read_model_config(network, "t4").platform == "tensorrt_plan"
    render = MODEL_REPOSITORY / "pem_render"
    assert read_model_config(render, "t4") == read_model_config(render)


@pytest.mark.parametrize("content", [b"backend: {", b"no_such_field: 1", b"\xff\xfe"])
def test_a_broken_configuration_is_an_error_with_its_path(tmp_path, content) -> None:
    (tmp_path / "config.pbtxt").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.pbtxt"):
        read_model_config(tmp_path)
