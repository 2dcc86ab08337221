// The stage: one picture, what was found in it and what the reviewer draws. It knows no server and no decision.

import { PerspectiveView, pixelOf, ringsOf, sphereOf, subdivided, unwrapped, uprightFrame } from "./geometry.js";

const MAX_ZOOM = 8;
const POINT_SIZE = 40; // stored pixels of the box that a double click or the key for a new box makes
const GROUPS = {
  person: { color: "#ff5470", dash: [] },
  "two-wheeler": { color: "#2dd4bf", dash: [10, 4, 2, 4] },
  vehicle: { color: "#60a5fa", dash: [9, 5] },
  part: { color: "#fbbf24", dash: [2, 3] },
  other: { color: "#c084fc", dash: [14, 4] },
};
const GROUP_OF = {
  person: "person", bicycle: "two-wheeler", motorcycle: "two-wheeler", face: "part", plate: "part",
  car: "vehicle", bus: "vehicle", truck: "vehicle", train: "vehicle", boat: "vehicle", airplane: "vehicle",
};

/** Colour and line pattern of a class; never colour alone. */
export const lookOf = (category) => GROUPS[GROUP_OF[category] ?? "other"];

/**
 * Events: "drawn" with detail {shape} in stored pixels, "chosen" with detail {id} or {id: null}, "moved".
 */
