// The console's page: asks /console/api/state every two seconds and draws it. Owns no state but what the reader chose (table, token).
"use strict";

const byId = (id) => document.getElementById(id);
let token = "";
let state = null;
let chosen = "";
let ofTable = null;
// A page is a thousand partitions; the reader asks for more.
let pages = 1;

// Elements are made, never written as text: no name of a table can become markup.
function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== "") made.append(child);
  return made;
}
function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
// Keeps the focus and what was scrolled to where they were: a redraw every two seconds must not take the keyboard away. So whatever can have the
// focus has an id.
function draw(id, ...children) {
  const place = byId(id);
  const held = place.contains(document.activeElement) ? document.activeElement.id : "";
  const open = new Set([...place.querySelectorAll("details[open]")].map((d) => d.id));
  const scrolled = [...place.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  place.replaceChildren(...children.flat().filter((child) => child));
  for (const details of place.querySelectorAll("details")) if (open.has(details.id)) details.open = true;
  place.querySelectorAll(".scroll").forEach((box, at) => {
    box.id = `${id}-scroll-${at}`;
    // What is wider than the window can be scrolled with the keyboard, too.
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", `${place.closest("section").querySelector("h2").textContent}: scrolls sideways`);
    }
    box.scrollLeft = scrolled[at] || 0;
  });
  if (held && byId(held)) byId(held).focus({ preventScroll: true });
}
const number = (n) => (n >= 100 ? Math.round(n).toLocaleString("en") : (Math.round(n * 10) / 10).toLocaleString("en"));
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return `${unit ? n.toFixed(1) : n} ${units[unit]}`;
}
function span(ms) {
  if (ms < 1000) return `${ms} ms`;
  if (ms < 120000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7200000) return `${Math.round(ms / 60000)} min`;
  return `${Math.round(ms / 3600000)} h`;
}
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

function rows(head, body, empty) {
  if (!body.length) return el("p", { class: "soft" }, empty);
  const cell = (tag) => (value, column) => {
    const right = head[column].startsWith("#");
    return el(tag, { class: right ? "number" : head[column].startsWith("~") ? "wrap" : null }, value);
  };
  const names = head.map((name, column) => el("th", { scope: "col", class: head[column].startsWith("#") ? "number" : null }, name.replace(/^[#~]/, "")));
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, names)), el("tbody", {}, body.map((cells) => el("tr", {}, cells.map(cell("td")))))));
}

async function act(path, body, question) {
  if (question && !window.confirm(question)) return;
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const answer = await asked(fetch(`/console/api/${path}`, { method: "POST", headers, body: JSON.stringify(body || {}) }));
  const text = answer.status === 204 ? "" : (await answer.json().catch(() => ({}))).message || answer.statusText;
  byId("said").textContent = answer.ok ? text : `Refused: ${text}`;
  return { ok: answer.ok, text };
}
// An admin that is gone refuses everything.
const asked = (answer) => answer.catch((error) => ({ ok: false, status: 0, statusText: `this admin does not answer (${error.message})`, json: async () => ({}) }));
const button = (id, text, click) => (token ? el("button", { id, type: "button", onclick: click }, text) : null);

