"""A zoo: one small module for each kind that people export, with what must come of it.

``judge.py`` exports them and compares the graphs with the modules in float64;
``python -m zoo`` (with tests/support on the path) writes docs/zoo.md.
"""

from zoo.animal import PRECISIONS, Animal
from zoo.conditions import CONDITIONS
from zoo.forwards import FORWARDS
from zoo.states import STATES
from zoo.weights import WEIGHTS

__all__ = ["GROUPS", "PRECISIONS", "ZOO", "Animal"]

GROUPS = {
    "Weights and buffers": WEIGHTS,
    "Forwards": FORWARDS,
    "States": STATES,
    "Conditions, masks, inputs and outputs": CONDITIONS,
}
ZOO = {animal.name: animal for group in GROUPS.values() for animal in group}
