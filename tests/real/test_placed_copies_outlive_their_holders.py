"""As many copies as are wanted, whoever dies; and when none is wanted, what people put there stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from node.models.demo_model import DEMO_MODEL_SHA256, find_demo_model
from tests.real.model_jobs import DEMO, files_of, has_demo, sha256_on_disk
from tests.real.swarm_processes import NodeProcesses, Rows, is_online

pytestmark = pytest.mark.real

IMPATIENT = (sys.executable, str(Path(__file__).with_name("impatient_node.py")))


def has_placed_copy(rows: Rows, name: str) -> bool:
    return has_demo(rows, name) and all(model.get("is_placed") for model in rows[name]["models"])


def test_a_wanted_copy_is_made_again_elsewhere_when_its_holder_dies(tmp_path: Path) -> None:
    with NodeProcesses(tmp_path, IMPATIENT) as nodes:
        alpha = nodes.run("start", "alpha", "--model", "demo")
        token = alpha.token()
        takers = {
            name: nodes.launch("join", name, "--accept-models", token=token) for name in ("beta", "gamma")
        }
        for node in takers.values():
            node.wait_until_ready()
        alpha.wait_until(lambda rows: is_online(rows, *takers) and has_demo(rows, "alpha"))
        placed = alpha.command("models", "place", DEMO, "--replicas", "2")
        assert "warning" not in placed.stderr
        alpha.wait_until(lambda rows: any(has_placed_copy(rows, name) for name in takers))
        [holder] = [name for name in takers if has_placed_copy(alpha.rows(), name)]
        [other] = takers.keys() - {holder}

        takers[holder].kill()
        alpha.wait_until(lambda rows: has_placed_copy(rows, other))
        assert sha256_on_disk(takers[other]) == DEMO_MODEL_SHA256
        assert "held: alpha, beta, gamma".replace(holder, f"{holder} (offline)") in (
            alpha.command("models", "placements").stdout
        )

        removed = takers[other].command("models", "rm", DEMO)
        assert "it comes back" in removed.stderr
        alpha.wait_until(lambda rows: has_placed_copy(rows, other))

        unplaced = alpha.command("models", "unplace", DEMO).stdout
        assert "stays on alpha" in unplaced
        # It is not served any more before its files go.
        takers[other].wait_until(lambda rows: not rows[other]["models"] and not files_of(takers[other]))
        assert has_demo(alpha.rows(), "alpha")
        assert find_demo_model().exists()
