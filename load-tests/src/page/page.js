// The values under the pointer, or under the arrow keys. Everything is readable without it.
const box = document.getElementById("timeline"), svg = box?.querySelector("svg"), tip = document.getElementById("tip"), cursor = document.getElementById("cursor");
const clock = s => s < 180 ? s.toFixed(0) + " s" : Math.floor(s / 60) + ":" + String(Math.floor(s % 60)).padStart(2, "0");
let second = -1;
function show(x, left, top) {
  const at = Math.floor((x - data.left) / data.width * data.seconds), lines = data.tips[at];
  if (!lines) { tip.hidden = true; return; }
  second = at;
  cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
  tip.replaceChildren(...[clock(at), ...lines].map((line, i) => { const row = document.createElement(i ? "div" : "b"); row.textContent = line; return row; }));
  tip.hidden = false;
  tip.style.left = (left > box.clientWidth / 2 ? left - tip.offsetWidth - 14 : left + 14) + "px";
  tip.style.top = top + "px";
}
function hide() { tip.hidden = true; cursor.setAttribute("x1", -9); cursor.setAttribute("x2", -9); }
if (svg) {
  const scale = () => svg.viewBox.baseVal.width / svg.getBoundingClientRect().width;
  svg.addEventListener("pointermove", event => {
    const x = (event.clientX - svg.getBoundingClientRect().left) * scale();
    show(x, event.clientX - box.getBoundingClientRect().left, event.clientY - box.getBoundingClientRect().top + 12);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const at = Math.min(Math.max(second + step, 0), data.tips.length - 1), x = data.left + (at + .5) / data.seconds * data.width;
    show(x, x / scale(), 24);
  });
}
