"use strict";
// All texts of models and data become text nodes: nothing of them is ever read as HTML.
const samples = JSON.parse(document.getElementById("data").textContent);
const byIndex = new Map(samples.map((sample) => [sample.index, sample]));
const byId = (id) => document.getElementById(id);
const cards = byId("cards");
const dialog = byId("sample");
const PAGE = 60;
const UNCHANGED = 0.01;
let chosen = samples;
let shown = 0;
let open = null;
let settled = "";
const FIELDS = ["words", "level", "asked", "kind", "refinement", "order"];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const percent = (share) => (100 * share).toFixed(1);

function changeText(sample) {
  if (sample.change === null || sample.stages.length < 2) return null;
  const step = sample.change;
  if (Math.abs(step) <= UNCHANGED) return make("span", { class: "change" }, "±0");
  const sign = step > 0 ? "▲ +" : "▼ −";
  return make("span", { class: `change ${step > 0 ? "up" : "down"}` }, sign + percent(Math.abs(step)));
}

// --- one card ---------------------------------------------------------------------------------------------------------

function look(sample) {
  if (sample.strip !== null) {
    const box = make("span", { class: "look" }, make("img", { loading: "lazy", src: sample.strip.src, alt: "last mask and target" }));
    box.style.aspectRatio = String(2 * sample.strip.aspect);
    return box;
  }
  const box = make("span", { class: "look" });
  box.style.aspectRatio = String((2 * sample.size_wh[0]) / sample.size_wh[1]);
  box.append(sample.failure === null ? sketch(sample, sample.stages.at(-1)) : make("p", {}, sample.failure));
  return box;
}

function card(sample) {
  const value = sample.failure === null ? percent(sample.iou) : "—";
  return make(
    "button", { type: "button", class: "card", "data-index": sample.index },
    look(sample),
    make(
      "span", { class: "said" },
      make("span", { class: "asked" }, sample.question), make("span", { class: "iou" }, value),
      make("span", { class: "more" }, [sample.level, sample.kind, sample.id].filter(Boolean).join(" · ")), changeText(sample),
    ),
  );
}

// A sample without pictures: its boxes and points on an empty image.
function sketch(sample, stage) {
  const space = "http://www.w3.org/2000/svg";
  const [width, height] = sample.size_wh;
  const side = Math.min(width, height);
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("class", "sketch");
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const add = (tag, attributes) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    drawing.append(element);
  };
  for (const prompt of stage.prompts) {
    if (prompt.box_xyxy !== null) {
      const [x1, y1, x2, y2] = prompt.box_xyxy;
      add("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), "stroke-width": side / 100 });
    }
    prompt.points_xy.forEach(([x, y], at) => add("circle", { cx: x, cy: y, r: side / 60, class: prompt.labels[at] ? "on" : "off" }));
  }
  return drawing;
}

// --- the gallery ------------------------------------------------------------------------------------------------------

function more() {
  const until = Math.min(shown + PAGE, chosen.length);
  for (; shown < until; shown += 1) cards.append(card(chosen[shown]));
  // An observer tells of changes only, and the end of the page may stay in sight: begun anew, it tells where it is.
  end.disconnect();
  if (shown < chosen.length) end.observe(byId("more"));
}

const end = new IntersectionObserver((seen) => seen.at(-1).isIntersecting && more(), { rootMargin: "800px" });

const setting = (id) => (byId(id) === null ? "" : byId(id).value);

const REFINEMENT = {
  helped: (sample) => sample.change !== null && sample.change > UNCHANGED,
  hurt: (sample) => sample.change !== null && sample.change < -UNCHANGED,
  unchanged: (sample) => sample.change !== null && Math.abs(sample.change) <= UNCHANGED,
};
// Failed samples have no change: last, whichever way.
const change = (sample, otherwise) => (sample.change === null ? otherwise : sample.change);
const ORDER = {
  set: (a, b) => a.index - b.index,
  best: (a, b) => b.iou - a.iou,
  worst: (a, b) => a.iou - b.iou,
  changed: (a, b) => Math.abs(change(b, 0)) - Math.abs(change(a, 0)),
  helped: (a, b) => change(b, -2) - change(a, -2),
  hurt: (a, b) => change(a, 2) - change(b, 2),
  slow: (a, b) => b.seconds - a.seconds,
};

function holds(sample, words) {
  const texts = [sample.id, sample.question, sample.failure ?? "", ...sample.stages.flatMap((stage) => [stage.thinking, stage.text])];
  return words.every((word) => texts.some((text) => text.toLowerCase().includes(word)));
}

