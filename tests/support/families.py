"""Tiny random checkpoints of the families that people continue to train, each with a tokenizer and files as its own."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

TOKENS, ROWS = 300, 320
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_GROUPED = {**_SIZES, "num_key_value_heads": 1, "max_position_embeddings": 64}
_GEMMA = {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}


@dataclass(frozen=True)
class Family:
    """The type of a model, its tiny configuration, its special tokens, and its generation_config.json.

    bos: beginning of text, put before every text by the tokenizer's own way of encoding.
    """

    model_type: str
    config: dict[str, object]
    eos: str
    bos: str | None = None
    pad: str | None = None
    generation: dict[str, object] = field(default_factory=dict)


_SAMPLED = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
_HALF_SAMPLED = {"do_sample": False, "temperature": 0.6, "top_p": 0.9}
"""As older checkpoints have it, and as no newer transformers saves it."""
FAMILIES = {
    "llama": Family("llama", _GROUPED, "<|end_of_text|>", "<|begin_of_text|>", generation=_SAMPLED),
    "qwen2": Family("qwen2", _GROUPED, "<|endoftext|>", pad="<|endoftext|>", generation={"repetition_penalty": 1.1}),
    "qwen3": Family("qwen3", {**_GROUPED, "head_dim": 8}, "<|im_end|>", pad="<|endoftext|>", generation=_SAMPLED),
    "gemma2": Family("gemma2", _GEMMA, "<eos>", "<bos>", "<pad>", {"cache_implementation": "hybrid"}),
    "gemma3": Family("gemma3_text", _GEMMA, "<eos>", "<bos>", "<pad>", {"top_k": 64, **_SAMPLED}),
    "gpt_neox": Family("gpt_neox", {**_SIZES, "max_position_embeddings": 64, "rotary_pct": 0.5}, "<|endoftext|>"),
    "olmo2": Family("olmo2", _GROUPED, "<|endoftext|>", pad="<|pad|>"),
    "phi": Family("phi", _GROUPED, "<|endoftext|>", "<|startoftext|>"),
    "mistral": Family("mistral", {**_GROUPED, "sliding_window": 8}, "</s>", "<s>", generation=_HALF_SAMPLED),
}


def write_tokenizer(family: Family, texts: list[str], folder: Path) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer of fewer tokens than the models have rows."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(token for token in (family.pad, family.eos, family.bos) if token))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=TOKENS, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    if family.bos:
        number = backend.token_to_id(family.bos)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, number)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos, pad_token=family.pad
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(family: Family, tokenizer: PreTrainedTokenizerFast, *, tied: bool) -> PreTrainedModel:
    """Make a random model whose vocabulary is filled up to a round number of rows."""
    names = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(
        family.model_type, vocab_size=ROWS, tie_word_embeddings=tied, **names, **family.config
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def write_family(
    name: str,
    folder: Path,
    texts: list[str],
    *,
    tied: bool,
    dtype: torch.dtype = torch.float32,
    sharded: bool = False,
    head_twice: bool = False,
) -> None:
    """Write a checkpoint in one file or in shards; `head_twice` also stores a tied head."""
    family = FAMILIES[name]
    tokenizer = write_tokenizer(family, texts, folder)
    model = make_model(family, tokenizer, tied=tied).to(dtype)
    model.save_pretrained(folder, **({"max_shard_size": "8KB"} if sharded else {}))
    if head_twice:
        weights = folder / "model.safetensors"
        embedding = model.get_input_embeddings().weight.detach().clone()
        head = {"gpt_neox": "embed_out.weight"}.get(name, "lm_head.weight")
        save_file({**load_file(weights), head: embedding}, weights, metadata={"format": "pt"})
    (folder / "generation_config.json").write_text(json.dumps(family.generation))


def write_gguf(folder: Path, path: Path, *, quantised: bool, frequencies: bool = False) -> None:
    """Write a checkpoint as llama.cpp's converter does; `frequencies` adds a tensor that transformers does not read."""
    import gguf

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, vocabulary = model.config, {number: token for token, number in tokenizer.get_vocab().items()}
    kind_of_model = "llama" if config.model_type == "mistral" else config.model_type  # llama.cpp has one for both
    writer = gguf.GGUFWriter(path, kind_of_model)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if head := getattr(config, "head_dim", None):
        writer.add_key_length(head)
        writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([vocabulary.get(number, f"[PAD{number}]") for number in range(config.vocab_size)])
    special = tokenizer.all_special_ids
    kinds = (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)
    writer.add_token_types([kinds[number not in special] for number in range(config.vocab_size)])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    for add, number in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
    ):
        if number is not None:
            add(number)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind_of_model.upper()], config.num_hidden_layers)
    for key, tensor in model.named_parameters():
        array = _interleaved(key, tensor.detach().numpy(), config)
        in_blocks = quantised and array.ndim > 1 and array.shape[-1] % 32 == 0
        kind = gguf.GGMLQuantizationType["Q8_0" if in_blocks else "F32"]
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    if frequencies:
        writer.add_tensor("rope_freqs.weight", np.ones(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(key: str, array: np.ndarray, config: PretrainedConfig) -> np.ndarray:
    """Order the rows of Llama's queries and keys as llama.cpp does, and Mistral's likewise."""
    heads = {"q_proj.weight": config.num_attention_heads, "k_proj.weight": config.num_key_value_heads}
    count = next((number for name, number in heads.items() if key.endswith(name)), 0)
    if config.model_type not in ("llama", "mistral") or not count:
        return array
    return array.reshape(count, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
