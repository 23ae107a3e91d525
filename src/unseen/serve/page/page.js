// The page's only script: sends files, asks for their verdicts, shows the reports. Everything that a file or the
// server says enters the page as text; reports go into frames in which no script runs.
"use strict";

const AT_ONCE = 2; // uploads under way together
const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const items = [];
let token = null; // in memory only
let health = null;
let sending = 0;

const ICONS = {
  real: '<path d="M4 12a8 8 0 1 0 16 0a8 8 0 1 0-16 0M8.5 12.300l2.5 2.5 4.7-5"/>',
  fake: '<path d="M12 3.5 21.5 20h-19ZM12 10v4.5M12 17.2v.1"/>',
  inconclusive: '<path d="M4 12a8 8 0 1 0 16 0a8 8 0 1 0-16 0M9.5 10a2.5 2.5 0 1 1 3.6 2.300c-.8.4-1.1.9-1.1 1.700M12 16.7v.1"/>',
  not_applicable: '<path d="M4 12a8 8 0 1 0 16 0a8 8 0 1 0-16 0M8.5 12h7"/>',
  error: '<path d="M4 12a8 8 0 1 0 16 0a8 8 0 1 0-16 0M9 9l6 6M15 9l-6 6"/>',
  working: '<path d="M12 4a8 8 0 1 1-8 8"/>',
};

class Refusal extends Error {
  constructor(status, reason, message, wait) {
    super(message);
    Object.assign(this, { status, reason, wait });
  }
}

// --- talking with the server -------------------------------------------------------------------------------------

function headers() {
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}

function refusal(status, body, retryAfter) {
  let told = {};
  try { told = JSON.parse(body); } catch { /* a proxy's own page */ }
  return new Refusal(status, told.reason ?? "unknown", told.message ?? `the server answered ${status}`,
    Number(retryAfter) || 0);
}

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(), cache: "no-store", credentials: "omit" });
  if (!answer.ok) throw refusal(answer.status, await answer.text(), answer.headers.get("Retry-After"));
  return answer;
}

function upload(item) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch cannot tell how much has been sent
    const body = new FormData();
    body.append("file", item.file, item.file.name);
    request.open("POST", "/v1/inspections");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) progress(item, event.loaded / event.total);
    };
    request.onload = () => request.status === 202
      ? resolve(JSON.parse(request.responseText))
      : reject(refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    request.onerror = () => reject(new Refusal(0, "connection", "the connection broke off", 0));
    request.onabort = () => reject(new Refusal(0, "removed", "removed", 0));
    item.request = request;
    request.send(body);
  });
}

// --- one file from beginning to end ------------------------------------------------------------------------------

async function work(item) {
  sending += 1;
  try {
    const inspection = await send(item);
    item.id = inspection.id;
    sending -= 1;
    next();
    if (item.gone) { forget(item); return; }
    await follow(item, inspection);
  } catch (error) {
    if (item.id === null) { sending -= 1; next(); }
    if (item.gone) return;
    failed(item, error);
  }
}

async function send(item) {
  const limit = health?.limits.bytes;
  if (limit && item.file.size > limit) {
    throw new Refusal(413, "too_large", `The file has ${size(item.file.size)}; this server takes ${size(limit)} at most.`, 0);
  }
  for (;;) {
    say(item, "Sending", { working: true });
    progress(item, 0);
    try {
      return await upload(item);
    } catch (error) {
      if (error.status === 401) {
        say(item, "Waiting for the token");
        progress(item, null);
        await askForToken(error);
      } else if ((error.status === 503 || error.status === 429) && !item.gone) {
        progress(item, null);
        for (let left = error.wait || 5; left > 0 && !item.gone; left -= 1) {
          say(item, `The server is busy; trying again in ${left} s`);
          await sleep(1000);
        }
        if (item.gone) throw error;
      } else throw error;
    }
  }
}

async function follow(item, inspection) {
  progress(item, undefined);
  let lost = 0;
  for (let pause = 250; inspection.status === "queued" || inspection.status === "running"; pause = Math.min(1500, pause * 1.25)) {
    if (inspection.status === "running") say(item, "Examining", { working: true });
    else say(item, inspection.ahead ? `Waiting, ${inspection.ahead} before it` : "Waiting", { working: true });
    await sleep(pause);
    if (item.gone) return;
    try {
      inspection = await (await call(`/v1/inspections/${item.id}`)).json();
      lost = 0;
    } catch (error) { // a network may stumble; a refusal is final
      if (error instanceof Refusal && error.status === 401) { await askForToken(error); continue; }
      if ((error instanceof Refusal && error.status < 500 && error.status !== 429) || ++lost > 8) throw error;
      await sleep((error.wait || 1) * 1000);
    }
  }
  await finished(item, inspection.verdict);
}

