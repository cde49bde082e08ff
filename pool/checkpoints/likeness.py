"""Whether two models may be averaged: equal class, configuration and tensor shapes, and a common seed."""

import torch
from transformers import PretrainedConfig, PreTrainedModel

from pool.checkpoints.checkpoint import parameters_of
from pool.errors import PoolError

LEAST_COSINE_TO_SEED = 0.1
"""Cosines of unrelated matrices are near 0 (1 / sqrt of their size); a member so far from its seed would not merge."""
_CHANGES_NOTHING = {
    *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "return_dict"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "pretraining_tp", "task_specific_params"),
    *("id2label", "label2id", "output_attentions", "output_hidden_states", "chunk_size_feed_forward"),
}
"""Entries of a configuration without effect on the computation."""


def check_same_tensors(model: PreTrainedModel, like: PreTrainedModel, what: str) -> None:
    """Compare names, shapes and buffers with a model of the pool. Raises `PoolError` for the first difference."""
    _check_shapes(model, like, what)
    _check_buffers(model, like, what)


def _check_shapes(model: PreTrainedModel, like: PreTrainedModel, what: str) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in parameters_of(model).items()}
    expected = {name: tuple(tensor.shape) for name, tensor in parameters_of(like).items()}
    different = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    if different:
        name = different[0]
        raise PoolError(
            f"{what} is of another architecture than the pool: {name} is {shapes.get(name, 'missing')} there and "
            f"{expected.get(name, 'missing')} in the pool; only models of one architecture can be merged"
        )


def _check_buffers(model: PreTrainedModel, like: PreTrainedModel, what: str) -> None:
    buffers = dict(like.named_buffers())
    for name, buffer in model.named_buffers():
        if name not in buffers or not torch.equal(buffer, buffers[name].to(buffer.device)):
            raise PoolError(f"{what} has another buffer {name} than the pool; such models cannot be merged")


def check_same_architecture(model: PreTrainedModel, seed: PreTrainedModel, what: str) -> None:
    """Compare class, configuration, tensors and buffers with the seed. Raises `PoolError` for a difference."""
    kinds = type(model).__name__, type(seed).__name__
    if kinds[0] != kinds[1]:
        raise PoolError(
            f"{what} is of another architecture than the pool: {kinds[0]} there and {kinds[1]} in the pool; only "
            "models of one architecture can be merged"
        )
    _check_shapes(model, seed, what)
    ours, theirs = _deciding(seed.config), _deciding(model.config)
    different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if different:
        key = different[0]
        raise PoolError(
            f"{what} computes otherwise than the pool: {key} is {theirs.get(key)!r} in its config.json and "
            f"{ours.get(key)!r} in the seed's; only models of one architecture can be merged"
        )
    _check_buffers(model, seed, what)


def cosine_to_seed(model: PreTrainedModel, seed: PreTrainedModel, what: str) -> float:
    """Return the cosine of the matrices of a model and its seed, in [-1, 1]; vectors, such as norms, are left out.

    Raises `PoolError` for unrelated models.
    """
    ours, dot, squares = parameters_of(seed), 0.0, [0.0, 0.0]
    for name, tensor in parameters_of(model).items():
        if tensor.ndim > 1:
            one, other = tensor.double(), ours[name].double()
            dot += float((one * other).sum())
            squares = [squares[0] + float(one.square().sum()), squares[1] + float(other.square().sum())]
    cosine = dot / max((squares[0] * squares[1]) ** 0.5, 1e-300)
    if cosine < LEAST_COSINE_TO_SEED:
        raise PoolError(
            f"{what} was not trained from the pool's seed: the cosine of its parameters and the seed's is "
            f"{cosine:.3f}, as of unrelated models; members merge only when all of them start from one seed"
        )
    return float(cosine)


def _deciding(config: PretrainedConfig) -> dict[str, object]:
    entries = config.to_dict().items()
    return {key: value for key, value in entries if key not in _CHANGES_NOTHING and "drop" not in key}
