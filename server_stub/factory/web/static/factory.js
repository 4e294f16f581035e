"use strict";
// Every page is complete without this: it only narrows a long table while one types, and keeps that in the address.
for (const input of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.querySelectorAll(`#${input.dataset.filter} tbody tr`)];
  const texts = rows.map((row) => (row.cells[0].textContent + " " + (row.cells[1]?.textContent ?? "")).toLowerCase());
  input.addEventListener("input", () => {
    const asked = input.value.toLowerCase();
    rows.forEach((row, number) => { row.hidden = !texts[number].includes(asked); });
    const address = new URL(location.href);
    if (input.value) address.searchParams.set(input.name, input.value); else address.searchParams.delete(input.name);
    history.replaceState(null, "", address);
  });
}
// Fields that say nothing do not belong into the address.
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
}
