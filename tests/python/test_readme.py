"""The README's reading of a plan, executed from its own text."""
import json

import numpy as np
from conftest import FIXTURES, code_block


def test_ten_lines_of_pyarrow_read_a_plan(plan, tmp_path, monkeypatch):
    code = code_block("reading a plan")
    statements = [line for line in code.splitlines() if line.strip()]
    assert len(statements) <= 10, "the README promises ten lines"

    (tmp_path / "digits.plan").symlink_to(plan(FIXTURES / "digits.parquet", "--label", "label"))
    monkeypatch.chdir(tmp_path)
    # The block ends inside its loop over the batches, so one more line there sees each of them.
    seen = []
    exec(code + "    seen.append((rows, weights, batch))\n", {"seen": seen})

    about = json.loads((tmp_path / "digits.plan" / "plan.json").read_text())
    rows = np.concatenate([rows for rows, _, _ in seen])
    assert sorted(rows) == list(range(about["rows"])), "every row exactly once"
    weights = np.concatenate([weights for _, weights, _ in seen])
    assert abs(weights.mean() - 1) < 1e-3 and weights.std() > 0.05, "weights average 1 and are not all equal"
    updates = np.zeros(1 + max(batch["update"] for _, _, batch in seen))
    for _, _, batch in seen:
        updates[batch["update"]] += batch["coefficient"]
    assert np.allclose(updates, 1, atol=1e-5), "the coefficients of an update sum to 1"
    assert sum(batch["ends_update"] for _, _, batch in seen) == len(updates)