function nodeState(node) {
  if (node.vitality === "dead" || node.vitality === "gone") return ["is-bad", `✖ ${node.vitality} for ${span(node.silent_ms)}`];
  if (node.vitality !== "alive") return ["is-warn", `▲ ${node.vitality}`];
  if (node.draining) return ["is-busy", "⇢ being drained"];
  if (node.stopping) return ["is-busy", "⇢ stopping"];
  if (node.slow) return ["is-warn", "▲ slow"];
  if (node.fenced) return ["is-bad", `✖ ${node.fenced} fenced`];
  return ["", "● alive"];
}
function zones() {
  const nodes = state.health ? state.health.nodes : [];
  const others = state.services.filter((s) => s.service !== "storage");
  const names = [...new Set([...nodes.map((n) => n.zone), ...others.map((s) => s.zone)])].filter(Boolean).sort();
  draw("zone-map", names.map((zone) => {
    const here = nodes.filter((n) => n.zone === zone);
    const lost = here.length > 0 && here.every((n) => n.vitality === "dead" || n.vitality === "gone");
    const cards = here.map((n) => {
      const [kind, words] = nodeState(n);
      return el("div", { class: `node ${kind}` },
        el("strong", {}, `node ${n.node} `), el("span", {}, words), el("br"),
        el("span", { class: "soft" }, `${n.replicas} replicas, leads ${n.leading}, ${bytes(n.used_bytes)} used, ${bytes(n.free_bytes)} free, sync ${(n.sync_us / 1000).toFixed(1)} ms `),
        n.draining ? button(`drain-${n.node}`, "Let it stay", () => act("drain", { node: n.node, cancel: true }))
          : button(`drain-${n.node}`, "Drain", () => act("drain", { node: n.node }, `Move everything off node ${n.node}, for good?`)));
    });
    const chips = others.filter((s) => s.zone === zone).map((s) => {
      const kind = s.state === "ready" ? "" : s.state === "silent" ? "is-bad" : "is-busy";
      const sign = s.state === "ready" ? "●" : s.state === "silent" ? "✖" : "⇢";
      return el("span", { class: `chip ${kind}`, title: `${s.http || "no address"}, version ${s.version}` }, `${sign} ${s.service} ${s.instance}${s.state === "ready" ? "" : ` ${s.state} for ${span(s.silent_ms)}`}`);
    });
    return el("div", { class: `zone ${lost ? "lost" : ""}` }, el("h3", {}, `${zone}${lost ? " — ✖ lost" : ""}`), cards, chips);
  }));
}

// One line for each kind of work, always in the same place; below it what there is to say of single ones.
function work() {
  const h = state.health, lines = [];
  const line = (title, done, total, words, more) => lines.push(el("div", { class: "going" },
    el("strong", {}, title), el("span", {}, total ? el("progress", { max: total, value: done, "aria-label": title }) : null),
    el("div", {}, words, (more || []).filter(Boolean).map((one) => el("div", { class: "soft" }, one)))));
  if (h) {
    line("Healing", h.healing_done, h.healing_total, h.healing_total ? `${h.healing_done} of ${h.healing_total} replicas, ${h.healing_running} under way` : "nothing to heal", [
      ...h.waiting,
      h.endangered ? `▲ ${h.endangered} partitions have fewer than three healthy copies` : "",
      h.without_leader.length ? `✖ ${h.without_leader.length} partitions have no leader that is heard` : "",
      ...state.partitions.filter((p) => p.healing).map((p) => `${p.table}/${p.partition}: ${p.healing}`),
    ]);
  }
  const splits = state.partitions.filter((p) => p.split && p.children.length);
  line("Splitting", 0, 0, splits.length ? `${splits.length} partitions` : "no partition is being split", splits.map((p) => `${p.table}/${p.partition}: ${p.split}`));
  if (h && h.archive) line("Archiving", 0, 0, `${h.archive.partitions} partitions, ${bytes(h.archive.unarchived_bytes)} not archived yet, ${span(h.archive.lag_ms)} behind, store ${h.archive.store_up ? "answers" : "✖ DOES NOT ANSWER"}`);
  if (state.scrub) {
    const s = state.scrub;
    line("Scrubbing", s.partitions - s.never_clean, s.partitions, `${s.partitions - s.never_clean} of ${s.partitions} partitions were compared and clean${s.oldest_clean_ms ? `, the oldest ${span(state.now_ms - s.oldest_clean_ms)} ago` : ""}; archive: ${s.archive} `, [
      button("scrub-all", "Scrub everything now", () => act("scrub", {})),
      ...s.shown.map((one) => `${one.finding ? "✖ " : ""}${one.table}/${one.partition}: ${one.finding || one.state}`),
    ]);
  }
  const troubles = [...(h ? h.troubles : []), ...state.missing.map((what) => `not known: ${what}`)];
  if (troubles.length) line("Troubles", 0, 0, `${troubles.length}`, troubles.map((trouble) => `▲ ${trouble}`));
  draw("work", lines);
}

