// Talks to the server. The token comes in the address's fragment, which browsers send to nobody.
//
// What the page asks for (Authorization: Bearer TOKEN, X-Review-Tab: random id of the tab; errors are {"detail"}):
//   GET  api/session                 {user, roles: [], kinds: [], categories: [], keys: {}}; keys change KEYS of main.js
//   GET  api/queue?kind&folder&category    {counts: {kind: n}, done, total, waiting}; waiting: images that are to be drawn
//   POST api/claim {kind, folder?, category?, item?}   an item, or null where none is left; with item, that one again:
//        {id, relative, width, height, orientation, equirectangular, levels, version, until, reason?,
//         finds: [{id, category, score|null, box, polygon?, source, doubtful}], corrections: [{id, kind, category, shape, source}]}
//        409 where somebody else has it. Boxes and polygons are in stored pixels; score is null in a blind sample.
//   GET  api/items/ID/image?level&version   the published picture, upright, reduced by 2^level
//   GET  api/items/ID/original?find   the original of the find and what is around it; 403 without the right
//   POST api/items/ID/decision {verdict, version, seconds, added: [{category, shape}], false: [{find, reason}]}
//        201 {id}; 409 where the claim is over or the picture has changed; 422 for a shape outside
//   POST api/undo {decision}         GET api/numbers (see showNumbers)
//   POST api/draw, GET api/draw      {state: running|done|failed, done, total, reason}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const TOKEN = "anonymise-review-token";
const TAB = "anonymise-review-tab";

export class Api {
  constructor() {
    const given = decodeURIComponent(location.hash.slice(1));
    if (given) {
      sessionStorage.setItem(TOKEN, given);
      history.replaceState(null, "", location.pathname);
    }
    this.token = sessionStorage.getItem(TOKEN) ?? "";
    // A tab that was copied brings its session storage along; the window's name stays with the tab.
    if (!window.name.startsWith(TAB)) window.name = TAB + Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
    this.tab = window.name.slice(TAB.length);
  }

  async fetch(path, { body, keepalive } = {}) {
    const headers = { Authorization: `Bearer ${this.token}`, "X-Review-Tab": this.tab };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      const method = body === undefined ? "GET" : "POST";
      response = await fetch(path, { method, headers, keepalive, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch {
      throw new ApiError(0, "no answer");
    }
    if (response.ok) return response;
    const text = await response.text();
    let detail = text;
    try {
      detail = JSON.parse(text).detail ?? text;
    } catch {
      // The answer is plain text.
    }
    throw new ApiError(response.status, detail);
  }

  async json(path, options) {
    const response = await this.fetch(path, options);
    return response.status === 204 ? null : response.json();
  }

  async bitmap(path, options) {
    return createImageBitmap(await (await this.fetch(path, options)).blob());
  }
}
