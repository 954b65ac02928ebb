from fleet.steps import ApplyEvent
from plans.reports.apply_progress import line


def test_a_transfer_tells_what_goes_where_and_how_much_is_there() -> None:
    data = {"what": "llama3_8b to box1", "bytes": 5 << 30, "size": 15 << 30}
    assert line(ApplyEvent("transfer", data)) == "llama3_8b to box1: 33 % of 15.0 GiB"
