// The page: which picture is shown, what the keys do, and what is sent. Drawing is the stage's.

import { Api, ApiError } from "./api.js";
import { objectsOf, showFinds } from "./finds.js";
import { commandOf, isKeyOf, KEYS, writeHelp } from "./keys.js";
import { showNumbers } from "./numbers.js";
import { Stage } from "./stage.js";
import { $, element, reasonOf, say, text, translate } from "./words.js";

const AHEAD = 3; // pictures that are claimed and loaded before they are asked for
const IDLE_SECONDS = 10; // longer pauses do not count as work on a picture
const RENEW_SECONDS = 300; // a claim that ends sooner is renewed while somebody works
const LOOK_MS = 300; // a picture that was seen for less was not looked at: the second of two fast keys decides nothing
const REASONS = { s: "sign", r: "reflection", p: "poster", e: "empty" };

const api = new Api();
const stage = new Stage($("stage"));

let session = null;
let filters = {};
let queue = null; // the one that is open: its kind, filters, and promises of the pictures ahead
let entries = []; // pictures of this session, in the order in which they were shown
let position = -1;
let actions = []; // what can be undone: drawings, marks and decisions
let undone = [];
let isWaiting = false; // for a server that does not answer: nothing else is done meanwhile
let lastActive = performance.now();

// One after the other ---------------------------------------------------------------------------------------------------

let last = Promise.resolve();

/** Does what changes the picture that is shown or what is stored, after all that was asked for before. */
function inTurn(does) {
  if (isWaiting) return last;
  last = last.then(does).catch((error) => (error instanceof ApiError ? say(reasonOf(error), { bad: true }) : reportError(error))).finally(refresh);
  return last;
}

// Pictures --------------------------------------------------------------------------------------------------------------

const current = () => entries[position] ?? null;

/** The reduction of a picture by powers of two that still has a pixel for each of the screen. */
function levelFor(item, resolution) {
  let level = 0;
  while (resolution * 2 ** (level + 1) <= 1 && level < (item.levels ?? 1) - 1) level++;
  return level;
}

function entryOf(item) {
  const entry = { item, level: 0, bitmap: null, added: [], falseFinds: new Map(), seconds: 0, seenAt: Infinity, decision: null, isSending: false, n: 0 };
  load(entry);
  return entry;
}

/** Pixels of a picture as a promise, in the detail that the window needs. */
function load(entry) {
  const { item } = entry;
  entry.level = levelFor(item, Math.min(stage.canvas.clientWidth / item.width, 1) * devicePixelRatio);
  entry.bitmap = api.bitmap(imageOf(item, entry.level));
  entry.bitmap.catch(() => {}); // is said when the picture is shown
}

const imageOf = (item, level) => `api/items/${item.id}/image?level=${level}&version=${item.version}`;

const claim = (wanted = {}) => api.json("api/claim", { body: { kind: queue.kind, ...queue.filters, ...wanted } });

function fillAhead() {
  // One after the other: the server gives each the next picture that nobody has.
  const own = queue;
  while (own.ahead.length < AHEAD) {
    const before = own.ahead.at(-1) ?? own.after;
    own.ahead.push(before.catch(() => {}).then((entry) => (entry === null || queue !== own ? null : claim().then((item) => item && entryOf(item)))));
    own.ahead.at(-1).catch(() => {});
  }
}

async function goOn() {
  if (position + 1 < entries.length) return show(position + 1);
  if (queue === null) return undefined;
  fillAhead();
  const promise = queue.ahead.shift();
  fillAhead();
  const entry = await promise.catch((error) => {
    queue.ahead = [];
    throw error;
  });
  if (entry === null) {
    queue.ahead = [];
    position = entries.length;
    showNothing(text("loading"));
    const left = await refreshCounts();
    return showNothing(left ? text("left", { n: left }) : text("empty"));
  }
  entries.push(entry);
  return show(entries.length - 1);
}

const next = () => inTurn(goOn);
const previous = () => inTurn(() => (position > 0 ? show(position - 1) : undefined));

