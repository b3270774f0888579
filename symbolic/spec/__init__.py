"""Specs: read with their places (reading), validated (structure), nothing evaluated; and their JSON Schema (schema)."""

from __future__ import annotations

from symbolic.spec.entries import Input, LayerEntry, LossEntry, Rule, Spec
from symbolic.spec.names import C_KEYWORDS, RESERVED, check_model_name, check_name, mangle
from symbolic.spec.reading import Document, Place, read_data, read_file, read_text, show, spell
from symbolic.spec.schema import schema
from symbolic.spec.structure import check_extent, identifiers, structure

__all__ = [
    "C_KEYWORDS",
    "RESERVED",
    "Document",
    "Input",
    "LayerEntry",
    "LossEntry",
    "Place",
    "Rule",
    "Spec",
    "check_extent",
    "check_model_name",
    "check_name",
    "identifiers",
    "mangle",
    "read_data",
    "read_file",
    "read_text",
    "schema",
    "show",
    "spell",
    "structure",
]
