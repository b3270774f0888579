"""What people see: pages as a browser lays them out, documents as TeX sets them, Markdown as it is parsed, text in a terminal."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

import codegen
from codegen.derivation.formats import Style
from codegen.pipeline import Options, derivation
from symbolic import gradient, load
from tests.browser import Browser, Tab, browser
from tests.conftest import ROOT

WIDE, NARROW = 1500, 420
PAGES = {
    "lstm_lm": ("lstm_lm", Style(), None),
    "lenet": ("lenet", Style(), None),
    "gru_classifier": ("gru_classifier", Style(adjoint="bar"), None),
    "char_rnn-unrolled": ("char_rnn", Style(adjoint="delta"), 3),
    "char_rnn-matrix": ("char_rnn", Style("matrix", "delta"), None),
    "lstm_lm-matrix": ("lstm_lm", Style("matrix", "frac"), None),
    "mlp-matrix": ("mlp", Style("matrix", "bar"), None),
}


def text_of(page: str, format: str, **more: Any) -> str:
    name, style, unroll = PAGES[page]
    return derivation(load(ROOT / "specs" / f"{name}.yaml"), format, style, Options(unroll=unroll), **more)


# ---- pages -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file of a page, made once."""
    folder = tmp_path_factory.mktemp("pages")

    def write(page: str) -> Path:
        path = folder / f"{page}.html"
        if not path.exists():
            path.write_text(text_of(page, "html"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    found = chromium.tab(WIDE)
    yield found
    found.close()


FAULTS = r"""(() => {
  const faults = [], root = document.documentElement;
  const number = (node) => node.closest(".equation")?.querySelector(".number");
  const name = (node) => `${number(node)?.textContent || ""} ${node.outerHTML.slice(0, 90)}`;
  if (root.scrollWidth > root.clientWidth) faults.push(`the page is ${root.scrollWidth} wide in ${root.clientWidth}`);
  let seen = 0;
  for (const formula of document.querySelectorAll(".formula")) {
    const terms = formula.querySelector(".terms");
    for (const box of [formula, terms])
      if (getComputedStyle(box).display !== "contents" && box.scrollWidth > box.clientWidth + 1)
        faults.push(`cut off: ${box.scrollWidth} in ${box.clientWidth}: ${name(formula)}`);
    const clip = (getComputedStyle(terms).display === "contents" ? formula : terms).getBoundingClientRect();
    const head = formula.querySelector(".head").getBoundingClientRect();
    let right = head.width ? head.right : -Infinity, row = head;
    for (const math of terms.querySelectorAll("math")) {
      const r = math.getBoundingClientRect();
      if (r.left < clip.left - 1 || r.right > clip.right + 1 || r.top < clip.top - 1 || r.bottom > clip.bottom + 1)
        faults.push(`outside its formula: ${name(math)}`);
      if (r.left < right - 1 && r.top < row.bottom - 4 && r.bottom > row.top + 4)
        faults.push(`upon its neighbour: ${name(math)}`);
      right = r.right; row = r; seen += 1;
    }
    const beside = number(formula)?.getBoundingClientRect();
    if (beside && beside.left < clip.right - 1) faults.push(`a number upon its formula: ${name(formula)}`);
  }
  for (const math of document.querySelectorAll("math")) {
    if (!math.checkVisibility()) continue;
    const within = (math.closest("td, p, li, summary, a, .reason") || math).getBoundingClientRect();
    const r = math.getBoundingClientRect();
    if (r.right > within.right + 1) faults.push(`out of its text: ${name(math)}`);
    for (const node of [math, ...math.querySelectorAll("*")]) {
      if (/^[\u2061\u2062]*$/.test(node.textContent)) continue;
      const box = node.getBoundingClientRect();
      if (!(box.width > 0 && box.height > 0)) faults.push(`no box: ${node.outerHTML.slice(0, 80)}`);
    }
  }
  return [seen, faults.slice(0, 8)];
})()"""


@pytest.mark.chromium
@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_cut_off_at_any_width(written: Any, tab: Tab, page: str) -> None:
    tab.open(written(page))
    for width in (WIDE, 820, NARROW):
        tab.look(width)
        seen, faults = tab.run(FAULTS)
        assert seen > 30
        assert faults == [], f"{width}"
    assert tab.complaints() == []


CHOSEN = """(selector) => [...document.querySelectorAll(selector + ".chosen")].map((n) => n.dataset.equations)"""
WANTED = """(selector, k) => [...document.querySelectorAll(selector + "[data-equations]")].map((n) => n.dataset.equations)
  .filter((text) => k.some((n) => text.split(" ").includes(n)))"""


def of_both(tab: Tab, numbers: list[str]) -> None:
    """The marks are on what has one of the numbers, and on nothing else, on both sides."""
    for side in (".equation", ".line"):
        wanted = tab.run(f"({WANTED})('{side}', {numbers})")
        assert wanted
        assert tab.run(f"({CHOSEN})('{side}')") == wanted


@pytest.mark.chromium
def test_choosing_an_equation_marks_its_lines_and_the_reverse(written: Any, tab: Tab) -> None:
    tab.open(written("lstm_lm"))
    tab.click('.equation.linked[data-equations="35"] .number')
    of_both(tab, ["35"])
    assert tab.run("(() => { const r = document.querySelector('.line.chosen').getBoundingClientRect(); "
                   "return new Promise((done) => setTimeout(() => done(r.height > 0), 50)); })()")
    tab.click('.equation.linked[data-equations="35"] .number')
    assert tab.run("document.querySelector('.chosen')") is None
    tab.click('.line.linked[data-equations="2"]')
    of_both(tab, ["2"])
    tab.key("Escape", 27)
    assert tab.run("document.querySelectorAll('.chosen').length") == 0


@pytest.mark.chromium
def test_choosing_with_keys(written: Any, tab: Tab) -> None:
    tab.open(written("lstm_lm"))
    tab.run("""document.querySelector('.equation.linked[data-equations="22"] .number').focus()""")
    tab.key("Enter", 13, "\r")
    of_both(tab, ["22"])
    assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert tab.run("document.activeElement.getAttribute('aria-label')") == "Equation 22: mark its lines of code"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.key(" ", 32, " ")
    assert tab.run("document.querySelectorAll('.chosen').length") == 0
    assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "false"
    tab.run("""document.querySelector('.line.comment.linked[data-equations="35"]').focus()""")
    tab.key("Enter", 13, "\r")
    of_both(tab, ["35"])
    links = tab.run("[...document.querySelectorAll('[role=button]')].every((n) => n.tabIndex === 0)")
    assert links is True


@pytest.mark.chromium
def test_where_it_is_narrow_the_lines_stand_below_the_equation(written: Any, tab: Tab) -> None:
    """The code itself is far away there, and the reader stays."""
    tab.look(NARROW)
    tab.open(written("lstm_lm"))
    tab.click('.equation.linked[data-equations="35"] .number')
    shown = tab.run("document.querySelector('.equation.chosen .peek').textContent")
    assert shown.startswith("# (35) ")
    assert tab.run("""document.querySelector('.peek').closest('.equation').dataset.equations""") == "35"
    seen, faults = tab.run(FAULTS)
    assert (seen > 30, faults) == (True, [])
    tab.key("Escape", 27)
    assert tab.run("document.querySelector('.peek')") is None


@pytest.mark.chromium
def test_steps_fold_and_links_open_them(written: Any, tab: Tab) -> None:
    tab.open(written("lstm_lm"))
    closed = "document.getElementById('d-lstm.h').querySelector('.formula').checkVisibility({contentVisibilityAuto: true})"
    tab.click('[id="d-lstm.h"] > summary')
    assert tab.run("document.getElementById('d-lstm.h').open") is False
    tab.click('nav a[href="#d-lstm.h"]')
    tab.run("new Promise((done) => setTimeout(done, 50))")
    assert tab.run(f"[document.getElementById('d-lstm.h').open, {closed}]") == [True, True]
    assert tab.run("Math.abs(document.getElementById('d-lstm.h').getBoundingClientRect().top) < 60")
    missing = tab.run("[...document.querySelectorAll('a')].map((a) => a.hash.slice(1))"
                      ".filter((id) => !document.getElementById(id))")
    assert missing == []
    assert tab.run("document.querySelectorAll('.reason a, p a, li a').length") > 20


@pytest.mark.chromium
def test_without_scripts_the_page_is_whole(written: Any, chromium: Browser) -> None:
    tab = chromium.tab(WIDE, scripts=False)
    tab.open(written("lstm_lm"))
    seen, faults = tab.run(FAULTS)
    assert (seen > 30, faults) == (True, [])
    assert tab.run("document.querySelectorAll('[role=button], [tabindex]').length") == 0
    tab.click('[id="d-lstm.h"] > summary')
    assert tab.run("document.getElementById('d-lstm.h').open") is False
    tab.close()


@pytest.mark.chromium
def test_on_paper_there_is_the_derivation_alone(written: Any, tab: Tab) -> None:
    tab.open(written("lstm_lm"))
    tab.look(700, media="print", dark=True)
    assert tab.run("[...document.querySelectorAll('nav, aside')].map((n) => n.getClientRects().length)") == [0, 0]
    assert tab.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    seen, faults = tab.run(FAULTS)
    assert (seen > 30, faults) == (True, [])
    tab.run("document.getElementById('d-lstm.h').open = false; dispatchEvent(new Event('beforeprint'))")
    assert tab.run("document.getElementById('d-lstm.h').open") is True
    tab.run("dispatchEvent(new Event('afterprint'))")
    assert tab.run("document.getElementById('d-lstm.h').open") is False


@pytest.mark.chromium
def test_what_is_copied_is_latex(written: Any, tab: Tab) -> None:
    tab.open(written("lstm_lm"))
    copied = tab.run("""(() => {
      const step = document.getElementById("d-lstm.U"), range = document.createRange();
      range.selectNodeContents(step);
      getSelection().removeAllRanges(); getSelection().addRange(range);
      const data = new DataTransfer();
      document.dispatchEvent(new ClipboardEvent("copy", { clipboardData: data, bubbles: true, cancelable: true }));
      return data.getData("text/plain");
    })()""")
    assert r"$\frac{\partial L}{\partial U}$" in copied
    line = r"\frac{\partial L}{\partial U_{r,j}} = \sum_{t,n} h_{t - 1, n, j}\,\frac{\partial L}{\partial a_{t,n,r}}"
    assert line in copied.splitlines()
    assert "is read in (2) alone: $" in copied


CONTRAST = r"""(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const ratio = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255, 255];
  };
  const poor = new Map();
  for (const node of document.querySelectorAll("body *")) {
    const says = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!says || node.matches("style, script, title, desc")) continue;
    const style = getComputedStyle(node), drawn = node.closest("svg");
    const grounds = drawn ? [behind(drawn), ...[...drawn.querySelectorAll(".box")].map((box) => rgb(getComputedStyle(box).fill))]
      : [behind(node)];
    const found = Math.min(...grounds.map((ground) => ratio(rgb(drawn ? style.fill : style.color), ground)));
    if (found < 4.5) poor.set(`${node.tagName} ${node.getAttribute("class")}`, found.toFixed(2));
  }
  return [...poor];
})()"""


@pytest.mark.chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast(written: Any, tab: Tab, dark: bool) -> None:
    """Text, code, marked lines and the drawing's words, each against what is behind them."""
    tab.look(WIDE, dark=dark, still=True)
    tab.open(written("gru_classifier"))
    tab.click('.equation.linked[data-equations="41"] .number')
    assert tab.run("document.querySelectorAll('.line.comment.chosen').length") > 0
    assert tab.run(CONTRAST) == []
    paper = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) is dark


@pytest.mark.chromium
def test_nothing_moves_for_those_who_asked_for_it(written: Any, tab: Tab) -> None:
    tab.open(written("lstm_lm"))
    moving = "getComputedStyle(document.querySelector('.equation')).transitionDuration"
    assert tab.run(moving) != "0s"
    tab.look(WIDE, still=True)
    assert tab.run(moving) == "0s"


@pytest.mark.chromium
@pytest.mark.parametrize("width", [900, NARROW])
def test_a_piece_in_another_page_fits_and_restyles_nothing(tmp_path: Path, tab: Tab, width: int) -> None:
    """As a notebook shows models, programs and derivations."""
    model = load(ROOT / "specs" / "gru_classifier.yaml")
    pieces = [model, gradient(model.program()), model.program().equations[1], codegen.derive(model, wrt="gru.U")]
    own = ("<h1>Own</h1><h2>Own</h2><p>Own <a href='#x'>link</a> <code>code</code> <em>em</em></p>"
           "<table><tr><td>own</td></tr></table>")
    styles = ("[...document.querySelectorAll('#own, #own *')].map((n) => { const s = getComputedStyle(n); "
              "return [s.font, s.color, s.margin, s.padding, s.border, s.background].join(); })")
    looks = []
    for name, inside in (("without", ""), ("with", "".join(piece._repr_html_() for piece in pieces))):
        page = tmp_path / f"{name}.html"
        page.write_text(f"<!DOCTYPE html><meta charset=utf-8><body><div id='own'>{own}</div>{inside}", encoding="utf-8")
        tab.look(width)
        tab.open(page)
        looks.append(tab.run(styles))
    assert looks[0] == looks[1]
    seen, faults = tab.run(FAULTS)
    assert (seen > 60, faults) == (True, [])


# ---- documents ---------------------------------------------------------------------------------------------------------


SPECS = ("char_rnn", "gru_classifier", "leaky_integrator", "lenet", "lenet_digits", "lstm_lm", "minimal_gated_unit", "mlp",
         "rnn_regression", "scalar", "second_order")
STYLES = {"index-frac": Style(), "index-delta": Style(adjoint="delta"), "matrix-bar": Style("matrix", "bar"),
          "matrix-frac": Style("matrix")}


def typeset(folder: Path, name: str, text: str) -> str:
    """Set a document with pdfTeX; gives its log. The first error ends it."""
    (folder / f"{name}.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-1500:]
    return (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")


def overfull(log: str) -> list[str]:
    return re.findall(r"^Overfull .*", log, re.MULTILINE)


@pytest.mark.latex
@pytest.mark.parametrize("name", SPECS)
def test_a_document_fits_its_paper(tmp_path: Path, name: str) -> None:
    model = load(ROOT / "specs" / f"{name}.yaml")
    assert overfull(typeset(tmp_path, name, derivation(model, "latex"))) == []


@pytest.mark.latex
@pytest.mark.parametrize("style", STYLES)
def test_fragments_fit_two_columns_and_small_paper(tmp_path: Path, style: str) -> None:
    """All of them in one document, which has amsmath and nothing else; what one defines ends with it."""
    names = []
    for page in ("char_rnn", "gru_classifier", "lenet", "lstm_lm", "mlp", "second_order"):
        model = load(ROOT / "specs" / f"{page}.yaml")
        (tmp_path / f"part-{page}.tex").write_text(derivation(model, "latex", STYLES[style], fragment=True), encoding="utf-8")
        names.append(rf"\input{{part-{page}}}")
    body = "\n".join(["\\emergencystretch3em", r"\begin{document}", *names, r"\ifdefined\dline\undefined\fi", r"\end{document}"])
    two = r"\documentclass[twocolumn]{article}\usepackage{amsmath}" + "\n" + body
    small = r"\documentclass[11pt]{article}\usepackage[a5paper,margin=1.5cm]{geometry}\usepackage{amsmath}" + "\n" + body
    assert overfull(typeset(tmp_path, "two", two)) == []
    assert overfull(typeset(tmp_path, "small", small)) == []


# ---- Markdown ----------------------------------------------------------------------------------------------------------


def tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


@pytest.mark.parametrize("page", PAGES)
def test_markdown_is_well_formed(page: str) -> None:
    text = text_of(page, "markdown")
    found = tokens(text)
    assert [t.content for t in found if t.type == "html_block" and not t.content.startswith("<!--")] == []
    assert [i.content for t in found for i in t.children or () if i.type == "html_inline"] == []
    body = re.sub(r"^<!--.*?-->$", "", text, flags=re.DOTALL | re.MULTILINE)
    displayed = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.DOTALL | re.MULTILINE)
    formulas, rest = displayed.findall(body), displayed.sub("", body)
    assert len(formulas) > 10
    assert "$$" not in rest
    assert all("$" not in f and f.count(r"\begin") == f.count(r"\end") for f in formulas)
    assert all(line.count("$") % 2 == 0 for line in rest.splitlines())
    inline = re.findall(r"\$([^$\n]*)\$", rest)
    assert all(f == f.strip() != "" for f in inline)  # GitHub takes no dollar beside a blank
    for formula in (*formulas, *inline):
        bare = formula.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}")
        assert "<" not in formula
        assert ">" not in formula
    assert not re.search(r"\\(brk|d[lr])", body)  # macros of the LaTeX document


@pytest.mark.parametrize("page", PAGES)
def test_tables_of_markdown_are_tables(page: str) -> None:
    found = tokens(text_of(page, "markdown"))
    kinds = [t.type for t in found]
    assert kinds.count("table_open") == 1
    rows, cells = kinds.count("tr_open"), kinds.count("td_open") + kinds.count("th_open")
    assert rows > 5
    assert cells == 4 * rows
    first, last = kinds.index("table_open"), kinds.index("table_close")
    assert all(t.content for t in found[first:last] if t.type == "inline")
    assert all("|" not in t.content for t in found[first:last] if t.type == "inline")


# ---- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_text_is_not_wider_than_a_terminal(page: str) -> None:
    """Words break at 80 columns; a formula stands on one line, as in the comments of the code."""
    for line in text_of(page, "text").splitlines():
        assert line == line.rstrip()
        assert "\t" not in line
        if len(line) > 80:
            assert re.search(r" \+?= |^ *= ", line) or " " not in line.strip(), line
