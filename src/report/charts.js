"use strict";
// Draws the report from its data. User strings reach the page through textContent and attributes only, never as markup.
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const M = D.modality, P = D.plan, C = D.composition;
  const COLOURED = 12, LARGEST = 8;

  // ---------------------------------------------------------------- elements and numbers

  const fill = (e, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") e.textContent = value;
      else if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
      else e.setAttribute(name, value === true ? "" : value);
    }
    e.append(...children.flat().filter((c) => c !== null && c !== undefined));
    return e;
  };
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  const known = (x) => x !== null && Number.isFinite(x);
  const count = (x) => (known(x) ? Math.round(x).toString().replace(/\B(?=(\d{3})+$)/g, ",") : "-");
  const percent = (x) => {
    if (!known(x)) return "-";
    const p = 100 * x;
    return (p === 0 || p >= 9.95 ? p.toFixed(1) : p >= 0.095 ? p.toFixed(2) : p.toPrecision(2)) + " %";
  };
  const sig = (x, digits = 3) => {
    if (!known(x)) return "-";
    if (x === 0) return "0";
    const a = Math.abs(x);
    if (a >= 1e6 || a < 1e-4) return x.toExponential(digits - 1);
    return a >= 1000 ? count(x) : String(Number(x.toPrecision(digits)));
  };
  /// For axes: no digits that say nothing.
  const rounded = (x) => String(Number((100 * x).toPrecision(3))) + " %";
  const bytes = (n) => {
    let unit = 0;
    for (; n >= 1024 && unit < 4; unit++) n /= 1024;
    return (unit ? n.toFixed(1) : n) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit];
  };
  const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many);
  const extent = (list) => list.filter(known).reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);
  const shorten = (text, room) => ([...text].length > room ? [...text].slice(0, room - 1).join("") + "\u2026" : text);

  // ---------------------------------------------------------------- modalities: names, colours, the one in focus

  const label = (m) => "#" + M.number[m] + (M.name[m] ? " " + M.name[m] : D.estimator.name === "column" ? " " + M.kind[m] : "");
  const coloured = (m) => m >= 0 && (M.number.length <= COLOURED ? true : m < LARGEST && M.share[m] >= 0.03);
  const colour = (m) => (M.number.length === 1 ? "var(--accent)" : coloured(m) ? "var(--m" + m + ")" : "var(--none)");
  const swatch = (m) => h("span", { class: "swatch", style: "background:" + colour(m), "aria-hidden": "true" });
  const watchers = [];
  let focus = -1;
  const setFocus = (m) => {
    if (m === focus) return;
    focus = m;
    watchers.forEach((f) => f());
  };
  let pinned = -1;
  const pin = (m) => {
    pinned = pinned === m ? -1 : m;
    setFocus(pinned);
  };

  // ---------------------------------------------------------------- scales and axes

  const linear = (d0, d1, r0, r1) => {
    if (!(d1 > d0)) [d0, d1] = [d0 - 0.5, d0 + 0.5];
    const f = (x) => r0 + ((x - d0) / (d1 - d0)) * (r1 - r0);
    f.ticks = (n) => {
      const raw = (d1 - d0) / Math.max(1, n), power = 10 ** Math.floor(Math.log10(raw));
      const at = (step) => {
        const ticks = [];
        for (let i = Math.ceil(d0 / step - 1e-9); i * step <= d1 + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
        return ticks;
      };
      const steps = [0.5, 1, 2, 5, 10].map((k) => k * power), i = steps.findIndex((k) => k >= raw * 0.999);
      const ticks = at(steps[i]);
      return ticks.length < 3 && i > 0 ? at(steps[i - 1]) : ticks;
    };
    return f;
  };
  const log = (d0, d1, r0, r1) => {
    if (!(d1 > d0)) [d0, d1] = [d0 / 2, d0 * 2];
    const a = Math.log(d0), b = Math.log(d1);
    const f = (x) => r0 + ((Math.log(x) - a) / (b - a)) * (r1 - r0);
    f.ticks = (n) => {
      const all = (steps) => {
        const ticks = [];
        for (let e = Math.floor(Math.log10(d0)); e <= Math.log10(d1); e++)
          for (const k of steps) if (k * 10 ** e >= d0 * 0.999 && k * 10 ** e <= d1 * 1.001) ticks.push(Number((k * 10 ** e).toPrecision(3)));
        return ticks;
      };
      const fit = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]].map(all).find((t) => t.length <= n && t.length > 0);
      const ticks = fit || all([1]);
      return ticks.length > n ? ticks.filter((_, i) => i % Math.ceil(ticks.length / n) === 0) : ticks;
    };
    return f;
  };

  /// An svg with axes. `x`, `y`: {from, to, log, label, format, ticks}; y's label stands above, where it is read first.
  const frame = (width, height, x, y, room = {}) => {
    const left = room.left ?? 52, right = room.right ?? 14, top = room.top ?? 26, bottom = room.bottom ?? 42;
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    const make = (a, r0, r1) => (a.log ? log : linear)(a.from, a.to, r0, r1);
    const sx = make(x, left, width - right), sy = y && make(y, height - bottom, top);
    const base = height - bottom;
    if (y) {
      for (const t of y.ticks || sy.ticks(Math.max(2, (base - top) / 42))) {
        const at = sy(t);
        if (y.grid !== false) svg.append(s("line", { class: "gridline", x1: left, x2: width - right, y1: at, y2: at }));
        svg.append(s("text", { x: left - 8, y: at + 4, "text-anchor": "end", text: (y.format || sig)(t) }));
      }
      svg.append(s("text", { x: 0, y: 12, class: "strong", text: y.label }));
    }
    svg.append(s("line", { class: "axis", x1: left, x2: width - right, y1: base, y2: base }));
    for (const t of x.ticks || sx.ticks(Math.max(2, (width - left - right) / 84))) {
      svg.append(s("line", { class: "axis", x1: sx(t), x2: sx(t), y1: base, y2: base + 4 }),
        s("text", { x: sx(t), y: base + 17, "text-anchor": "middle", text: (x.format || sig)(t) }));
    }
    svg.append(s("text", { x: width - right, y: height - 6, "text-anchor": "end", class: "strong", text: x.label }));
    return { svg, sx, sy, left, right, top, base, width, height };
  };
  const path = (points) => points.map(([x, y], i) => (i ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1)).join("");

  // ---------------------------------------------------------------- figures: picture, hover, numbers

  const tip = document.getElementById("tip");
  let pointed = false;
  const show = (lines, x, y) => {
    tip.replaceChildren(...lines.filter(Boolean).map((text) => h("div", { text, dir: "auto" })));
    tip.classList.add("shown");
    const box = tip.getBoundingClientRect(), gap = 14;
    tip.style.left = Math.max(4, Math.min(x + gap, innerWidth - box.width - 6)) + "px";
    tip.style.top = Math.max(4, y - box.height - gap < 0 ? y + gap : y - box.height - gap) + "px";
  };
  const hide = () => tip.classList.remove("shown");
  // What the pointer was on has moved away; what the keyboard chose has not.
  addEventListener("scroll", () => { if (pointed) hide(); }, { passive: true });

  /// Shows the mark nearest to the pointer; arrow keys go through the marks. `marks`: {x, y, tip, modality}.
  const interact = (svg, marks, { near = 40, onlyX = false } = {}) => {
    if (!marks.length) return;
    const ring = s("circle", { class: "ring", r: 5, visibility: "hidden" });
    svg.append(ring);
    svg.setAttribute("tabindex", "0");
    let at = -1;
    const go = (i) => {
      at = i;
      const mark = marks[i];
      if (!mark) {
        ring.setAttribute("visibility", "hidden");
        hide();
        if (mark === undefined) setFocus(pinned);
        return;
      }
      ring.setAttribute("visibility", "visible");
      ring.setAttribute("cx", mark.x);
      ring.setAttribute("cy", mark.y);
      const box = svg.getBoundingClientRect();
      show(mark.tip, box.left + mark.x, box.top + mark.y);
      if (mark.modality !== undefined) setFocus(mark.modality);
    };
    svg.addEventListener("pointermove", (e) => {
      const box = svg.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top;
      pointed = true;
      let best = -1, least = near * near;
      marks.forEach((m, i) => {
        const d = (m.x - x) ** 2 + (onlyX ? 0 : (m.y - y) ** 2);
        if (d < least) [best, least] = [i, d];
      });
      go(best);
    });
    svg.addEventListener("pointerleave", () => go(-1));
    svg.addEventListener("blur", () => go(-1));
    svg.addEventListener("keydown", (e) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
      if (e.key === "Escape") go(-1);
      if (!step) return;
      e.preventDefault();
      pointed = false;
      go((at + step + marks.length) % marks.length);
    });
  };

  const table = (head, rows, options = {}) => {
    const numeric = head.map((_, j) => options.text?.includes(j) ? false : rows.some((r) => typeof r[j] === "number") || options.numeric?.includes(j));
    const cell = (tag, value, j) => h(tag, { class: numeric[j] ? "n" : null, scope: tag === "th" ? "row" : null, dir: numeric[j] ? null : "auto" },
      value instanceof Node ? value : String(typeof value === "number" ? (Number.isInteger(value) ? count(value) : sig(value, 4)) : value ?? "-"));
    return h("table", {},
      h("thead", {}, h("tr", {}, head.map((text, j) => h("th", { scope: "col", class: numeric[j] ? "n" : null, text })))),
      h("tbody", {}, rows.map((r, i) => h("tr", { class: options.chosen?.(i) ? "chosen" : null }, r.map((v, j) => cell(j === 0 ? "th" : "td", v, j))))));
  };
  const scrolling = (inner, name) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, inner);

  const redraws = [];
  /// A picture with a title, a sentence, and the same numbers as a table. `draw(width)` gives the svg, or the elements.
  const figure = (parent, { id, title, note, key, describe, draw, head, rows, tableOptions, plain }) => {
    const plot = h("div", { class: "plot" });
    const text = describe || note || title;
    const numbers = h("details", { class: "numbers" }, h("summary", { text: "Numbers" }));
    numbers.firstChild.setAttribute("aria-label", "Numbers: " + title);
    numbers.addEventListener("toggle", () => {
      if (numbers.open && numbers.children.length === 1) numbers.append(scrolling(table(head, rows(), tableOptions), title));
    });
    const f = h("figure", { id },
      h("figcaption", { class: plain ? "unseen" : null }, plain ? title : h("h3", { text: title }), note ? h("p", { class: "note", text: note }) : null),
      key ? h("ul", { class: "key" }, key.map(([kind, text, style]) => h("li", {}, h("i", { class: kind, style, "aria-hidden": "true" }), text))) : null,
      plot, head ? numbers : null);
    parent.append(f);
    let width = 0;
    const redraw = () => {
      width = Math.floor(plot.clientWidth);
      if (width < 60) return;
      const drawn = [draw(width)].flat();
      const svg = drawn.find((e) => e.tagName === "svg");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", title + ". " + text);
      plot.replaceChildren(...drawn);
    };
    new ResizeObserver(() => { if (Math.floor(plot.clientWidth) !== width) redraw(); }).observe(plot);
    redraws.push(redraw);
    redraw();
    return f;
  };

  const sections = [];
  const section = (id, title, ...notes) => {
    const e = h("section", { id, "aria-labelledby": id + "-title" }, h("h2", { id: id + "-title", text: title }), notes.map((text) => h("p", { text })));
    document.querySelector("main").append(e);
    sections.push([id, title, e]);
    return e;
  };

  // ---------------------------------------------------------------- the answer

  const answer = () => {
    document.getElementById("plan-id").textContent = "plan " + P.id.slice(0, 12);
    const facts = [
      [count(P.planned), P.planned === P.rows ? "rows, all planned" : "rows planned of " + count(P.rows)],
      [count(P.batch_size), "rows in a batch"],
      ...(P.chunk > 1 ? [[count(P.chunk), "neighbouring rows come into a batch together"]] : []),
      ...(P.modalities > 1 && P.chunk === 1 ? [[percent(P.coverage), P.local ? "of the rows have their modality in every batch whose round has its share" : "of the rows have their modality in every batch"]] : []),
      [count(P.strata), P.strata === 1 ? "stratum" : "strata"],
      ...(P.chunk > 1 ? [] : [[D.gain ? "\u00d7 " + D.gain[0].toFixed(2) : "-", D.gain ? (D.gain[1] ? "predicted early gradient variance, random = 1" : "early gradient variance at best, random = 1") : "gain, not predicted"]]),
      [plural(D.inputs.length + D.more_inputs, "file", "files"), "read, " + plural(P.dims, "feature", "features")],
    ];
    document.getElementById("facts").append(...facts.map(([value, what]) => h("div", {}, h("dt", { text: what }), h("dd", { text: value }))));
    const [low, high] = D.estimator.interval, m = P.modalities;
    if (!D.answer.counted || !D.answer.clear || low >= high) return;
    const place = document.getElementById("interval");
    const text = `${m} modalities, likely ${low} to ${high}`;
    const f = figure(place, {
      id: "chart-interval", title: "How sure", describe: text, plain: true,
      draw: (width) => {
        const w = Math.min(width, 520);
        const margin = Math.max(1, Math.ceil((high - low) * 0.6));
        const whole = high - low + 2 * margin <= 14;
        const ticks = whole ? Array.from({ length: high - low + 2 * margin + 1 }, (_, i) => low - margin + i).filter((k) => k >= 1) : undefined;
        const p = frame(w, 62, { from: Math.max(whole ? 0.5 : 1, low - margin), to: high + margin, label: "modalities", ticks, format: count }, null, { left: 8, top: 6 });
        const y = 11;
        p.svg.append(s("rect", { class: "band", x: p.sx(low) - 6, y: y - 6, width: p.sx(high) - p.sx(low) + 12, height: 12, rx: 6 }),
          s("circle", { class: "planned", cx: p.sx(m), cy: y, r: 6 }));
        interact(p.svg, [{ x: p.sx(m), y, tip: [plural(m, "modality", "modalities"), `likely ${low} to ${high}`] }]);
        return p.svg;
      },
      key: [["", "counted", "background:var(--accent);border-radius:50%"], ["", "5 to 95 % of the counts of all blocks and nearly as good settings", "background:var(--band)"]],
    });
    f.style.marginTop = "1rem";
  };

  // ---------------------------------------------------------------- evidence

  const evidence = () => {
    const neighbours = ["consensus", "rim"].includes(D.estimator.name), params = D.estimator.params || {};
    // Communities are looked for at many resolutions, modes at many numbers of neighbours.
    const communities = D.estimator.name === "consensus" && known(params.gamma);
    const gammaOf = (criterion) => (/^gamma=[\d.]+ /.test(criterion) ? parseFloat(criterion.slice(6)) : NaN);
    const taken = communities ? Math.round(params.gamma * 1000) / 1000 : params.k;
    const kLabel = communities ? "resolution gamma" : neighbours ? "neighbours k" : "k, number of modalities";
    const names = communities ? { score: ["Score by resolution", "I kappa\u00b2, nats"], M: ["Communities by resolution", "communities"] } : { score: ["Score of the best setting", "I kappa\u00b3, nats"], rep: ["Share that halves reproduce", "rho"], M: ["Modes it counts", "modes"] };
    const series = new Map();
    const put = (criterion, k, value) => {
      if (!series.has(criterion)) series.set(criterion, []);
      if (known(value)) series.get(criterion).push([k, value]);
    };
    for (const [k, criterion, value] of D.curve) put(communities ? "score" : criterion, communities ? gammaOf(criterion) : k, value);
    // One dot per setting, where the estimator tells the information that halves share.
    const cells = new Map();
    for (const [k, criterion, value] of D.evidence) {
      const cut = criterion.lastIndexOf(" "), setting = criterion.slice(0, cut) + " k=" + k;
      if (!cells.has(setting)) cells.set(setting, {});
      cells.get(setting)[criterion.slice(cut + 1)] = value;
    }
    const choice = communities ? `gamma=${taken} k=${params.k}` : `p=${params.p} tau=${params.tau} k=${params.k}`;
    const dots = [...cells].filter(([, c]) => known(c.M) && c.M >= 1 && known(c.I) && c.H > 0)
      .map(([setting, c]) => ({ setting, M: c.M, rho: Math.max(0, c.I / c.H), I: c.I, H: c.H, chosen: setting === choice }));
    if (communities) dots.filter((d) => known(gammaOf(d.setting))).forEach((d) => put("M", gammaOf(d.setting), d.M));
    if (!series.size && !dots.length) return;
    const e = section("evidence", "Evidence", communities
      ? "Modes are peaks of a nearest-neighbour density, communities are groups in the graph of nearest neighbours; both were looked for on halves of the sample. What both halves find is evidence; what one finds alone is not."
      : neighbours
      ? "Modes are peaks of a nearest-neighbour density, looked for at many settings on halves of the sample. What both halves find is evidence; what one finds alone is not."
      : "What the estimator " + D.estimator.name + " measured.");
    if (dots.length) {
      figure(e, {
        id: "chart-evidence", title: "Every setting that was looked at",
        note: "The further up, the more of what one half says the other confirms; the further right, the more modalities the setting shows.",
        key: [["", "a setting", "background:var(--chance);border-radius:50%"], ...(dots.some((d) => d.chosen) ? [["", "the setting taken", "background:var(--accent);border-radius:50%"]] : [])],
        draw: (width) => {
          const most = extent(dots.map((d) => d.M))[1];
          const p = frame(width, 300, { from: 0.9, to: Math.max(most, 4) * 1.1, log: true, label: "modes or communities in the setting", format: count },
            { from: 0, to: 1, label: "share of information that halves reproduce (rho = I / H)", format: rounded });
          const marks = [...dots].sort((a, b) => a.chosen - b.chosen).map((d) => {
            const x = p.sx(d.M), y = p.sy(Math.min(1, d.rho));
            p.svg.append(s("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: d.chosen ? 6 : 3, class: d.chosen ? "planned" : "random", "fill-opacity": d.chosen ? 1 : 0.55 }));
            return { x, y, tip: [d.setting + (d.chosen ? " (taken)" : ""), `${sig(d.M)} ${known(gammaOf(d.setting)) ? "communities" : "modes"}, rho ${percent(d.rho)}`, `I ${sig(d.I)} of H ${sig(d.H)} nats`] };
          });
          interact(p.svg, marks, { near: 24 });
          return p.svg;
        },
        head: ["setting", "modes or communities", "rho", "I, nats", "H, nats"],
        rows: () => dots.map((d) => [d.setting, d.M, percent(d.rho), d.I, d.H]),
        tableOptions: { numeric: [2], chosen: (i) => dots[i].chosen },
      });
    }
    if (series.size) {
      const box = h("div", { class: "multiples" });
      e.append(box);
      [...series].slice(0, 6).forEach(([criterion, points], n) => {
        const [name, unit] = names[criterion] || [criterion, criterion];
        points.sort((a, b) => a[0] - b[0]);
        const positive = points.every(([, v]) => v > 0), range = extent(points.map((q) => q[1]));
        const logY = criterion === "M" && positive && range[1] > 8 * range[0];
        figure(box, {
          id: "chart-curve-" + n, title: name,
          describe: `${unit} over ${kLabel}: ${sig(range[0])} to ${sig(range[1])}.`,
          draw: (width) => {
            const [k0, k1] = extent(points.map((q) => q[0]));
            const p = frame(width, 190, { from: k0 * 0.95, to: k1 * 1.05, log: k0 > 0, label: kLabel + (k0 > 0 ? " (log scale)" : ""), format: communities ? rounded : count },
              { from: logY ? range[0] * 0.8 : Math.min(0, range[0]), to: range[1] * 1.1 || 1, log: logY, label: unit }, { top: 24 });
            const marks = points.map(([k, v]) => ({ x: p.sx(k), y: p.sy(v), tip: [communities ? `gamma ${sig(k)}` : `k = ${count(k)}`, `${criterion} ${sig(v, 4)}`] }));
            p.svg.append(s("path", { class: "line", d: path(marks.map((m) => [m.x, m.y])) }), marks.map((m) => s("circle", { class: "planned", cx: m.x, cy: m.y, r: 2.5 })));
            if (neighbours && points.some(([k]) => k === taken)) p.svg.append(s("line", { class: "mark", x1: p.sx(taken), x2: p.sx(taken), y1: p.top, y2: p.base }));
            interact(p.svg, marks, { onlyX: true, near: 60 });
            return p.svg;
          },
          head: [kLabel, unit], rows: () => points,
        });
      });
      if (neighbours) e.append(h("p", { class: "note", text: communities ? "Every eligible resolution; the dashed line marks the one taken: the coarsest of those with a score within 10 % of the best." : "For every number of neighbours the best eligible setting; the dashed line marks the one taken." }));
    }
  };

  // ---------------------------------------------------------------- sizes

  const sizes = () => {
    const n = M.number.length, total = n + M.left_out;
    const least = 1 / P.batch_size, rare = M.share.filter((p) => p < least).length + M.left_out;
    const e = section("sizes", "Modality sizes", rare && total > 1
      ? `${plural(rare, "modality is", "modalities are")} rarer than one row in ${count(P.batch_size)}: such a modality comes once in several batches.`
      : total > 1 ? "Every modality is common enough to be in every batch." : `One modality holds all ${count(P.planned)} rows.`);
    if (total === 1) return;
    const rows = () => M.number.map((_, m) => [label(m), M.rows[m], percent(M.share[m]), M.radius[m], known(M.prominence[m]) ? M.prominence[m] : "-"]);
    const head = ["modality", "rows", "share", "rms radius", "prominence"], tableOptions = { numeric: [2, 3, 4], text: [0] };
    const tipOf = (m) => [label(m), `${count(M.rows[m])} rows, ${percent(M.share[m])}`, `${sig(P.batch_size * M.share[m])} rows a batch`];
    const bars = Math.min(n, total > 30 ? 15 : 30);
    figure(e, {
      id: "chart-sizes", title: n > bars ? `The ${bars} largest of ${count(total)} modalities` : "Rows of every modality",
      note: "Share of the planned rows.", head, rows, tableOptions,
      describe: `Bars from ${percent(M.share[0])} down to ${percent(M.share[bars - 1])}.`,
      draw: (width) => {
        const step = 26, names = Math.min(220, width * 0.34), values = 116;
        const p = frame(width, bars * step + 60, { from: 0, to: M.share[0], label: "share of planned rows", format: rounded, ticks: width < 480 ? [0, M.share[0]].map((x) => Number(x.toPrecision(2))) : undefined }, null, { left: names, right: values, top: 4 });
        const marks = [];
        for (let m = 0; m < bars; m++) {
          const y = 6 + m * step, end = p.sx(M.share[m]);
          const text = s("text", { x: 16, y: y + 14, class: "strong", text: shorten(label(m), Math.floor((names - 26) / 6.9)) });
          p.svg.append(s("circle", { cx: 5, cy: y + 10, r: 4.5, style: "fill:" + colour(m) }), text,
            s("rect", { class: "planned", x: p.left, y: y + 3, width: Math.max(1, end - p.left), height: 14 }),
            s("text", { x: width, y: y + 14, "text-anchor": "end", text: percent(M.share[m]) }),
            s("text", { x: width - 62, y: y + 14, "text-anchor": "end", text: count(M.rows[m]) }));
          marks.push({ x: end, y: y + 10, tip: tipOf(m), modality: m });
        }
        if (least < M.share[0]) p.svg.append(s("line", { class: "mark", x1: p.sx(least), x2: p.sx(least), y1: 4, y2: p.base }));
        interact(p.svg, marks, { near: 1e4 });
        return p.svg;
      },
      key: least < M.share[0] ? [["line", "one row a batch", "background:repeating-linear-gradient(90deg,var(--soft) 0 4px,transparent 4px 7px)"]] : null,
    });
    if (n > bars) {
      figure(e, {
        id: "chart-ranks", title: "All sizes by rank", note: "Both scales are logarithmic: a straight line would be a power law.", head, rows, tableOptions,
        describe: `${count(n)} modalities from ${percent(M.share[0])} down to ${percent(M.share[n - 1])}.`,
        draw: (width) => {
          const p = frame(width, 260, { from: 1, to: n, log: true, label: "rank by size", format: count },
            { from: Math.min(M.share[n - 1], least) * 0.8, to: M.share[0] * 1.2, log: true, label: "share of planned rows", format: rounded }, { left: 64 });
          const marks = M.share.map((v, m) => ({ x: p.sx(m + 1), y: p.sy(v), tip: tipOf(m), modality: m }));
          p.svg.append(s("line", { class: "mark", x1: p.left, x2: width - p.right, y1: p.sy(least), y2: p.sy(least) }),
            s("text", { x: p.left + 6, y: p.sy(least) - 5, text: "one row a batch" }),
            s("path", { class: "line", d: path(marks.map((m) => [m.x, m.y])) }));
          interact(p.svg, marks, { near: 60 });
          return p.svg;
        },
      });
    }
  };

  // ---------------------------------------------------------------- map

  const map = () => {
    const Q = D.map, n = Q.row.length;
    if (!n) return;
    const e = section("map", "Map of the sample", `${plural(n, "row", "rows")} of the sample on its first two principal axes.` + (P.dims > 2 && M.number.length > 1 ? ` Modalities that overlap here may be apart in the other ${count(P.dims - 2)} dimensions.` : ""));
    const of = M.number.map(() => []);
    Q.modality.forEach((m, i) => m >= 0 && of[m].push(i));
    const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
    const centre = of.map((list) => (list.length ? [median(list.map((i) => Q.x[i])), median(list.map((i) => Q.y[i]))] : null));
    let dots = null;
    figure(e, {
      id: "chart-map", title: M.number.length > 1 ? "Rows by modality" : "Rows",
      note: (M.number.length > 1 ? "Numbers stand at the middle of their modality. " : "") + "Point at a row to see what it is.",
      describe: `A scatter of ${count(n)} rows coloured by modality.`,
      head: ["modality", "rows shown", "middle, axis 1", "middle, axis 2", "nearest to its centre"],
      rows: () => M.number.map((_, m) => [label(m), of[m].length, centre[m] ? centre[m][0] : "-", centre[m] ? centre[m][1] : "-", M.examples[m].map(nameOf).join(", ")]),
      tableOptions: { text: [0, 4] },
      draw: (width) => {
        const height = Math.round(Math.min(560, Math.max(320, width * 0.68)));
        const [x0, x1] = extent(Q.x), [y0, y1] = extent(Q.y), mx = (x1 - x0) * 0.03 || 1, my = (y1 - y0) * 0.03 || 1;
        const p = frame(width, height, { from: x0 - mx, to: x1 + mx, label: "principal axis 1, feature units" }, { from: y0 - my, to: y1 + my, label: "principal axis 2, feature units", grid: false }, { left: 46 });
        const X = Q.x.map(p.sx), Y = Q.y.map(p.sy);
        const canvas = h("canvas", { "aria-hidden": "true" });
        const probe = h("span", { hidden: true });
        document.body.append(probe);
        const ink = (value) => { probe.style.color = value; return getComputedStyle(probe).color; };
        const scale = Math.min(3, devicePixelRatio || 1);
        canvas.width = width * scale; canvas.height = height * scale;
        canvas.style.width = width + "px"; canvas.style.height = height + "px";
        const g = canvas.getContext("2d");
        const r = n > 4000 ? 1.6 : n > 1200 ? 2.1 : 2.8;
        const paint = () => {
          g.setTransform(scale, 0, 0, scale, 0, 0);
          g.clearRect(0, 0, width, height);
          const dot = (list, style, alpha, radius) => {
            g.fillStyle = style; g.globalAlpha = alpha;
            for (const i of list) { g.beginPath(); g.arc(X[i], Y[i], radius, 0, 7); g.fill(); }
          };
          const quiet = focus >= 0 ? 0.13 : 0.72;
          const none = ink("var(--none)");
          dot(Q.modality.flatMap((m, i) => (m < 0 || !coloured(m) ? [i] : [])), none, focus >= 0 ? 0.13 : M.number.length > COLOURED ? 0.4 : quiet, r);
          for (let m = Math.min(M.number.length, COLOURED) - 1; m >= 0; m--) if (coloured(m)) dot(of[m], ink(colour(m)), quiet, r);
          if (focus >= 0) dot(of[focus], ink(coloured(focus) ? colour(focus) : "var(--accent)"), 0.95, r + 0.6);
          g.globalAlpha = 1;
        };
        dots = paint;
        paint();
        // Numbers where they do not cover each other, the largest first.
        const placed = [];
        centre.forEach((c, m) => {
          if (!c || M.number.length === 1 || (M.number.length > 40 && m >= 25)) return;
          const x = p.sx(c[0]), y = p.sy(c[1]);
          if (placed.some(([a, b]) => Math.abs(a - x) < 22 && Math.abs(b - y) < 15)) return;
          placed.push([x, y]);
          p.svg.append(s("text", { class: "halo", x, y: y + 4, "text-anchor": "middle", text: M.number[m] }));
        });
        interact(p.svg, Q.x.map((_, i) => ({ x: X[i], y: Y[i], modality: Q.modality[i],
          tip: [nameOf(i), Q.modality[i] >= 0 ? label(Q.modality[i]) : "a small modality", `row ${count(Q.row[i])}, centrality ${sig(Q.centrality[i], 2)}`] })), { near: 22 });
        return [canvas, p.svg];
      },
    });
    watchers.push(() => dots && dots());
    if (M.number.length > 1) e.append(chooser());
  };
  const nameOf = (i) => (D.map.id.length ? D.map.id[i] : "row " + count(D.map.row[i]));

  /// Buttons for few modalities, a list for many: highlights one in every picture.
  const chooser = () => {
    const box = h("div", { class: "legend", role: "group", "aria-label": "Highlight a modality" });
    const buttons = M.number.length <= COLOURED ? M.number.map((_, m) => m) : M.number.map((_, m) => m).filter(coloured);
    for (const m of buttons) {
      const b = h("button", { type: "button", "aria-pressed": "false", onclick: () => pin(m), onpointerenter: () => setFocus(m), onpointerleave: () => setFocus(pinned), title: label(m) }, swatch(m), h("span", { text: label(m), dir: "auto" }));
      watchers.push(() => b.setAttribute("aria-pressed", String(pinned === m)));
      box.append(b);
    }
    if (buttons.length < M.number.length) {
      const select = h("select", { "aria-label": "Highlight a modality", onchange: () => { pinned = -1; pin(Number(select.value)); } },
        h("option", { value: "-1", text: "highlight one of " + count(M.number.length) }), M.number.map((_, m) => h("option", { value: m, text: shorten(label(m), 60) })));
      watchers.push(() => { select.value = String(pinned); });
      box.append(select);
    }
    return box;
  };

  // ---------------------------------------------------------------- what each modality is made of

  const profile = () => {
    const n = M.number.length;
    if (!D.profile.some((p) => p.length) && !D.map.row.length) return;
    const any = D.profile.some((p) => p.length);
    const e = section("profile", n > 1 ? "What each modality is made of" : "What the rows are made of", n === 1 && any
      ? "The most frequent values of your own columns, with their share."
      : any
      ? "The values of your own columns that set a modality apart, most telling first. The bar is their share in the modality, the tick their share in all rows, and the last number how many times as frequent they are."
      : "The dataset has no columns beside the features: the rows nearest to each centre are the best description.");
    const cards = h("div", { class: "cards" });
    const filter = h("input", { type: "search", placeholder: "Filter by number, name or value", "aria-label": "Filter modalities by number, name or value", oninput: () => list(true) });
    const more = h("button", { type: "button", onclick: () => { shown += STEP; list(); } });
    const said = h("span", { class: "note", role: "status" });
    const STEP = 12;
    let shown = STEP;
    const value = (v) => {
      const column = D.texts[v[0]];
      if (v[1] === null) {
        const length = v.length === 4;
        const text = (length ? "mean length " : "mean ") + sig(v[2]) + ", all " + sig(v[3]);
        const range = length || !known(v[5]) ? null : `10 to 90 %: ${sig(v[5])} to ${sig(v[7])}, median ${sig(v[6])}`;
        return h("li", { class: "value" }, h("span", { class: "what", dir: "auto", title: column }, h("b", { text: column })), h("span", { class: "wide", text, title: range }));
      }
      const [, text, share, overall, lift] = v;
      return h("li", { class: "value" },
        h("span", { class: "what", dir: "auto", title: `${column} = ${D.texts[text]}` }, h("b", { text: column + " " }), D.texts[text] === "" ? "(empty)" : D.texts[text]),
        h("span", { class: "bar", "aria-hidden": "true" }, h("i", { style: `width:${(100 * Math.min(1, share)).toFixed(1)}%` }), known(overall) && n > 1 ? h("u", { style: `left:calc(${(100 * Math.min(1, overall)).toFixed(1)}% - 1px)` }) : null),
        h("span", { class: "share", text: percent(share) }),
        h("span", { class: "lift", text: known(lift) && n > 1 ? "\u00d7 " + (lift >= 10 ? count(lift) : lift.toFixed(1)) : "" }));
    };
    const card = (m) => {
      const values = D.profile[m] || [];
      // What is rarer here than elsewhere is told, but not first.
      const FEW = n === 1 ? 12 : Math.min(5, values.filter((v) => v[1] === null || v[4] > 1).length);
      const rest = values.slice(FEW);
      const all = rest.length ? h("details", { class: "numbers" }, h("summary", { text: `${rest.length} more`, "aria-label": `${rest.length} more values of ${label(m)}` })) : null;
      all?.addEventListener("toggle", () => { if (all.open && all.children.length === 1) all.append(h("ul", {}, rest.map(value))); });
      return h("article", { class: "card", onpointerenter: () => setFocus(m), onpointerleave: () => setFocus(pinned) },
        h("h3", {}, swatch(m), h("span", { class: "name", text: label(m), title: label(m), dir: "auto" }), h("span", { class: "size", text: `${count(M.rows[m])} rows, ${percent(M.share[m])}` })),
        values.length ? h("ul", {}, values.slice(0, FEW).map(value)) : null, all,
        M.examples[m].length ? h("p", { class: "examples", dir: "auto" }, "Nearest to the centre: " + M.examples[m].map(nameOf).join(", ")) : null);
    };
    const matches = (m, word) => label(m).toLowerCase().includes(word) || (D.profile[m] || []).some((v) => v[1] !== null && D.texts[v[1]].toLowerCase().includes(word));
    const list = (again) => {
      if (again) shown = STEP;
      const word = filter.value.trim().toLowerCase();
      const found = M.number.map((_, m) => m).filter((m) => !word || matches(m, word));
      cards.replaceChildren(...found.slice(0, shown).map(card));
      more.hidden = found.length <= shown;
      more.textContent = `Show ${Math.min(STEP, found.length - shown)} more of ${count(found.length - shown)}`;
      said.textContent = word ? plural(found.length, "modality matches", "modalities match") : "";
    };
    if (n > STEP) e.append(h("div", { class: "tools" }, filter, said));
    e.append(cards, h("div", { class: "tools" }, more));
    list();
    const small = [];
    if (M.left_out) small.push(`${plural(M.left_out, "smaller modality is", "smaller modalities are")} not shown on this page.`);
    if (D.profile_left_out) small.push(`${plural(D.profile_left_out, "less telling value is", "less telling values are")} in profile.arrow only.`);
    if (small.length) e.append(h("p", { class: "note", text: small.join(" ") }));
  };

  // ---------------------------------------------------------------- distances and centrality

  const centrality = () => {
    const e = section("centrality", "Centrality", `Centrality ranks the rows of a modality from its edge (0) to its centre (1), so it is spread evenly over 0 to 1 in each of them by construction. What differs between modalities is how far out their rows lie.`);
    const quantiles = M.quantiles;
    const lines = M.number.map((_, m) => m).filter((m) => quantiles[m].every(known)).slice(0, 400);
    if (lines.length) {
      let emphasise = () => {};
      figure(e, {
        id: "chart-distance", title: "Centrality over distance", note: "One line a modality" + (lines.length < M.number.length ? `, of the ${lines.length} largest` : "") + ", through the deciles of its rows' distances. Steep: its rows are all about as far from the centre.",
        describe: `${plural(lines.length, "line", "lines")}, one a modality, falling from centrality 1 to 0 as the distance to the centre grows.`,
        head: ["modality", "nearest", "10 %", "median", "90 %", "furthest"],
        rows: () => lines.map((m) => [label(m), ...[0, 1, 5, 9, 10].map((i) => quantiles[m][i])]), tableOptions: { text: [0] },
        draw: (width) => {
          const most = extent(lines.map((m) => quantiles[m][10]))[1];
          const p = frame(width, 280, { from: 0, to: most, label: "distance to the modality's centre, feature units" }, { from: 0, to: 1, label: "centrality" });
          const drawn = new Map(), marks = [];
          for (const m of [...lines].reverse()) {
            const points = quantiles[m].map((d, i) => [p.sx(d), p.sy(1 - i / 10)]);
            const l = s("path", { class: "line", d: path(points), style: `stroke:${colour(m)};stroke-opacity:${lines.length > 30 && !coloured(m) ? 0.25 : 0.8}` });
            drawn.set(m, l);
            p.svg.append(l);
            quantiles[m].forEach((d, i) => marks.push({ x: points[i][0], y: points[i][1], modality: m, tip: [label(m), `${10 * i} % of its rows within ${sig(d)}`] }));
          }
          emphasise = () => drawn.forEach((l, m) => { l.style.strokeWidth = m === focus ? "3.5" : ""; l.style.stroke = m === focus && !coloured(m) ? "var(--accent)" : colour(m); l.style.strokeOpacity = focus >= 0 ? (m === focus ? 1 : 0.15) : lines.length > 30 && !coloured(m) ? 0.25 : 0.8; if (m === focus) l.parentNode.insertBefore(l, l.parentNode.querySelector(".ring")); });
          interact(p.svg, marks, { near: 24 });
          return p.svg;
        },
      });
      watchers.push(() => emphasise());
    }
    if (C.centrality.length > 1) histogram(e, {
      id: "chart-centrality", title: "Mean centrality of a batch", note: "A batch of rows drawn evenly from all distances has 0.5 on average.",
      xLabel: "mean centrality of the batch's rows", series: [["planned batches", C.centrality, "planned"]], mark: [0.5, "0.5"],
    });
  };

  /// `series`: [name, values, class]: the first is filled, others are outlines.
  const histogram = (parent, { id, title, note, xLabel, series, mark }) => {
    const [low, high] = extent(series.flatMap((q) => q[1]).concat(mark ? [mark[0]] : []));
    const pad = (high - low) * 0.02 || Math.abs(high) * 0.02 || 0.5, from = low - pad, to = high + pad;
    const bins = Math.round(Math.min(40, Math.max(8, 3 * Math.sqrt(Math.max(...series.map((q) => q[1].length))))));
    const place = (v) => Math.min(bins - 1, Math.floor(((v - from) / (to - from)) * bins));
    const counted = series.map(([name, values, kind]) => {
      const c = new Array(bins).fill(0);
      values.filter(known).forEach((v) => c[place(v)]++);
      return { name, kind, share: c.map((x) => x / Math.max(1, values.length)), n: values.length };
    });
    const edge = (b) => from + ((to - from) * b) / bins;
    figure(parent, {
      id, title, note,
      describe: series.map(([name, values]) => { const [a, b] = extent(values); return `${name}: ${sig(a)} to ${sig(b)}`; }).join("; ") + ".",
      key: series.length > 1 ? counted.map((c) => ["", `${c.name} (${count(c.n)})`, c.kind === "planned" ? "background:var(--accent)" : "background:var(--band);outline:1.5px solid var(--chance);outline-offset:-1px"]) : null,
      head: [xLabel, ...counted.map((c) => c.name)],
      rows: () => counted[0].share.map((_, b) => [`${sig(edge(b), 4)} to ${sig(edge(b + 1), 4)}`, ...counted.map((c) => percent(c.share[b]))]).filter((r) => r.slice(1).some((v) => v !== "0.0 %")),
      tableOptions: { numeric: counted.map((_, i) => i + 1) },
      draw: (width) => {
        const most = Math.max(...counted.flatMap((c) => c.share));
        const p = frame(width, 230, { from, to, label: xLabel }, { from: 0, to: most * 1.08, label: "share of the batches", format: rounded }, { left: 56 });
        const outline = (c) => {
          const points = [[p.sx(from), p.base]];
          c.share.forEach((v, b) => points.push([p.sx(edge(b)), p.sy(v)], [p.sx(edge(b + 1)), p.sy(v)]));
          return path([...points, [p.sx(to), p.base]]);
        };
        const marks = [];
        for (const c of [...counted].reverse()) {
          p.svg.append(s("path", { d: outline(c), style: c.kind === "planned" ? "fill:var(--accent);fill-opacity:.85" : "fill:var(--band);stroke:var(--chance);stroke-width:1.5" }));
          c.share.forEach((v, b) => v > 0 && marks.push({ x: p.sx((edge(b) + edge(b + 1)) / 2), y: p.sy(v), tip: [c.name, `${percent(v)} between ${sig(edge(b), 4)} and ${sig(edge(b + 1), 4)}`] }));
        }
        if (mark) p.svg.append(s("line", { class: "mark", x1: p.sx(mark[0]), x2: p.sx(mark[0]), y1: p.top, y2: p.base }));
        interact(p.svg, marks, { near: 80 });
        return p.svg;
      },
    });
  };

  // ---------------------------------------------------------------- batches

  const batches = () => {
    const size = count(C.size);
    if (!C.dealt) {
      section("batches", "Batches against random", `The ${count(P.planned)} planned rows fill no batch of ${size}: the epoch is one short batch with all of them.`);
      return;
    }
    const skewed = P.allocation && P.allocation !== "proportional";
    const e = section("batches", "Batches against random",
      `${plural(C.dealt, "planned batch", "planned batches")} of ${size} rows, beside random batches of the same size.` + (skewed ? ` Shares are skewed on purpose (${P.allocation}), so planned counts differ from the natural ones; loss weights make up for it.` : "") + (P.chunk > 1 ? ` They are made of chunks of ${count(P.chunk)} neighbouring rows, so they are less even than random ones on purpose.` : ""));
    if (P.modalities > 1 && P.chunk === 1) e.append(h("p", {}, `Batches that lack one of the ${count(C.covered)} modalities with a row a batch: `, h("strong", { text: percent(C.missing[0]) }), " of the planned, ", h("strong", { text: percent(C.missing[1]) }), ` of ${count(C.simulated)} simulated random ones.`));
    const n = C.modality.length;
    if (n > 1) {
      const few = n <= 16 ? M.number.map((_, m) => m) : [...Array(10).keys(), ...Array.from({ length: 6 }, (_, i) => n - 6 + i)];
      figure(e, {
        id: "chart-composition", title: n <= 16 ? "Rows of each modality in a batch" : "Rows of the 10 largest and 6 smallest modalities in a batch",
        note: "Relative to the modality's share: 1 is exact. A rare modality comes in whole rows, so its range is wider.",
        key: [["", "planned: smallest to largest", "background:var(--accent)"], ["", "random: 90 % of the batches", "background:var(--band)"]],
        head: ["modality", "expected rows", "planned min", "planned max", "random 5 %", "random 95 %", "random batches without"],
        rows: () => C.modality.map((c, m) => [label(m), c.expected, c.min, c.max, c.low, c.high, percent(c.none)]), tableOptions: { text: [0], numeric: [6] },
        draw: (width) => {
          const step = 24, names = Math.min(200, width * 0.32);
          const to = Math.min(5, Math.max(2, ...few.map((m) => Math.max(C.modality[m].max, C.modality[m].high) / C.modality[m].expected))) * 1.02;
          const p = frame(width, few.length * step + 54, { from: 0, to, label: "rows in a batch / rows by share" }, null, { left: names, top: 4 });
          const at = (v) => p.sx(Math.min(to, v)), marks = [];
          p.svg.append(s("line", { class: "axis", x1: p.sx(1), x2: p.sx(1), y1: 2, y2: p.base }));
          few.forEach((m, i) => {
            const c = C.modality[m], y = 6 + i * step + 9;
            const a = at(c.min / c.expected), b = at(c.max / c.expected), lo = at(c.low / c.expected), hi = at(c.high / c.expected);
            p.svg.append(s("circle", { cx: 5, cy: y, r: 4.5, style: "fill:" + colour(m) }),
              s("text", { x: 16, y: y + 4, class: "strong", text: shorten(label(m), Math.floor((names - 26) / 6.9)) }),
              s("rect", { class: "band", x: lo - 1, y: y - 7, width: Math.max(2, hi - lo + 2), height: 14 }),
              s("rect", { class: "planned", x: a - 2.5, y: y - 3, width: Math.max(5, b - a + 5), height: 6, rx: 3 }));
            marks.push({ x: (a + b) / 2, y, modality: m, tip: [label(m), `${sig(c.expected)} rows by share`, `planned ${c.min} to ${c.max}`, `random ${c.low} to ${c.high}, none in ${percent(c.none)}`] });
          });
          interact(p.svg, marks, { near: 1e4 });
          return p.svg;
        },
      });
    }
    const strata = C.strata_expected.length;
    if (strata > 1) {
      const wide = (x) => 1.645 * Math.sqrt(x * (1 - x / C.size));
      figure(e, {
        id: "chart-strata", title: "Rows of each stratum, against its share", note: "How many rows more or less than its share a stratum has in a batch.",
        key: [["", "planned: smallest to largest", "background:var(--accent)"], ["", "random: 90 % of the batches", "background:var(--band)"]],
        describe: `Planned counts of ${count(strata)} strata stay within ${sig(Math.max(...C.strata_expected.map((x, i) => Math.max(C.strata_max[i] - x, x - C.strata_min[i]))))} rows of their share.`,
        head: ["stratum", "rows by share", "planned min", "planned max", "random, 90 %"],
        rows: () => C.strata_expected.map((x, i) => [String(i), x, C.strata_min[i], C.strata_max[i], "\u00b1 " + sig(wide(x))]), tableOptions: { numeric: [0, 4] },
        draw: (width) => {
          const [lo, hi] = extent(C.strata_expected), y = Math.max(wide(hi), ...C.strata_expected.map((x, i) => Math.max(C.strata_max[i] - x, x - C.strata_min[i]))) * 1.08;
          const p = frame(width, 260, { from: lo * 0.9, to: hi * 1.1, log: true, label: "rows by the stratum's share (log scale)" }, { from: -y, to: y, label: "rows more or less than that", format: (v) => (v > 0 ? "+" : v < 0 ? "\u2212" : "") + sig(Math.abs(v)) });
          const grid = Array.from({ length: 60 }, (_, i) => lo * 0.9 * ((hi * 1.1) / (lo * 0.9)) ** (i / 59));
          const edge = (sign) => grid.map((x) => [p.sx(x), p.sy(sign * wide(x))]);
          p.svg.append(s("path", { class: "band", d: path([...edge(1), ...edge(-1).reverse()]) + "Z" }), s("line", { class: "axis", x1: p.left, x2: width - p.right, y1: p.sy(0), y2: p.sy(0) }));
          const marks = C.strata_expected.map((x, i) => {
            const a = p.sy(C.strata_max[i] - x), b = p.sy(C.strata_min[i] - x);
            p.svg.append(s("line", { x1: p.sx(x), x2: p.sx(x), y1: a - 1, y2: b + 1, style: "stroke:var(--accent);stroke-width:3;stroke-linecap:round;stroke-opacity:.7" }));
            return { x: p.sx(x), y: (a + b) / 2, tip: [`stratum ${i}`, `${sig(x)} rows by share`, `planned ${C.strata_min[i]} to ${C.strata_max[i]}`, `random \u00b1 ${sig(wide(x))}`] };
          });
          interact(p.svg, marks, { near: 30 });
          return p.svg;
        },
      });
    }
  };

  const scores = () => {
    if (!C.scores.length || P.chunk > 1) return;
    const e = section("scores", "Scores", `A score says how much of an optimizer update a batch is worth: its effective sample size over the threshold of ${sig(P.threshold, 4)} rows. The planned batches of one size all score about alike; scores tell batches apart on streams that are not stratified.`);
    histogram(e, {
      id: "chart-scores", title: "Score of a batch", note: `Mean distance x from the data's composition: ${sig(C.x[0], 2)} planned, ${sig(C.x[1], 2)} random (1 is expected). ${percent(P.share)} of the gradient's variance is taken to lie between the score groups (${P.share_source}).`,
      xLabel: "score = n_eff / threshold", series: [["planned batches", C.scores, "planned"], ["random batches", C.random_scores, "random"]],
    });
  };

  const accumulation = () => {
    const U = D.updates;
    if (!U.length) return;
    const by = new Map();
    for (const u of U) by.set(u.update, [...(by.get(u.update) || []), u]);
    const recommended = D.candidates.find((c) => c.recommended);
    const all = [...by.values()], lengths = extent(all.map((u) => u.length));
    const e = section("accumulation", "Accumulation", `Gradients of several batches make one update. ${lengths[0] === lengths[1] ? `Each takes ${plural(lengths[0], "batch", "batches")}` : `They take ${lengths[0]} to ${lengths[1]} batches`}, until their effective sizes reach ${sig(P.threshold, 4)} rows.` + (recommended && lengths[1] < recommended.accumulation ? ` A stratified batch is worth more rows than it has, so that is fewer than the ${recommended.accumulation} that random ones would take.` : ""));
    const shown = all.slice(0, 12);
    figure(e, {
      id: "chart-updates", title: D.more_updates || all.length > 12 ? `The first ${shown.length} updates of the first epoch` : "The updates of the first epoch", note: "Every box is a batch, as wide as its coefficient: its share of the update's gradient.",
      describe: `${plural(shown.length, "row", "rows")} of boxes whose widths sum to 1.`,
      head: ["update", "batch", "coefficient", "effective rows"], rows: () => U.map((u) => [String(u.update), String(u.batch), u.coefficient, u.n_eff]), tableOptions: { numeric: [0, 1] },
      draw: (width) => {
        const step = 22, p = frame(width, shown.length * step + 66, { from: 0, to: 1, label: "share of the update's gradient (coefficient)" }, null, { left: 34, top: 24 });
        p.svg.append(s("text", { x: 0, y: 12, class: "strong", text: "update" }));
        const marks = [];
        shown.forEach((steps, i) => {
          const y = 24 + i * step;
          let x = 0;
          p.svg.append(s("text", { x: 20, y: y + 13, "text-anchor": "end", text: steps[0].update }));
          steps.forEach((u) => {
            const a = p.sx(x), b = p.sx(x + u.coefficient);
            p.svg.append(s("rect", { class: "planned", "fill-opacity": 0.22, x: a, y: y + 1, width: Math.max(0.5, b - a - 1.5), height: 17 }));
            if (b - a > 30) p.svg.append(s("text", { x: (a + b) / 2, y: y + 13.5, "text-anchor": "middle", class: "strong", text: u.batch }));
            marks.push({ x: (a + b) / 2, y: y + 10, tip: [`batch ${u.batch} in update ${u.update}`, `coefficient ${sig(u.coefficient)}`, `worth ${sig(u.n_eff, 4)} rows`] });
            x += u.coefficient;
          });
        });
        interact(p.svg, marks, { near: 1e4 });
        return p.svg;
      },
    });
  };

  // ---------------------------------------------------------------- weights, candidates, gain

  const lines = (parent, { id, title, note, yLabel, series, format }) => {
    const x = D.weights.progress, at = [...new Set([0, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100])].filter((i) => i < x.length);
    figure(parent, {
      id, title, note,
      describe: series.map((q) => `${q[0]}: ${sig(q[1][0])} at the start, ${sig(q[1][q[1].length >> 1])} half way, ${sig(q[1][q[1].length - 1])} at the end`).join("; ") + ".",
      head: ["progress", ...series.map((q) => q[0])], rows: () => at.map((i) => [percent(x[i]), ...series.map((q) => sig(q[1][i], 4))]), tableOptions: { numeric: series.map((_, i) => i).concat(series.length) },
      draw: (width) => {
        let [low, high] = extent(series.flatMap((q) => q[1]));
        if (high - low < 0.02 * Math.abs(high) || high === low) [low, high] = [Math.min(low, 0), Math.max(high * 1.1, 1)];
        const pad = (high - low) * 0.06;
        const p = frame(width, 220, { from: 0, to: 1, label: "training progress", format: (v) => Math.round(100 * v) + " %", ticks: [0, 0.25, 0.5, 0.75, 1] }, { from: low - pad, to: high + pad, label: yLabel, format }, { right: series.length > 1 ? 74 : 14 });
        const marks = [], ends = [];
        series.forEach(([name, values, style]) => {
          const points = values.map((v, j) => [p.sx(x[j]), p.sy(v)]);
          p.svg.append(s("path", { class: "line", d: path(points), style }));
          if (series.length > 1) {
            let y = points[points.length - 1][1] + 4;
            while (ends.some((other) => Math.abs(other - y) < 13)) y += 13;
            ends.push(y);
            p.svg.append(s("text", { x: width - 70, y, class: "strong", text: name }));
          }
          at.forEach((j) => marks.push({ x: points[j][0], y: points[j][1], tip: [name, `${sig(values[j], 4)} at ${percent(x[j])} of training`] }));
        });
        interact(p.svg, marks, { near: 60 });
        return p.svg;
      },
    });
  };

  const weights = () => {
    const W = D.weights;
    if (!W.progress.length) return;
    const off = W.schedule === "off";
    const e = section("weights", "Row weights", off ? "Row weights are off: every row weighs 1." : `Schedule ${W.schedule}: how much a row counts in its batch, by its centrality and the progress of training. The mean weight is 1 in every modality.`);
    if (off) return;
    const weight = (c) => W.beta.map((b, i) => Math.exp(b * (c - 0.5)) * W.normaliser[i]);
    lines(e, { id: "chart-weights", title: "Weight of a row", note: "Rows at the centre (centrality 0.9), in the middle (0.5) and at the edge (0.1) of their modality.", yLabel: "weight",
      series: [["centre", weight(0.9), null], ["middle", weight(0.5), "stroke:var(--chance)"], ["edge", weight(0.1), "stroke-dasharray:6 4"]] });
    const box = h("div", { class: "multiples" });
    e.append(box);
    lines(box, { id: "chart-beta", title: "Beta", yLabel: "beta", series: [["beta", W.beta, null]] });
    lines(box, { id: "chart-effective", title: "Normaliser and effective share", yLabel: "share", series: [["effective", W.effective, null], ["normaliser", W.normaliser, "stroke:var(--chance)"]] });
    e.append(h("p", { class: "note", text: "Effective share: how many of a batch's rows its weights leave effective (Kish)." }), h("pre", { tabindex: "0", text: W.formula }),
      h("p", { class: "claim", text: "Weights shape a curriculum. Measured, a strength of 1 was neutral: they promise neither faster nor better training." }));
  };

  const candidates = () => {
    const e = section("candidates", "Batch sizes to choose from", "Candidates are multiples of the smallest, so a training run may change between them: a larger batch is a union of smaller ones.");
    const covered = P.chunk > 1 ? [] : [P.local ? "rows whose modality is due in every batch" : "rows whose modality is in every batch", "in a random batch, on average"];
    e.append(scrolling(table(["batch size", "batches an epoch", "accumulation", "rows a modality", ...covered],
      D.candidates.map((c) => [count(c.size) + (c.recommended ? " recommended" : ""), c.batches, c.accumulation, (c.size / P.modalities).toFixed(2), ...[percent(c.coverage), percent(c.random)].slice(0, covered.length)]),
      { numeric: [3, 4, 5], chosen: (i) => D.candidates[i].recommended }), "Candidates"));
  };

  const gain = () => {
    if (!D.gain) return;
    const [value, labelled] = D.gain;
    const e = section("gain", "Predicted gain", labelled
      ? "Variance of the gradient early in training, predicted from the label and the features: planned batches against random ones of the same size."
      : "Without a label there is only an optimistic guess of the gradient's early variance, from the features alone. Plan with --label for a prediction.");
    figure(e, {
      id: "chart-gain", title: labelled ? "Early gradient variance" : "Early gradient variance, at best",
      describe: `Random batches 1, planned ${value.toFixed(2)}.`,
      head: ["batches", "variance, random = 1"], rows: () => [["random", 1], ["planned", value]],
      draw: (width) => {
        const p = frame(width, 122, { from: 0, to: 1.05, label: "variance relative to random batches" }, null, { left: 64, right: 44, top: 4 });
        [["random", 1, "random"], ["planned", value, "planned"]].forEach(([name, v, kind], i) => p.svg.append(
          s("text", { x: 0, y: 24 + i * 34, class: "strong", text: name }), s("rect", { class: kind, x: p.left, y: 8 + i * 34, width: Math.max(1, p.sx(v) - p.left), height: 22, "fill-opacity": labelled || kind === "random" ? 1 : 0.55 }),
          s("text", { x: p.sx(v) + 6, y: 24 + i * 34, class: "strong", text: v.toFixed(2) })));
        return p.svg;
      },
    });
    e.append(h("p", { class: "claim", text: "The gain fades while training goes on. It is no promise of faster training or of higher accuracy: neither was found when it was measured." }));
  };

  // ---------------------------------------------------------------- drift, provenance

  const drift = () => {
    const F = D.drift;
    if (!F) return;
    const e = section("drift", "Does the plan still fit the data?");
    const name = (answer) => answer.replace("-", " ");
    e.append(h("p", { class: "verdict" + (F.answer === "drifted" ? " bad" : ""), text: name(F.answer) + (F.compared ? `, from ${plural(F.compared, "row", "rows")} compared` : "") }));
    if (F.diagnosis.length) e.append(h("ul", {}, F.diagnosis.map((d) => h("li", { text: d.text, dir: "auto" }))));
    // Where 95 % of the shares of as many rows of the plan's distribution lie, the plan's own rows being drawn too.
    const chance = (q) => 1.96 * Math.sqrt(q.then * (1 - q.then) * (1 / F.compared + 1 / P.planned));
    const place = new Map(M.number.map((n, m) => [n, m]));
    const shares = F.compared ? F.modalities.filter((q) => place.has(q.modality)).sort((a, b) => place.get(a.modality) - place.get(b.modality)) : [];
    if (shares.length > 1) {
      const far = (q) => Math.abs(q.now - q.then) / (chance(q) || 1);
      const few = [...shares].sort((a, b) => far(b) - far(a)).slice(0, 16).sort((a, b) => b.then - a.then);
      const of = (q) => label(place.get(q.modality)), low = (q) => Math.max(0, q.then - chance(q)), high = (q) => q.then + chance(q);
      figure(e, {
        id: "chart-drift", title: shares.length > 16 ? "The 16 modalities whose shares changed most" : "Share of each modality, now against the plan",
        key: [["", "now", "background:var(--accent);border-radius:50%"], ["", "now, where chance explains less than 5 %", "background:var(--warn);border-radius:50%"], ["", "95 % of what chance explains", "background:var(--band)"], ["tick", "in the plan"]],
        describe: `${plural(shares.filter((q) => far(q) > 1).length, "modality is", "modalities are")} outside of what chance explains.`,
        head: ["modality", "in the plan", "now", "chance, from", "to"], rows: () => shares.map((q) => [of(q), percent(q.then), percent(q.now), percent(low(q)), percent(high(q))]), tableOptions: { text: [0], numeric: [1, 2, 3, 4] },
        draw: (width) => {
          const step = 24, names = Math.min(200, width * 0.32), most = Math.max(...few.flatMap((q) => [q.now, high(q)]));
          const p = frame(width, few.length * step + 54, { from: 0, to: most * 1.05, label: "share of the rows", format: rounded }, null, { left: names, right: 24, top: 4 });
          const marks = few.map((q, i) => {
            const y = 15 + i * step;
            p.svg.append(s("text", { x: 0, y: y + 4, class: "strong", text: shorten(of(q), Math.floor(names / 7.2)) }),
              s("rect", { class: "band", x: p.sx(low(q)), y: y - 7, width: Math.max(2, p.sx(high(q)) - p.sx(low(q))), height: 14 }),
              s("line", { x1: p.sx(q.then), x2: p.sx(q.then), y1: y - 8, y2: y + 8, style: "stroke:var(--ink);stroke-width:2" }),
              s("circle", { cx: p.sx(q.now), cy: y, r: 4.5, style: `fill:var(${far(q) > 1 ? "--warn" : "--accent"})` }));
            return { x: p.sx(q.now), y, modality: place.get(q.modality), tip: [of(q), `planned ${percent(q.then)}, now ${percent(q.now)}`, `chance explains ${percent(low(q))} to ${percent(high(q))}`] };
          });
          interact(p.svg, marks, { near: 1e4 });
          return p.svg;
        },
      });
    }
    if (F.findings.length) e.append(h("div", { style: "margin-top:1.5rem" }, scrolling(table(["looked at", "outcome", "effect", "threshold", "interval", "p", "what it means", "formula"],
      F.findings.map((f) => [f.id + (f.subject ? " " + f.subject : ""), name(f.answer), sig(f.effect), sig(f.threshold), f.interval ? `${sig(f.interval[0])} to ${sig(f.interval[1])}` : "-", sig(f.p, 2), f.message, f.formula]),
      { numeric: [2, 3, 4, 5], text: [0, 1, 6, 7], chosen: (i) => F.findings[i].answer === "drifted" }), "Findings")));
  };

  const provenance = () => {
    const e = section("provenance", "Where it comes from", `Plan ${P.id}, format ${P.format}, read by ${D.tool.name} ${D.tool.version}. The same rows, settings and seed give the same plan, to the byte.`);
    if (D.command) e.append(h("h3", { text: "The command" }), h("pre", { tabindex: "0", text: D.command }), h("p", { class: "note", text: "Run where the input files are; settings that are not named have their defaults." }));
    const settings = [];
    const walk = (prefix, value) => value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.entries(value).forEach(([k, v]) => walk(prefix ? prefix + "." + k : k, v)) : settings.push([prefix, shorten(typeof value === "string" ? value : JSON.stringify(value), 400)]);
    walk("", D.config);
    const block = (title, inner) => e.append(h("h3", { text: title, style: "margin:1.75rem 0 .6rem" }), scrolling(inner, title));
    block("Settings as used", table(["setting", "value"], settings, { text: [0, 1] }));
    block("Inputs", table(["file", "rows", "size", "fingerprint"], D.inputs.map((i) => [i[0], i[1], bytes(i[2]), h("code", { text: i[3].slice(0, 16) })]), { text: [0, 3], numeric: [2] }));
    if (D.more_inputs) e.append(h("p", { class: "note", text: `and ${plural(D.more_inputs, "more file", "more files")}` }));
    block("Files of the plan", table(["file", "holds", "rows", "size"], D.files.map((f) => [f[0], f[1], f[2], bytes(f[3])]), { text: [0, 1], numeric: [3] }));
  };

  // ---------------------------------------------------------------- the page

  answer();
  [drift, evidence, sizes, map, profile, centrality, batches, scores, accumulation, weights, candidates, gain, provenance].forEach((f) => f());

  const links = new Map();
  const contents = [["answer", "Answer", document.getElementById("answer")], ...sections];
  document.getElementById("contents").append(h("ol", {}, contents.map(([id, title]) => {
    const a = h("a", { href: "#" + id, text: title });
    links.set(id, a);
    return h("li", {}, a);
  })));
  let current = null;
  const locate = () => {
    const bottom = innerHeight + scrollY >= document.documentElement.scrollHeight - 4;
    const passed = contents.filter(([, , e]) => e.getBoundingClientRect().top < innerHeight * 0.3);
    const [id] = bottom ? contents[contents.length - 1] : passed[passed.length - 1] || contents[0];
    if (id === current) return;
    links.get(current)?.removeAttribute("aria-current");
    links.get(id).setAttribute("aria-current", "true");
    current = id;
    const nav = document.getElementById("contents"), a = links.get(id);
    if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = a.offsetLeft - nav.clientWidth / 2 + a.clientWidth / 2;
  };
  addEventListener("scroll", locate, { passive: true });
  locate();

  const button = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const themed = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to the ${dark() ? "light" : "dark"} page`); watchers.forEach((f) => f()); };
  button.hidden = false;
  button.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; themed(); });
  system.addEventListener("change", themed);
  // Canvases do not follow the style sheet: painted again for paper and back.
  matchMedia("print").addEventListener("change", () => { redraws.forEach((f) => f()); });
  themed();
})();
