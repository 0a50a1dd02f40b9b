// What makes the console live. A page is a function of its address: when an event arrives, the same address is fetched
// again as a fragment, and of its parts ([data-part]) those that differ are swapped. Nothing here knows what a page shows.
"use strict";

const SOONEST = 700; // milliseconds between two looks
const MOST_LINES = 5000; // lines of a log that are kept on the page
const skew = Date.now() / 1000 - Number(document.body.dataset.now);
const drawn = new WeakMap(); // part → its HTML as the server drew it, before logs and clocks changed it

// ------------------------------------------------------------------------------------------------- looking again

let busy = false, again = false, last = 0, timer = 0;

function soon() {
  timer ||= setTimeout(look, Math.max(0, last + SOONEST - Date.now()));
}

async function look() {
  clearTimeout(timer);
  timer = 0;
  if (busy) { again = true; return; }
  busy = true;
  last = Date.now();
  try {
    const address = new URL(location.href);
    address.searchParams.set("fragment", "1");
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    if (answer.redirected || answer.status === 404) return location.reload();
    if (answer.ok) swap(await answer.text());
    reached(answer.ok);
  } catch {
    reached(false);
  } finally {
    busy = false;
  }
  if (again) { again = false; soon(); }
}

function swap(html) {
  for (const fresh of new DOMParser().parseFromString(html, "text/html").querySelectorAll("[data-part]")) {
    const old = document.getElementById(fresh.id);
    if (!old || drawn.get(old) === fresh.outerHTML || isSelected(old)) continue;
    const frame = old.querySelector("iframe"), next = fresh.querySelector("iframe");
    if (frame && next && frame.title === next.title) { // it stays where it is, with the tab that was chosen in it
      drawn.set(old, fresh.outerHTML);
      frame.contentWindow.location.replace(next.src);
      continue;
    }
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    drawn.set(fresh, fresh.outerHTML);
    old.replaceWith(fresh);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
  listen();
  readLogs();
}

function isSelected(part) { // somebody is about to copy from it
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(part, true);
}

function reached(well) { document.getElementById("lost").hidden = well; }

// ------------------------------------------------------------------------------------------------- events and clocks

let source = null;

function listen() {
  const address = document.getElementById("live")?.dataset.events;
  if (!address || document.hidden) {
    source?.close();
    source = null;
  } else if (!source || source.readyState === EventSource.CLOSED) {
    source = new EventSource(address);
    source.addEventListener("event", soon);
    source.addEventListener("snapshot", soon);
    source.addEventListener("error", soon);
  }
}

function lookEvery() {
  const seconds = Number(document.getElementById("live")?.dataset.every);
  if (seconds && !document.hidden && Date.now() - last > seconds * 1000) look();
}

function tick() {
  for (const clock of document.querySelectorAll("[data-since]")) {
    const text = duration(Date.now() / 1000 - skew - Number(clock.dataset.since));
    if (clock.textContent !== text) clock.textContent = text;
  }
}

function duration(seconds) { // as rendering.duration
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${s % 60}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor((s % 86400) / 3600)}h`;
}

// ------------------------------------------------------------------------------------------------- logs

const reading = new Map(); // the element of a log → what ends the reading of it

function readLogs() {
  for (const [pre, end] of reading) {
    if (pre.isConnected && !document.hidden) continue;
    end.abort();
    reading.delete(pre);
  }
  for (const pre of document.querySelectorAll("pre[data-log]")) {
    if (reading.has(pre) || document.hidden || pre.dataset.read) continue;
    const end = new AbortController();
    reading.set(pre, end);
    read(pre, end.signal);
  }
}

async function read(pre, signal) {
  pre.replaceChildren();
  try {
    const answer = await fetch(pre.dataset.log, { signal });
    if (!answer.ok) {
      pre.textContent = (await answer.json()).error.message;
      pre.dataset.read = "refused";
      return;
    }
    const seen = { source: "", attempt: 0 };
    let rest = "";
    for await (const chunk of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      append(pre, lines.filter(Boolean).map(line => JSON.parse(line)), seen);
    }
    pre.dataset.read = "all";
  } catch {
    if (signal.aborted) return;
    setTimeout(() => { reading.delete(pre); readLogs(); }, 2000);
  }
}

async function* chunks(stream) { // not every browser can iterate over a stream
  const reader = stream.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
}

function append(pre, lines, seen) {
  const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 30;
  const added = document.createDocumentFragment();
  for (const line of lines) {
    const from = line.source ?? "", attempt = line.attempt ?? 1;
    if (from !== seen.source || (seen.attempt && attempt !== seen.attempt)) {
      if (seen.open) seen.open.data += "\n";
      seen.open = null;
      const mark = document.createElement("i");
      mark.textContent = from !== seen.source ? `── ${from}\n` : `── attempt ${attempt}\n`;
      added.append(mark);
    }
    Object.assign(seen, { source: from, attempt });
    const begun = seen.open?.data ?? ""; // what is shown of this line already
    const text = (begun + line.text).split("\r").at(-1); // a progress bar begins its line anew
    if (seen.open) seen.open.data = text + (line.open ? "" : "\n");
    else added.append(...timeOf(line), text + (line.open ? "" : "\n"));
    if (!line.open) seen.open = null;
    else seen.open ??= added.lastChild;
  }
  pre.append(added);
  while (pre.childNodes.length > 2 * MOST_LINES) pre.firstChild.remove(); // a line has a time and a text
  if (atEnd) pre.scrollTop = pre.scrollHeight;
}

function timeOf(line) { // shown while "times" is checked
  if (!line.time) return [];
  const written = new Date(line.time * 1000), time = document.createElement("time");
  const clock = [written.getHours(), written.getMinutes(), written.getSeconds()].map(part => String(part).padStart(2, "0"));
  time.textContent = `${clock.join(":")}.${String(written.getMilliseconds()).padStart(3, "0")} `;
  time.dateTime = time.title = written.toISOString();
  return [time];
}

// ------------------------------------------------------------------------------------------------- what people do

addEventListener("click", event => {
  const menu = document.querySelector("details.scope[open]");
  if (menu && !menu.contains(event.target)) menu.open = false;
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  look();
});

addEventListener("change", event => {
  if (event.target.matches("[data-shows]")) {
    event.target.closest("[data-part]").querySelector(".log").classList.toggle(event.target.dataset.shows, event.target.checked);
  }
  if (event.target.matches("[data-filters] select")) event.target.form.requestSubmit();
});

addEventListener("submit", event => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

addEventListener("popstate", look);

document.addEventListener("visibilitychange", () => {
  listen();
  readLogs();
  if (!document.hidden) look();
});

for (const part of document.querySelectorAll("[data-part]")) drawn.set(part, part.outerHTML);
listen();
readLogs();
setInterval(tick, 500);
setInterval(lookEvery, 500);
