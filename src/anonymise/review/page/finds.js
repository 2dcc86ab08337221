// The strip of finds: what is known of a picture, a button with a crop for each.

import { ringsOf, uprightFrame } from "./geometry.js";
import { lookOf } from "./stage.js";
import { $, element, text } from "./words.js";

/** What is outlined in a picture: what the reviewer drew, what was found, corrections of others. */
export function objectsOf(entry) {
  if (!entry) return [];
  const finds = entry.item.finds.map((find) => ({
    id: find.id, category: find.category, shape: find.polygon ? { polygon: find.polygon } : { box: find.box }, box: find.box,
    score: find.score, source: find.source, isDoubtful: find.doubtful, reason: entry.falseFinds.get(find.id), isFalse: entry.falseFinds.has(find.id),
  }));
  const corrections = (entry.item.corrections ?? []).filter(({ kind: what }) => what !== "remove").map((row) => ({
    id: row.id, category: row.category, shape: row.shape, source: row.source, isGiven: true,
  }));
  const added = entry.added.map((object) => ({ ...object, isDrawn: true }));
  return [...added, ...finds, ...corrections].map((object) => ({ ...object, title: titleOf(object) }));
}

function titleOf(object) {
  return `${object.category}: ${describe(object)}`;
}

function describe(object) {
  if (object.isDrawn) return text("drawnByYou");
  if (object.isFalse) return text("isFalse", { reason: text(`reason.${object.reason}`) });
  const state = object.isGiven || (object.source && object.source !== "model") ? text(`from.${object.source}`) : text(object.isDoubtful ? "doubtfulFind" : "hidden");
  return object.score == null || object.isGiven ? state : `${state}, ${text("score", { score: object.score.toFixed(2) })}`;
}

/** Makes the strip from the objects of the stage; the focus stays on the same find. */
export function showFinds(stage, hasPixels) {
  const focused = document.activeElement?.dataset?.find;
  $("finds").replaceChildren(...stage.objects.map((object) => findButton(stage, object, hasPixels)));
  if (focused) $("finds").querySelector(`[data-find="${CSS.escape(focused)}"]`)?.focus();
}

function findButton(stage, object, hasPixels) {
  const { color, dash } = lookOf(object.category);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  line.setAttribute("aria-hidden", "true");
  const stroke = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of Object.entries({ d: "M1 4h24", stroke: color, "stroke-width": 3, "stroke-dasharray": dash.join(" ") })) stroke.setAttribute(name, value);
  line.append(stroke);
  const crop = element("canvas", { width: 112, height: 112, ariaHidden: "true" });
  if (hasPixels) paintCrop(stage, crop, object);
  const button = element("button", { type: "button" }, crop, element("span", {}, element("strong", {}, line, object.category), element("small", { textContent: describe(object) })));
  button.dataset.find = object.id;
  button.setAttribute("aria-pressed", object.id === stage.chosen);
  button.addEventListener("focus", () => object.id !== stage.chosen && stage.choose(object.id));
  return element("li", { className: object.isFalse ? "is-false" : "" }, button);
}

function boxOf(shape) {
  const points = ringsOf(shape).flat();
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)];
}

function paintCrop(stage, canvas, { shape }) {
  const { width, height, orientation } = stage.picture;
  const frame = uprightFrame(orientation ?? 1, width, height);
  const [left, top, wide, high] = boxOf(shape);
  const [a, b] = [frame.toUpright(left, top), frame.toUpright(left + wide, top + high)];
  const side = Math.max(Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])) * 1.4;
  const scale = stage.bitmap.width / frame.width;
  const context = canvas.getContext("2d");
  for (const turn of stage.wraps ? [0, -frame.width] : [0]) {
    const [x, y] = [(a[0] + b[0] - side) / 2 + turn, (a[1] + b[1] - side) / 2];
    context.drawImage(stage.bitmap, x * scale, y * scale, side * scale, side * scale, 0, 0, canvas.width, canvas.height);
  }
}