async function show(index) {
  position = index;
  const entry = current();
  if (entry.isOld) await renew(entry);
  const { item } = entry;
  $("relative").textContent = item.relative;
  document.title = `${item.relative.split("/").pop()} – ${text("title")}`;
  $("source-badge").hidden = !item.reason;
  $("source-badge").textContent = item.reason ?? "";
  $("view-toggle").hidden = !item.equirectangular;
  if (document.activeElement?.closest("#finds")) stage.canvas.focus(); // the strip is made again
  hideOriginal();
  // Pixels of those far away are let go: they come again when somebody goes back.
  for (const [at, other] of entries.entries()) if (Math.abs(at - index) > AHEAD) other.bitmap = null;
  if (entry.bitmap === null) load(entry);
  // Until its pixels are here nothing is seen, and so nothing can be drawn or decided.
  stage.chosen = null;
  entry.seenAt = Infinity;
  showNothing(text("loading"));
  paint(entry, entry.bitmap);
}

/** Shows the pixels when they are here, if they are still those of the picture that is open. */
async function paint(entry, promise) {
  const isOpen = () => current() === entry && entry.bitmap === promise;
  try {
    const bitmap = await promise;
    if (!isOpen()) return;
    $("empty").hidden = true;
    stage.show(entry.item, bitmap);
    seen(entry);
    sharpen();
  } catch (error) {
    if (isOpen()) showNothing(text("broken.image", { reason: error instanceof ApiError ? reasonOf(error) : error.message }));
    if (isOpen()) seen(entry);
  }
}

function seen(entry) {
  entry.seenAt = performance.now();
  setTimeout(refreshDecisions, LOOK_MS + 10);
  refresh();
}

const wasLookedAt = (entry) => Boolean(entry) && performance.now() - entry.seenAt >= LOOK_MS;
const isShown = (entry) => Boolean(entry) && stage.picture === entry.item;

function showNothing(message) {
  stage.clear();
  $("empty").hidden = false;
  $("empty-text").textContent = message;
  if (!current()) $("relative").textContent = "";
  refresh();
}

/** Loads a picture in more detail where it is seen larger than it was loaded. */
async function sharpen() {
  const entry = current();
  if (!isShown(entry)) return;
  const { item } = entry;
  const level = levelFor(item, stage.resolution);
  if (level >= entry.level) return;
  entry.level = level;
  const promise = api.bitmap(imageOf(item, level));
  const bitmap = await promise.catch(() => null);
  if (!bitmap || entry.item !== item || entry.level !== level) return;
  entry.bitmap = promise;
  if (isShown(entry)) stage.sharpen(bitmap);
}

// What is shown -----------------------------------------------------------------------------------------------------------

function refresh() {
  const entry = current();
  stage.objects = objectsOf(entry);
  stage.draw();
  $("finds-count").textContent = entry ? stage.objects.length : "";
  $("no-finds").hidden = !entry || stage.objects.length > 0;
  showFinds(stage, isShown(entry));
  const [added, wrong] = entry ? [entry.added.length, entry.falseFinds.size] : [0, 0];
  $("decide-text").textContent = added && wrong ? text("decide.both", { added, false: wrong }) : added ? text("decide.added", { n: added }) : wrong ? text("decide.false", { n: wrong }) : text("decide.good");
  refreshDecisions();
  $("next").disabled = !entry;
  $("previous").disabled = position <= 0;
  $("undo").disabled = actions.length === 0;
  $("view-toggle").setAttribute("aria-pressed", stage.isView);
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === stage.tool);
}

function refreshDecisions() {
  const entry = current();
  const canDecide = wasLookedAt(entry) && !entry.isSending;
  for (const id of ["decide", "flag"]) $(id).disabled = !canDecide || !isShown(entry);
  $("broken").disabled = !canDecide;
}

