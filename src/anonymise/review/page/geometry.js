// Where a point of the file lies on the screen, and back.
//
// Three frames: stored pixels are those of the file, and the only ones that leave this page; upright pixels are stored
// ones after the EXIF orientation, as a person sees them; screen pixels are CSS pixels of the stage.

const TAU = 2 * Math.PI;

/** Upright frame of a picture: its size, and functions from stored to upright pixels and back. */
export function uprightFrame(orientation, width, height) {
  const swapped = orientation >= 5;
  const [toUpright, toStored] = {
    1: [(x, y) => [x, y], (u, v) => [u, v]],
    2: [(x, y) => [width - x, y], (u, v) => [width - u, v]],
    3: [(x, y) => [width - x, height - y], (u, v) => [width - u, height - v]],
    4: [(x, y) => [x, height - y], (u, v) => [u, height - v]],
    5: [(x, y) => [y, x], (u, v) => [v, u]],
    6: [(x, y) => [height - y, x], (u, v) => [v, height - u]],
    7: [(x, y) => [height - y, width - x], (u, v) => [width - v, height - u]],
    8: [(x, y) => [y, width - x], (u, v) => [width - v, u]],
  }[orientation] ?? [(x, y) => [x, y], (u, v) => [u, v]];
  return { width: swapped ? height : width, height: swapped ? width : height, toUpright, toStored };
}

/** Corners of a shape {box} or {polygon}, as a list of rings of stored pixels. */
export function ringsOf(shape) {
  if (shape.polygon) return Array.isArray(shape.polygon[0]?.[0]) ? shape.polygon : [shape.polygon];
  const [left, top, width, height] = shape.box;
  return [[[left, top], [left + width, top], [left + width, top + height], [left, top + height]]];
}

/** The ring with points added so that no edge is longer than `step`; edges that are straight in the file bend in a view. */
export function subdivided(ring, step) {
  return ring.flatMap(([x, y], index) => {
    const [nextX, nextY] = ring[(index + 1) % ring.length];
    const n = Math.max(1, Math.min(64, Math.ceil(Math.hypot(nextX - x, nextY - y) / step)));
    return Array.from({ length: n }, (_, k) => [x + ((nextX - x) * k) / n, y + ((nextY - y) * k) / n]);
  });
}

/** Points of a 360° picture without jumps at its edge: each is at most half a turn from the one before. */
export function unwrapped(points, width) {
  let previous = points[0]?.[0] ?? 0;
  return points.map(([x, y]) => {
    const near = x + width * Math.round((previous - x) / width);
    previous = near;
    return [near, y];
  });
}

/** A perspective look into a sphere: yaw and pitch of its middle and its horizontal field of view, in radians. */
export class PerspectiveView {
  constructor() {
    this.yaw = 0;
    this.pitch = 0;
    this.fieldOfView = Math.PI / 2;
  }

  turn(yaw, pitch) {
    this.yaw = (((this.yaw + yaw) % TAU) + TAU) % TAU;
    this.pitch = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, this.pitch + pitch));
  }

  zoom(factor) {
    this.fieldOfView = Math.max(0.17, Math.min(2.1, this.fieldOfView / factor));
  }

  /** Screen point → [yaw, pitch] on the sphere. */
  toSphere(x, y, width, height) {
    const t = Math.tan(this.fieldOfView / 2);
    const rayX = ((2 * x) / width - 1) * t;
    const rayY = (1 - (2 * y) / height) * t * (height / width);
    const up = rayY * Math.cos(this.pitch) + Math.sin(this.pitch);
    const ahead = Math.cos(this.pitch) - rayY * Math.sin(this.pitch);
    return [Math.atan2(rayX, ahead) + this.yaw, Math.atan2(up, Math.hypot(rayX, ahead))];
  }

  /** [yaw, pitch] on the sphere → screen point; null behind the viewer. */
  toScreen(yaw, pitch, width, height) {
    const turned = yaw - this.yaw;
    const x = Math.cos(pitch) * Math.sin(turned);
    const level = Math.cos(pitch) * Math.cos(turned);
    const y = Math.sin(pitch) * Math.cos(this.pitch) - level * Math.sin(this.pitch);
    const z = level * Math.cos(this.pitch) + Math.sin(pitch) * Math.sin(this.pitch);
    if (z < 0.05) return null;
    const t = Math.tan(this.fieldOfView / 2);
    return [(width / 2) * (1 + x / z / t), height / 2 - ((width / 2) * (y / z)) / t];
  }

  /** Paints what the view shows. `source` is the ImageData of the whole sphere, `target` that of the stage. */
  paint(source, target) {
    const { width, height } = target;
    const from = new Uint32Array(source.data.buffer);
    const into = new Uint32Array(target.data.buffer);
    const t = Math.tan(this.fieldOfView / 2);
    const [sine, cosine] = [Math.sin(this.pitch), Math.cos(this.pitch)];
    const perRadian = source.width / TAU;
    const perPitch = source.height / Math.PI;
    for (let row = 0, index = 0; row < height; row++) {
      const rayY = (1 - (2 * row + 1) / height) * t * (height / width);
      const up = rayY * cosine + sine;
      const ahead = cosine - rayY * sine;
      for (let column = 0; column < width; column++, index++) {
        const rayX = ((2 * column + 1) / width - 1) * t;
        let x = (Math.atan2(rayX, ahead) + this.yaw + Math.PI) * perRadian;
        x = Math.floor(x) % source.width;
        if (x < 0) x += source.width;
        const y = Math.min(source.height - 1, Math.floor((Math.PI / 2 - Math.atan2(up, Math.hypot(rayX, ahead))) * perPitch));
        into[index] = from[y * source.width + x];
      }
    }
  }
}

/** Stored pixel of a whole sphere → [yaw, pitch], and back. */
export const sphereOf = (x, y, width, height) => [TAU * (x / width - 0.5), Math.PI * (0.5 - y / height)];
export const pixelOf = (yaw, pitch, width, height) => [width * (0.5 + yaw / TAU), height * (0.5 - pitch / Math.PI)];
