// Opens reports in a headless Chromium and says what is there; the assertions are in tests/python/test_report.py.
//
//   node browse.mjs MODULES CHROMIUM SHOTS REPORT...
//
// MODULES: directory whose node_modules has playwright-core and axe-core. SHOTS: directory for screenshots, or "-".
// Prints one JSON object a line, one for every report, colour scheme and width.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, executablePath, shots, ...reports] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(modules, "package.json")));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// Each browser has a profile of its own that goes with it.
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
for (const report of reports) {
  const address = pathToFileURL(report).href;
  for (const [scheme, width] of [["light", 1200], ["dark", 1200], ["light", 400]]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, reducedMotion: "reduce" });
    const page = await context.newPage();
    const seen = { report: basename(report, ".html"), scheme, width, console: [], requests: [] };
    page.on("console", (m) => seen.console.push(`${m.type()}: ${m.text()}`));
    page.on("pageerror", (e) => seen.console.push(`pageerror: ${e.message}`));
    page.on("dialog", (d) => { seen.console.push(`dialog: ${d.message()}`); d.dismiss(); });
    page.on("request", (r) => { if (r.url() !== address) seen.requests.push(r.url().slice(0, 200)); });
    await page.goto(address);
    await page.waitForTimeout(100);
    if (shots !== "-") await page.screenshot({ path: join(shots, `${seen.report}-${scheme}-${width}.png`), fullPage: true });

    Object.assign(seen, await page.evaluate(() => {
      const painted = (canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let n = 0;
        for (let i = 3; i < pixels.length; i += 4) n += pixels[i] > 0;
        return n;
      };
      return {
        title: document.title,
        headline: document.querySelector("h1").textContent,
        text: document.querySelector("main").innerText,
        background: getComputedStyle(document.body).backgroundColor,
        scroll: getComputedStyle(document.documentElement).scrollBehavior,
        overflow: document.documentElement.scrollWidth - innerWidth,
        sections: [...document.querySelectorAll("main > section")].map((s) => s.id),
        contents: [...document.querySelectorAll("nav a")].map((a) => a.hash.slice(1)),
        elements: [...document.querySelectorAll("main script, main img, main iframe")].length,
        charts: [...document.querySelectorAll("figure")].map((f) => {
          const svg = f.querySelector("svg"), canvas = f.querySelector("canvas");
          return { id: f.id, title: f.querySelector("figcaption").textContent, name: svg.getAttribute("aria-label"), shapes: svg.querySelectorAll("path, rect, circle, line").length,
            size: svg.getBoundingClientRect().width, numbers: !!f.querySelector("details"), painted: canvas ? painted(canvas) : null };
        }),
      };
    }));

    // Every chart answers to the keyboard, and to the pointer at the same place.
    seen.hover = {};
    for (const id of seen.charts.map((c) => c.id)) {
      const svg = page.locator(`#${id} svg[tabindex]`);
      if (!(await svg.count())) continue;
      await svg.scrollIntoViewIfNeeded();
      await svg.focus();
      await page.keyboard.press("ArrowRight");
      const shown = () => page.evaluate(() => (document.getElementById("tip").classList.contains("shown") ? document.getElementById("tip").innerText : ""));
      const keyboard = await shown();
      // Where the ring is in its chart; the page may still be scrolling, so the chart's own place is asked for at every try.
      const ring = await page.evaluate((id) => {
        const box = (what) => document.querySelector(`#${id} ${what}`)?.getBoundingClientRect();
        const [ring, svg] = [box(".ring"), box("svg[tabindex]")];
        return ring && [ring.x + ring.width / 2 - svg.x, ring.y + ring.height / 2 - svg.y];
      }, id);
      await page.keyboard.press("Escape");
      const gone = await shown();
      let pointer = "";
      for (let tries = 0; ring && !pointer && tries < 30; tries++) {
        const chart = await svg.boundingBox();
        await page.mouse.move(chart.x + ring[0], chart.y + ring[1]);
        pointer = await shown();
        if (!pointer) await page.waitForTimeout(100);
      }
      await page.mouse.move(1, 1);
      seen.hover[id] = { keyboard, gone, pointer };
    }

    // The numbers behind every chart.
    seen.tables = await page.evaluate(async () => {
      document.querySelectorAll("details").forEach((d) => { d.open = true; });
      await new Promise((done) => setTimeout(done, 200));
      return Object.fromEntries([...document.querySelectorAll("figure")].map((f) => [f.id, f.querySelectorAll("tbody tr").length]));
    });
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    seen.violations = found.violations.map((v) => ({ rule: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " | " + (n.any[0]?.message || n.all[0]?.message || "")) }));
    seen.open_overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = false; }));

    // A list of many modalities: highlighting one; the filter.
    const select = page.locator("select");
    if (await select.count()) {
      const before = await page.locator("#chart-map canvas").evaluate((c) => c.toDataURL());
      await select.first().selectOption("3");
      seen.highlighted = before !== (await page.locator("#chart-map canvas").evaluate((c) => c.toDataURL()));
    }
    const filter = page.locator("#profile input");
    if (await filter.count()) {
      await filter.fill("#17");
      seen.filtered = await page.locator(".card").count();
    }
    // The other theme and back to paper.
    await page.locator("#theme").click();
    seen.toggled = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.emulateMedia({ media: "print" });
    await page.waitForTimeout(100);
    seen.printed = await page.evaluate(() => ({ background: getComputedStyle(document.body).backgroundColor, nav: getComputedStyle(document.querySelector("nav")).display }));
    if (shots !== "-" && scheme === "light" && width === 1200) await page.screenshot({ path: join(shots, `${seen.report}-print.png`), fullPage: true });
    seen.pwned = await page.evaluate(() => globalThis.pwned === true);
    console.log(JSON.stringify(seen));
    await context.close();
  }
}
await browser.close();
