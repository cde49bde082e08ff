"""The verb `handover`: every file is read by what it is for, and says the mixture that was found."""

import json
import math
import runpy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

from objectives.merging.merge import StackedPool
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.pool_file import HeldOutSize, read_pool_file
from pool.corpus.corpus import make_corpus
from pool.corpus.document_store import DocumentStore
from pool.corpus.files import _licences, _stdlib_code
from pool.errors import StudyError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.preparing import read_text
from pool.tokens.tokenizer import load_tokenizer
from studies.opened.on_pool import workbench
from studies.outcome.handover.export import run_handover
from studies.outcome.handover.plan import make_plan
from studies.outcome.handover.stacks import METHODS, interleave_script, mergekit_yaml, olmo_core_yaml
from studies.study_file.study_file import read_study_file

MIXTURE = Mixture.of({"code": 0.55, "docs": 0.45, "prose": 0.0})
TOKENS = 400_000
OLMO_CORE_SOURCE = {
    "source_name": str,
    "target_ratio": float,
    "paths": list,
    "max_repetition_ratio": float,
    "max_source_fraction": float,
}


@pytest.fixture(scope="module")
def handed_over(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder handed over with its text, of a mixture of our own."""
    folder = tmp_path_factory.mktemp("handed") / "over"
    config = read_study_file(built_root / "study.toml")
    config = config.model_copy(update={"database": str(folder.parent / "mixscout.db")})
    with workbench(config) as bench:
        run_handover(bench, MIXTURE, folder, tokens=TOKENS, token_files="/data/{partition}/*.npy", with_text=True)
    return folder


def test_json_and_yaml_say_the_same_weights_tokens_and_epochs(handed_over: Path, tiny_pool: Pool) -> None:
    plan = json.loads((handed_over / "mixture.json").read_text())
    assert yaml.safe_load((handed_over / "mixture.yaml").read_text()) == plan
    partitions = plan["partitions"]
    assert {name: share["weight"] for name, share in partitions.items()} == MIXTURE.as_dict()
    assert sum(share["tokens"] for share in partitions.values()) == plan["tokens"] == TOKENS
    assert partitions["code"]["tokens"] == 220_000 and partitions["prose"]["tokens"] == 0
    for name, share in partitions.items():
        assert share["epochs"] == pytest.approx(share["tokens"] / tiny_pool.tokens[name])
    assert math.fsum(share["document_share"] for share in partitions.values()) == pytest.approx(1)


def test_the_script_runs_and_draws_the_mixture_s_shares_of_tokens(handed_over: Path, tiny_pool: Pool) -> None:
    """Documents of code are longer than those of docs: drawn by weight, the tokens would not be in these shares."""
    module = runpy.run_path(str(handed_over / "interleave.py"))
    plan = json.loads((handed_over / "mixture.json").read_text())
    shares = {name: share["document_share"] for name, share in plan["partitions"].items()}
    assert abs(shares["code"] - 0.55) > 0.05, "or this test shows nothing"
    home = {json.loads(line)["text"]: path.stem for path in (handed_over / "text").iterdir() for line in path.open()}
    tokenizer = load_tokenizer(tiny_pool.folder / "tokenizer")
    counted: Counter[str] = Counter()
    documents = [row["text"] for row in module["mixture"]]
    assert len(documents) == plan["documents"]
    lengths = dict(zip(home, tokenizer.backend_tokenizer.encode_batch(list(home)), strict=True))
    for document in documents:
        counted[home[document]] += 1 + len(lengths[document].ids)
    total = sum(counted.values())
    assert total == pytest.approx(TOKENS, rel=0.2)
    assert counted["code"] / total == pytest.approx(0.55, abs=0.06)


def test_the_text_is_that_of_training_and_of_no_held_out_document(handed_over: Path, built_root: Path) -> None:
    corpus = read_text(read_pool_file(built_root / "pool.toml").corpus).corpus
    kept_out = {text for domain in corpus.held_out.values() for split in domain.values() for text in split}
    assert {path.name for path in (handed_over / "text").iterdir()} == {"code.jsonl", "docs.jsonl"}
    for name in MIXTURE.support:
        text = [json.loads(line)["text"] for line in (handed_over / "text" / f"{name}.jsonl").open()]
        assert tuple(text) == tuple(corpus.partitions[name]) and not kept_out & set(text)


def test_the_script_on_the_demo_corpus_draws_its_documents(tmp_path: Path, tiny_pool: Pool) -> None:
    """The demo's text has no files of its own: they are handed over."""
    text = {"licences": list(_licences())[:200], "stdlib_code": list(islice(_stdlib_code(), 200))}
    corpus = make_corpus(text, {}, kept_out=HeldOutSize(0.1), store=DocumentStore())
    for name in text:
        lines = (json.dumps({"text": document}) + "\n" for document in corpus.partitions[name])
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    plan = make_plan("demo", tiny_pool, MIXTURE, 50_000)
    share = plan.used["code"]
    shares = {"licences": replace(share, document_share=0.25), "stdlib_code": replace(share, document_share=0.75)}
    (tmp_path / "draw.py").write_text(
        interleave_script(replace(plan, shares=shares, documents=400), tiny_pool.config, tmp_path)
    )
    drawn = [row["text"] for row in runpy.run_path(str(tmp_path / "draw.py"))["mixture"]]
    licences = set(corpus.partitions["licences"])
    assert len(drawn) == 400 and sum(document in licences for document in drawn) == pytest.approx(100, abs=35)
    assert set(drawn) <= licences | set(corpus.partitions["stdlib_code"])


def test_without_text_the_script_reads_the_pool_s_own_files_and_says_what_they_hold(
    tiny_pool: Pool, tmp_path: Path
) -> None:
    mixture = Mixture.uniform(tiny_pool.names)
    script = interleave_script(make_plan("tiny", tiny_pool, mixture, 30_000), tiny_pool.config, None)
    assert "they also hold the documents that were kept out of training" in script
    (tmp_path / "draw.py").write_text(script)
    module = runpy.run_path(str(tmp_path / "draw.py"))
    assert {source["builder"] for source in module["SOURCES"].values()} == {"json", "parquet", "text"}
    rows = list(module["mixture"])
    assert len(rows) == module["DOCUMENTS"] and all(list(row) == ["text"] and row["text"] for row in rows)


def test_the_olmo_core_list_has_its_fields_and_allows_the_repetition_it_needs(
    handed_over: Path, tiny_pool: Pool
) -> None:
    """Field names, types and checks of OLMo-core's SourceMixtureConfig and SourceMixtureList, which need other pins."""
    plan = json.loads((handed_over / "mixture.json").read_text())["partitions"]
    (sources,) = yaml.safe_load((handed_over / "olmo_core.yaml").read_text()).values()
    assert [source["source_name"] for source in sources] == ["code", "docs"]
    assert math.isclose(sum(source["target_ratio"] for source in sources), 1)
    for source in sources:
        assert {key: type(value) for key, value in source.items()} == OLMO_CORE_SOURCE
        assert source["paths"] == [f"/data/{source['source_name']}/*.npy"]
        assert source["max_repetition_ratio"] >= max(1, plan[source["source_name"]]["epochs"])
    olmix = yaml.safe_load((handed_over / "olmix.yaml").read_text())
    assert [source["name"] for source in olmix["data"]["sources"]] == list(olmix["mix"]) == ["code", "docs"]
    assert olmix["mix"]["code"]["weight"] == 0.55 and olmix["mix"]["code"]["repetition_factor"] >= 1


@pytest.mark.parametrize("method", METHODS)
def test_mergekit_reads_every_recipe(handed_over: Path, method: str) -> None:
    config = MergeConfiguration.model_validate(yaml.safe_load((handed_over / f"mergekit_{method}.yaml").read_text()))
    assert config.merge_method == method and len(config.models) == 2
    assert (config.base_model is None) == (method == "linear")


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_mergekit_s_merge_is_ours(handed_over: Path, tiny_stack: StackedPool, tmp_path: Path, method: str) -> None:
    """Weights that sum to one make a sum of task vectors on the seed the plain average."""
    config = MergeConfiguration.model_validate(yaml.safe_load((handed_over / f"mergekit_{method}.yaml").read_text()))
    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False)
    run_merge(config, str(tmp_path / "merged"), options=options)
    theirs = parameters_of(load_model(tmp_path / "merged"))
    tiny_stack.merge(MIXTURE.over(tiny_stack.names).array)
    for name, tensor in parameters_of(tiny_stack.model).items():
        assert np.abs(tensor.detach().numpy() - theirs[name].detach().numpy()).max() < 1e-5, name


