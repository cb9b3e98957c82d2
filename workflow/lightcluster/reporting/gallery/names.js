// Names that are given to clusters here: kept by the browser until they are downloaded and applied.
"use strict";

gallery.names = (() => {
  const { make } = gallery;
  const BACKGROUND = "background", FILE = "names.csv", LONGEST = 200;
  // One key for each gallery, for to some browsers all pages on a disk are one site.
  const KEY = `lightcluster names ${location.pathname}`;
  const edited = new Map();
  let kept = true, former = null;

  const given = (id) => gallery.clusters.get(id)?.name ?? "";
  const of = (id) => edited.get(id) ?? given(id);
  // What `lightcluster names` accepts: printable characters, and no other space than " ".
  const clean = (text) => text.replace(/[\s\p{Z}]+/gu, " ").replace(/\p{C}/gu, "").trim().slice(0, LONGEST);

  function restore() {
    try {
      const stored = JSON.parse(localStorage.getItem(KEY) ?? "null");
      if (!stored) return;
      if (stored.clustering !== gallery.facts.clustering) {
        former = stored.names;
        return;
      }
      for (const [id, name] of stored.names) {
        if (gallery.clusters.has(id) && name !== given(id)) edited.set(id, name);
      }
    } catch {
      kept = false;
    }
  }

  function keep() {
    former = null;
    try {
      if (edited.size) localStorage.setItem(KEY, JSON.stringify({ clustering: gallery.facts.clustering, names: [...edited] }));
      else localStorage.removeItem(KEY);
    } catch {
      kept = false;
    }
  }

  function set(id, text) {
    const name = clean(text);
    if (name === given(id)) edited.delete(id);
    else edited.set(id, name);
    keep();
    refresh();
  }

  function discard() {
    edited.clear();
    keep();
    document.querySelectorAll("[data-editor]").forEach((one) => one.replaceWith(editor(Number(one.dataset.editor))));
    refresh();
    document.querySelector(".naming .status")?.focus();
  }

  const quoted = (text) => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  // With a mark at the beginning, by which spreadsheets know UTF-8.
  function table() {
    const lines = [...gallery.clusters.keys()].map((id) => [id, quoted(of(id)), gallery.facts.clustering].join(","));
    return `\ufeff${["cluster,name,clustering", ...lines].join("\n")}\n`;
  }

  function download() {
    make("a", { href: `data:text/csv;charset=utf-8,${encodeURIComponent(table())}`, download: FILE }).click();
  }

  function command() {
    const here = decodeURIComponent(location.pathname).replace(/\/gallery\/[^/]*$/, "").replace(/^\/(?=[A-Za-z]:)/, "");
    const run = location.protocol === "file:" ? here : `results/${gallery.facts.dataset}/${gallery.facts.run}`;
    const word = /^[\w@%+=:,./-]+$/.test(run) ? run : `'${run.replaceAll("'", `'"'"'`)}'`;
    // Without a model, the command would take the lowest seed.
    return `lightcluster names ${word} --apply ${FILE}${gallery.facts.masks ? "" : ` --seed ${gallery.facts.seed}`}`;
  }

  // ---- what is shown ---------------------------------------------------------------------------

  function effect(id) {
    const name = of(id);
    if (!name) return "";
    if (name === BACKGROUND) return "Not an object: exports leave it out.";
    const others = [...gallery.clusters.keys()].filter((other) => other !== id && of(other) === name);
    if (!others.length) return "";
    return `One class with ${others.map((other) => gallery.clusters.get(other).value).join(", ")}.`;
  }

  function editor(id) {
    const { value } = gallery.clusters.get(id), name = of(id);
    const field = make("input", {
      type: "text", class: "name", value: name, maxlength: LONGEST, list: "names-given", autocomplete: "off", spellcheck: "false",
      placeholder: "no name yet", "aria-label": `Name of ${value}`,
    });
    const drop = make("input", { type: "checkbox", "aria-label": `${value} is background` });
    drop.checked = name === BACKGROUND;
    field.addEventListener("input", () => {
      set(id, field.value);
      drop.checked = of(id) === BACKGROUND;
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      const all = [...document.querySelectorAll("input.name")];
      all[all.indexOf(field) + (event.shiftKey ? -1 : 1)]?.focus();
      event.preventDefault();
    });
    drop.addEventListener("change", () => {
      field.value = drop.checked ? BACKGROUND : given(id) === BACKGROUND ? "" : given(id);
      set(id, field.value);
    });
    return make("div", { class: "editor", "data-editor": String(id) },
      make("label", {}, "Name ", field), make("label", { class: "check" }, drop, " background"),
      make("small", { "data-effect": String(id) }, effect(id)));
  }

  function status() {
    if (!edited.size) return "No changes.";
    return `${edited.size} ${edited.size === 1 ? "name is" : "names are"} changed and not applied yet.`;
  }

  function warning() {
    if (former?.length) {
      const list = former.filter(([, name]) => name).map(([id, name]) => `${name} (cluster ${id})`).join(", ");
      return `The clusters have changed since you edited names here without applying them: ${list}. Name the present clusters anew.`;
    }
    return kept ? "" : "This browser does not keep what you enter on a page opened from a disk: download the names before you close the page.";
  }

  // The bar above the classes.
  function bar() {
    const save = make("button", { type: "button", class: "save" }, `Download ${FILE}`);
    const undo = make("button", { type: "button", class: "undo" }, "Discard changes");
    save.addEventListener("click", download);
    undo.addEventListener("click", discard);
    const clusters = make("datalist", { id: "names-given" });
    const all = make("div", { class: "naming", role: "group", "aria-label": "Names" },
      make("p", { class: "status", role: "status", tabindex: "-1" }), make("p", { class: "warning" }), save, undo, clusters,
      make("details", {}, make("summary", {}, "How to name classes"),
        make("ol", {},
          make("li", {}, "Give names below. Clusters with the same name become one class; background is not an object."),
          make("li", {}, `Download ${FILE}. The browser keeps your changes until they are applied.`),
          make("li", {}, "In the folder of the download, run ", make("code", {}, command())),
          make("li", {}, "Run snakemake again: the report, the model and this gallery get the names. Exports have them at once."))));
    fill(all);
    return all;
  }

  function fill(all) {
    all.querySelector(".status").textContent = status();
    all.querySelector(".warning").textContent = warning();
    all.querySelector(".warning").hidden = !warning();
    all.querySelector(".undo").disabled = !edited.size;
    const names = [...new Set([...gallery.clusters.keys()].map(of))].filter((name) => name && name !== BACKGROUND);
    all.querySelector("datalist").replaceChildren(...names.map((name) => make("option", { value: name })));
  }

  function refresh() {
    document.querySelectorAll(".naming").forEach(fill);
    document.querySelectorAll("[data-called]").forEach((one) => { one.textContent = gallery.describe(Number(one.dataset.called)); });
    document.querySelectorAll("[data-effect]").forEach((one) => { one.textContent = effect(Number(one.dataset.effect)); });
    const link = document.querySelector('header [data-view="classes"]');
    link.textContent = edited.size ? `Classes (${edited.size} changed)` : "Classes";
  }

  window.addEventListener("beforeunload", (event) => { if (!kept && edited.size) event.preventDefault(); });
  restore();
  refresh();
  return { of, bar, editor };
})();
