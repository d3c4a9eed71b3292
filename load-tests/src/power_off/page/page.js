// The values under the pointer. Everything is readable without it.
const box = document.getElementById("timeline"), svg = box.querySelector("svg"), tip = document.getElementById("tip"), cursor = document.getElementById("cursor");
const clock = s => s < 180 ? s.toFixed(0) + " s" : Math.floor(s / 60) + ":" + String(Math.floor(s % 60)).padStart(2, "0");
svg.addEventListener("pointermove", event => {
  const view = svg.viewBox.baseVal.width / svg.getBoundingClientRect().width;
  const x = (event.clientX - svg.getBoundingClientRect().left) * view;
  const at = (x - data.left) / data.width * data.lasts_ms / 1000, second = data.seconds[Math.floor(at)];
  if (!second) { tip.hidden = true; return; }
  cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
  const rows = ["writes", "strong reads", "eventual reads"].map((name, i) => {
    const [calls, percent, failed, p50, p99] = second[i];
    return `${name}: ${percent ?? "–"} % of ${calls}, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms` + (failed ? `, <b>${failed} failed</b>` : "");
  });
  const faults = data.faults.filter(([from, to]) => from <= at * 1000 + 1000 && to >= at * 1000).map(fault => fault[2]);
  const leading = data.leading.findLast(sample => sample[0] <= at * 1000 + 1000);
  if (leading) rows.push("leaders: " + Object.entries(leading[1]).map(([zone, count]) => `${zone} ${count}`).join(", "));
  tip.innerHTML = `<b>${clock(at)}</b>${faults.length ? " · " + faults.join(", ") : ""}<br>` + rows.join("<br>");
  tip.hidden = false;
  const left = event.clientX - box.getBoundingClientRect().left;
  tip.style.left = (left > box.clientWidth / 2 ? left - tip.offsetWidth - 14 : left + 14) + "px";
  tip.style.top = event.clientY - box.getBoundingClientRect().top + 12 + "px";
});
svg.addEventListener("pointerleave", () => { tip.hidden = true; cursor.setAttribute("x1", -9); cursor.setAttribute("x2", -9); });
