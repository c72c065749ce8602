"""The registry says of each recipe what its function says, without importing it."""

from inspect import getdoc, signature

import pytest

from vitral.recipes import RECIPES, Recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_takes_and_arguments_are_the_functions_parameters(recipe: Recipe) -> None:
    takes = [recipe.takes] if recipe.takes else []
    options = ["options"] if recipe.takes == "weights" else []  # how a file of another project is read
    assert list(signature(recipe.load()).parameters) == [*takes, *recipe.arguments, *options]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_the_description_is_the_functions_docstring(recipe: Recipe) -> None:
    text = getdoc(recipe.load())
    assert text is not None
    summary = text.splitlines()[0]
    assert recipe.describe()["summary"] == (summary.format(**recipe.arguments, **recipe.facts))
    assert not any(brace in "".join(recipe.describe().values()) for brace in "{}")
