"""Which lines of the server's log a person sees, and the reason of a failed start."""

import pytest

from pem_server.server_log import Reporter, causes, last_error, plain

STAMP = "1122 18:28:21.114631 5092"
PLAIN = [
    ("\n", None),
    (f'I{STAMP} server.cc:604] "all is well"', None),
    (f'E{STAMP} server.cc:241] "CudaDriverHelper has not been initialized."', None),
    ("Signal (15) received.", None),
    (f'W{STAMP} model.py:6] "slow \\"disk\\""', 'tritonserver: warning: slow "disk"'),
    (f'E{STAMP} model.py:6] "one\\ntwo"', "tritonserver: error: one\ntwo"),
    ("E1122 18:28:28.13364    5250 chttp2.cc:10]    UNKNOWN: x", "tritonserver: error: UNKNOWN: x"),
    (f'E{STAMP} model.py:6] "cut', "tritonserver: error: cut"),
    ("printed by a library", "tritonserver: printed by a library"),
]


@pytest.mark.parametrize(("line", "seen"), PLAIN)
def test_a_person_sees_warnings_and_errors_in_plain_words(line, seen):
    assert plain(line) == seen


FAILED = f'E{STAMP} x.cc:1] "failed to load'
CAUSES = {
    "echo: FileNotFoundError: no graph at /e.py(7)": rf"""
{FAILED} 'echo' version 1: Internal: FileNotFoundError: no graph\n\nAt:\n  /e.py(7): x"
error: creating server: Internal - failed to load all models
""",
    "a: too wide": f"""
{FAILED} 'a' version 1: Invalid argument: too wide."
{FAILED} 'b' version 1: ensemble 'b' depends on 'a' which has no loaded version."
""",
    "config.pbtxt 3:16: no field named x; echo: failed to read it": f"""
[libprotobuf ERROR text_format.cc:337] Error parsing text-format inference.ModelConfig: 3:16: \
no field named x.
E{STAMP} x.cc:1] "Poll failed for model directory 'echo': failed to read it"
""",
    "failed to start GRPC: in use": f'E{STAMP} x.cc:1] "failed to start GRPC: in use"',
    "server: failed to stat /x": "error: creating server: Internal - failed to stat /x",
    "": "nothing of note",
}


@pytest.mark.parametrize("reason", CAUSES)
def test_a_failed_start_is_explained_by_its_first_causes(reason):
    assert causes(CAUSES[reason].splitlines()) == reason


def test_the_last_error_is_the_last_warning_or_error():
    lines = [f'W{STAMP} x.cc:1] "first"', f'E{STAMP} x.cc:1] "the end.\\nAt: x"', ""]
    assert last_error([*lines, f'I{STAMP} x.cc:1] "fine"', "Signal (15) received."]) == "the end"
    assert last_error([]) == ""


def test_nothing_is_shown_before_the_server_is_ready_and_everything_after():
    shown = []
    reporter = Reporter(shown.append)
    reporter(f'W{STAMP} model.py:6] "early"')
    assert shown == []
    reporter.release()
    reporter(f'W{STAMP} model.py:6] "late"')
    assert shown == ["tritonserver: warning: early", "tritonserver: warning: late"]
