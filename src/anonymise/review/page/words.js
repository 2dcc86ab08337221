// Words and elements of the page: texts in the reader's language, short messages, new elements.

import { ApiError } from "./api.js";

export const $ = (id) => document.getElementById(id);

let texts = {};

export function text(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

let statusTimer;
export function say(message, { bad = false, stays = false } = {}) {
  clearTimeout(statusTimer);
  $("status").textContent = message;
  $("status").className = bad ? "bad" : "";
  if (!stays) statusTimer = setTimeout(() => say("", { stays: true }), bad ? 8000 : 2500);
}

export function reasonOf(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 0) return text("offline");
  if (error.status === 401) return text("noToken");
  if (error.status === 403) return text("noRight");
  return error.message;
}

/** Loads the texts and puts them into the page. */
export async function translate() {
  const all = await (await fetch("texts.json")).json();
  const language = navigator.languages.map((name) => name.slice(0, 2).replace(/^(no|nn)$/, "nb")).find((name) => name in all) ?? "en";
  texts = { ...all.en, ...all[language] };
  document.documentElement.lang = language;
  for (const place of document.querySelectorAll("[data-text]")) place.textContent = text(place.dataset.text);
  for (const place of document.querySelectorAll("[data-label]")) place.setAttribute("aria-label", text(place.dataset.label));
}
