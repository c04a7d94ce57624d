"use strict";
(() => {
  const { figures, looks } = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const hidden = new Set();
  const chosen = {};          // figure -> layer shown
  const linear = new Set();   // figures whose y-axis the reader made linear
  const drawn = new Set();
  let printing = false;
  const plots = [...document.querySelectorAll("[data-figure]")];

  const isDark = () => dark.matches && !printing;
  const rgba = (hex, opacity) =>
    `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${opacity})`;

  // One colour per recipe, in the tone that stands out from the page as it is now.
  function painted(trace) {
    const { recipe, paint } = trace.meta;
    const colour = paint.startsWith("ink") ? (isDark() ? "#c3cad3" : "#4a4f57")
      : looks[recipe][isDark() ? "dark" : "light"];
    const copy = { ...trace, visible: !hidden.has(recipe), showlegend: false };
    if (paint === "band") copy.fillcolor = rgba(colour, isDark() ? 0.22 : 0.16);
    else if (paint.endsWith("bars")) copy.marker = { ...trace.marker, color: rgba(colour, paint === "inkbars" ? 0.15 : 0.35) };
    else {
      if (trace.line) copy.line = { ...trace.line, color: colour };
      if (trace.marker) copy.marker = { ...trace.marker, color: colour };
      if (trace.error_x) copy.error_x = { ...trace.error_x, color: colour };
    }
    return copy;
  }

  function layoutOf(key, width) {
    const figure = figures[key];
    const base = variant(key).layout;
    const [ink, rule] = isDark() ? ["#dfe4ea", "#353d48"] : ["#2a3038", "#e1e5ea"];
    const small = width < 520;
    const layout = {
      ...base, showlegend: false, height: figure.height, width, autosize: false,
      margin: { l: 8, r: 10, t: 8, b: 8, pad: 0 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: small ? 11 : 12.5, color: ink },
      hoverlabel: { namelength: -1, bgcolor: isDark() ? "#262d37" : "#ffffff", font: { color: ink } },
      dragmode: coarse.matches ? false : "zoom",
    };
    for (const name of Object.keys(base).filter((n) => /^[xy]axis/.test(n))) {
      layout[name] = {
        ...base[name], gridcolor: rule, linecolor: rule, zeroline: false, automargin: true,
        title: { ...base[name].title, standoff: 8 }, fixedrange: coarse.matches,
      };
    }
    if (linear.has(key)) {
      const { tickvals, ticktext, tickmode, ...rest } = layout.yaxis;
      layout.yaxis = { ...rest, type: "linear", tickmode: "auto" };
    }
    return layout;
  }

  const variant = (key) => {
    const { variants } = figures[key];
    return variants[chosen[key] ?? ""] ?? Object.values(variants)[0];
  };

  function draw(place, width = place.clientWidth) {
    if (!width) return;                       // in a tab that is not shown
    const key = place.dataset.figure;
    drawn.add(place);
    const note = document.querySelector(`[data-note="${key}"]`);
    if (note) note.textContent = variant(key).note;
    return Plotly.react(place, variant(key).data.map(painted), layoutOf(key, width),
      { displaylogo: false, displayModeBar: false });
  }
  const redraw = (places = [...drawn]) => places.forEach((place) => draw(place));

  // Figures are drawn as they come near the screen, then the rest while the page is idle.
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
  }), { rootMargin: "600px" });
  plots.forEach((place) => watcher.observe(place));
  const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  function rest() {
    const next = plots.find((place) => !drawn.has(place) && place.clientWidth);
    if (next) later(() => { draw(next); rest(); });
  }

  // The one legend: a recipe goes from, or comes back to, every figure and table at once.
  const buttons = [...document.querySelectorAll("[data-recipe]")];
  function show(recipe, on) {
    if (on) hidden.delete(recipe); else hidden.add(recipe);
    for (const button of buttons)
      if (button.dataset.recipe === recipe) button.setAttribute("aria-pressed", String(on));
    for (const card of document.querySelectorAll("[data-card]"))
      if (card.dataset.card === recipe) card.hidden = !on;
    for (const row of document.querySelectorAll("[data-row]"))
      if (row.dataset.row === recipe) row.classList.toggle("off", !on);
  }
  buttons.forEach((button) => button.addEventListener("click", () => {
    show(button.dataset.recipe, hidden.has(button.dataset.recipe));
    redraw();
  }));
  document.querySelectorAll("[data-all]").forEach((button) => button.addEventListener("click", () => {
    Object.keys(looks).forEach((recipe) => show(recipe, Boolean(button.dataset.all)));
    redraw();
  }));

  document.querySelectorAll("[data-chooses]").forEach((select) => {
    const follow = () => {
      const keys = select.dataset.chooses.split(" ");
      keys.forEach((key) => { chosen[key] = select.value; });
      redraw([...drawn].filter((place) => keys.includes(place.dataset.figure)));
    };
    select.addEventListener("change", follow);
    follow();                                 // browsers restore choices on reload
  });

  document.querySelectorAll("[data-scale]").forEach((button) => button.addEventListener("click", () => {
    const key = button.dataset.scale;
    const log = linear.has(key);
    if (log) linear.delete(key); else linear.add(key);
    button.setAttribute("aria-pressed", String(log));
    button.textContent = log ? "log scale" : "linear scale";
    redraw([...drawn].filter((place) => place.dataset.figure === key));
  }));

  const tabs = [...document.querySelectorAll("[role=tab]")];
  function open(tab) {
    for (const other of tabs) {
      const on = other === tab;
      other.setAttribute("aria-selected", String(on));
      other.tabIndex = on ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !on;
    }
    redraw();
    rest();
  }
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      open(next);
      next.focus();
    });
  });
  if (tabs.length) open(tabs[0]); else rest();

  let waiting = 0;
  let lastWidth = innerWidth;
  addEventListener("resize", () => {
    if (printing || innerWidth === lastWidth) return;   // a phone's address bar is no resize
    lastWidth = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => redraw(), 120);
  });
  dark.addEventListener("change", () => redraw());

  // On paper: light, every model, every figure, as wide as an A4 page.
  let closed = [];
  addEventListener("beforeprint", () => {
    printing = true;
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((details) => { details.open = true; });
    plots.forEach((place) => draw(place, place.closest(".small") ? 208 : 660));
  });
  addEventListener("afterprint", () => {
    printing = false;
    closed.forEach((details) => { details.open = false; });
    redraw();
  });

  document.querySelectorAll("[data-copies]").forEach((button) => button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copies);
    const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    try {
      await navigator.clipboard.writeText(source.textContent);
      done();
    } catch {
      // Without clipboard rights the text is selected, ready for the reader's own copy key.
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
  }));
})();
