// Sorts and filters the table, and opens what a link leads to. Without it the page says the same.
"use strict";
(() => {
  document.documentElement.classList.add("live");
  const table = document.getElementById("tasks-table");
  if (!table) return;
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const openLogs = document.getElementById("open-logs");
  const chips = [...document.querySelectorAll(".chips button")];
  const headers = [...table.tHead.rows[0].cells];
  const tasks = [...table.tBodies];
  const names = tasks.map((task) => task.rows[0].textContent.toLowerCase());

  const states = chips.map((chip) => chip.dataset.state);
  const value = (task, column) => {
    const cell = task.rows[0].cells[column];
    if (column === 0) return cell.textContent;
    if (column === 1) return states.indexOf(cell.textContent);
    const number = Number(cell.dataset.v ?? cell.textContent);
    return Number.isNaN(number) ? null : number;
  };
  const byText = new Intl.Collator("en", { numeric: true }).compare;

  function sort(header) {
    const column = headers.indexOf(header);
    const direction = header.ariaSort === "ascending" ? "descending" : "ascending";
    for (const other of headers) other.ariaSort = other === header ? direction : "none";
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = tasks.map((task, place) => ({ task, place, key: value(task, column) }));
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place; // what has none, last
      return sign * (column === 0 ? byText(a.key, b.key) : a.key - b.key) || a.place - b.place;
    });
    table.append(...keyed.map(({ task }) => task));
    say(`sorted by ${header.textContent.toLowerCase()}, ${direction}`);
  }

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = chips.filter((chip) => chip.ariaPressed === "true");
    const wanted = pressed.map((chip) => chip.dataset.state).filter(Boolean);
    const critical = pressed.some((chip) => "critical" in chip.dataset);
    tasks.forEach((task, place) => {
      task.hidden = !(
        words.every((word) => names[place].includes(word)) &&
        (!wanted.length || wanted.some((state) => task.classList.contains(state))) &&
        (!critical || task.classList.contains("critical"))
      );
    });
    say();
  }

  function say(more) {
    const count = tasks.filter((task) => !task.hidden).length.toLocaleString("en");
    const all = tasks.length.toLocaleString("en");
    const noun = tasks.length === 1 ? "task" : "tasks";
    shown.textContent = (count === all ? `${all} ${noun}` : `${count} of ${all} ${noun}`) + (more ? `, ${more}` : "");
  }

  function clear() {
    filter.value = "";
    for (const chip of chips) chip.ariaPressed = "false";
    show();
  }

  function press(button) {
    button.ariaPressed = String(button.ariaPressed !== "true");
    return button.ariaPressed === "true";
  }

  // A link from anywhere on the page to a task: the row is there, open, and has the keyboard.
  function reach() {
    const task = table.querySelector("tbody:target");
    for (const other of table.querySelectorAll(".reached")) other.classList.remove("reached");
    if (!task) return;
    if (task.hidden) clear();
    const details = task.querySelector("details");
    details.open = true;
    task.classList.add("reached");
    task.scrollIntoView({ block: "center" });
    details.querySelector("summary").focus({ preventScroll: true });
  }

  table.tHead.addEventListener("click", (event) => {
    const header = event.target.closest("th");
    if (header) sort(header);
  });
  filter.form.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", show);
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      press(chip);
      show();
    });
  }
  openLogs.addEventListener("click", () => {
    const open = press(openLogs);
    for (const task of tasks) if (!task.hidden) task.querySelector("details").open = open;
  });
  filter.addEventListener("keydown", (event) => {
    if (event.key === "Escape") clear();
  });
  // A link to where one is already changes no address.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) reach();
  });
  addEventListener("hashchange", reach);
  if (location.hash) reach();
})();
