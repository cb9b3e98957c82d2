// What is known of the images, and what of them is shown: that stands in the address, behind its #.
"use strict";

const gallery = (() => {
  const images = [], rejected = [], byKey = new Map(), details = new Map(), waiting = new Map();
  const listeners = [];
  let known = null, clusters = new Map();

  const MEASURES = {
    agreement: ["agreement of the levels", (image) => image.agreement, "agreement"],
    confidence: ["confidence", (image) => image.confidence, "confidence"],
    foreground: ["foreground area", (image) => image.foreground, "foreground"],
    iou: ["IoU", (image) => image.iou, "IoU"],
  };
  const DEFAULTS = { view: "images", class: "", show: "", sort: "", order: "", find: "", image: "", region: "" };

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    const state = { ...DEFAULTS };
    for (const name of Object.keys(DEFAULTS)) {
      if (given.has(name)) state[name] = given.get(name);
    }
    return state;
  }

  function address(state) {
    const given = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (value !== DEFAULTS[name]) given.set(name, value);
    }
    return `#${given}`;
  }

  function go(changes, { keep = false } = {}) {
    const before = address(read()), next = address({ ...read(), ...changes });
    if (next === before) return;
    history[keep ? "replaceState" : "pushState"](null, "", next);
    changed();
  }

  function changed() {
    const state = read();
    for (const listener of listeners) listener(state);
  }

  function find(state) {
    const text = state.find.toLowerCase(), cluster = state.class === "" ? null : Number(state.class);
    const asked = (one) => one.name.toLowerCase().includes(text);
    if (state.show === "rejected") {
      return [...rejected, ...images.filter((image) => image.refused)].filter(asked);
    }
    const found = images.filter((image) => asked(image)
      && (cluster === null || image.clusters.includes(cluster))
      && (state.show !== "nothing" || !image.clusters.length));
    const sign = state.order === "down" ? -1 : 1;
    if (state.sort in MEASURES) {
      const [, measure] = MEASURES[state.sort];
      const last = sign * Infinity;  // what has no such figure stands behind the others
      return found.sort((one, other) => sign * ((measure(one) ?? last) - (measure(other) ?? last) || 0));
    }
    return sign < 0 ? found.reverse() : found;
  }

  return {
    images, read, address, go, changed, find, MEASURES,
    get facts() { return known; },
    get clusters() { return clusters; },
    image: (key) => byKey.get(key),
    watch(listener) { listeners.push(listener); },

    // The scripts that hold data call these.
    know(facts) {
      known = facts;
      clusters = new Map(facts.clusters.map((cluster) => [cluster.id, cluster]));
    },
    add(shard, first, list) {
      list.forEach((one, index) => {
        const [name, height, width, high, wide, agreement, foreground, confidence, iou, own] = one;
        const key = `${shard}/${first + index}`;
        const image = {
          key, name, height, width, thumb: [high, wide], agreement, foreground, confidence, iou, clusters: own,
        };
        images.push(image);
        byKey.set(key, image);
      });
    },
    reject(list) {
      const named = new Map(images.map((image) => [image.name, image]));
      for (const { image_id: name, what, reason } of list) {
        const image = named.get(name);
        if (image) image.refused = `${what}: ${reason}`;
        else rejected.push({ name, refused: `${what}: ${reason}` });
      }
    },
    detail(shard, number, found) {
      const key = `${shard}/${number}`;
      details.set(key, found);
      if (details.size > 20) details.delete(details.keys().next().value);
      waiting.get(key)?.(found);
      waiting.delete(key);
    },
    load(image) {
      if (details.has(image.key)) return Promise.resolve(details.get(image.key));
      return new Promise((done, failed) => {
        const script = document.createElement("script");
        waiting.set(image.key, done);
        script.onload = () => script.remove();
        script.onerror = () => { script.remove(); failed(new Error(`${image.key}.js is missing`)); };
        script.src = `${image.key}.js`;
        document.head.append(script);
      });
    },

    percent: (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`),
    // "cluster 3, best match kitchen, IoU 0.21": never the name of the class alone.
    describe(id) {
      const cluster = clusters.get(id);
      if (!cluster) return `cluster ${id}`;
      const match = cluster.match ? `, best match ${cluster.match[0]}, IoU ${cluster.match[1].toFixed(2)}` : "";
      const name = gallery.names.of(id);
      return (name ? `${name} (${cluster.value})` : cluster.value) + match;
    },
    // An element: attributes, or properties where the name begins with a dot; text is never HTML.
    make(tag, attributes = {}, ...children) {
      const element = document.createElement(tag);
      for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith(".")) element[name.slice(1)] = value;
        else if (value !== null) element.setAttribute(name, value);
      }
      element.append(...children.filter((child) => child !== null));
      return element;
    },
    swatch(color) {
      const swatch = gallery.make("span", { class: "swatch" });
      swatch.style.background = color;
      return swatch;
    },
  };
})();
