"""`DownstreamError`: the error of a merge on tasks of lm-evaluation-harness.

The harness evaluates the resident model in place, without a checkpoint.
"""

import importlib.metadata
import math
import time
from collections.abc import Mapping
from typing import Any

from objectives.evaluation import Evaluation
from objectives.losses.tasks import (
    HARNESS_SEED,
    Tasks,
    aside,
    file_digests,
    harness,
    higher_is_better,
    listed,
    load_tasks,
    no_metric,
    requests_digest,
)
from objectives.merging.merge import StackedPool
from objectives.merging.rules import MergeRule
from pool.errors import ConfigError
from pool.files.digests import digest_json
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.tokenizer import load_tokenizer

BATCH_SIZE = 32
"""Requests of one forward pass; fixed, since padding changes the last digits."""


class DownstreamError:
    """Merges the pool's members by a mixture, and runs tasks on the merge.

    The value is the mean over tasks of the metric, or of 1 - metric where higher is better. Its standard error is
    sqrt(sum se^2) / tasks, infinite for a task of a single document or a metric other than a mean. Raises
    `ConfigError`.
    """

    gradient = challenge = foundation = None

    def __init__(self, pool: Pool, stacked: StackedPool, tasks: Tasks, *, rule: MergeRule) -> None:
        self._stacked = stacked
        self._wanted = tasks
        self._rule = rule
        tokenizer = load_tokenizer(pool.folder / "tokenizer")
        tokenizer.split_special_tokens = True  # a request that spells a special token is text
        with aside(stacked.device):
            self._tasks = load_tasks(tasks)
            self._model = harness("models.huggingface").HFLM(
                pretrained=stacked.model, tokenizer=tokenizer, batch_size=BATCH_SIZE
            )
            asked = {name: requests_digest(name, task, tasks) for name, task in self._tasks.items()}
        self._higher_is_better = higher_is_better(self._tasks, tasks.metric)
        self.digest = digest_json(
            {
                "kind": "downstream",
                "pool": pool.manifest.digest,
                "tasks": list(tasks.names),
                "metric": tasks.metric,
                "shots": tasks.shots,
                "documents": tasks.documents,
                "files": file_digests(tasks.folder),
                "requests": asked,
                "rule": rule.digest_parts,
                "lm_eval": importlib.metadata.version("lm_eval"),
                "dtype": str(stacked.dtype),
                **stacked.digest_parts,
            }
        )

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._stacked.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture by one merge and every request of every task. Raises `NonFiniteLossError`."""
        started = time.perf_counter()
        self._stacked.merge(self._rule.weights(mixture.over(self.partitions).array))
        found = self._evaluate()
        metric, results, samples = self._wanted.metric, found["results"], found["samples"]
        scores = [_score(name, task, metric, results[name], samples[name]) for name, task in self._tasks.items()]
        metrics, errors = zip(*scores, strict=True)
        mean = math.fsum(metrics) / len(scores)
        return Evaluation(
            mixture,
            value=1 - mean if self._higher_is_better else mean,
            standard_error=math.hypot(*errors) / len(scores),
            domains={},
            kind="downstream",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=0,
        )

    def _evaluate(self) -> Any:
        evaluate = harness("evaluator").evaluate
        for task in self._tasks.values():
            task.set_fewshot_seed(HARNESS_SEED)
        try:
            with aside(self._stacked.device):
                # its bootstrap would start a process per core, and print: means have a closed form
                return evaluate(self._model, {"tasks": self._tasks}, limit=self._wanted.documents, bootstrap_iters=0)
        except AssertionError as error:
            raise ConfigError(
                f"a request of {listed(self._wanted.names)} cannot be put to this model: each choice needs at least "
                f"one token, and choices and generated text must fit into its context of {self._model.max_length} "
                f"tokens; leave the task out, or build a pool with a longer context ({str(error) or 'no details'})"
            ) from None


def _score(name: str, task: Any, metric: str, result: Mapping[str, Any], samples: Any) -> tuple[float, float]:
    """Return a task's metric and its standard error."""
    has = [key for key in result if "," in key and "_stderr," not in key]
    found = [key for key in has if metric in (key, key.partition(",")[0])]
    if len(found) != 1:
        raise no_metric(name, metric, has)
    if not _finite(samples):
        return math.nan, math.inf  # the harness would take NaN for the likeliest choice
    base, _, used = found[0].partition(",")
    values = [sample[base] for sample in samples if sample["filter"] == used and base in sample]
    metrics = harness("api.metrics")
    is_mean = task.aggregation().get(base) is metrics.mean and len(values) > 1
    return float(result[found[0]]), float(metrics.mean_stderr(values)) if is_mean else math.inf


def _finite(samples: Any) -> bool:
    responses = (response for sample in samples for request in sample["resps"] for response in request)
    numbers = (response[0] if isinstance(response, tuple) else response for response in responses)
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))
