"""Where the search has been: the evaluated mixtures on a triangle and as lines."""

from studies.report.facts import Facts
from studies.report.parallel import parallel_chart
from studies.report.section import Section
from studies.report.ternary import ternary_chart

KEY, TITLE = "mixtures", "Where the search has been"


def mixtures_section(facts: Facts) -> Section:
    """Show both views; a triangle needs three partitions."""
    best = facts.best
    if best is None:
        return Section(KEY, TITLE, missing=facts.search_first)
    triangle = [ternary_chart(facts, best)] if len(facts.names) >= 3 else []
    return Section(KEY, TITLE, charts=[*triangle, parallel_chart(facts, best)])
