"""What `./run chaos` does, as tests: users get right answers or a refusal, whatever dies.

The default suite has one fault of each kind that ends a server; `./run test --all` has all of them.
"""

import pytest

from pem_gateway.chaos import FAULTS, LOST, WRONG, see

QUICK = ("kill -9 pem_network", "pem_preprocess stands still for 0.9 s", "300,000 nested brackets")


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAULTS],
)
def test_users_get_right_answers_and_the_server_is_back(fault: str) -> None:
    seen = see(FAULTS[fault])
    assert seen.outcomes[WRONG] == 0
    assert seen.outcomes[LOST] == 0
    assert seen.outcomes.total() > 0
    assert seen.noticed_s is None or seen.recovered_s is not None
    if fault.startswith("kill -9"):
        assert seen.noticed_s is not None