let countsAsked = 0;
/** Asks how much is left everywhere; gives how many pictures of the open queue have no decision. */
async function refreshCounts() {
  const asked = ++countsAsked;
  try {
    const state = await api.json(`api/queue?${new URLSearchParams({ kind: queue?.kind ?? "all", ...filters })}`);
    if (asked !== countsAsked) return state.total - state.done; // a newer question has been asked
    for (const button of $("kinds").children) button.querySelector(".count").textContent = state.counts[button.dataset.kind] ?? 0;
    const { done, total } = state;
    $("progress-text").textContent = text("lookedAt", { done: done.toLocaleString(), total: total.toLocaleString() });
    $("progress-bar").value = total ? done / total : 0;
    $("draw-now").hidden = !state.waiting;
    $("draw-now").textContent = text("drawNow", { n: state.waiting });
    return total - done;
  } catch (error) {
    say(reasonOf(error), { bad: true });
    return 0;
  }
}

// Drawing and marking -----------------------------------------------------------------------------------------------------

/** Does something that can be undone, in a picture that is not decided and not being saved. */
function act(entry, does, undo) {
  if (entry.decision || entry.isSending) {
    say(text("isDecided"), { bad: true });
    return false;
  }
  does();
  actions.push({ entry, redo: does, undo });
  undone = [];
  refresh();
  return true;
}

/** Changes what was drawn in a picture, from a list to a list. */
function draw(entry, after) {
  const before = entry.added;
  return act(entry, () => { entry.added = after; }, () => { entry.added = before; });
}

function addShape(shape) {
  const entry = current();
  if (!isShown(entry)) return;
  const object = { id: `drawn-${entry.n++}`, category: $("category").value, shape };
  if (draw(entry, [...entry.added, object])) stage.choose(object.id);
}

/** Replaces something drawn by a changed copy. */
function change(id, changes) {
  const entry = current();
  if (!isShown(entry) || !entry.added.some((object) => object.id === id)) return;
  draw(entry, entry.added.map((object) => (object.id === id ? { ...object, ...changes } : object)));
}

function moveBy(dx, dy, growth = 0) {
  const shape = current()?.added.find(({ id }) => id === stage.chosen)?.shape;
  if (!shape || !stage.picture) return;
  const { width, height } = stage.picture;
  if (shape.polygon) {
    change(stage.chosen, { shape: { polygon: shape.polygon.map(([x, y]) => [x + dx, y + dy]) } });
    return;
  }
  let [left, top, wide, high] = shape.box;
  wide = Math.max(1, Math.min(width, wide + 2 * growth));
  high = Math.max(1, Math.min(height, high + 2 * growth));
  left += dx - growth;
  left = stage.wraps ? ((left % width) + width) % width : Math.max(0, Math.min(width - wide, left));
  top = Math.max(0, Math.min(height - high, top + dy - growth));
  change(stage.chosen, { shape: { box: [left, top, wide, high] } });
}

function remove() {
  const entry = current();
  const id = stage.chosen;
  if (!isShown(entry) || id === null) return;
  if (entry.added.some((object) => object.id === id)) {
    if (draw(entry, entry.added.filter((object) => object.id !== id))) stage.choose(null);
    return;
  }
  if (!entry.item.finds.some((object) => object.id === id)) return;
  if (!session.roles.includes("original")) {
    say(text("cannotBeFalse"), { bad: true });
    return;
  }
  if (entry.falseFinds.has(id)) {
    const reason = entry.falseFinds.get(id);
    act(entry, () => entry.falseFinds.delete(id), () => entry.falseFinds.set(id, reason));
  } else {
    doubted = { entry, id };
    $("reason").showModal();
  }
}

let doubted = null; // the find whose reason is asked for

/** At once, not by the dialog's own event, which comes later: the next key may save the picture before. */
function markFalse(reason) {
  $("reason").close();
  const { entry, id } = doubted;
  act(entry, () => entry.falseFinds.set(id, reason), () => entry.falseFinds.delete(id));
}

// Decisions -----------------------------------------------------------------------------------------------------------------