function update() {
  settled = JSON.stringify(FIELDS.map(setting));
  const words = setting("words").toLowerCase().split(/\s+/).filter(Boolean);
  const [level, asked, kind, refinement] = ["level", "asked", "kind", "refinement"].map(setting);
  chosen = samples.filter(
    (sample) =>
      (level === "" || sample.level === level) &&
      // By a sample that asks it: HTML would change some characters of a text.
      (asked === "" || sample.question === byIndex.get(Number(asked)).question) &&
      (kind === "" || sample.kind === kind) &&
      (refinement === "" || REFINEMENT[refinement](sample)) &&
      holds(sample, words),
  );
  chosen.sort((a, b) => ORDER[setting("order") || "set"](a, b) || a.index - b.index);
  cards.replaceChildren();
  shown = 0;
  more();
  byId("count").textContent = `${chosen.length} of ${samples.length}`;
}

// --- one sample -------------------------------------------------------------------------------------------------------

function tilesheet(sample) {
  const sheet = make("div", { class: "tilesheet" });
  if (sample.strip !== null) {
    const count = sample.strip.tiles.length;
    sample.strip.tiles.forEach((name, at) => {
      const image = make("img", { src: sample.strip.src, alt: name });
      image.style.width = `${100 * count}%`;
      image.style.marginLeft = `${-100 * at}%`;
      const crop = make("div", { class: "crop" }, image);
      crop.style.aspectRatio = String(sample.strip.aspect);
      sheet.append(make("figure", {}, crop, make("figcaption", {}, name)));
    });
  } else {
    for (const stage of sample.stages) sheet.append(make("figure", {}, sketch(sample, stage), make("figcaption", {}, `${stage.name}: boxes and points`)));
  }
  return sheet;
}

function stageText(stage) {
  const trust = stage.predicted_iou.length ? `, SAM's own estimate ${stage.predicted_iou.map((value) => value.toFixed(2)).join(", ")}` : "";
  const size = stage.tokens === null ? "" : `, ${stage.tokens} tokens${stage.cut_off ? " (cut off)" : ""}`;
  const times = `${stage.generate_s.toFixed(2)} s to answer, ${stage.segment_s.toFixed(2)} s to segment`;
  return make(
    "div", { class: "stage" },
    make("h4", {}, `${stage.name}: IoU ${percent(stage.iou)}`),
    make("p", { class: "note" }, `answer ${stage.status}${stage.reason ? ` (${stage.reason})` : ""}${trust}${size}; ${times}`),
    make("div", { class: "thinking" }, stage.thinking),
    make("details", {}, make("summary", {}, "the whole answer"), make("pre", {}, stage.text)),
  );
}

function step(by) {
  const at = chosen.indexOf(open) + by;
  if (at >= 0 && at < chosen.length) show(chosen[at]);
}

// The bar with its buttons stays as it is, so that the button that was pressed keeps the focus.
function show(sample) {
  open = sample;
  byId("title").textContent = sample.question;
  byId("outcome").replaceChildren(
    make("span", { class: "iou" }, sample.failure === null ? `IoU ${percent(sample.iou)}` : "failed"), " ", changeText(sample) ?? "",
  );
  byId("details").replaceChildren(
    make("p", { class: "note" }, `${[sample.id, sample.level, sample.kind].filter(Boolean).join(" · ")} · ${sample.size_wh.join(" × ")} px${sample.center_box_iou === null ? "" : ` · centre box ${percent(sample.center_box_iou)}`}`),
    ...(sample.failure === null ? [] : [make("pre", {}, sample.failure)]),
    tilesheet(sample),
    ...(sample.picture === null ? [] : [make("a", { href: sample.picture }, "full-size picture")]),
    ...sample.stages.map(stageText),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", `#s=${sample.index}`);
}

function fromAddress() {
  const found = /^#s=(\d+)$/.exec(location.hash);
  const sample = found === null ? undefined : byIndex.get(Number(found[1]));
  if (sample !== undefined && sample !== open) show(sample);
}

cards.addEventListener("click", (event) => {
  const clicked = event.target.closest(".card");
  if (clicked !== null) show(byIndex.get(Number(clicked.dataset.index)));
});
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => {
  open = null;
  history.replaceState(null, "", location.pathname + location.search);
});
document.addEventListener("keydown", (event) => {
  if (open === null) return;
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
// A change that says nothing new, as leaving the field of words does, must not replace the card that is being clicked.
function updateIfNew() {
  const now = JSON.stringify(FIELDS.map(setting));
  if (now !== settled) update();
}

for (const event of ["input", "change"]) byId("filter").addEventListener(event, updateIfNew);
byId("filter").addEventListener("submit", (event) => event.preventDefault());
byId("filter").addEventListener("reset", () => setTimeout(update));
// Matplotlib's links would open another tab.
document.querySelector(".charts").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link === null) return;
  event.preventDefault();
  show(byIndex.get(Number(link.href.baseVal.replace("#s=", ""))));
});
window.addEventListener("hashchange", fromAddress);
update();
fromAddress();
