"""Recipes: one file a system, read top to bottom, no inheritance. ``styletrainer.recipe`` says what one is."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# name -> module and class; imported when it is asked for
RECIPES = {
    "cyclegan": ("cyclegan", "CycleGAN"),
    "hybrid": ("hybrid", "Hybrid"),
    "johnson": ("johnson", "FeedForward"),
    "gramcode": ("gramcode", "GramCodeGAN"),
    "stylebank": ("stylebank", "StyleBankRecipe"),
    "unit": ("unit", "UNIT"),
    "paired": ("paired", "Paired"),
    "crossdomain": ("crossdomain", "CrossDomainGAN"),
}


def recipe_class(name: str) -> Any:
    """The class of recipe ``name``."""
    module, cls = RECIPES[name]
    return getattr(import_module(f"styletrainer.recipes.{module}"), cls)