async function finished(item, verdict) {
  progress(item, null);
  item.done = true;
  const state = verdict.verdict;
  item.node.classList.add(state === "error" ? "error-file" : state);
  say(item, verdict.headline ?? state, { icon: state });
  item.part(".why").textContent = sentence(verdict);
  if (verdict.probability !== null) {
    item.part(".number").hidden = false;
    item.part(".number strong").textContent = `${(100 * verdict.probability).toFixed(verdict.probability > 0.005 && verdict.probability < 0.995 ? 0 : 1)} %`;
  }
  announce(`${item.file.name}: ${verdict.headline ?? state}. ${item.part(".why").textContent}`);
  const text = await (await call(`/v1/inspections/${item.id}/report`)).text();
  if (item.gone) return;
  item.report = text;
  item.url = URL.createObjectURL(new Blob([text], { type: "text/html;charset=utf-8" }));
  item.part(".open").href = item.url;
  item.part(".save").href = item.url;
  item.part(".save").download = `${item.file.name}.report.html`;
  for (const part of [".show", ".open", ".save"]) item.part(part).hidden = false;
  const first = items.filter((other) => other.done).length === 1 && items.length === 1;
  if (first && state !== "error") toggle(item, true);
}

function sentence(verdict) {
  const parts = [verdict.explanation ?? verdict.reason];
  if (verdict.people.length > 1) parts.push(`${verdict.people.length} people; the number is of the most suspicious.`);
  if (verdict.warnings.length) parts.push(`${verdict.warnings.length} ${verdict.warnings.length === 1 ? "note" : "notes"} in the report.`);
  return parts.join(" ");
}

function failed(item, error) {
  progress(item, null);
  item.node.classList.add("error-file");
  say(item, "Not examined", { icon: "error" });
  const message = error instanceof Refusal ? error.message : "the server cannot be reached";
  item.part(".why").textContent = message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
  item.part(".again").hidden = error instanceof Refusal && [413, 415, 422].includes(error.status);
  announce(`${item.file.name}: not examined. ${item.part(".why").textContent}`);
}

// --- what is seen and heard --------------------------------------------------------------------------------------

function say(item, text, { working = false, icon = working ? "working" : null } = {}) {
  item.part(".state").textContent = text;
  item.node.classList.toggle("working", working);
  if (item.icon !== icon) {
    item.icon = icon;
    // ICONS are constants of this file, no input.
    item.part(".tone").innerHTML = icon === null ? "" : `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">${ICONS[icon] ?? ICONS.error}</svg>`;
  }
}

function progress(item, share) { // null: none; undefined: for as long as it takes
  const bar = item.part("progress");
  bar.hidden = share === null;
  if (share === undefined) bar.removeAttribute("value");
  else if (share !== null) bar.value = share;
  bar.setAttribute("aria-label", `${item.file.name}: ${share === undefined ? "being examined" : "sent"}`);
}

let saidLast = 0;
async function announce(text) { // one after the other, or a screen reader speaks the last alone
  const mine = Math.max(Date.now(), saidLast + 1200);
  saidLast = mine;
  await sleep(mine - Date.now());
  $("live").textContent = text;
}