/** Decides the picture that is seen now; a second key for the same picture does nothing. */
function decide(special = null) {
  const entry = current();
  if (!wasLookedAt(entry) || isWaiting || entry.isSending || !(isShown(entry) || special === "broken")) return;
  if (entry.decision) {
    next();
    return;
  }
  const { added, falseFinds } = entry;
  const verdict = special ?? (added.length && falseFinds.size ? "both" : added.length ? "missed" : falseFinds.size ? "false" : "good");
  entry.isSending = true;
  refresh();
  inTurn(async () => {
    if (current() !== entry) return; // a key before this one has left the picture
    await send(entry, verdict);
    if (!entry.decision) return;
    const restore = () => {
      entry.added = added;
      mark(entry, falseFinds);
    };
    const undo = async () => {
      await api.json("api/undo", { body: { decision: entry.decision } }).catch((error) => {
        if (error.status !== 422) throw error; // somebody else has undone it
      });
      entry.decision = null;
      restore();
    };
    const redo = () => {
      restore();
      return send(entry, verdict);
    };
    actions.push({ entry, undo, redo, sends: true });
    undone = [];
    say(text("saved"));
    refreshCounts();
    await goOn();
  }).finally(() => {
    entry.isSending = false;
    refresh();
  });
}

/** Sets the marks of false finds, without those of finds that are no longer in the picture. */
function mark(entry, marks) {
  entry.falseFinds = new Map([...marks].filter(([id]) => entry.item.finds.some((find) => find.id === id)));
}

/** Sends a decision until it is stored or the reviewer has to look again. What was drawn is kept in any case. */
async function send(entry, verdict) {
  for (;;) {
    const { item } = entry;
    const body = {
      verdict, version: item.version, seconds: Math.round(entry.seconds * 10) / 10,
      added: entry.added.map(({ category, shape }) => ({ category, shape })),
      false: [...entry.falseFinds].map(([find, reason]) => ({ find, reason })),
    };
    try {
      entry.decision = (await api.json(`api/items/${item.id}/decision`, { body })).id;
      return;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 409) {
        await claimAgain(entry);
        return;
      }
      if (error.status && error.status < 500) {
        say(reasonOf(error), { bad: true, stays: true });
        return;
      }
      say(text("notSaved", { reason: reasonOf(error), seconds: 3 }), { bad: true, stays: true });
      isWaiting = true;
      await new Promise((resolve) => setTimeout(resolve, 3000));
      isWaiting = false;
    }
  }
}

async function claimAgain(entry) {
  try {
    const before = entry.item;
    entry.item = await claim({ item: before.id });
    load(entry);
    mark(entry, entry.falseFinds);
    say(text(before.version === entry.item.version ? "claimOver" : "changed"), { bad: true, stays: true });
    if (current() === entry) await show(position);
  } catch (error) {
    say(error.status === 409 ? text("taken") : reasonOf(error), { bad: true, stays: true });
  }
}

async function step(from, onto, does) {
  const action = from.at(-1);
  if (!action) return say(text("nothingToUndo"));
  const { entry } = action;
  if (current() !== entry) await show(entries.indexOf(entry));
  const wasDecided = entry.decision;
  await action[does]();
  if (does === "redo" && !entry.decision && action.sends) return undefined; // was not stored: its reason has been said
  from.pop();
  onto.push(action);
  if (wasDecided === entry.decision) return undefined;
  say(text(does === "undo" ? "undone" : "redone", { relative: entry.item.relative }));
  return refreshCounts();
}

const undo = () => inTurn(() => step(actions, undone, "undo"));
const redo = () => inTurn(() => step(undone, actions, "redo"));

function active() {
  const now = performance.now();
  const entry = current();
  if (entry) {
    entry.seconds += Math.min(IDLE_SECONDS, (now - lastActive) / 1000);
    const left = (Date.parse(entry.item.until) - Date.now()) / 1000;
    if (left > 0 && left < RENEW_SECONDS && !entry.renews) {
      entry.renews = true;
      claim({ item: entry.item.id }).then(({ until }) => (entry.item.until = until)).catch(() => {}).finally(() => (entry.renews = false));
    }
  }
  lastActive = now;
}

