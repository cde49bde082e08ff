"""Packs a corpus of N megabytes made of real text, in shuffled documents, and prints the most memory it took (MB).

Run as a process of its own: `python packed_memory.py MEGABYTES FOLDER`. The text is made before the count begins.
"""

import json
import random
import resource
import sys
from pathlib import Path
from pydoc_data.topics import topics

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pool.config.pool_file import HeldOutSize, ScoredText
from pool.config.sources import TextSource
from pool.corpus.corpus import make_corpus
from pool.corpus.document_store import DocumentStore
from pool.corpus.documents import read_documents
from pool.corpus.overlap import find_overlap
from pool.tokens.stream import StreamLimits, digest_stream, training_stream


def write_text(path: Path, megabytes: float) -> None:
    """Write real sentences in random order until there is enough, a few hundred bytes a document."""
    sentences = [part for text in topics.values() for part in text.split("\n\n") if len(part) > 60]
    rng, written = random.Random(0), 0
    with path.open("w") as stream:
        while written < megabytes * 1e6:
            written += stream.write(json.dumps({"text": "\n".join(rng.sample(sentences, 8))}) + "\n")


def peak_megabytes() -> float:
    """Return the largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(megabytes: float, folder: Path) -> None:
    """Read, sort, compare with held-out text, tokenise, pack and digest."""
    write_text(folder / "a.jsonl", megabytes)
    vocabulary = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.WordLevel({**vocabulary, "<|endoftext|>": len(vocabulary)}, unk_token="Ġ"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # quick: it is memory that is measured
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>")
    texts = read_documents("a", TextSource(files=(folder / "a.jsonl",)))
    corpus = make_corpus({"a": texts}, {}, kept_out=HeldOutSize(0.1), store=DocumentStore(folder))
    find_overlap(corpus, ScoredText(8192, 1024))
    documents = corpus.partitions["a"]
    limits = StreamLimits(10**9, 32, documents.bytes)
    stream = training_stream("a", documents, tokenizer, limits, folder / "a.npy")
    digest_stream(folder / "a.npy")
    print(json.dumps({"peak": peak_megabytes(), "tokens": len(stream.tokens), "bytes": documents.bytes}))


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]))
