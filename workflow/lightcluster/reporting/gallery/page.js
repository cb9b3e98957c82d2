// The pages: all images, all classes, one class.
"use strict";

(() => {
  const { make, swatch, percent } = gallery;
  const main = document.getElementById("main"), form = document.getElementById("controls");
  const count = document.getElementById("count");
  const CHUNK = 60, NEARLY = "900px", CROP = 150;
  let found = [], made = 0, grid = null, drawn = "";

  // ---- cards -----------------------------------------------------------------------------------

  function picture(image) {
    const [height, width] = image.thumb;
    const part = (suffix, name) => make("img", {
      class: name, src: `${image.key}-thumb.${suffix}`, width, height, loading: "lazy", decoding: "async", alt: "",
    });
    return make("span", { class: "picture" }, part("jpg", null), part("png", "overlay"));
  }

  function figureOf(image, state) {
    if (image.refused && state.show === "rejected") return image.refused;
    if (state.sort in gallery.MEASURES) {
      const [, measure, name] = gallery.MEASURES[state.sort];
      const value = measure(image);
      if (value === null) return `no ${name}`;
      return `${name} ${state.sort === "confidence" ? value.toFixed(2) : percent(value)}`;
    }
    if (!image.clusters.length) return "nothing found";
    return image.clusters.length === 1 ? "1 class" : `${image.clusters.length} classes`;
  }

  function cardOf(image, state) {
    if (!image.key) {
      return make("li", {}, make("div", { class: "card refused", tabindex: "-1", role: "group", "aria-label": image.name },
        make("b", {}, image.name), make("span", {}, image.refused)));
    }
    const dots = image.clusters.slice(0, 8).map((id) => swatch(gallery.clusters.get(id)?.color ?? "#888888"));
    return make("li", {}, make("button", { type: "button", class: "card", "data-key": image.key, tabindex: "-1" },
      picture(image), make("b", {}, image.name),
      make("span", { class: "line" }, make("span", {}, figureOf(image, state)), make("span", { class: "dots" }, ...dots))));
  }

  function more() {
    const state = gallery.read(), next = found.slice(made, made + CHUNK);
    grid.append(...next.map((image) => cardOf(image, state)));
    made += next.length;
    if (made >= found.length) document.getElementById("more")?.remove();
  }

  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    more();
    const button = document.getElementById("more");  // as long as it is in sight, there is room
    if (button) { watcher.unobserve(button); watcher.observe(button); }
  }, { rootMargin: NEARLY });

  function showImages(state) {
    found = gallery.find(state);
    made = 0;
    grid = make("ul", { class: "grid", "aria-label": "Images" });
    const button = make("button", { type: "button", id: "more", tabindex: "-1" }, "Show more");
    button.addEventListener("click", more);
    main.replaceChildren(grid, button);
    more();
    if (document.getElementById("more")) watcher.observe(button);
    if (!found.length) main.replaceChildren(make("p", { class: "empty" }, "No image is like this."));
    grid.querySelector(".card")?.setAttribute("tabindex", "0");
    const all = state.show === "rejected" ? "" : ` of ${gallery.images.length.toLocaleString("en")}`;
    count.textContent = `${found.length.toLocaleString("en")}${all} image${found.length === 1 && !all ? "" : "s"}`;
  }

  // ---- classes ---------------------------------------------------------------------------------

  // The part of an image around a region, cut out by style alone.
  function crop([shard, number, [height, width], [cluster, confidence, , top, left, bottom, right]], region) {
    const image = gallery.image(`${shard}/${number}`);
    const side = Math.min(1.25 * Math.max(bottom - top, right - left, 16), Math.max(height, width));
    const start = (low, high, all) => (side >= all ? (all - side) / 2
      : Math.min(Math.max((low + high - side) / 2, 0), all - side));
    const y = start(top, bottom, height), x = start(left, right, width);
    const large = side * image.thumb[1] / width < CROP;
    const part = make("img", { src: `${image.key}${large ? "" : "-thumb"}.jpg`, loading: "lazy", decoding: "async", alt: "" });
    const place = (element, from, to, size) => Object.assign(element.style, {
      left: `${100 * (from - x) / side}%`, top: `${100 * (to - y) / side}%`,
      width: `${100 * size[0] / side}%`, height: `${100 * size[1] / side}%`,
    });
    const box = make("span", { class: "box" });
    place(part, 0, 0, [width, height]);
    place(box, left, top, [right - left, bottom - top]);
    const words = confidence === null ? image.name : `confidence ${confidence.toFixed(2)}`;
    const button = make("button", {
      type: "button", class: "crop card", title: image.name, "aria-label": `${image.name}, ${words}`,
    }, make("span", { class: "window" }, part, box), make("span", {}, words));
    button.addEventListener("click", () => gallery.go({ image: image.key, region: "" }));
    return make("li", {}, button);
  }

  const many = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

  function factsOf(cluster) {
    const shown = gallery.facts.sample ? " of those shown" : "";
    const facts = [`${many(cluster.regions, "region")} in ${many(cluster.images, "image")}${shown}`,
      `${percent(cluster.area / gallery.images.length)} of an image on average`];
    if (cluster.confidence !== null) facts.push(`mean confidence ${cluster.confidence.toFixed(2)}`);
    return facts.join(", ");
  }

  const pageOf = (cluster) => gallery.address({ view: "class", class: String(cluster.id) });

  function showClasses() {
    const cards = [...gallery.clusters.values()].map((cluster) => make("li", {},
      make("h2", {}, swatch(cluster.color), make("a", { href: pageOf(cluster), "data-called": String(cluster.id) }, gallery.describe(cluster.id))),
      make("p", {}, cluster.regions ? factsOf(cluster) : "no region"),
      gallery.names.editor(cluster.id),
      make("ul", { class: "crops few" }, ...cluster.typical.slice(0, 4).map(crop))));
    main.replaceChildren(gallery.names.bar(), make("ul", { class: "classes" }, ...cards));
  }

  function showClass(state) {
    const cluster = gallery.clusters.get(Number(state.class)), all = [...gallery.clusters.values()];
    if (state.class === "" || !cluster) return showClasses();
    const at = all.indexOf(cluster);
    const beside = (by, words) => {
      const other = all[at + by];
      return other ? make("a", { href: pageOf(other) }, words) : null;
    };
    const section = (title, text, examples) => (examples.length ? make("section", {}, make("h3", {}, title),
      make("p", {}, text), make("ul", { class: "crops" }, ...examples.map(crop))) : null);
    const sure = cluster.confidence !== null;
    main.replaceChildren(make("article", { class: "class" },
      make("nav", { "aria-label": "Classes" }, make("a", { href: "#view=classes" }, "All classes"),
        beside(-1, "‹ previous"), beside(1, "next ›")),
      make("h2", {}, swatch(cluster.color), make("span", { "data-called": String(cluster.id) }, gallery.describe(cluster.id))),
      make("p", {}, cluster.regions ? factsOf(cluster) : "no region", ". ",
        make("a", { href: gallery.address({ class: String(cluster.id) }) }, "Its images")),
      gallery.names.editor(cluster.id), gallery.names.bar(),
      ...[section("Typical", sure ? "The regions of highest confidence." : "The images of which it takes the largest part.", cluster.typical),
        section("Doubtful", "The regions of lowest confidence: nearly as close to another class.", cluster.doubtful)]
        .filter(Boolean)));
  }

  // ---- what is asked for -----------------------------------------------------------------------

  function show(state) {
    const asked = gallery.address({ ...state, image: "", region: "" });
    document.querySelectorAll("header [data-view]").forEach((link) => {
      const own = link.dataset.view === (state.view === "images" ? "images" : "classes");
      if (own) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    if (asked === drawn) return;
    drawn = asked;
    form.classList.toggle("away", state.view !== "images");
    options(form.elements.class, [["", "any"], ...[...gallery.clusters.values()]  // names may have been edited
      .map((cluster) => [String(cluster.id), `${gallery.describe(cluster.id)} (${cluster.images})`])]);
    for (const name of ["find", "class", "show", "sort", "order"]) {
      if (form.elements[name].value !== state[name]) form.elements[name].value = state[name];
    }
    watcher.disconnect();
    ({ classes: showClasses, class: showClass }[state.view] ?? showImages)(state);
    window.scrollTo(0, 0);
  }

  function options(select, list) {
    select.replaceChildren(...list.map(([value, text]) => make("option", { value }, text)));
  }

  function begin() {
    const has = (measure) => gallery.images.some((image) => measure(image) !== null);
    if (gallery.facts.measure) gallery.MEASURES.iou[0] = gallery.facts.measure;
    options(form.elements.sort, [["", "name"], ...Object.entries(gallery.MEASURES)
      .filter(([, [, measure]]) => has(measure)).map(([name, [words]]) => [name, words])]);
    gallery.watch(show);
    window.addEventListener("hashchange", gallery.changed);
    window.addEventListener("popstate", gallery.changed);
    gallery.changed();
    document.documentElement.dataset.ready = "yes";
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    const { name, value } = event.target;
    if (name === "overlay") main.classList.toggle("plain", !event.target.checked);
    else gallery.go({ [name]: value }, { keep: true });
  });

  // ---- keyboard --------------------------------------------------------------------------------

  function focusCard(card) {
    if (!card) return;
    grid?.querySelectorAll('.card[tabindex="0"]').forEach((one) => one.setAttribute("tabindex", "-1"));
    card.setAttribute("tabindex", "0");
    card.focus();
    card.scrollIntoView({ block: "nearest" });
  }

  function move(card, key) {
    let cards = [...card.closest("ul").querySelectorAll(".card")];
    const at = cards.indexOf(card);
    const columns = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: cards.length - 1 }[key];
    if (to >= cards.length - columns && grid?.contains(card) && made < found.length) {
      more();
      cards = [...grid.querySelectorAll(".card")];
    }
    focusCard(cards[to]);
  }

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || document.getElementById("dialog").open) return;
    const writing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !writing) {
      if (gallery.read().view !== "images") gallery.go({ view: "images", class: "" });
      form.elements.find.focus();
      event.preventDefault();
    } else if (event.target === form.elements.find && ["Enter", "ArrowDown"].includes(event.key)) {
      focusCard(grid?.querySelector(".card"));
      event.preventDefault();
    } else if (/^(Arrow|Home|End)/.test(event.key) && event.target.matches(".card")) {
      move(event.target, event.key);
      event.preventDefault();
    }
  });
  main.addEventListener("click", (event) => {
    const card = event.target.closest("[data-key]");
    if (card) { focusCard(card); gallery.go({ image: card.dataset.key }); }
  });

  gallery.cardOf = (key) => key && grid?.querySelector(`[data-key="${CSS.escape(key)}"]`);
  gallery.step = (image, by) => {
    const shown = gallery.read().view === "images" ? found.filter((one) => one.key) : gallery.images;
    const next = shown[shown.indexOf(image) + by];
    if (next) gallery.go({ image: next.key, region: "" }, { keep: true });
  };
  begin();
})();
