"""The whole catalogue has a derivation: every case of the oracle, in both notations, as a page and as a document."""

from __future__ import annotations

import re

import pytest

from codegen.derivation.document import displays
from codegen.derivation.formats import Style, document_of, show
from codegen.derivation.provenance import derive
from symbolic import load
from tests.oracle.case import Case
from tests.oracle.cases import FAMILIES

CASES = [pytest.param(case, id=f"{family}-{case.name}") for family, cases in FAMILIES.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
def test_every_model_of_the_catalogue_has_its_derivation(case: Case) -> None:
    made = derive(load(case.spec()), wrt="all")
    for notation in ("index", "matrix"):
        shown = {n for d in displays(document_of(made, Style(notation))) for n in d.line.numbers}
        assert shown >= {e.number for program in (made.given, made.stable, made.derived) for e in program.equations}
        text = show(made, "latex", Style(notation))
        body = re.sub(r"%.*", "", text.partition("\\begin{document}")[2]).replace(r"\{", "").replace(r"\}", "")
        assert body.count("{") == body.count("}")
        assert len(re.findall(r"\\left(?![a-z])", body)) == len(re.findall(r"\\right(?![a-z])", body))
        page = show(made, "html", Style(notation))
        assert page.count("<math") == page.count("</math>")
        assert page.count("<mrow>") == page.count("</mrow>")
        assert "_None" not in page
