// Regions of an image at the size that is shown: which one each pixel belongs to, and their drawing.

const EDGE = 0xd0ffffff; // white, as ABGR
const FADED = 0.3; // of regions while another one is pointed at

// Decode the masks. No two regions of an answer share a pixel, so one map holds all of them:
// `owner` has 0 for no region, else the place of the detection + 1.
export async function readRegions(detections, width, height) {
  const owner = new Uint8Array(width * height);
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  Object.assign(pen.canvas, { width, height });
  const areas = [];
  for (const [index, found] of detections.entries()) {
    const mask = await createImageBitmap(pngOf(found.mask));
    areas.push(claim(owner, index + 1, found.bbox, mask, pen));
    mask.close();
  }
  return { owner, width, height, shares: areas.map((area) => area / (width * height)) };
}

// Give the pixels of a mask to their region; only its bounding box is looked at.
function claim(owner, id, bbox, mask, pen) {
  const { width, height } = pen.canvas;
  const scale = [width / mask.width, height / mask.height];
  const [left, top] = [Math.floor(bbox[0] * scale[0]), Math.floor(bbox[1] * scale[1])];
  const across = Math.min(width, Math.max(left + 1, Math.ceil(bbox[2] * scale[0]))) - left;
  const down = Math.min(height, Math.max(top + 1, Math.ceil(bbox[3] * scale[1]))) - top;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(
    mask, left / scale[0], top / scale[1], across / scale[0], down / scale[1], 0, 0, across, down,
  );
  const { data } = pen.getImageData(0, 0, across, down);
  let area = 0;
  for (let y = 0, from = 0; y < down; y++) {
    let to = (top + y) * width + left;
    for (let x = 0; x < across; x++, to++, from += 4) {
      if (data[from] > 127) {
        owner[to] = id;
        area++;
      }
    }
  }
  return area;
}

function pngOf(base64) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}

// Draw regions. `colors`: "#rrggbb" by detection, null for one that is not shown; `strong`: the
// detections that are pointed at, if any.
export function paint(pen, map, colors, strong = []) {
  const { owner, width, height } = map;
  const look = looks(colors, strong);
  const shown = Uint8Array.from([0, ...colors.map((color, index) => (color ? index + 1 : 0))]);
  const image = pen.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const line = Math.max(1, Math.round(Math.max(width, height) / 900));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const id = shown[owner[i]];
      const right = x + line < width ? shown[owner[i + line]] : id;
      const below = y + line < height ? shown[owner[i + line * width]] : id;
      pixels[i] = right !== id || below !== id ? EDGE : look[id];
    }
  }
  pen.putImageData(image, 0, 0);
}

function looks(colors, strong) {
  const look = new Uint32Array(colors.length + 1);
  colors.forEach((color, index) => {
    if (!color) return;
    const rgb = parseInt(color.slice(1), 16);
    const alpha = !strong.length || strong.includes(index) ? 255 : 255 * FADED;
    look[index + 1] = (alpha << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);
  });
  return look;
}

// The detection at a place, null for none; x and y from 0 to 1.
export function regionAt(map, x, y) {
  const column = Math.min(map.width - 1, Math.max(0, Math.floor(x * map.width)));
  const row = Math.min(map.height - 1, Math.max(0, Math.floor(y * map.height)));
  const id = map.owner[row * map.width + column];
  return id ? id - 1 : null;
}

// A place in a region, from 0 to 1: its own pixel that is nearest to its middle.
export function placeIn(map, index) {
  const own = [];
  for (let i = 0; i < map.owner.length; i += 7) if (map.owner[i] === index + 1) own.push(i);
  if (!own.length) return { x: 0.5, y: 0.5 };
  const places = own.map((i) => ({ x: (i % map.width) / map.width, y: Math.floor(i / map.width) / map.height }));
  const middle = { x: mean(places.map(({ x }) => x)), y: mean(places.map(({ y }) => y)) };
  const far = ({ x, y }) => (x - middle.x) ** 2 + (y - middle.y) ** 2;
  return places.reduce((best, place) => (far(place) < far(best) ? place : best));
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
