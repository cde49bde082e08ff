"""The surrogates by name."""

from collections.abc import Callable, Mapping

from search.surrogates.additive_process import AdditiveProcessSurrogate
from search.surrogates.automatic import AutomaticSurrogate
from search.surrogates.boosted_trees import BoostedTreesSurrogate
from search.surrogates.gaussian_process import GaussianProcessSurrogate
from search.surrogates.mixing_law import MixingLawSurrogate
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Surrogate

SURROGATES: Mapping[str, Callable[[], Surrogate]] = {
    "automatic": AutomaticSurrogate,
    "scheffe": ScheffeSurrogate,
    "mixing_law": MixingLawSurrogate,
    "gaussian_process": GaussianProcessSurrogate,
    "additive_process": AdditiveProcessSurrogate,
    "boosted_trees": BoostedTreesSurrogate,
}
