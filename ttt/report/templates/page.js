// Sortable tables: a button in every header, aria-sort on the column that decides.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)], [m, n] = [parseFloat(x), parseFloat(y)];
        const numbers = [a, b].some(row => row.cells[column].classList.contains("number"));
        if (!numbers) return (up ? 1 : -1) * x.localeCompare(y, undefined, {numeric: true});
        // What was not measured comes last, either way.
        if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n);
        return (up ? 1 : -1) * (m - n);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
// On a phone each row is a card: every value needs the name of its column.
for (const table of document.querySelectorAll("table.cards")) {
  const names = [...table.tHead.rows[0].cells].map(head => head.textContent);
  for (const row of table.tBodies[0].rows)
    [...row.cells].forEach((cell, column) => cell.dataset.name = names[column]);
}
document.documentElement.classList.add("scripted");
// Heat maps: what a cell is, in words, below its table.
for (const figure of document.querySelectorAll("figure.heat")) {
  const table = figure.querySelector("table"), readout = figure.querySelector("output");
  table.addEventListener("mouseover", event => {
    const cell = event.target.closest("td");
    if (!cell) return;
    const row = cell.parentNode.cells[0].title, column = table.tHead.rows[0].cells[cell.cellIndex].title;
    const value = cell.classList.contains("none") ? "not measured" : cell.textContent;
    readout.textContent = cell.title = `${row}, on ${column}: ${value} (${table.dataset.what})`;
  });
}
// Buttons: copy a table or a command, save a table as CSV and a picture as SVG.
const tools = (before, actions) => {
  const bar = document.createElement("div");
  bar.className = "tools";
  for (const [name, label, act] of actions) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => act(button));
    bar.append(button);
  }
  before.before(bar);
};
// An interval is its text; a number alone is saved with all its digits.
const content = cell => cell.dataset.value && !/[±,]/.test(cell.textContent) && !isNaN(cell.dataset.value)
  ? cell.dataset.value : cell.textContent.trim().replaceAll("\u00a0", " ");
const cells = table => [...table.rows].map(row => [...row.cells].map(content));
const csv = table => cells(table).map(row => row.map(text => `"${text.replaceAll('"', '""')}"`).join(",")).join("\n");
const save = (text, type, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
const copy = async (text, button) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission: the old way, by a selection.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "copied";
  setTimeout(() => button.textContent = "copy", 1500);
};
for (const table of document.querySelectorAll("table")) {
  const name = table.id || table.closest("figure").id;
  tools(table.closest(".scroll"), [
    ["copy", `copy the table ${name}`, button => copy(cells(table).map(row => row.join("\t")).join("\n"), button)],
    ["CSV", `save the table ${name}`, () => save(csv(table), "text/csv", `${name}.csv`)],
    ...[...table.closest("figure")?.querySelectorAll("template") ?? []].map(drawing =>
      ["SVG", `save the picture ${name}`, () => save(drawing.innerHTML, "image/svg+xml", `${name}.svg`)]),
  ]);
}
for (const figure of document.querySelectorAll("figure.picture"))
  tools(figure.querySelector(".scroll"), [["SVG", `save the picture ${figure.id}`, () => {
    const svg = figure.querySelector("svg").cloneNode(true);
    // Outside this page nothing says what the current colour is.
    svg.setAttribute("color", "#171819");
    svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    save(new XMLSerializer().serializeToString(svg), "image/svg+xml", `${figure.id}.svg`);
  }]]);
for (const command of document.querySelectorAll("pre.command"))
  tools(command, [["copy", "copy the command", button => copy(command.textContent, button)]]);
// Maps that are folded away on the screen stand on paper.
const folded = [...document.querySelectorAll("details")].filter(part => part.querySelector("figure"));
addEventListener("beforeprint", () => folded.forEach(part => { part.dataset.open = part.open; part.open = true; }));
addEventListener("afterprint", () => folded.forEach(part => part.open = part.dataset.open === "true"));
