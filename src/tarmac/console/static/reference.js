// Trying a route from the API's reference: the form becomes a request, and the answer is shown below it.
"use strict";

const LONGEST = 100000; // characters of an answer that are shown
const WATCH = 10000; // milliseconds that a stream is watched

addEventListener("submit", async event => {
  event.preventDefault();
  const form = event.target, output = form.querySelector("output");
  output.replaceChildren(...block("…"));
  const end = new AbortController();
  const stop = form.hasAttribute("data-streams") ? setTimeout(() => end.abort(), WATCH) : 0;
  try {
    const [address, options] = request(form);
    const answer = await fetch(address, { ...options, signal: end.signal });
    await show(output, answer);
  } catch (error) {
    if (!end.signal.aborted) output.replaceChildren(...block(String(error)));
  } finally {
    clearTimeout(stop);
  }
});

function request(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams(), headers = { accept: "*/*" };
  for (const input of form.querySelectorAll("input[data-where]")) {
    if (!input.value) continue;
    if (input.dataset.where === "path") path = path.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (input.dataset.where === "query") query.append(input.name, input.value);
    else headers[input.name] = input.value;
  }
  const key = document.getElementById("key").value.trim();
  if (key) headers.authorization = `Bearer ${key}`;
  const body = form.elements.body?.value.trim();
  if (body) headers["content-type"] = "application/json";
  return [path + (query.size ? `?${query}` : ""), { method: form.dataset.method, headers, body: body || undefined }];
}

async function show(output, answer) {
  const [pre] = block("");
  output.replaceChildren(Object.assign(document.createElement("p"), { textContent: `${answer.status} ${answer.statusText}` }), pre);
  let text = "";
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let step = await reader?.read(); step && !step.done; step = await reader.read()) {
    text = (text + step.value).slice(0, LONGEST);
    pre.textContent = text;
  }
  if (answer.headers.get("content-type")?.startsWith("application/json")) {
    try { pre.textContent = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it was cut */ }
  }
}

function block(text) {
  return [Object.assign(document.createElement("pre"), { textContent: text })];
}