const CLASSES = { strong_read: "strong reads", eventual_read: "eventual reads", write: "writes" };
function scopeOf(scope) {
  if (scope === "service") return "all tables";
  if (scope.table) return scope.table;
  if (scope.canary) return `canary (${scope.canary})`;
  return `${scope.endpoint.zone} ${scope.endpoint.url}`;
}
function strip(shown) {
  const windows = 72, width = 6, height = 22, length = 300000;
  const last = Math.floor(state.now_ms / length) * length;
  const by = new Map(shown.bars.map((bar) => [bar.at_ms, bar]));
  const art = svg("svg", { width: windows * width, height, role: "img" });
  let good = 0, bad = 0, worst = null;
  for (let i = 0; i < windows; i += 1) {
    const at = last - (windows - 1 - i) * length, bar = by.get(at), x = i * width;
    const served = bar ? bar.good / Math.max(1, bar.good + bar.bad) : 1;
    const kind = !bar || !(bar.good + bar.bad) ? "none" : bar.bad === 0 ? "good" : served >= 0.99 ? "some" : "many";
    // The worse, the lower: told by height as well as by colour.
    const tall = kind === "none" || kind === "good" ? height : kind === "some" ? height * 0.6 : Math.max(3, height * 0.45 * served);
    const rect = svg("rect", { x, y: height - tall, width: width - 1, height: tall, class: `bar-${kind}` });
    if (bar) {
      good += bar.good; bad += bar.bad;
      if (bar.bad && (!worst || served < worst.served)) worst = { served, at };
      rect.append(svg("title", {}, document.createTextNode(`${clock(at)}: ${(100 * served).toFixed(3)} % of ${bar.good + bar.bad}, ${bar.throttled} throttled, p99 ${bar.p99_ms} ms`)));
    }
    art.append(rect);
    if (bar && bar.throttled) art.append(svg("rect", { x, y: 0, width: width - 1, height: 5, class: "bar-throttled" }));
  }
  const share = good + bad ? `${(100 * good / (good + bad)).toFixed(3)} %` : "–";
  art.setAttribute("aria-label", `${scopeOf(shown.scope)}, ${CLASSES[shown.class]}: ${share} over six hours`);
  return [art, share, worst ? `${clock(worst.at).slice(0, 5)} ${(100 * worst.served).toFixed(1)} %` : "–"];
}
function strips() {
  const all = state.availability.strips;
  const group = (title, some, open) => {
    const body = some.map((shown) => {
      const [art, share, worst] = strip(shown);
      return [`${scopeOf(shown.scope)}${shown.from_zone ? ` from ${shown.from_zone}` : ""}`, CLASSES[shown.class], art, share, worst, `${shown.p50_ms} ms`, `${shown.p99_ms} ms`];
    });
    const id = `strips-${title.replace(/\W/g, "")}`;
    const details = el("details", { class: "strips", id }, el("summary", { id: `${id}-title` }, `${title} (${some.length})`), rows(["Of", "Requests", "Six hours", "#Availability", "#Worst bar", "#p50 ≤", "#p99 ≤"], body, "nothing yet"));
    if (open && !byId(details.id)) details.open = true;
    return details;
  };
  const of = (test) => all.filter((s) => test(s.scope));
  const customers = of((s) => s === "service" || s.table), probes = of((s) => s.canary), endpoints = of((s) => s.endpoint);
  draw("strips",
    group("As customers see it", customers, true),
    probes.length ? group("As the canaries see it", probes, true) : null,
    // Shown by itself while one of them does not answer.
    endpoints.length ? group("By endpoint", endpoints, state.availability.standing.some((s) => /unreachable/.test(s.kind))) : null);
}

