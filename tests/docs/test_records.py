"""The reference of records is what the dataclasses say."""

from tests.docs import records


def test_the_reference_of_records_is_that_of_the_dataclasses() -> None:
    assert records.PAGE.read_text(encoding="utf-8") == records.page(), "run `make records`"


def test_every_record_has_its_place() -> None:
    kinds = {kind.__name__ for kind in records._dataclasses() if hasattr(kind, "SCHEMA")}
    assert kinds <= set(records.WRITTEN)
