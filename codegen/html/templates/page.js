// Choosing an equation marks its lines of code, choosing a line its equations; a copied formula is LaTeX. The page is complete
// without this.
(() => {
  const all = [...document.querySelectorAll("[data-equations]")];
  const lines = all.filter((node) => node.matches(".line"));
  const equations = all.filter((node) => node.matches(".equation, .equation-row"));
  const numbers = (node) => node.dataset.equations.split(" ");
  const code = new Set(lines.flatMap(numbers));
  const said = new Set(equations.flatMap(numbers));
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const aside = document.querySelector("aside");
  const button = (node) => node.querySelector(".number") || node;
  let chosen = null;

  const choose = (from) => {
    chosen = from;
    const wanted = new Set(from ? numbers(from) : []);
    for (const node of all) {
      const on = numbers(node).some((k) => wanted.has(k));
      node.classList.toggle("chosen", on);
      if (button(node).hasAttribute("aria-pressed")) button(node).setAttribute("aria-pressed", String(on));
    }
    document.querySelector(".peek")?.remove();
    if (!from) return;
    const others = (from.matches(".line") ? equations : lines).filter((node) => node.classList.contains("chosen"));
    const beside = getComputedStyle(aside).position === "sticky";
    if (from.matches(".line") || beside) {
      const first = others.find((node) => node.checkVisibility());
      first?.scrollIntoView({ block: "nearest", behavior: still.matches ? "auto" : "smooth" });
    } else if (others.length) { // the code is far away: show its lines here
      const peek = document.createElement("pre");
      peek.className = "peek";
      const file = others[0].closest(".code");
      const found = others.filter((node) => file.contains(node)).map((node) => node.textContent.replace(/\n$/, ""));
      const depth = Math.min(...found.map((line) => line.search(/\S/)));
      peek.textContent = found.map((line) => line.slice(depth)).join("\n");
      (from.querySelector("td:last-child") || from).append(peek);
    }
  };

  for (const node of [...equations, ...lines]) {
    const isLine = node.matches(".line");
    if (!numbers(node).some((k) => (isLine ? said : code).has(k))) continue;
    node.classList.add("linked");
    const act = () => choose(chosen === node ? null : node);
    node.addEventListener("click", (event) => {
      if (!event.target.closest("a, .peek") && getSelection().isCollapsed) act();
    });
    if (isLine && !node.classList.contains("comment")) continue; // the comment over them is enough to get to with keys
    const key = button(node);
    key.tabIndex = 0;
    key.setAttribute("role", "button");
    key.setAttribute("aria-pressed", "false");
    const names = numbers(node).join(", ");
    if (!isLine) key.setAttribute("aria-label", `Equation ${names}: mark its lines of code`);
    key.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
    });
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape" && chosen) choose(null); });

  document.addEventListener("copy", (event) => {
    const selection = getSelection();
    const held = document.createElement("div");
    for (let k = 0; k < selection.rangeCount; k += 1) held.append(selection.getRangeAt(k).cloneContents());
    if (!held.querySelector("math")) return;
    for (const text of held.querySelectorAll(".broken")) text.replaceWith(`$${text.dataset.tex}$`);
    for (const math of held.querySelectorAll("math")) {
      const tex = math.getAttribute("alttext");
      math.replaceWith(math.closest(".formula") ? `${tex} ` : `$${tex}$`);
    }
    for (const term of held.querySelectorAll(".formula")) term.replaceChildren(term.textContent.replace(/\s+/g, " ").trim());
    held.style.cssText = "position: absolute; left: -9999px";
    document.body.append(held); // only what is laid out has lines
    event.clipboardData.setData("text/plain", held.innerText);
    held.remove();
    event.preventDefault();
  });

  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) if (node.matches("details")) node.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.step:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of folded) part.open = false; });
})();
