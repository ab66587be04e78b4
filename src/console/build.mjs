// Bundles the console into `dist/`, which `build.rs` embeds in the engine.
//
//   node build.mjs           the bundle: HTML pages, and assets named after their content
//   node build.mjs --watch   the same again at every change
//   node build.mjs --tests   the unit tests, bundled for node's own test runner
//
// `dist/sources.sha256` tells which sources the bundle was made from; `build.rs` computes the same sum and
// builds again only when they differ. The two computations must agree: see `sources_sum` there.

import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, watch, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const at = (...parts) => path.join(here, ...parts);

/** Where the engine serves the console; every address in the HTML starts here. */
const BASE = "/console";
/** Licences a bundled package may carry: the list the whole project keeps. */
const LICENCES = new Set(["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MPL-2.0", "Zlib", "CC0-1.0", "0BSD"]);

const settings = {
  absWorkingDir: here,
  bundle: true,
  // `light-dark()` and `text-wrap` set the floor: browsers of spring 2024.
  target: ["chrome123", "firefox121", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
  metafile: true,
};

/** Every source file, as paths with forward slashes, sorted by their bytes. */
async function sources(folder = "") {
  const found = [];
  for (const entry of await readdir(at(folder), { withFileTypes: true })) {
    if (entry.name.startsWith(".") || entry.name === "node_modules" || entry.name === "dist") continue;
    const name = folder ? `${folder}/${entry.name}` : entry.name;
    if (entry.isDirectory()) found.push(...(await sources(name)));
    else found.push(name);
  }
  return found.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** SHA-256 over `path NUL length NUL bytes` of every source file. */
async function sourcesSum() {
  const sum = createHash("sha256");
  for (const name of await sources()) {
    const bytes = await readFile(at(name));
    sum.update(`${name}\0${bytes.length}\0`).update(bytes);
  }
  return sum.digest("hex");
}

/** The licence texts of every package that ended up in a bundle: MIT and BSD ask for them to travel along. */
async function licences(inputs) {
  const packages = new Set();
  for (const input of Object.keys(inputs)) {
    const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) packages.add(found[1]);
  }
  const texts = [];
  for (const name of [...packages].sort()) {
    const manifest = JSON.parse(await readFile(at("node_modules", name, "package.json"), "utf8"));
    if (!LICENCES.has(manifest.license)) {
      throw new Error(`${name} is under ${manifest.license}, which this project does not embed`);
    }
    const file = (await readdir(at("node_modules", name))).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file
      ? await readFile(at("node_modules", name, file), "utf8")
      : `${manifest.license}. Copyright ${manifest.author?.name ?? manifest.author ?? name}`;
    texts.push(`${name} ${manifest.version}\n\n${text.trim()}\n`);
  }
  return texts.join("\n----\n\n");
}

async function bundle() {
  const sum = await sourcesSum();
  const staging = at(`.dist-${process.pid}`);
  try {
    const modules = await esbuild.build({
      ...settings,
      entryPoints: { app: "app.tsx", docs: "docs.tsx" },
      outdir: path.join(staging, "assets"),
      entryNames: "[name]-[hash]",
      chunkNames: "[name]-[hash]",
      assetNames: "[name]-[hash]",
      format: "esm",
      splitting: true,
      minify: true,
      legalComments: "none",
      define: { "process.env.NODE_ENV": '"production"' },
    });
    // The theme is set before the first paint, so this one is a classic script that blocks.
    const classic = await esbuild.build({
      ...settings,
      entryPoints: { theme: "theme.ts" },
      outdir: path.join(staging, "assets"),
      entryNames: "[name]-[hash]",
      format: "iife",
      minify: true,
    });

    const outputs = { ...modules.metafile.outputs, ...classic.metafile.outputs };
    const url = (output) => `${BASE}/assets/${path.basename(output)}`;
    const entry = (source) => {
      const found = Object.entries(outputs).find(([, output]) => output.entryPoint === source);
      if (!found) throw new Error(`no bundle was made of ${source}`);
      return { file: found[0], ...found[1] };
    };
    const put = async (name, bytes) => {
      const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 8).toUpperCase();
      const { name: stem, ext } = path.parse(name);
      await writeFile(path.join(staging, "assets", `${stem}-${hash}${ext}`), bytes);
      return `${BASE}/assets/${stem}-${hash}${ext}`;
    };

    const marks = {
      icon: await put("icon.svg", await readFile(at("icon.svg"))),
      licences: await put("licences.txt", await licences(modules.metafile.inputs)),
      theme: url(entry("theme.ts").file),
    };
    for (const page of ["index", "docs"]) {
      const script = entry(page === "index" ? "app.tsx" : "docs.tsx");
      const shared = script.imports.filter((one) => one.kind === "import-statement").map((one) => one.path);
      const head = [
        ...(script.cssBundle ? [`<link rel="stylesheet" href="${url(script.cssBundle)}">`] : []),
        ...shared.map((one) => `<link rel="modulepreload" href="${url(one)}">`),
        `<script type="module" src="${url(script.file)}"></script>`,
      ].join("\n    ");
      const template = await readFile(at(`${page}.html`), "utf8");
      const html = template.replace(/<!--(\w+)-->|%(\w+)%/g, (whole, block, mark) => {
        if (block === "bundle") return head;
        if (mark && marks[mark]) return marks[mark];
        throw new Error(`${page}.html: nothing is known to put at ${whole}`);
      });
      await writeFile(path.join(staging, `${page}.html`), html);
    }
    await writeFile(path.join(staging, "sources.sha256"), `${sum}\n`);
    // A reader sees the old bundle or the new one, never half of one.
    await rm(at("dist"), { recursive: true, force: true });
    await rename(staging, at("dist"));
    for (const [file, output] of Object.entries(outputs)) {
      console.error(`${String(output.bytes).padStart(8)}  ${path.basename(file)}`);
    }
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function bundleTests() {
  const outdir = at("node_modules", ".cache", "nova-tests");
  await rm(outdir, { recursive: true, force: true });
  await mkdir(outdir, { recursive: true });
  const entryPoints = (await sources("tests")).filter((name) => name.endsWith(".test.ts"));
  await esbuild.build({
    ...settings,
    entryPoints,
    outdir,
    outExtension: { ".js": ".mjs" },
    platform: "node",
    format: "esm",
    target: "node18",
    // What every browser has and Node 18 keeps in a module.
    banner: { js: 'import { webcrypto as __crypto } from "node:crypto"; globalThis.crypto ??= __crypto;' },
    sourcemap: "inline",
  });
}

if (process.argv.includes("--tests")) {
  await bundleTests();
} else {
  await bundle();
  if (process.argv.includes("--watch")) {
    for await (const change of watch(here, { recursive: true })) {
      if (/^(dist|node_modules|\.)/.test(change.filename ?? ".")) continue;
      await bundle().catch((error) => console.error(error.message));
    }
  }
}
