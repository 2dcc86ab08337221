// The numbers: what was looked at, what was missed and how surely that is known.

import { $, element, text } from "./words.js";

const percent = (share) => (share == null ? "–" : `${(100 * share).toFixed(2)} %`);

/** Fills the dialog with the answer of api/numbers, and opens it. */
export function showNumbers(numbers) {
  const figure = (name, value, below = "") => element("div", {}, element("dt", { textContent: name }), element("dd", {}, value, element("small", { textContent: below })));
  const table = (title, rows, columns) => {
    if (!rows.length) return [];
    const head = element("tr", {}, ...columns.map(([name], index) => element("th", { scope: "col", className: index ? "number" : "", textContent: text(name) })));
    const lines = rows.map((row) => element("tr", {}, ...columns.map(([, key], index) => (index ? element("td", { className: "number", textContent: row[key] ?? "–" }) : element("th", { scope: "row", textContent: row[key] })))));
    return [element("h3", { textContent: title }), element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines))];
  };
  const { missed, agreement } = numbers;
  const shown = [
    figure(text("n.looked"), `${numbers.looked_at} / ${numbers.total}`),
    figure(text("n.missed"), `${missed.k} / ${missed.n}`, missed.n ? text("n.interval", { low: percent(missed.low), high: percent(missed.high) }) : ""),
    figure(text("n.seconds"), numbers.median_seconds == null ? "–" : `${numbers.median_seconds.toFixed(1)} s`),
  ];
  if (agreement?.n) shown.push(figure(text("n.agreement"), percent(agreement.share), agreement.kappa == null ? "" : `${text("n.kappa")} ${agreement.kappa.toFixed(2)}`));
  const found = [["n.name", "name"], ["n.misses", "missed"], ["n.false", "false"]];
  $("numbers-body").replaceChildren(
    element("dl", { className: "figure" }, ...shown),
    ...table(text("n.byClass"), numbers.by_class ?? [], found),
    ...table(text("n.bySize"), numbers.by_size ?? [], found),
    ...table(text("n.byPerson"), (numbers.by_person ?? []).map((row) => ({ ...row, share: percent(row.share) })), [["n.name", "name"], ["n.pictures", "n"], ["n.misses", "share"]]),
  );
  $("numbers").showModal();
}
