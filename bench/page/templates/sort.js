// Every heading of a column becomes a button: the first press sorts upwards, the next downwards.
document.querySelectorAll("table").forEach(function (table) {
  const body = table.tBodies[0];
  const read = function (row, column) {
    const cell = row.cells[column];
    return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent.trim();
  };
  // Upwards if sign is 1, downwards if it is -1; what has no number comes last in both.
  const compare = function (one, other, sign) {
    if (typeof one !== typeof other) {
      return typeof one === "number" ? -1 : 1;
    }
    return sign * (typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true }));
  };
  Array.from(table.tHead.rows[0].cells).forEach(function (heading, column) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", function () {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("[aria-sort]").forEach(function (sorted) {
        sorted.removeAttribute("aria-sort");
      });
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = Array.from(body.rows).sort(function (one, other) {
        return compare(read(one, column), read(other, column), up ? 1 : -1);
      });
      body.append(...rows);
    });
  });
});
