// Open pages at widths of a desktop and of a phone, light and dark, and as printed on A4; run axe-core; look for
// what is cut off.
//
//   node .ci/browser/check_page.mjs [--shots FOLDER] [--pdf FOLDER] PAGE.html…
//
// Prints one JSON document, a row per page and view; exit status 1 if a row has a fault.
// Needs `npm install` in this folder and Chromium (CHROMIUM names it, else /usr/bin/chromium).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = [
  { width: 1280, scheme: "light", media: "screen" },
  { width: 1280, scheme: "dark", media: "screen" },
  { width: 390, scheme: "light", media: "screen" },
  { width: 390, scheme: "dark", media: "screen" },
  { width: 688, scheme: "light", media: "print" }, // A4 less its margins of 14 mm, at 96 dpi
];

/** In the page: elements that reach past the window, or whose content is cut off without a way to scroll. */
function cut() {
  const shown = (node) => `${node.tagName.toLowerCase()}.${node.className}: ${node.textContent.trim().slice(0, 60)}`;
  const result = [];
  if (document.documentElement.scrollWidth > innerWidth) {
    result.push(`the page is ${document.documentElement.scrollWidth} pixels wide, the window ${innerWidth}`);
  }
  for (const node of document.querySelectorAll("main *")) {
    const box = node.getBoundingClientRect();
    if (box.width === 0 || node.closest("svg") !== null) continue;
    const scrolls = !matchMedia("print").matches && node.parentElement.closest(".scroll") !== null;
    if (!scrolls && (box.right > innerWidth + 1 || box.left < -1)) result.push(shown(node));
    const hidden = ["hidden", "clip"].includes(getComputedStyle(node).overflowX);
    if (hidden && node.scrollWidth > node.clientWidth + 1) result.push(`${shown(node)} (content hidden)`);
  }
  for (const text of document.querySelectorAll("svg text")) {
    const own = text.getBoundingClientRect();
    const frame = text.closest("svg").getBoundingClientRect();
    if (own.right > frame.right + 2 || own.left < frame.left - 2 || own.bottom > frame.bottom + 2 || own.top < frame.top - 2) {
      result.push(`text outside its drawing: ${text.textContent.trim().slice(0, 60)}`);
    }
  }
  return result;
}

/** In the page: whether it is shown for a medium and in a scheme. */
function shownAs(media, scheme) {
  return matchMedia(`${media} and (prefers-color-scheme: ${scheme})`).matches;
}

/** In the page: what axe-core finds, in a line each. */
async function violations() {
  const found = await axe.run(document);
  return found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${rule.help}: ${node.html.slice(0, 160)}`));
}

function options(argv) {
  const result = { shots: null, pdf: null, pages: [] };
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === "--shots" || argv[i] === "--pdf") result[argv[i].slice(2)] = argv[++i];
    else result.pages.push(argv[i]);
  }
  return result;
}

const { shots, pdf, pages } = options(process.argv.slice(2));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
  protocolTimeout: 600_000,
});
const rows = [];
for (const file of pages) {
  const name = `${basename(dirname(resolve(file)))}-${basename(file, ".html")}`;
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    if (!/^(file|data):/.test(request.url())) errors.push(`asks the network for ${request.url()}`);
  });
  await page.goto(pathToFileURL(resolve(file)).href);
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  await page.evaluate(AXE);
  const protocol = await page.createCDPSession();
  for (const { width, scheme, media } of VIEWS) {
    // Both in one message: puppeteer's emulateMediaType and emulateMediaFeatures each undo the other.
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    await protocol.send("Emulation.setEmulatedMedia", { media, features });
    if (!(await page.evaluate(shownAs, media, scheme))) throw new Error(`${file} is not shown as ${media}, ${scheme}`);
    await page.setViewport({ width, height: 900 });
    rows.push({ page: file, width, scheme, media, cut: await page.evaluate(cut), violations: await page.evaluate(violations) });
    if (shots) await page.screenshot({ path: join(shots, `${name}-${width}-${scheme}.png`), fullPage: true });
  }
  rows.at(-1).errors = errors;
  if (pdf) await page.pdf({ path: join(pdf, `${name}.pdf`), format: "A4", printBackground: true });
  await page.close();
}
await browser.close();
console.log(JSON.stringify(rows, null, 1));
process.exitCode = rows.some((row) => row.cut.length + row.violations.length + (row.errors ?? []).length > 0) ? 1 : 0;
