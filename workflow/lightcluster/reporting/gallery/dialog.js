// One image at full size: its layers, and what its regions are.
"use strict";

gallery.dialog = (() => {
  const { make, swatch, percent } = gallery;
  const dialog = document.getElementById("dialog");
  const [photo, canvas, tip, said, layers, facts, list, opacity] = [
    ".frame img", "canvas", ".tip", ".said", ".layers", ".facts", ".regions", ".opacity input",
  ].map((selector) => dialog.querySelector(selector));
  const heading = dialog.querySelector("h2");
  const NIGHT = [8, 12, 18], OUTSIDE = 200;
  const LEVELS = ["dataset level", "category level", "image level"];
  let shown = null, maps = {}, layer = "segmentation", marked = 0, opener = null;

  const rgb = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  // Bright is the foreground, as in the report.
  const bright = (share) => [...NIGHT, OUTSIDE * (1 - share)];
  const PAINTERS = {
    score: (value) => bright(value / 255),
    mask: (value) => bright(value),
    truth: (value, x, y) => (value
      ? [...rgb(gallery.facts.truth[value - 1][1]), 190]
      : [255, 255, 255, (x + y) % 12 < 3 ? 170 : 60]),
    segmentation: (value) => {
      if (!value) return [...NIGHT, 90];
      const color = gallery.clusters.get(shown.list[value - 1][0])?.color ?? "#888888";
      return [...rgb(color), !marked || marked === value ? 205 : 45];
    },
  };
  LEVELS.forEach((name, bit) => { PAINTERS[name] = (value) => bright((value >> bit) & 1); });
  const mapOf = (name) => (LEVELS.includes(name) ? "levels" : name === "segmentation" ? "regions" : name);

  async function decode(source) {
    const picture = new Image();
    picture.src = source;
    await picture.decode();
    const place = document.createElement("canvas");
    place.width = picture.width;
    place.height = picture.height;
    const context = place.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const { data } = context.getImageData(0, 0, place.width, place.height);
    const values = new Uint16Array(place.width * place.height);
    for (let at = 0; at < values.length; at++) values[at] = data[4 * at] + 256 * data[4 * at + 1];
    return { width: place.width, height: place.height, values };
  }

  function paint() {
    const map = maps[mapOf(layer)];
    canvas.hidden = !map;
    canvas.dataset.layer = layer;
    if (!map) return;
    canvas.width = map.width;
    canvas.height = map.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });  // in memory: it is written often
    const picture = context.createImageData(map.width, map.height);
    const colors = new Map();
    map.values.forEach((value, at) => {
      let color = colors.get(value);
      if (!color || (layer === "truth" && !value)) {
        color = PAINTERS[layer](value, at % map.width, Math.floor(at / map.width));
        colors.set(value, color);
      }
      picture.data.set(color, 4 * at);
    });
    context.putImageData(picture, 0, 0);
  }

  function choose(name) {
    layer = name;
    const input = [...layers.querySelectorAll("input")].find((one) => one.value === name);
    if (input) input.checked = true;
    paint();
  }

  function offered() {
    const has = shown?.found ?? {};
    return ["image", ...(has.levels ? LEVELS : []), ...["score", "mask"].filter((name) => has[name]),
      "segmentation", ...(has.truth ? ["truth"] : [])];
  }

  function offer() {
    const there = [...layers.querySelectorAll("input")].map((input) => input.value);
    if (String(there) !== String(offered())) {  // else the one in focus would lose it
      layers.querySelectorAll("label").forEach((label) => label.remove());
      offered().forEach((name, number) => {
        const input = make("input", { type: "radio", name: "layer", value: name });
        layers.append(make("label", { title: `Key ${number + 1}` }, input, ` ${name}`));
      });
    }
    choose(offered().includes(layer) ? layer : "segmentation");
  }

  const wordsOf = ([cluster, confidence]) =>
    gallery.describe(cluster) + (confidence === null ? "" : `; confidence ${confidence.toFixed(2)}`);

  function mark(region) {
    if (region === marked) return;
    marked = region;
    [...list.children].forEach((item, number) => item.classList.toggle("marked", number + 1 === region));
    said.textContent = region ? wordsOf(shown.list[region - 1]) : "";
    if (layer === "segmentation") paint();
  }

  function point(event) {
    if (!maps.regions) return;
    const box = photo.getBoundingClientRect();
    const at = (map) => {
      const x = Math.floor((event.clientX - box.left) / box.width * map.width);
      const y = Math.floor((event.clientY - box.top) / box.height * map.height);
      return x < 0 || y < 0 || x >= map.width || y >= map.height ? 0 : map.values[y * map.width + x];
    };
    const region = at(maps.regions), truth = maps.truth ? at(maps.truth) : 0;
    mark(region);
    const words = [region ? wordsOf(shown.list[region - 1]) : "no region"];
    if (truth) words.push(`truth: ${gallery.facts.truth[truth - 1][0]}`);
    tip.textContent = words.join("\n");
    tip.hidden = false;
    const left = event.clientX - box.left, top = event.clientY - box.top;
    tip.style.left = `${Math.max(0, Math.min(left + 14, box.width - tip.offsetWidth))}px`;
    tip.style.top = `${top > box.height / 2 ? top - tip.offsetHeight - 10 : top + 18}px`;
  }

  function leave() {
    tip.hidden = true;
    mark(0);
  }

  function describeImage(image) {
    const rows = [["size", `${image.width} × ${image.height}`]];
    if (image.agreement !== null) rows.push(["agreement of the levels", percent(image.agreement)]);
    if (image.foreground !== null) rows.push(["foreground", percent(image.foreground)]);
    if (image.confidence !== null) rows.push(["confidence", image.confidence.toFixed(2)]);
    if (image.iou !== null) rows.push([gallery.facts.measure, percent(image.iou)]);
    if (image.refused) rows.push(["rejected", image.refused]);
    facts.replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  function listRegions(image) {
    const items = shown.list.map(([cluster, confidence, area], number) => {
      const link = make("a", { href: gallery.address({ ...gallery.read(), view: "class", class: String(cluster), image: "", region: "" }) },
        swatch(gallery.clusters.get(cluster)?.color ?? "#888888"), gallery.describe(cluster));
      const figures = [confidence === null ? null : `confidence ${confidence.toFixed(2)}`,
        `${percent(area / (image.width * image.height))} of the image`];
      const item = make("li", {}, link, make("small", {}, figures.filter(Boolean).join(", ")));
      for (const name of ["pointerenter", "focusin"]) item.addEventListener(name, () => mark(number + 1));
      for (const name of ["pointerleave", "focusout"]) item.addEventListener(name, () => mark(0));
      return item;
    });
    list.replaceChildren(...(items.length ? items : [make("li", {}, "Nothing was found in this image.")]));
  }

  async function open(image, region) {
    if (!dialog.open) {
      opener = document.activeElement;
      dialog.showModal();
    }
    if (shown?.image === image) return mark(region);
    shown = { image, list: [] };
    maps = {};
    marked = 0;
    canvas.hidden = tip.hidden = true;
    said.textContent = "";
    heading.textContent = image.name;
    if (list.contains(document.activeElement)) heading.focus();
    list.replaceChildren();
    photo.alt = image.name;
    photo.src = `${image.key}.jpg`;
    photo.style.aspectRatio = `${image.width} / ${image.height}`;
    dialog.style.setProperty("--aspect", image.width / image.height);
    describeImage(image);
    try {
      const found = await gallery.load(image);
      const names = ["regions", "mask", "levels", "score", "truth"].filter((name) => found[name]);
      const decoded = await Promise.all(names.map((name) => decode(found[name])));
      if (shown.image !== image) return;  // another one was opened meanwhile
      maps = Object.fromEntries(names.map((name, number) => [name, decoded[number]]));
      shown = { image, found, list: found.list };
      listRegions(image);
      offer();
      if (region) mark(region);
      dialog.dataset.ready = image.key;
    } catch (error) {
      said.textContent = String(error.message);
    }
  }

  function shut() {
    if (!dialog.open) return;
    shown = null;
    delete dialog.dataset.ready;
    dialog.close();
    (gallery.cardOf?.(opener?.dataset?.key) ?? opener)?.focus();
  }

  const step = (by) => gallery.step(shown.image, by);
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); gallery.go({ image: "", region: "" }); });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) gallery.go({ image: "", region: "" });
    const button = event.target.closest("[data-step]");
    if (button) step(Number(button.dataset.step));
  });
  document.addEventListener("keydown", (event) => {
    if (!shown || !dialog.open || event.altKey || event.ctrlKey || event.metaKey) return;
    const names = offered(), at = names.indexOf(layer), slider = event.target === opacity;
    const acts = {
      ArrowLeft: slider ? null : () => step(-1), ArrowRight: slider ? null : () => step(1),
      ArrowUp: slider ? null : () => choose(names[(at + names.length - 1) % names.length]),
      ArrowDown: slider ? null : () => choose(names[(at + 1) % names.length]),
    };
    const act = acts[event.key] ?? (names[Number(event.key) - 1] ? () => choose(names[Number(event.key) - 1]) : null);
    if (act) { event.preventDefault(); act(); }
  });
  layers.addEventListener("change", (event) => choose(event.target.value));
  opacity.addEventListener("input", () => { canvas.style.opacity = opacity.value / 100; });
  canvas.style.opacity = opacity.value / 100;
  photo.parentElement.addEventListener("pointermove", point);
  photo.parentElement.addEventListener("pointerdown", point);
  photo.parentElement.addEventListener("pointerleave", leave);

  gallery.watch((state) => {
    const image = state.image && gallery.image(state.image);
    if (image) open(image, Number(state.region) || 0);
    else shut();
  });
  return { choose };
})();
