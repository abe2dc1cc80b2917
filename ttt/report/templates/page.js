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
