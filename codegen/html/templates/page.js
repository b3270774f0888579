// Choosing an equation marks its lines of code, choosing a line its equations. The page is complete without this.
(() => {
  const all = [...document.querySelectorAll("[data-equations]")];
  const numbers = (node) => node.dataset.equations.split(" ");
  const code = new Set(all.filter((n) => n.matches(".line")).flatMap(numbers));
  const said = new Set(all.filter((n) => !n.matches(".line")).flatMap(numbers));
  const choose = (chosen, from) => {
    const wanted = new Set(chosen);
    const marked = all.filter((n) => {
      const on = numbers(n).some((k) => wanted.has(k));
      n.classList.toggle("chosen", on);
      return on;
    });
    const other = marked.find((n) => n.matches(".line") !== from.matches(".line") && n.offsetParent !== null);
    if (other) other.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  for (const node of all) {
    if (!numbers(node).some((k) => (node.matches(".line") ? said : code).has(k))) continue;
    node.classList.add("linked");
    node.tabIndex = 0;
    const act = () => (node.classList.contains("chosen") && node === document.activeElement && node.dataset.on
      ? (delete node.dataset.on, choose([], node)) : (node.dataset.on = "1", choose(numbers(node), node)));
    node.addEventListener("click", (event) => { if (!event.target.closest("a")) act(); });
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
    });
  }
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) if (node.matches("details")) node.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