function toggle(item, open) {
  const frame = item.part(".report");
  const button = item.part(".show");
  frame.hidden = !open;
  button.setAttribute("aria-expanded", String(open));
  button.textContent = open ? "Hide the report" : "Show the report";
  if (open && !frame.firstChild) {
    const inside = document.createElement("iframe");
    inside.title = `Report on ${item.file.name}`;
    inside.sandbox = "allow-same-origin"; // no scripts; the origin only lets this page read its height
    inside.srcdoc = item.report;
    inside.addEventListener("load", () => {
      const fit = () => { inside.style.height = `${Math.ceil(inside.contentDocument.body.getBoundingClientRect().height) + 4}px`; };
      fit();
      new ResizeObserver(fit).observe(inside.contentDocument.body);
    });
    frame.append(inside);
  }
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

// --- the list ----------------------------------------------------------------------------------------------------

function take(files) {
  const batch = document.createDocumentFragment();
  for (const file of files) {
    const node = $("item").content.firstElementChild.cloneNode(true);
    const item = { file, node, id: null, done: false, gone: false, started: false, part: (selector) => node.querySelector(selector) };
    node.querySelector(".name").textContent = `${file.name}`;
    node.querySelector(".name").title = size(file.size);
    item.part(".show").addEventListener("click", () => toggle(item, item.part(".report").hidden));
    item.part(".remove").addEventListener("click", () => remove(item));
    item.part(".remove").setAttribute("aria-label", `Remove ${file.name}`);
    item.part(".show").setAttribute("aria-describedby", (node.querySelector(".name").id = `name-${items.length}-${Date.now()}`));
    item.part(".again").addEventListener("click", () => {
      node.classList.remove("error-file");
      item.part(".why").textContent = "";
      item.part(".again").hidden = true;
      item.id = null;
      item.started = false;
      say(item, "Waiting to be sent");
      next();
    });
    items.push(item);
    batch.append(node);
    say(item, "Waiting to be sent");
  }
  $("list").prepend(batch); // the newest on top: an open report below is long
  if (files.length) announce(files.length === 1 ? `${files[0].name} taken.` : `${files.length} files taken.`);
  show();
  next();
}

function next() {
  for (const item of items) {
    if (sending >= AT_ONCE) return;
    if (!item.started && !item.gone) {
      item.started = true;
      work(item);
    }
  }
}

function remove(item) {
  item.gone = true;
  item.request?.abort();
  if (item.url) URL.revokeObjectURL(item.url);
  const place = items.indexOf(item);
  items.splice(place, 1);
  item.node.remove();
  forget(item);
  announce(`${item.file.name} removed.`);
  show();
  (items[Math.min(place, items.length - 1)]?.part(".remove") ?? $("files")).focus();
}

function forget(item) { // whoever removes a file wants it gone here too
  if (item.id !== null) call(`/v1/inspections/${item.id}`, { method: "DELETE" }).catch(() => {});
}

function show() {
  $("results").hidden = items.length === 0;
  $("clear").hidden = items.length < 2;
  document.body.classList.toggle("busy", items.length > 0);
}

// --- the token ---------------------------------------------------------------------------------------------------

let answered = []; // who waits for a token
function askForToken(error) {
  $("ask").hidden = false;
  if (token !== null && error) {
    $("token-error").textContent = "This token was not accepted.";
    $("token").value = "";
  }
  $("token").focus();
  return new Promise((resolve) => answered.push(resolve));
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  try {
    await call("/metrics"); // needs the token and costs little
  } catch (error) {
    if (error instanceof Refusal && (error.status === 401 || error.status === 429)) {
      $("token-error").textContent = error.status === 429 ? "Too many wrong tokens; wait a minute." : "This token was not accepted.";
      $("token").select();
      return;
    }
  }
  $("token-error").textContent = "";
  $("token").value = "";
  $("ask").hidden = true;
  announce("Token accepted.");
  const waiting = answered;
  answered = [];
  for (const resolve of waiting) resolve();
  $("files").focus();
});

// --- choosing, dropping, pasting ---------------------------------------------------------------------------------

$("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
$("clear").addEventListener("click", () => {
  for (const item of [...items]) remove(item);
});
let depth = 0;
const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (hasFiles(event)) { depth += 1; $("choose").classList.add("over"); }
});
document.addEventListener("dragleave", (event) => {
  if (hasFiles(event) && --depth <= 0) { depth = 0; $("choose").classList.remove("over"); }
});
document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  depth = 0;
  $("choose").classList.remove("over");
  take([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) { event.preventDefault(); take(files); }
});

(async () => {
  try {
    health = await (await call("/health")).json();
  } catch {
    announce("The server cannot be reached.");
    $("limits").textContent = "The server cannot be reached.";
    return;
  }
  const { limits } = health;
  $("limits").textContent = `Pictures and videos up to ${size(limits.bytes)}, ${Math.round(limits.pixels / 1e6)} megapixels and ${limits.seconds < 120 ? `${limits.seconds} seconds` : `${Math.round(limits.seconds / 60)} minutes`}. Several at once are fine.`;
  const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const keep = Math.max(1, Math.round(health.keep_seconds / 60));
  $("where").textContent = `${here ? "Files stay on this computer." : `Files go to ${location.host} and no further.`} Each is deleted when it has been examined, its result after ${keep} minutes, or at once when you remove it.`;
  $("version").textContent = health.version;
  if (health.token_required) askForToken(null).catch(() => {});
})();