// Original, numbers, drawing now ----------------------------------------------------------------------------------------------

let originalOf = null;
async function showOriginal() {
  const entry = current();
  const find = stage.chosen;
  if (!entry || find === null || originalOf) return;
  const asked = (originalOf = { find });
  try {
    const blob = await (await api.fetch(`api/items/${entry.item.id}/original?find=${encodeURIComponent(find)}`)).blob();
    if (originalOf !== asked) return; // the key was let go before
    const image = $("original").querySelector("img");
    image.src = URL.createObjectURL(blob);
    $("original").hidden = false;
  } catch (error) {
    say(reasonOf(error), { bad: true });
  }
}

function hideOriginal() {
  originalOf = null;
  const image = $("original").querySelector("img");
  if (image.src) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  $("original").hidden = true;
}

async function drawNow() {
  try {
    let state = await api.json("api/draw", { body: {} });
    while (state.state === "running") {
      say(text("drawing.state", state), { stays: true });
      await new Promise((resolve) => setTimeout(resolve, 500));
      state = await api.json("api/draw");
    }
    if (state.state === "failed") say(text("drawing.failed", { reason: state.reason }), { bad: true, stays: true });
    else say(text("drawing.done", { n: state.done }));
  } catch (error) {
    say(reasonOf(error), { bad: true });
  }
  await refreshCounts();
  // Pixels and finds of what was decided may have changed.
  for (const entry of entries) entry.isOld = entry.decision !== null;
  await inTurn(() => (current()?.isOld ? show(position) : undefined));
}

/** Gets a picture again; what was drawn and decided in it is now among its finds. */
async function renew(entry) {
  entry.isOld = false;
  const item = await claim({ item: entry.item.id }).catch(() => null);
  if (!item || item.version === entry.item.version) return;
  Object.assign(entry, { item, added: [], falseFinds: new Map() });
  load(entry);
}

// Keys ------------------------------------------------------------------------------------------------------------------------

const COMMANDS = {
  decide: () => (stage.endPolygon(true) ? undefined : decide()),
  next, previous, undo, redo, delete: remove,
  box: () => {
    stage.tool = "box";
    stage.endPolygon(false);
    if (isShown(current())) addShape(stage.boxAround(stage.middle));
  },
  polygon: () => setTool("polygon"),
  hand: () => setTool(stage.tool === "hand" ? "box" : "hand"),
  view: () => { stage.toggleView(); refresh(); },
  flag: () => decide("flagged"),
  broken: () => decide("broken"),
  outlines: () => { stage.showsOutlines = false; stage.draw(); },
  original: showOriginal,
  larger: () => moveBy(0, 0, 2),
  smaller: () => moveBy(0, 0, -2),
  fit: () => stage.fit(),
  help: () => $("help").showModal(),
};

function setTool(tool) {
  stage.tool = tool;
  stage.endPolygon(false);
  refresh();
}

