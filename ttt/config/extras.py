"""What to install for a part that needs more than ttt itself: the packages of its extra.

Named by package, because `pip install "ttt[...]"` works only where ttt itself can be installed by
name. A test compares this with pyproject.toml.
"""

from __future__ import annotations

PACKAGES = {
    "eval": ("lm-eval[ruler]>=0.4.13", "transformers>=5"),
    "gepa": ("gepa==0.1.4",),
    "hf": ("transformers>=5",),
    "joblib": ("hydra-joblib-launcher==1.2.0", "joblib>=1.5,<1.6"),
    "mlflow": ("mlflow>=3",),
    "optuna": ("hydra-optuna-sweeper==1.3.0", "optuna==2.10.1"),
    "ray": ("hydra-ray-launcher==1.2.2", "ray[default]==2.60.0"),
    "submitit": ("hydra-submitit-launcher==1.2.0", "submitit>=1.5.4,<1.6"),
    "tensorboard": ("tensorboard>=2.18",),
    "trackio": ("trackio>=0.40",),
    "workspaces": ("wandb-workspaces>=0.4",),
}
# Launchers and sweepers of Hydra's, and the extra that brings each of them.
PLUGINS = {
    "hydra/launcher": {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"},
    "hydra/sweeper": {"optuna": "optuna"},
}


def install(extra: str) -> str:
    """The command that installs what `extra` needs."""
    return "pip install " + " ".join(f'"{package}"' for package in PACKAGES[extra])
