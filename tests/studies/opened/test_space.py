"""The space over a table: within what its runs have, unless asked to go beyond."""

from pathlib import Path

import pytest

from pool.errors import ConfigError
from search.space import CappedSimplex
from studies.opened.space import Basis, space_of
from studies.study_file.search_sections import SpaceConfig

SEEN = {"code": 0.5, "docs": 0.95, "books": 0.0}


def _space(**options: object) -> CappedSimplex:
    basis = Basis("table", Path(), tuple(SEEN), ("loss",), tokens={}, recipe_tokens=0, seen=SEEN)
    return space_of(SpaceConfig.model_validate(options), basis)


def test_caps_are_what_the_runs_have_and_a_tenth_more() -> None:
    space = _space()
    assert space.caps == pytest.approx((0.55, 1.0, 0.0)) and space.allowed == ("code", "docs")
    assert space.project([0.2, 0.2, 0.9]).as_dict()["books"] == 0


def test_caps_of_the_user_hold_as_well() -> None:
    assert _space(caps={"code": 0.3}).caps == pytest.approx((0.3, 1.0, 0.0))
    assert _space(caps={"code": 0.9}).caps == pytest.approx((0.55, 1.0, 0.0))


def test_asked_to_extrapolate_the_space_is_as_without_runs() -> None:
    assert _space(extrapolate=True) == CappedSimplex.of(tuple(SEEN))
    assert _space(extrapolate=True, caps={"books": 0.2}).caps == (1.0, 1.0, 0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fixed": {"books": 0.2}},
            "[space.fixed] 'books': expected at most 0, the largest weight among the runs and a",
        ),
        ({"floors": {"code": 0.6}}, "[space.floors] 'code': expected at most 0.55, the largest weight among the"),
        ({"exclude": ["docs"]}, "what the runs have is a cap too, unless [space] extrapolate = true"),
    ],
)
def test_what_no_run_has_is_refused_with_the_way_out(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _space(**options)
    assert message in str(refused.value) and "extrapolate = true" in str(refused.value)
    assert _space(extrapolate=True, **options)
