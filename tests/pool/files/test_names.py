"""Names in any script, and the file names made of them."""

from itertools import combinations

import pytest
from pydantic import TypeAdapter, ValidationError

from pool.files.names import Name, file_name

ODD = [
    "新闻",
    "новости",
    "أخبار",
    "café",
    "cafe\N{COMBINING ACUTE ACCENT}",
    "🙂",
    "👩‍👧",
    "a b",
    "a/b",
    "a-b",
    "..",
    ".a",
]
ODD += ["a,b", "a=b", "$x$", "a|b", "100%", "C:\\x", "news", "News", "NEWS", "-rf", "con", "CON", "x" * 200, "é" * 200]


@pytest.mark.parametrize("name", ["news", "CON", "-x", "a.b_c-9", "_", "a" * 80, "a" * 80 + "-12"])
def test_a_plain_name_is_its_own_file_name(name: str) -> None:
    assert file_name(name) == name


def test_file_names_are_plain_different_and_always_the_same() -> None:
    made = {name: file_name(TypeAdapter(Name).validate_python(name)) for name in ODD}
    assert all(one != other for one, other in combinations(made.values(), 2))
    for name, made_of in made.items():
        assert made_of.isascii() and "/" not in made_of and made_of[0] not in ".~" and len(made_of) <= 200
        assert file_name(made_of) == made_of == file_name(name)
    assert made["café"] == "cafe~850f7dc43910" and made["新闻"].startswith("name~")


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\nb", "a\x00", "a\x1b[31m", "a\u202eb", "a\u2028b", "x" * 201, "a~0123456789ab"]
)
def test_a_name_that_could_not_be_shown_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="a name"):
        TypeAdapter(Name).validate_python(name)
