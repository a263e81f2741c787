"""A recipe by its name, or from a Python file of the user."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from understudy.errors import UserError
from understudy.recipes import LOCAL, NAMES
from understudy.recipes.recipe import Recipe


def load_recipe(name: str) -> Recipe:
    """The recipe of this name, or the RECIPE of a Python file that the user names. UserError: no such recipe."""
    if name in NAMES:
        recipe = importlib.import_module(f"understudy.recipes.paper.{name}").RECIPE
    elif name.endswith(".py"):
        recipe = _from_file(Path(name))
    else:
        raise UserError(
            "recipe", name, f"unknown; one of {', '.join(NAMES + LOCAL)}, or a Python file that defines RECIPE"
        )
    return recipe


def _from_file(path: Path) -> Recipe:
    if not path.is_file():
        raise UserError("recipe", path, "no such file")
    spec = importlib.util.spec_from_file_location("understudy_user_recipe", path)
    if spec is None or spec.loader is None:
        raise UserError("recipe", path, "cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own program
        raise UserError("recipe", path, f"stopped with {type(error).__name__}: {error}") from None
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise UserError("recipe", path, "defines no RECIPE of type understudy.recipes.recipe.Recipe")
    return recipe
