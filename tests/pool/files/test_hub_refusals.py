"""What the hub will not give, or cannot: one line that names the way out, nothing written, and a token nowhere."""

from dataclasses import dataclass

import pytest
from hub_world import CODE, NOWHERE, World, at, manifest, refused
from tiny import snapshot

SECRET, OTHER = "hf_secretOfThePrivate", "hf_secretOfTheGated"
SET = "HF_TOKEN in the environment may not read it: set it to a token that may, or unset it"
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may read it, or "
NOT_THERE = f"is not on the hub, or not for everyone to read: correct its name, or {LOG_IN}"


@dataclass(frozen=True)
class Case:
    """What is asked for, by whom, and what the answer says; `{lines}` and the like stand for commits."""

    table: str
    message: str
    token: str | None = None


@pytest.fixture(scope="module", autouse=True)
def published(world: World) -> dict[str, str]:
    """Data sets and models that cannot be had, or not by everyone; their commits by name."""
    bare, elsewhere, scripted = (world.variant(name, "lines") for name in ("bare", "elsewhere", "scripted"))
    for path in bare.iterdir():
        path.unlink()
    (bare / "bare.py").write_text(CODE)
    (elsewhere / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: /etc/*.jsonl\n---\n")
    (scripted / "licences.jsonl.gz").unlink()
    (scripted / "licences.jsonl").write_text('{"text": "one"}\n{"text": ')
    pickled = world.variant("pickled", "seed")
    (pickled / "model.safetensors").unlink()
    commits = {"docs": world.docs, "lines": world.lines}
    for folder in (bare, elsewhere, scripted):
        commits[folder.name] = world.hub.publish("datasets", f"owner/{folder.name}", folder)
    for name, token in (("private", SECRET), ("gated", OTHER)):
        commits[name] = world.hub.publish("datasets", f"owner/{name}", world.folder / "lines")
        world.hub.publish("models", f"owner/{name}", world.folder / "seed", "v1.0")
        for kind in ("models", "datasets"):
            world.hub.repositories[kind, f"owner/{name}"].token = token
            world.hub.repositories[kind, f"owner/{name}"].is_gated = name == "gated"
    world.hub.publish("models", "owner/pickled", pickled, "v1.0")
    return commits


def _refused(world: World, number: str, case: Case, **sources: str) -> None:
    pool = world.pool(f"refused {number}", **sources)
    before = snapshot(pool.parent)
    ran = world.online.run("pool", "build", pool, token=case.token)
    refused(ran, case.message)
    assert "hf_" not in (ran.out + ran.err).replace("hf auth", ""), "no token is printed"
    assert snapshot(pool.parent) == before and not (pool.parent / "pools").exists()


SEEDS = {
    "an unknown name": Case(at("owner/nowhere", "v1.0"), f"seed. hub model 'owner/nowhere' at v1.0 {NOT_THERE}give a"),
    "an unknown tag": Case(at("owner/seed", "v9"), "at v9 is not on the hub: it has no such revision; correct `rev"),
    "an unknown commit": Case(at("owner/seed", NOWHERE), f"at {NOWHERE} is not on the hub: it has no such revision"),
    "a private model": Case(at("owner/private", "v1.0"), f"'owner/private' at v1.0 {NOT_THERE}give a local folder"),
    "another's token": Case(
        at("owner/private", "v1.0"), f"'owner/private' at v1.0 is not on the hub, .*: correct its name, or {SET}", OTHER
    ),
    "an unknown token": Case(at("owner/private", "v1.0"), f"is refused by the hub .401.: {SET}", "hf_unknown"),
    "a broken token": Case(at("owner/private", "v1.0"), "cannot be had: LocalProtocolError; see to", "hf_un\vknown"),
    "a gated model": Case(at("owner/gated", "v1.0"), f"is gated: ask for access on its page on the hub, and {LOG_IN}"),
    "not admitted": Case(at("owner/gated", "v1.0"), "is gated: ask for access on its page on the hub", SECRET),
    "a pickle": Case(
        at("owner/pickled", "v1.0"), "model.safetensors is missing; only safetensors checkpoints are read"
    ),
}


@pytest.mark.parametrize("case", SEEDS)
def test_a_seed_that_the_hub_does_not_give(world: World, case: str) -> None:
    _refused(world, case, SEEDS[case], seed=SEEDS[case].table)


TEXTS = {
    "a name": Case(at("owner/nowhere", NOWHERE), f"licences: hub data set 'owner/nowhere' at 0* {NOT_THERE}name local"),
    "a commit": Case(at("owner/lines", NOWHERE), f"at {NOWHERE} is not on the hub: it has no such revision; correct"),
    "a tag": Case(at("owner/lines", "v1.0"), "revision.: a branch or tag may be other text tomorrow: give the commit"),
    "a path": Case(at("../lines", NOWHERE), "held_out.licences.hub.: String should match"),
    "a private one": Case(at("owner/private", "{private}"), f"'owner/private' at .* {NOT_THERE}name local `files`"),
    "a gated one": Case(at("owner/gated", "{gated}"), "is gated: ask for access on its page on the hub", SECRET),
    "an unknown token": Case(at("owner/private", "{private}"), f"is refused by the hub .401.: {SET}", "hf_unknown"),
    "a script alone": Case(at("owner/bare", "{bare}"), "has no files that are read .*its branch refs/convert/parquet"),
    "files elsewhere": Case(
        at("owner/elsewhere", "{elsewhere}"), "names '/etc/\\*.jsonl' in its README.md, which is not"
    ),
    "bad JSON": Case(
        at("owner/scripted", "{scripted}"),
        "licences.jsonl cannot be read as jsonl: line 2: .*; an object takes one line: .*or complete the line",
    ),
    "no subset": Case(at("owner/docs", "{docs}"), "has the subsets numbers, others: set `subset` to one of them"),
    "a subset": Case(at("owner/docs", "{docs}", 'subset = "x"'), "has the subsets numbers, others: set `subset`"),
    "a split": Case(at("owner/lines", "{lines}", 'split = "x"'), "has no split 'x'; it has train: set `split`"),
    "a column": Case(at("owner/lines", "{lines}", 'column = "x"'), "has no column 'x'; it has text: set `column`"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_the_hub_does_not_give(world: World, published: dict[str, str], case: str) -> None:
    table = TEXTS[case].table.format(**published)
    _refused(world, f"text {case}", TEXTS[case], licences=table)


def test_a_token_opens_what_is_private_and_is_kept_nowhere(
    world: World, published: dict[str, str], built: dict
) -> None:
    licences = at("owner/private", published["private"])
    pool = world.pool("private", seed=at("owner/private", "v1.0"), licences=licences)
    ran = world.online.run("pool", "build", pool, "--json", token=SECRET)
    opened = manifest(ran)
    assert opened["seed"]["weights_digest"] == built["seed"]["weights_digest"]
    assert opened["corpus"]["search"]["licences"] == built["corpus"]["search"]["licences"]
    assert SECRET not in ran.out + ran.err
    for folder in (pool.parent, world.folder / "home"):
        assert not [path for path, content in snapshot(folder).items() if SECRET.encode() in content]
