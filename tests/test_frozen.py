"""What is frozen is a value; that nobody sets its fields is held by the type checker."""

from frozen import frozen


@frozen
class Place:
    start: int
    length: int = 1


def test_equal_fields_are_one_value() -> None:
    assert Place(3) == Place(3, 1) != Place(4)
    assert len({Place(3), Place(3, 1), Place(4)}) == 2


def test_it_has_no_other_fields() -> None:
    assert not hasattr(Place(3), "__dict__")


def test_the_type_checker_refuses_to_set_a_field() -> None:
    """It also refuses a comment that allows what is allowed anyway."""
    place = Place(3)
    place.start = 4  # pyright: ignore[reportAttributeAccessIssue]
    assert place.start == 4, "nothing but the type checker is in the way"
