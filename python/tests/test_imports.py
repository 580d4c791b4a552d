"""NumPy is all that `import batchwright` needs; a module of a framework that is not there says what to install."""

import subprocess
import sys

import pytest

FRAMEWORKS = ("torch", "torchdata", "accelerate", "lightning", "transformers", "sentence_transformers", "jax", "grain", "optax", "pyarrow", "matplotlib")
SAYS = {"torch": "torch", "training": "torch", "accelerate": "torch", "lightning": "torch", "transformers": "torch", "grain": "grain", "jax": "jax"}


def run(code):
    hide = "import sys\nfor name in %r: sys.modules[name] = None\n" % (FRAMEWORKS,)
    return subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True)


def test_numpy_alone():
    done = run("import batchwright, batchwright.steps; print(batchwright.Plan.__name__)")
    assert done.stdout == "Plan\n", done.stderr


@pytest.mark.parametrize("module", SAYS)
def test_says_what_to_install(module):
    done = run(f"import batchwright.{module}")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and last.endswith(f"pip install {SAYS[module]}"), last