def test_a_recipe_has_the_rule_s_merge_weights_not_the_mixture(tiny_pool: Pool) -> None:
    weights = {"code": 0.7, "docs": 0.4, "prose": -0.1}
    described = yaml.safe_load(mergekit_yaml(tiny_pool.folder / "seed", tiny_pool.member_folders, weights, "linear"))
    assert [model["parameters"]["weight"] for model in described["models"]] == [0.7, 0.4, -0.1]


def test_the_verb_hands_over_the_best_mixture_and_refuses_what_is_there(root: Path, mixscout: Callable) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 5).code == 0
    best = json.loads(mixscout("best", root / "study.toml", "--json").out)["mixture"]
    answer = mixscout("handover", root / "study.toml", root / "run", "--json")
    assert answer.code == 0, answer.err
    plan = json.loads(answer.out)
    assert {name: share["weight"] for name, share in plan["partitions"].items()} == best
    assert plan["tokens"] == 6_000, "the members' own tokens where the study names no budget"
    assert not (root / "run" / "text").exists()
    again = mixscout("handover", root / "study.toml", root / "run")
    assert again.code == 1 and "run exists and is not empty; name a new folder" in again.err
    people = mixscout("handover", root / "study.toml", root / "long", "--tokens", 10_000_000)
    assert "10,000,000 tokens" in people.out and "repeated: " in people.out
    wrong = mixscout("handover", root / "study.toml", root / "other", "--token-files", "all.npy")
    assert wrong.code == 1 and "put {partition} into it" in wrong.err and not (root / "other").exists()


def test_a_pattern_without_a_partition_is_refused(tiny_pool: Pool) -> None:
    plan = make_plan("tiny", tiny_pool, MIXTURE, 10)
    with pytest.raises(StudyError, match="names one place for all partitions"):
        olmo_core_yaml(plan, "tokens/*.npy")
    with pytest.raises(StudyError, match="needs at least one token"):
        make_plan("tiny", tiny_pool, MIXTURE, 0)
