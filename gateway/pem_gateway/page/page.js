// The page: take an image, ask once, and show the regions; what is on screen follows `state`.

import { paint, placeIn, readRegions, regionAt } from "./regions.js";
import { fetchClasses, segment, useKey } from "./server.js";

const LONGEST_SIDE = 1600; // of what is shown and saved, in pixels
const STEPS = { preprocess: "Preprocess", inference: "Inference", postprocess: "Postprocess" };

const $ = (id) => document.getElementById(id);
const state = { file: null, answer: null, map: null, classes: null, pointed: [], asking: null };

async function open(file) {
  state.asking?.abort();
  const asking = (state.asking = new AbortController());
  Object.assign(state, { file, answer: null, map: null, pointed: [] });
  show("busy");
  const isCurrent = () => state.asking === asking;
  try {
    const hasPhoto = await showPhoto(file, isCurrent);
    if (!isCurrent()) return;
    const began = performance.now();
    const answer = await segment(file, { signal: asking.signal, onUpload: showUpload });
    const seconds = (performance.now() - began) / 1000;
    state.classes ??= await fetchClasses();
    if (!hasPhoto) throw new Error("This browser cannot show this image.");
    const { width, height } = $("tint");
    const map = await readRegions(answer.detections, width, height);
    if (!isCurrent()) return;
    Object.assign(state, { answer, map });
    showTimes(answer.latency, seconds);
    show("done");
    draw();
    say(`${shownRegions().length} regions found in ${seconds.toFixed(1)} seconds`);
  } catch (error) {
    if (isCurrent()) showFault(error);
  }
}

function show(name) {
  document.body.dataset.state = name;
  $("start").hidden = name === "busy" || name === "done" || (name === "failed" && !$("view").hidden);
  $("another").hidden = !$("start").hidden;
  $("progress").hidden = name !== "busy";
  $("fault").hidden = name !== "failed";
  $("panel").hidden = name !== "done";
  if (name !== "done") $("tint").getContext("2d").clearRect(0, 0, $("tint").width, $("tint").height);
  if (name === "busy") showUpload(0);
  point([]);
}

// Draw the photo at the size of the screen; false where the browser cannot decode it.
async function showPhoto(file, isCurrent) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!isCurrent()) return false;
  $("view").hidden = !bitmap;
  if (!bitmap) return false;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const size = {
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  };
  Object.assign($("photo"), size);
  Object.assign($("tint"), size);
  $("view").style.setProperty("--ratio", size.width / size.height);
  const pen = $("photo").getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, size.width, size.height);
  bitmap.close();
  return true;
}

function showUpload(part) {
  const isUp = part >= 1;
  if (isUp) $("bar").removeAttribute("value");
  else $("bar").value = part;
  $("doing").textContent = isUp ? "Segmenting…" : "Sending…";
}

function showFault(error) {
  $("sentence").textContent = error.message;
  $("again").hidden = !error.canRetry;
  $("key-form").hidden = error.status !== 401;
  show("failed");
}

const threshold = () => Number($("threshold").value);
const isShown = (found) => found.conf > threshold();
const shownRegions = () => state.answer.detections.filter(isShown);
const colorOf = (found) => state.classes[found.cls_id].color;
const shortName = (label) => label.split(",")[0];
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

function draw() {
  const classes = groupByClass();
  $("count").textContent = shownRegions().length;
  $("nothing").hidden = classes.length > 0;
  $("legend").replaceChildren(...classes.map(legendRow));
  const parts = classes.map(({ label, share }) => `${shortName(label)} ${percent(share)}`);
  $("tint").setAttribute("aria-label", `Segmentation: ${parts.join(", ") || "nothing"}`);
  paintRegions();
}

function paintRegions() {
  const colors = state.answer.detections.map((found) => (isShown(found) ? colorOf(found) : null));
  paint($("tint").getContext("2d"), state.map, colors, state.pointed);
}

// The classes that are shown, greatest share first, each with the places of its detections.
function groupByClass() {
  const groups = new Map();
  state.answer.detections.forEach((found, index) => {
    if (!isShown(found)) return;
    const group = groups.get(found.cls_id) ?? { ...found, share: 0, members: [] };
    group.share += state.map.shares[index];
    group.members.push(index);
    groups.set(found.cls_id, group);
  });
  return [...groups.values()].sort((a, b) => b.share - a.share);
}

function legendRow(group) {
  const row = document.createElement("li");
  const button = row.appendChild(document.createElement("button"));
  button.type = "button";
  button.dataset.members = group.members;
  button.append(span("swatch"), span("name", group.label), span("share", percent(group.share)), span("meter"));
  button.children[0].style.background = colorOf(group);
  button.children[3].append(span(""));
  button.children[3].firstChild.style.width = percent(group.share).replace(" ", "");
  if (group.members.length > 1) button.children[1].append(` × ${group.members.length}`);
  const enter = () => point(group.members, placeIn(state.map, group.members[0]));
  button.addEventListener("pointerenter", enter);
  button.addEventListener("focus", enter);
  button.addEventListener("click", enter);
  button.addEventListener("pointerleave", () => point([]));
  button.addEventListener("blur", () => point([]));
  return row;
}