const heat = (permille) => el("span", {}, el("meter", { min: 0, max: 1000, high: 800, value: Math.min(1000, permille), "aria-label": "heat" }), ` ${Math.round(permille / 10)} %`);
function tables() {
  const body = state.tables.map((t) => [
    el("a", { id: `table-${t.name}`, href: "#partitions", onclick: () => { choose(t.name); } }, t.name), number(t.partitions), number(t.items), bytes(t.bytes), number(t.read_units_s), number(t.write_units_s), number(t.refused_units_s), heat(t.heat_permille),
    [t.without_leader ? `✖ ${t.without_leader} without leader ` : "", t.endangered ? `▲ ${t.endangered} with fewer than three copies` : ""].join("") || "● all right"]);
  draw("table-list", rows(["Table", "#Partitions", "#Items", "#Size", "#Read units/s", "#Write units/s", "#Refused units/s", "Hottest partition", "~State"], body, "no tables"));
  const names = ["", ...state.tables.map((t) => t.name)];
  const select = byId("of-table");
  if ([...select.options].map((o) => o.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === chosen ? "" : null }, name || "(all, the most telling first)")));
  }
}
function range(p) {
  const at = (hex, otherwise) => (hex ? parseInt(hex.slice(0, 8), 16) / 2 ** 32 : otherwise);
  const from = at(p.start, 0), to = at(p.end, 1), width = 120;
  const art = svg("svg", { width, height: 10, role: "img", "aria-label": `from ${p.start || "the beginning"} to ${p.end || "the end"}` },
    svg("rect", { x: 0, y: 2, width, height: 6, class: "range-all" }), svg("rect", { x: from * width, y: 0, width: Math.max(2, (to - from) * width), height: 10, class: "range-own" }));
  return el("span", {}, art, el("span", { class: "soft" }, ` ${(p.start || "0").slice(0, 8)} – ${(p.end || "end").slice(0, 8)}`));
}
function partitionRow(p) {
  const replicas = p.replicas.map((r) => el("div", {},
    `${r.healthy ? "●" : "✖"} ${r.node} ${r.zone} ${r.node === p.leader ? "★ leader" : r.role === "Log" ? "log" : "storage"}${r.votes ? "" : ", no vote yet"}${r.healthy ? "" : `: ${r.state}`} `,
    r.node !== p.leader && r.votes && r.role !== "Log" ? button(`lead-${p.partition}-${r.node}`, "Make leader", () => act("transfer-leader", { partition: p.partition, node: r.node })) : null));
  const going = [p.leader === null ? "✖ no leader is heard" : "", p.healing, p.split].filter(Boolean).join("; ");
  return [`${p.table}/${p.partition}`, range(p), replicas.length ? el("div", {}, replicas) : "–", number(p.items), bytes(p.bytes), heat(p.heat_permille), `${number(p.read_units_s)} / ${number(p.write_units_s)}`, going || "–"];
}
function partitions() {
  const whole = chosen && ofTable && ofTable.table === chosen ? ofTable : null;
  const all = whole ? whole.partitions : state.partitions;
  // The table's sums may be a moment older than its partitions.
  const counted = (state.tables.find((t) => t.name === chosen) || { partitions: 0 }).partitions;
  const total = !whole ? state.partitions_total : whole.more ? Math.max(counted, all.length + 1) : all.length;
  byId("shown").textContent = `${number(all.length)} of ${number(total)} partitions`;
  byId("more").hidden = !(whole && whole.more);
  draw("partition-list", rows(["Partition", "Range of hashes", "Replicas", "#Items", "#Size", "Heat", "#Read / write units/s", "~What goes on"], all.map(partitionRow), "none"));
}
async function choose(table) {
  chosen = table;
  pages = 1;
  byId("of-table").value = table;
  await refreshTable();
  if (state) partitions();
}
async function refreshTable() {
  const table = chosen, found = { table, partitions: [], more: false };
  if (!table) { ofTable = null; return; }
  for (let page = 0, after = ""; page < pages && after !== null; page += 1) {
    const answer = await fetch(`/console/api/partitions?table=${encodeURIComponent(table)}${after === "" ? "" : `&after=${after}`}`);
    if (!answer.ok) break;
    const part = await answer.json();
    found.partitions.push(...part.partitions);
    after = part.next;
    found.more = after !== null;
  }
  // The reader may have chosen another one meanwhile.
  if (table === chosen) ofTable = found;
}

