// Tables are sorted by the buttons in their head: numbers first from high to low, text from A to Z.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number.parseFloat(text.replaceAll(",", ""));
    return { text, number, numeric: !Number.isNaN(number) && /^[-+−]?[\d.]/.test(text) };
  };
  heads.forEach((head, column) => {
    if (!head.textContent.trim() || head.dataset.unsorted !== undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    const arrow = document.createElement("span");
    arrow.className = "arrow";
    const [text, ...rest] = head.childNodes;
    button.append(text, arrow, ...rest);
    head.append(button);
    button.addEventListener("click", () => {
      const rows = [...body.rows].map((row) => ({ row, key: keyOf(row, column) }));
      const filled = rows.filter(({ key }) => key.text && key.text !== "n/a" && key.text !== "–");
      const empty = rows.filter((entry) => !filled.includes(entry));
      const numeric = filled.every(({ key }) => key.numeric);
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numeric;
      filled.sort(({ key: a }, { key: b }) =>
        numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true }),
      );
      if (down) filled.reverse();
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...filled, ...empty].map(({ row }) => row));
    });
  });
}

// Each image stands beside one of its stages: all of a section show what is chosen above them, and
// a click on one, or its button, shows its next stage.
for (const viewer of document.querySelectorAll(".viewer")) {
  const figures = [...viewer.querySelectorAll("figure")];
  const imagesOf = (figure) => [...figure.querySelectorAll("img")];
  const show = (figure, stage) => {
    const has = imagesOf(figure).some((image) => image.dataset.stage === stage);
    figure.dataset.shown = has ? stage : "image";
    figure.classList.toggle("lacking", !has);
    figure.querySelector(".now").textContent = has ? stage : `no ${stage}`;
    for (const image of imagesOf(figure)) {
      image.classList.toggle("shown", ["image", stage].includes(image.dataset.stage));
    }
  };
  const step = (figure, by) => {
    const stages = imagesOf(figure).map((image) => image.dataset.stage).slice(1);
    if (!stages.length) return;
    const at = stages.indexOf(figure.dataset.shown);
    show(figure, stages[at < 0 ? 0 : (at + by + stages.length) % stages.length]);
  };
  viewer.querySelector("select").addEventListener("change", (event) => {
    for (const figure of figures) show(figure, event.target.value);
  });
  for (const figure of figures) {
    figure.querySelector(".pair").addEventListener("click", () => step(figure, 1));
    const button = figure.querySelector("button");
    button.addEventListener("click", () => step(figure, 1));
    button.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      step(figure, by);
      event.preventDefault();
    });
  }
}

// On paper, what is folded away is shown.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