function span(name, text = "") {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

// Bring out detections, and name the first at a place of the image (x and y from 0 to 1).
function point(members, place) {
  const isChanged = String(members) !== String(state.pointed);
  state.pointed = members;
  $("tip").hidden = !members.length || !place;
  if (!$("tip").hidden) placeTip(members[0], place);
  if (!isChanged || !state.map) return;
  for (const button of $("legend").querySelectorAll("button")) {
    const own = button.dataset.members.split(",").map(Number);
    button.classList.toggle("on", members.some((index) => own.includes(index)));
  }
  paintRegions();
}

function placeTip(index, { x, y }) {
  const found = state.answer.detections[index];
  const about = document.createElement("small");
  about.textContent = `${percent(state.map.shares[index])} · confidence ${found.conf.toFixed(2)}`;
  $("tip").replaceChildren(shortName(found.label), about);
  const room = $("view").getBoundingClientRect();
  const tip = $("tip").getBoundingClientRect();
  const left = Math.min(Math.max(4, x * room.width - tip.width / 2), room.width - tip.width - 4);
  const above = y * room.height - tip.height - 14;
  const top = above > 4 ? above : Math.min(y * room.height + 22, room.height - tip.height - 4);
  $("tip").style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
}

function pointAt(event) {
  if (!state.map) return;
  const room = $("tint").getBoundingClientRect();
  const place = {
    x: (event.clientX - room.left) / room.width,
    y: (event.clientY - room.top) / room.height,
  };
  const index = regionAt(state.map, place.x, place.y);
  const isHit = index !== null && isShown(state.answer.detections[index]);
  point(isHit ? [index] : [], place);
}

function showTimes(latency, total) {
  const rows = Object.entries(STEPS).map(([step, name]) => [name, latency[step]]);
  const cells = [...rows, ["Round trip", total]].flatMap(([name, seconds]) => {
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    value.textContent = seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(2)} s`;
    return [term, value];
  });
  $("times").replaceChildren(...cells);
}

function savePng() {
  const pen = document.createElement("canvas").getContext("2d");
  Object.assign(pen.canvas, { width: state.map.width, height: state.map.height });
  point([]);
  pen.drawImage($("photo"), 0, 0);
  pen.globalAlpha = Number($("opacity").value);
  pen.drawImage($("tint"), 0, 0);
  pen.canvas.toBlob((blob) => save(blob, "png"), "image/png");
}

function saveJson() {
  const answer = { ...state.answer, detections: shownRegions() };
  save(new Blob([JSON.stringify(answer)], { type: "application/json" }), "json");
}

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${(state.file.name || "image").replace(/\.[^.]*$/, "")}-segmentation.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  say(`${link.download} saved`);
}

function say(text) {
  $("status").textContent = text;
}

function takeFrom(list) {
  const file = [...(list ?? [])].find((each) => each.type.startsWith("image/")) ?? list?.[0];
  if (file) open(file);
}

function listen() {
  for (const [button, input] of [["drop", "file"], ["another", "file"], ["photograph", "camera"]]) {
    $(button).addEventListener("click", () => $(input).click());
  }
  for (const input of ["file", "camera"]) {
    $(input).addEventListener("change", () => {
      takeFrom($(input).files);
      $(input).value = "";
    });
  }
  addEventListener("paste", (event) => takeFrom(event.clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    takeFrom(event.dataTransfer.files);
  });
  listenToResult();
}

function listenToResult() {
  $("threshold").addEventListener("input", () => {
    $("threshold-is").value = threshold().toFixed(2);
    if (state.map) draw();
  });
  $("opacity").addEventListener("input", () => {
    $("opacity-is").value = `${Math.round(100 * $("opacity").value)} %`;
    $("tint").style.opacity = $("opacity").value;
  });
  for (const name of ["pointermove", "pointerdown"]) $("tint").addEventListener(name, pointAt);
  $("tint").addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") point([]); // a tap's name stays
  });
  $("legend").addEventListener("keydown", moveInLegend);
  $("save-png").addEventListener("click", savePng);
  $("save-json").addEventListener("click", saveJson);
  $("again").addEventListener("click", () => open(state.file));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey($("key").value);
    open(state.file);
  });
}

function moveInLegend(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const buttons = [...$("legend").querySelectorAll("button")];
  buttons[buttons.indexOf(document.activeElement) + step]?.focus();
  event.preventDefault();
}

$("curl").textContent = `curl --data-binary @photo.jpg ${location.origin}/v1/segment`;
listen();
