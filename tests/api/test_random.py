"""Random sequences of operations: the endpoint gives the answers that DynamoDB in memory (`reference.py`) gives.

EVENKEEL_RANDOM_SEED=new takes another sequence; a failure prints its seed, which repeats it. EVENKEEL_RANDOM_STEPS makes it longer. The same against a mesh whose processes are
killed: `tests/failure/test_kill.py`.
"""

import os
import random

import pytest

from operations import Random, Run

pytestmark = pytest.mark.one_kind
STEPS = int(os.environ.get("EVENKEEL_RANDOM_STEPS", "300"))


def test_random_operations(ddb, table_of, ledger):
    # The same operations every time, unless others are asked for: what a change broke shows at that change.
    seed = os.environ.get("EVENKEEL_RANDOM_SEED", "7")
    seed = random.randrange(1 << 32) if seed == "new" else int(seed)
    rng = Random(seed)
    rng.collections = ["r-one", "r-two"]
    run = Run(ddb, table_of(range_type="N"), rng)
    for step in range(STEPS):
        try:
            run.step()
        except AssertionError as error:
            raise AssertionError(
                f"step {step} of seed {seed}; again: EVENKEEL_RANDOM_SEED={seed} EVENKEEL_RANDOM_STEPS={step + 1} "
                f"python -m pytest tests/api/test_random.py\n{error}"
            ) from error
