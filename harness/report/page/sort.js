// A click on a column's title sorts by it, a second one the other way round. Without this script the page is complete.
"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isNumeric = head.classList.contains("number");
      const first = isNumeric ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = Array.from(body.rows, (row) => ({ row, key: key(row.cells[column], isNumeric) }));
      rows.sort((a, b) => compare(a.key, b.key, sign));
      body.append(...rows.map((item) => item.row));
    });
  });
}

// The number that a cell carries, or its words; nothing where it is empty.
function key(cell, isNumeric) {
  if (cell.dataset.sort === "") return null;
  return isNumeric ? Number(cell.dataset.sort) : cell.textContent;
}

// Nothing comes last in both orders.
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number") return sign * (a - b);
  return sign * a.localeCompare(b, undefined, { numeric: true });
}