export class Stage extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.view = new PerspectiveView();
    this.isView = false;
    this.tool = "box";
    this.showsOutlines = true;
    this.objects = [];
    this.chosen = null;
    this.picture = null;
    this.started = null; // of the drag that goes on
    this.corners = null; // of the polygon that is being drawn, in stored pixels
    this.pointer = null;
    new ResizeObserver(() => this.#resized()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#pressed(event));
    canvas.addEventListener("pointermove", (event) => this.#moved(event));
    canvas.addEventListener("pointerup", (event) => this.#released(event));
    canvas.addEventListener("pointercancel", () => this.#stop());
    canvas.addEventListener("dblclick", (event) => this.#doubleClicked(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheeled(event), { passive: false });
  }

  /** Shows a picture. `bitmap` has the pixels as a person sees them, in any resolution. */
  show(item, bitmap) {
    this.picture = item;
    this.frame = uprightFrame(item.orientation ?? 1, item.width, item.height);
    this.wraps = Boolean(item.equirectangular);
    this.sphere = null;
    this.corners = null;
    this.isView = this.isView && this.wraps;
    this.sharpen(bitmap);
    this.fit();
  }

  /** The same picture in another resolution. */
  sharpen(bitmap) {
    this.bitmap = bitmap;
    this.sphere = null;
    this.draw();
  }

  clear() {
    this.picture = this.bitmap = this.started = this.corners = null;
    this.objects = [];
    this.draw();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.picture || !width) return;
    this.fitted = Math.min(width / this.frame.width, height / this.frame.height);
    this.scale = this.fitted;
    this.left = (width - this.frame.width * this.scale) / 2;
    this.top = (height - this.frame.height * this.scale) / 2;
    this.view.yaw = this.view.pitch = 0;
    this.draw();
  }

  /** Pixels of the screen for one stored pixel: says which resolution is worth loading. */
  get resolution() {
    return (this.isView ? 1 : (this.scale ?? 1)) * devicePixelRatio;
  }

  toggleView() {
    if (!this.wraps) return;
    this.isView = !this.isView;
    this.#looksElsewhere();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    if (!this.picture) return;
    if (this.isView) {
      this.view.zoom(factor);
    } else {
      const scale = Math.max(this.fitted, Math.min(MAX_ZOOM, this.scale * factor));
      this.left = x - ((x - this.left) * scale) / this.scale;
      this.top = y - ((y - this.top) * scale) / this.scale;
      this.scale = scale;
    }
    this.#looksElsewhere();
  }

  pan(dx, dy) {
    if (this.isView) {
      const perPixel = this.view.fieldOfView / this.canvas.clientWidth;
      this.view.turn(-dx * perPixel, dy * perPixel);
    } else {
      this.left += dx;
      this.top += dy;
    }
    this.#looksElsewhere();
  }

  #looksElsewhere() {
    if (!this.isView) {
      const { clientWidth: width, clientHeight: height } = this.canvas;
      const wide = this.frame.width * this.scale;
      const high = this.frame.height * this.scale;
      if (!this.wraps) this.left = wide <= width ? (width - wide) / 2 : Math.min(0, Math.max(width - wide, this.left));
      else if (Math.abs(this.left) > 4 * wide) this.left %= wide;
      this.top = high <= height ? (height - high) / 2 : Math.min(0, Math.max(height - high, this.top));
    }
    this.draw();
    this.dispatchEvent(new Event("moved"));
  }

  /** Stored pixel under a point of the screen. */
  toStored(x, y) {
    if (this.isView) {
      const [yaw, pitch] = this.view.toSphere(x, y, this.canvas.clientWidth, this.canvas.clientHeight);
      return pixelOf(yaw, pitch, this.picture.width, this.picture.height);
    }
    return this.frame.toStored((x - this.left) / this.scale, (y - this.top) / this.scale);
  }

  #toScreen([x, y], turns = 0) {
    if (this.isView) {
      const [yaw, pitch] = sphereOf(x, y, this.picture.width, this.picture.height);
      return this.view.toScreen(yaw, pitch, this.canvas.clientWidth, this.canvas.clientHeight);
    }
    const [u, v] = this.frame.toUpright(x, y);
    return [this.left + (u + turns * this.frame.width) * this.scale, this.top + v * this.scale];
  }

  /** Stored pixel in the middle of what is seen. */
  get middle() {
    return this.toStored(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2);
  }

  /** A box of the usual size around a stored pixel, inside the picture. */
  boxAround([x, y], size = POINT_SIZE) {
    const [left, top] = [Math.round(x - size / 2), Math.round(y - size / 2)];
    return this.#boxOf([[left, top], [left + size, top + size]]);
  }

  #boxOf(points) {
    const { width, height } = this.picture;
    const xs = (this.wraps ? unwrapped(points, width) : points).map(([x]) => x);
    const ys = points.map(([, y]) => y);
    let left = Math.floor(Math.min(...xs));
    let right = Math.ceil(Math.max(...xs));
    const top = Math.max(0, Math.min(height - 1, Math.floor(Math.min(...ys))));
    const bottom = Math.max(top + 1, Math.min(height, Math.ceil(Math.max(...ys))));
    if (this.wraps) {
      const turns = Math.floor(left / width) * width;
      right = Math.max(left + 1, Math.min(right, left + width)) - turns;
      left -= turns;
    } else {
      left = Math.max(0, Math.min(width - 1, left));
      right = Math.max(left + 1, Math.min(width, right));
    }
    return { box: [left, top, right - left, bottom - top] };
  }

  #polygonOf(points) {
    const { width, height } = this.picture;
    let placed = this.wraps ? unwrapped(points, width) : points.map(([x, y]) => [Math.max(0, Math.min(width, x)), y]);
    if (this.wraps) {
      const turns = Math.floor(Math.min(...placed.map(([x]) => x)) / width) * width;
      placed = placed.map(([x, y]) => [x - turns, y]);
    }
    return { polygon: placed.map(([x, y]) => [Math.round(x * 10) / 10, Math.round(Math.max(0, Math.min(height, y)) * 10) / 10]) };
  }

  /** What was drawn between two points of the screen. In a view the sides are curves in the file. */
  #shapeOf([x0, y0], [x1, y1]) {
    const ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
    if (!this.isView) return this.#boxOf([this.toStored(x0, y0), this.toStored(x1, y1)]);
    return this.#polygonOf(subdivided(ring, 12).map(([x, y]) => this.toStored(x, y)));
  }

  #position(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  #pressed(event) {
    if (!this.picture) return;
    this.canvas.focus({ preventScroll: true });
    const at = this.#position(event);
    const pans = this.tool === "hand" || event.button !== 0 || event.shiftKey;
    if (this.tool === "polygon" && !pans) {
      this.#corner(at);
      return;
    }
    this.started = { at, pans, last: at, moved: false };
    this.canvas.setPointerCapture(event.pointerId);
  }

  #moved(event) {
    this.pointer = this.picture ? this.#position(event) : null;
    if (!this.pointer) return;
    if (!this.started) {
      this.canvas.title = this.#titleAt(this.pointer);
      if (this.corners) this.draw();
      return;
    }
    const [x, y] = this.pointer;
    const [lastX, lastY] = this.started.last;
    this.started.moved ||= Math.hypot(x - this.started.at[0], y - this.started.at[1]) > 4;
    this.started.last = this.pointer;
    if (this.started.pans) this.pan(x - lastX, y - lastY);
    else this.draw();
  }

  #released(event) {
    const started = this.started;
    this.#stop();
    if (!started) return;
    const at = this.#position(event);
    if (!started.moved) this.choose(this.#objectAt(at)?.id ?? null);
    else if (!started.pans) this.#announce(this.#shapeOf(started.at, at));
  }

  #stop() {
    this.started = null;
    this.draw();
  }

  #doubleClicked(event) {
    if (this.picture && this.tool === "box") this.#announce(this.boxAround(this.toStored(...this.#position(event))));
  }

  #corner(at) {
    this.corners = [...(this.corners ?? []), this.toStored(...at)];
    this.draw();
  }

  /** Ends the polygon that is being drawn: kept if it has an area. Says whether there was one. */
  endPolygon(keep) {
    const corners = this.corners;
    this.corners = null;
    if (corners && keep && corners.length > 2) {
      const ring = this.wraps ? unwrapped(corners, this.picture.width) : corners;
      this.#announce(this.#polygonOf(ring));
    }
    this.draw();
    return Boolean(corners);
  }

  #announce(shape) {
    this.dispatchEvent(new CustomEvent("drawn", { detail: { shape } }));
  }

  #wheeled(event) {
    event.preventDefault();
    this.zoom(Math.exp(-Math.sign(event.deltaY) * Math.min(0.25, Math.abs(event.deltaY) / 400)), ...this.#position(event));
  }

  choose(id) {
    this.chosen = id;
    this.draw();
    this.dispatchEvent(new CustomEvent("chosen", { detail: { id } }));
  }

  #objectAt(at) {
    const context = this.canvas.getContext("2d");
    const hit = this.objects.filter((object) => this.#paths(object).some((path) => context.isPointInPath(path, at[0] * devicePixelRatio, at[1] * devicePixelRatio)));
    const area = ({ shape }) => (shape.box ? shape.box[2] * shape.box[3] : Infinity);
    return hit.sort((a, b) => area(a) - area(b))[0];
  }

  #titleAt(at) {
    const object = this.#objectAt(at);
    return object ? object.title : "";
  }

  #paths(object) {
    const step = this.isView ? this.picture.width / 180 : Infinity;
    const turns = this.wraps && !this.isView ? [-1, 0, 1] : [0];
    return ringsOf(object.shape).flatMap((ring) =>
      turns.map((turn) => {
        const path = new Path2D();
        let begun = false;
        for (const point of step < Infinity ? subdivided(ring, step) : ring) {
          const at = this.#toScreen(point, turn);
          if (!at) continue;
          if (begun) path.lineTo(...at);
          else path.moveTo(...at);
          begun = true;
        }
        path.closePath();
        return path;
      }),
    );
  }

  #resized() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
    this.fit();
  }

  draw() {
    if (this.requested) return;
    this.requested = requestAnimationFrame(() => {
      this.requested = null;
      this.#paint();
    });
  }

  #paint() {
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.picture || !this.bitmap) return;
    if (this.isView) this.#paintView(context);
    else this.#paintFlat(context);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    if (this.showsOutlines) for (const object of this.objects) this.#outline(context, object);
    this.#paintUnfinished(context);
  }

  #paintFlat(context) {
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.imageSmoothingEnabled = this.scale < 3;
    context.imageSmoothingQuality = "high";
    const { width, height } = this.frame;
    for (const turn of this.wraps ? [-1, 0, 1] : [0]) {
      context.drawImage(this.bitmap, this.left + turn * width * this.scale, this.top, width * this.scale, height * this.scale);
    }
  }

  #paintView(context) {
    if (!this.sphere) {
      // The view needs the pixels themselves; 4,096 of them around are enough for a screen and 32 MB.
      const width = Math.min(4096, this.bitmap.width);
      const height = width / 2;
      const offscreen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
      offscreen.drawImage(this.bitmap, 0, 0, width, height);
      this.sphere = offscreen.getImageData(0, 0, width, height);
    }
    const coarse = this.started ? 2 : 1; // while it turns
    const target = new ImageData(Math.ceil(this.canvas.clientWidth / coarse), Math.ceil(this.canvas.clientHeight / coarse));
    this.view.paint(this.sphere, target);
    const shown = new OffscreenCanvas(target.width, target.height);
    shown.getContext("2d").putImageData(target, 0, 0);
    context.drawImage(shown, 0, 0, this.canvas.width, this.canvas.height);
  }

  #outline(context, object) {
    const { color, dash } = lookOf(object.category);
    const isChosen = object.id === this.chosen;
    for (const path of this.#paths(object)) {
      // A dark line below makes any colour stand out on any picture.
      context.setLineDash([]);
      context.strokeStyle = "rgb(0 0 0 / 70%)";
      context.lineWidth = isChosen ? 6 : 4;
      context.stroke(path);
      context.setLineDash(object.isFalse ? [1, 6] : dash);
      context.strokeStyle = color;
      context.lineWidth = isChosen ? 3.5 : 2;
      context.stroke(path);
      if (object.isDrawn || isChosen) {
        context.fillStyle = `${color}33`;
        context.fill(path);
      }
    }
  }

  #paintUnfinished(context) {
    context.setLineDash([5, 4]);
    context.lineWidth = 2;
    context.strokeStyle = "#ffffff";
    if (this.started?.moved && !this.started.pans) {
      const [[x0, y0], [x1, y1]] = [this.started.at, this.started.last];
      context.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
    }
    if (this.corners) {
      context.beginPath();
      for (const point of this.corners) {
        const at = this.#toScreen(point);
        if (at) context.lineTo(...at);
      }
      if (this.pointer) context.lineTo(...this.pointer);
      context.stroke();
    }
  }
}
