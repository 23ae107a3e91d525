"""Recipes: YAML of constructor calls, read and checked; see `unseen.recipe.reading`."""

from unseen.recipe.reading import Recipe, read_recipe
from unseen.recipe.settings import DataSettings, DetectorSlots, Schedule, TrainerSettings

__all__ = ["DataSettings", "DetectorSlots", "Recipe", "Schedule", "TrainerSettings", "read_recipe"]
