"""The printed formulas of matrices are proved, as those of entries are; wrong ones are caught."""

from __future__ import annotations

import pytest

from tests.latex_models import EQUATIONS, ODD, RECURRENT, SPECS, printed
from tests.latex_proof import caught_in, prove
from tests.latex_reader.document import equations, read
from tests.latex_reader.grammar import statement
from tests.latex_reader.mutations import MATRICES as MATRIX_MUTATIONS
from tests.latex_reader.tree import Bold, below_of, is_bold

MATRICES = {
    "char_rnn": 29, "gru_classifier": 50, "leaky_integrator": 27, "lstm_lm": 59, "minimal_gated_unit": 38, "rnn_regression": 27,
    "second_order": 20, "scalar": 0, "mlp": 37, "lenet": 34, "lenet_digits": 24,
}
"""Lines of matrices among them."""


@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
@pytest.mark.parametrize("name", SPECS)
def test_every_formula_of_every_spec_is_true_of_matrices(name: str, adjoint: str) -> None:
    document = read(printed(name, None, adjoint, "matrix"))
    bold = [line for line in document.lines if is_bold(statement(line.text).right)]
    assert len(bold) >= MATRICES[name]
    found = prove(name, None, adjoint, "matrix")
    assert sum(found.values()) == len(document.lines) + sum(inline.says for inline in document.inlines)


@pytest.mark.parametrize("name", SPECS)
def test_what_has_no_matrix_form_is_said(name: str) -> None:
    """A line that reads entries of what has matrices says so, itself or the one above that it goes on from."""
    document = read(printed(name, None, "frac", "matrix"))
    symbols = document.symbols
    having = {row.name for row in symbols.rows if row.bold is not None}
    for line, head in equations(document.lines):
        said = statement(line.text)
        read_here = {entry.name for entry in symbols.entries_in(said.right)}
        if r"\cdots" not in line.text and not is_bold(said.right) and read_here & having:
            assert "no matrix form" in line.reason or "no matrix form" in head.reason, line.text


@pytest.mark.parametrize("name", SPECS)
def test_bold_letters_are_as_the_page_says(name: str) -> None:
    """Capitals are matrices, small letters vectors, or matrices whose capital is another tensor's; columns and subscripts go by
    the table."""
    symbols = read(printed(name, None, "frac", "matrix")).symbols
    for bold, row in symbols.bold.items():
        letter = next(part.text for part in (bold, *below_of(bold)) if isinstance(part, Bold))
        rank = len(row.shape) - row.scripts
        if len(letter) == 1:
            other = [b for b in symbols.bold if Bold(letter.upper()) in (b, *below_of(b))]
            assert rank == (2 if letter.isupper() else 1) or rank == 2 and other, row


@pytest.mark.parametrize("name", RECURRENT)
def test_every_formula_of_an_unrolled_recurrence_is_true_of_matrices(name: str) -> None:
    assert prove(name, 3, "delta", "matrix")["line"] > 30


@pytest.mark.parametrize("name", [*ODD, *EQUATIONS])
def test_every_formula_of_an_odd_model_is_true_of_matrices(name: str) -> None:
    assert prove(name, None, "bar", "matrix")["line"] > 12


@pytest.mark.parametrize("name", ["char_rnn", "gru_classifier", "leaky_integrator", "rnn_regression", "lenet_digits"])
def test_wrong_formulas_of_matrices_are_caught(name: str) -> None:
    caught = caught_in(name, "matrix", MATRIX_MUTATIONS)
    assert sum(caught.values()) > 40
    assert {"dropped transpose", "swapped matrices", "dropped entrywise factor", "another product"} <= set(caught)