function buckets() {
  const used = (s, word) => el("span", {}, el("meter", { min: 0, max: 100, high: 99, value: s.rate_s ? Math.min(100, (100 * s.demand_s) / s.rate_s) : 0, "aria-label": `${word} wanted of what may be used` }), ` ${s.rate_s ? `${number((100 * s.demand_s) / s.rate_s)} %` : "–"}`);
  const side = (t, word, s) => [t.table, word, used(s, word), number(s.rate_s), number(s.demand_s), number(s.shares_s), number(s.saved), s.owed ? `▲ ${number(s.owed)}` : "0", t.routers];
  draw("buckets", rows(["Table", "", "Wanted of the rate", "#Rate/s", "#Wanted/s", "#Handed out/s", "#Saved units", "#Owed units", "#Routers"], state.throughput.flatMap((t) => [side(t, "reads", t.read), side(t, "writes", t.write)]), "no table is used at the moment"));
}
function alarms() {
  const a = state.availability;
  const words = (seen) => `${seen.kind.replace(/_/g, " ")}: ${seen.subject}${seen.class ? `, ${CLASSES[seen.class]}` : ""}`;
  const banner = byId("banner");
  banner.hidden = !a.standing.length;
  banner.className = a.standing.some((s) => s.severity === "critical") ? "critical" : "warning";
  const text = a.standing.map((s) => `${s.severity === "critical" ? "✖" : "▲"} ${words(s)} — ${s.summary} (since ${clock(s.since_ms)}, seen from ${s.zones.join(", ")})`);
  if (banner.dataset.text !== text.join("\n")) {
    banner.dataset.text = text.join("\n");
    banner.replaceChildren(...text.map((line) => el("p", {}, line)));
  }
  const row = (s) => [s.severity === "critical" ? "✖ critical" : "▲ warning", words(s), s.summary, clock(s.since_ms), s.ended_ms ? clock(s.ended_ms) : "stands", s.zones.join(", ")];
  draw("alarm-list", rows(["Severity", "Alarm", "~Seen", "Began", "Ended", "From zones"], [...a.standing, ...a.ended].map(row), "none, and none lately"));
}
function head() {
  const badge = byId("health"), h = state.health;
  const busy = h && !h.healthy && h.healing_running > 0;
  badge.className = `badge ${!h ? "bad" : h.healthy ? "good" : busy ? "busy" : "bad"}`;
  badge.textContent = !h ? "✖ no active admin answers" : h.healthy ? "● all is well" : busy ? "▲ being healed" : "✖ something is wrong";
  byId("served").textContent = `admin ${state.admin}${state.active ? " (active)" : ""}, ${state.version}, ${clock(state.now_ms)}`;
  byId("sign-in").hidden = state.read_only;
  byId("trace").hidden = !state.trace_url;
}

let asking = false;
async function refresh() {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const [answer] = await Promise.all([fetch("/console/api/state"), refreshTable()]);
    if (!answer.ok) throw new Error(answer.statusText);
    state = await answer.json();
    for (const part of [head, zones, work, strips, tables, partitions, buckets, alarms]) part();
  } catch (error) {
    byId("health").className = "badge bad";
    byId("health").textContent = `✖ this admin does not answer (${error.message})`;
  } finally {
    asking = false;
  }
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = byId("token").value;
  const answer = await act("session");
  byId("token").value = "";
  if (!answer.ok) token = "";
  byId("signed").textContent = answer.ok ? "● signed in until the page is closed" : answer.text;
  byId("said").textContent = "";
  refresh();
});
byId("trace").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = byId("request-id").value.trim();
  const answer = await asked(fetch(`/console/api/trace?request_id=${encodeURIComponent(id)}`));
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) { byId("trace-said").textContent = found.message || answer.statusText; return; }
  // A link, not a window: browsers may refuse to open those, and this one can be copied.
  const link = el("a", { href: found.url, target: "_blank", rel: "noopener" }, "Open the trace");
  byId("trace-said").replaceChildren(link);
  link.focus();
});
byId("of-table").addEventListener("change", (event) => choose(event.target.value));
byId("more").addEventListener("click", async () => {
  pages += 1;
  await refreshTable();
  if (state) partitions();
});
// Escape puts away what was said, or closes the list that the focus is in.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const details = document.activeElement.closest("details[open]");
  if (details) {
    details.open = false;
    details.querySelector("summary").focus();
    return;
  }
  if (byId("trace-said").contains(document.activeElement)) byId("request-id").focus();
  for (const id of ["said", "trace-said"]) byId(id).replaceChildren();
});
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, 2000);
refresh();
