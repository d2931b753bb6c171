// Paints a scene, as scene_json.py writes it, on a canvas: the twin of picture.py's matplotlib.

const CORNER = 3;
const [DASH, GAP] = [3.2, 1.6]; // in widths of the line

// Only rasters have to be decoded first: the rest of a scene is painted as it is.
async function decoded({ rasters }) {
  const bitmap = (png) => createImageBitmap(new Blob([bytesOf(png)], { type: "image/png" }));
  return Promise.all(rasters.map(async ([, , , , pixels]) => bitmap(pixels)));
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.outlines = new Map(); // of glyphs, by their path
  }

  // `sharpness`: pixels to a CSS pixel, of which 96 are 72 points.
  paint(scene, bitmaps, glyphs, { width, height }, sharpness) {
    const { canvas, context } = this;
    canvas.width = Math.round(width * sharpness);
    canvas.height = Math.round(height * sharpness);
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    this.scale = (sharpness * 96) / 72;
    this.colors = scene.colors;
    scene.rasters.forEach((raster, at) => this.raster(raster, bitmaps[at]));
    this.home();
    context.lineJoin = "round";
    scene.boxes.forEach((box) => this.box(box));
    scene.curves.forEach((curve) => this.curve(curve));
    scene.labels.forEach((label) => this.label(label, glyphs));
  }

  home() {
    this.context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
  }

  // On whole pixels, or its edges and cells would blur.
  raster([x, y, width, height], bitmap) {
    const pixels = (length) => Math.round(length * this.scale);
    this.context.resetTransform();
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(bitmap, pixels(x), pixels(y), pixels(width), pixels(height));
  }

  box([x, y, width, height, face, edge, line, dashed]) {
    const { context } = this;
    const radius = Math.min(CORNER, width / 2, height / 2);
    const [left, top, right, bottom] = [x + radius, y + radius, x + width - radius, y + height - radius];
    context.beginPath();
    [[right, bottom], [left, bottom], [left, top], [right, top]].forEach(([cx, cy], turn) => {
      context.arc(cx, cy, radius, (turn * Math.PI) / 2, ((turn + 1) * Math.PI) / 2);
    });
    context.closePath();
    context.fillStyle = this.colors[face];
    context.fill();
    this.stroke(edge, line, dashed);
  }

  curve([x0, y0, x1, y1, x2, y2, x3, y3, color, line, dashed]) {
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.bezierCurveTo(x1, y1, x2, y2, x3, y3);
    this.stroke(color, line, dashed);
  }

  stroke(color, line, dashed) {
    if (!line) return;
    this.context.strokeStyle = this.colors[color];
    this.context.lineWidth = line;
    this.context.setLineDash(dashed ? [DASH * line, GAP * line] : []);
    this.context.stroke();
  }

  // y is the middle of the capitals, whose height is 0.729 of the size.
  label([x, y, text, size, color, align, bold], glyphs) {
    const { context, scale } = this;
    const drawn = [...text].map((character) => glyphs[bold ? `${character}*` : character]);
    const width = (drawn.reduce((sum, [advance]) => sum + advance, 0) * size) / 1000;
    let left = x - { left: 0, center: 0.5, right: 1 }[align] * width;
    const baseline = y + (0.729 / 2) * size;
    context.fillStyle = this.colors[color];
    const fine = (scale * size) / 1000;
    for (const [advance, path] of drawn) {
      context.setTransform(fine, 0, 0, fine, left * scale, baseline * scale);
      context.fill(this.outline(path));
      left += (advance * size) / 1000;
    }
    this.home();
  }

  outline(path) {
    if (!this.outlines.has(path)) this.outlines.set(path, new Path2D(path));
    return this.outlines.get(path);
  }
}

// ---- whose cell is at a point of a scene, or null

async function rankAt(scene, x, y) {
  const holds = ([left, top, width, height]) =>
    left <= x && x < left + width && top <= y && y < top + height;
  for (const box of scene.boxes) if (box[8] !== null && holds(box)) return box[8];
  for (const raster of scene.rasters) {
    const [left, top, width, height, , ranks] = raster;
    if (ranks === null || !holds(raster)) continue;
    const bitmap = await createImageBitmap(new Blob([bytesOf(ranks)], { type: "image/png" }));
    const context = new OffscreenCanvas(1, 1).getContext("2d");
    const column = Math.floor(((x - left) / width) * bitmap.width);
    const row = Math.floor(((y - top) / height) * bitmap.height);
    context.drawImage(bitmap, -column, -row);
    const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
    return red * 65536 + green * 256 + blue || null ? red * 65536 + green * 256 + blue - 1 : null;
  }
  return null;
}