document.addEventListener("keydown", (event) => {
  active();
  if ($("reason").open) {
    const reason = REASONS[event.key.toLowerCase()];
    if (reason) markFalse(reason);
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  if (event.altKey && event.key.startsWith("Arrow")) {
    const distance = event.shiftKey ? 10 : 1;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    moveBy(dx * distance, dy * distance);
    event.preventDefault();
    return;
  }
  if (event.altKey) return;
  if (event.key === "Escape" && stage.endPolygon(false)) return;
  if ((event.ctrlKey || event.metaKey) && ["+", "-", "="].includes(event.key)) {
    stage.zoom(event.key === "-" ? 0.8 : 1.25);
    event.preventDefault();
    return;
  }
  if (/^[1-9]$/.test(event.key) && !event.ctrlKey && !event.target.closest("input, select")) {
    const option = $("category").options[Number(event.key) - 1];
    if (option) setCategory(option.value);
    return;
  }
  const command = commandOf(event);
  if (!command) return;
  event.preventDefault();
  if (event.repeat && !["larger", "smaller", "next", "previous"].includes(command)) return;
  COMMANDS[command]();
});

document.addEventListener("keyup", (event) => {
  if (isKeyOf("outlines", event)) {
    stage.showsOutlines = true;
    stage.draw();
  }
  if (isKeyOf("original", event)) hideOriginal();
});
window.addEventListener("blur", hideOriginal);
document.addEventListener("pointerdown", active);
window.addEventListener("pagehide", () => api.fetch("api/session", { keepalive: true }).catch(() => {})); // others may have the pictures
window.addEventListener("beforeunload", (event) => {
  if (entries.some(({ decision, added, falseFinds }) => !decision && added.length + falseFinds.size)) event.preventDefault();
});

function setCategory(category) {
  $("category").value = category;
  change(stage.chosen, { category });
}

stage.addEventListener("drawn", ({ detail }) => addShape(detail.shape));
stage.addEventListener("chosen", ({ detail }) => {
  for (const button of $("finds").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.find === detail.id);
});
stage.addEventListener("moved", sharpen);

// Start -----------------------------------------------------------------------------------------------------------------------

function open(kind) {
  // A claim of the queue before that is on its way must not come after those of this one, or the server gives these up.
  queue = { kind, filters, ahead: [], after: Promise.allSettled([queue?.after, ...(queue?.ahead ?? [])]) };
  const own = queue;
  for (const button of $("kinds").children) button.setAttribute("aria-pressed", button.dataset.kind === kind);
  return inTurn(async () => {
    if (queue !== own) return; // another was opened meanwhile
    entries = entries.filter((entry) => [...actions, ...undone].some((action) => action.entry === entry));
    position = entries.length;
    showNothing(text("loading"));
    await own.after;
    await api.json("api/session").catch(() => {}); // gives up what this tab has claimed and not shown
    refreshCounts();
    position = entries.length - 1;
    await goOn();
    stage.canvas.focus();
  });
}

function connect() {
  for (const [id, does] of Object.entries({
    previous, next, undo, decide: () => COMMANDS.decide(), flag: COMMANDS.flag, broken: COMMANDS.broken, "view-toggle": COMMANDS.view, "draw-now": drawNow,
    "numbers-open": () => api.json("api/numbers").then(showNumbers).catch((error) => say(reasonOf(error), { bad: true })), "help-open": COMMANDS.help, "filter-open": () => $("filter").showModal(),
  })) $(id).addEventListener("click", () => does());
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
  $("category").replaceChildren(...session.categories.map((name, index) => new Option(index < 9 ? `${index + 1} ${name}` : name, name)));
  $("category").addEventListener("change", (event) => setCategory(event.target.value));
  const form = $("filter-form");
  form.elements.category.replaceChildren(new Option(text("all"), ""), ...session.categories.map((name) => new Option(name, name)));
  $("filter").addEventListener("close", () => {
    if ($("filter").returnValue === "clear") form.reset();
    else if ($("filter").returnValue !== "apply") return;
    filters = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    $("filter").returnValue = "";
    open(queue.kind);
  });
  $("reasons").replaceChildren(...Object.entries(REASONS).map(([key, name]) => element("button", { value: name }, text(`reason.${name}`), element("kbd", { textContent: key.toUpperCase() }))));
  $("reasons").addEventListener("submit", (event) => {
    event.preventDefault();
    markFalse(event.submitter.value);
  });
  $("kinds").replaceChildren(...session.kinds.map((name) => {
    const button = element("button", { type: "button" }, text(`kind.${name}`), element("span", { className: "count" }));
    button.dataset.kind = name;
    button.addEventListener("click", () => open(name));
    return button;
  }));
}

async function start() {
  await translate();
  try {
    session = await api.json("api/session");
  } catch (error) {
    showNothing(reasonOf(error));
    return;
  }
  Object.assign(KEYS, session.keys ?? {});
  connect();
  writeHelp();
  // The first queue that has something: nobody is to find an empty page where there is work.
  const { counts } = await api.json("api/queue");
  await open(session.kinds.find((name) => counts[name]) ?? session.kinds[0]);
}

start();
