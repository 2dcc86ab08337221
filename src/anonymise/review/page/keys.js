// Keys and their commands; `review_keys` of the configuration changes them.

import { $, element, text } from "./words.js";

export const KEYS = {
  decide: "Enter", next: ["Space", "ArrowRight"], previous: "ArrowLeft", box: "n", polygon: "p", hand: "m", view: "v", delete: ["Delete", "Backspace"],
  outlines: "h", original: "o", undo: ["u", "Ctrl+z"], redo: "Ctrl+y", flag: "f", broken: "b", help: "?", larger: "+", smaller: "-", fit: "0",
};

const listed = (value) => [value].flat();

/** Name of the command of a key; null where the key belongs to what has the focus. */
export function commandOf(event) {
  const pressed = (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key);
  const command = Object.keys(KEYS).find((name) => listed(KEYS[name]).includes(pressed));
  const target = event.target;
  if (target.closest("input, select, textarea, dialog")) return null;
  // Enter and Space press the button that has the focus; in the strip of finds, a button only chooses.
  if (["Enter", "Space"].includes(pressed) && target.closest("button") && !target.closest("#finds")) return null;
  return command ?? null;
}

/** Whether letting go of a key ends what the command does while it is held. */
export const isKeyOf = (command, event) => listed(KEYS[command]).includes(event.key.toLowerCase());

/** Fills the table of keys. */
export function writeHelp() {
  const shown = (value) => listed(value).map((key) => key.replace("Arrow", "").replace("Right", "→").replace("Left", "←")).flatMap((key, index) => [index ? " " : "", element("kbd", { textContent: key })]);
  const rows = [
    [KEYS.decide, "decide"], [KEYS.next, "next"], [KEYS.previous, "previous"], [KEYS.box, "box"], [KEYS.polygon, "polygon"], [KEYS.hand, "hand"], ["1 … 9", "class"], ["Tab", "choose"], ["Alt+← ↑ → ↓", "move"],
    [[KEYS.larger, KEYS.smaller].flat(), "size"], [KEYS.delete, "delete"], [KEYS.outlines, "outlines"], [KEYS.original, "original"], [KEYS.undo, "undo"], [KEYS.redo, "redo"], [KEYS.flag, "flag"], [KEYS.broken, "broken"], [KEYS.view, "view"], [KEYS.fit, "zoom"], [KEYS.help, "help"],
  ];
  $("help-keys").replaceChildren(...rows.map(([keys, name]) => element("tr", {}, element("th", { scope: "row" }, ...shown(keys)), element("td", { textContent: text(`help.${name}`) }))));
}
