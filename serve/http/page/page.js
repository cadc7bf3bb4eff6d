"use strict";

const get = (id) => document.getElementById(id);
const POLL_MS = 1000;
let models = [];
let running = null; // {abort, id, answered}

function headers(more = {}) {
  const token = get("token").value.trim();
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function ask(path) {
  const reply = await fetch(path, { headers: headers() });
  const body = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(body.error.message), { status: reply.status });
  return body;
}

function option(value, text) {
  return Object.assign(document.createElement("option"), { value, textContent: text ?? value });
}

function model() {
  return models.find((one) => one.name === get("model").value);
}

function labelled(id, text, field) {
  field.id = id;
  const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: text });
  return [label, field];
}

/* One field for each of the model's conditions that no encoder gives: a list of classes, a number,
   or JSON; and where it takes text, two for prompts. */
function showConditions() {
  const chosen = model();
  const prompts = chosen.prompt ? ["prompt", "negative prompt"] : [];
  const texts = prompts.map((name) => {
    const field = document.createElement("textarea");
    field.rows = 2;
    field.dataset.prompt = name.replace(" ", "_");
    return labelled(name.replace(" ", "-"), name, field);
  });
  const own = chosen.conditions.filter((condition) => !condition.encoded);
  const fields = own.map((condition) => {
    let field = document.createElement("input");
    const few = condition.max !== null && condition.max - condition.min < 1000;
    if (condition.shape.length === 0 && few) {
      field = document.createElement("select");
      if (condition.has_null) field.append(option("", "none"));
      for (let k = condition.min; k <= condition.max; k++) {
        if (k !== condition.null) field.append(option(String(k)));
      }
      field.append(option("all", "each in turn"));
    } else {
      field.placeholder = condition.has_null ? "none" : `JSON, shape [${condition.shape}]`;
    }
    field.dataset.condition = condition.name;
    return labelled(`condition-${condition.name}`, condition.name, field);
  });
  get("conditions").replaceChildren(...texts.flat(), ...fields.flat());
}

function showModel() {
  const chosen = model();
  showConditions();
  const sampler = get("sampler").value || chosen.sampler;
  get("sampler").replaceChildren(...chosen.samplers.map((name) => option(name)));
  get("sampler").value = sampler;
  get("grid").replaceChildren(option("", "default"), ...chosen.grids.map((g) => option(g)));
  get("steps").max = chosen.limits.steps;
  get("n").max = chosen.limits.samples;
}

async function loadModels() {
  try {
    const ready = await fetch("readyz");
    if (!ready.ok) throw new Error((await ready.json()).error.message);
    models = (await ask("v1/models")).models;
    get("model").replaceChildren(...models.map((one) => option(one.name)));
    showModel();
    get("state").textContent = "ready";
    poll();
  } catch (error) {
    get("state").textContent = error.message;
    if (error.status === 401) get("access").open = true;
    setTimeout(loadModels, POLL_MS);
  }
}

const ms = (s) => (s === null ? "–" : s < 1 ? `${(1000 * s).toPrecision(3)} ms` : `${s.toFixed(2)} s`);

async function poll() {
  try {
    const stats = (await ask("v1/stats"))[get("model").value];
    get("queued").textContent = stats.queued;
    get("running").textContent = stats.running;
    get("rows").textContent = `${stats.rows_in_use} of ${stats.slots}`;
    get("load").value = stats.rows_in_use / stats.slots;
    get("wait").textContent = ms(stats.queued_s.p50);
    get("p50").textContent = ms(stats.run_s.p50);
    get("p99").textContent = ms(stats.run_s.count < 100 ? null : stats.run_s.p99); // of fewer: the longest
    get("step").textContent = ms(stats.step_s.p50);
    get("completed").textContent = stats.outcomes.completed;
    get("state").textContent = stats.draining ? "draining" : "ready";
  } catch (error) {
    get("state").textContent = error.status ? error.message : "the server is gone";
  }
  setTimeout(poll, POLL_MS);
}

/* What the form asks for, as the body of POST /v1/samples. */
function asked() {
  const n = Number(get("n").value);
  const steps = Number(get("steps").value);
  const body = {
    model: get("model").value,
    n,
    sampler: get("sampler").value === model().sampler ? null : get("sampler").value,
    steps,
    guidance: Number(get("guidance").value || 1),
    stream: true,
    previews: Math.ceil(steps / 20),
    output: model().image ? "png" : "json",
  };
  if (get("seed").value !== "") body.seed = Number(get("seed").value);
  if (get("grid").value !== "") body.grid = get("grid").value;
  for (const field of document.querySelectorAll("[data-prompt]")) {
    if (field.value.trim() !== "") body[field.dataset.prompt] = field.value.trim();
  }
  const conditions = {};
  for (const field of document.querySelectorAll("[data-condition]")) {
    const text = field.value.trim();
    const one = model().conditions.find((c) => c.name === field.dataset.condition);
    if (text === "all") {
      const values = [];
      for (let k = one.min; k <= one.max; k++) if (k !== one.null) values.push(k);
      conditions[one.name] = Array.from({ length: n }, (_, i) => values[i % values.length]);
    } else if (text !== "") {
      try {
        conditions[one.name] = JSON.parse(text);
      } catch {
        throw new Error(`${one.name} must be a number or a JSON list; got ${text}`);
      }
    }
  }
  if (Object.keys(conditions).length) body.conditions = conditions;
  return body;
}

/* The events of a text/event-stream body. */
async function* events(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n");
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (field("event")) yield { name: field("event"), data: JSON.parse(field("data")) };
    }
  }
}

function showPicture(png, text) {
  get("picture").src = `data:image/png;base64,${png}`;
  get("picture").alt = text;
  get("picture").hidden = false;
  get("hint").hidden = get("numbers").hidden = true;
}

function showNumbers(result) {
  const bytes = Uint8Array.from(atob(result.data), (c) => c.charCodeAt(0));
  const values = [...new Float32Array(bytes.buffer)];
  const width = result.shape[result.shape.length - 1];
  const rows = [];
  for (let k = 0; k < Math.min(values.length, 64 * width); k += width) {
    rows.push(values.slice(k, k + width).map((v) => v.toFixed(4).padStart(9)).join(" "));
  }
  get("numbers").textContent = rows.join("\n");
  get("numbers").hidden = false;
  get("hint").hidden = get("picture").hidden = true;
}

function say(text) {
  get("said").textContent = text;
}

function fail(text) {
  get("error").textContent = text;
  get("error").hidden = false;
  say("");
}

function handle({ name, data }) {
  if (name === "started") {
    running.id = data.id;
    say("waiting for a slot");
  } else if (name === "progress") {
    get("progress").value = data.done / data.total;
    say(`step ${data.step} of ${data.steps}`);
    if (data.png) showPicture(data.png, `preview after step ${data.step}`);
  } else if (name === "result") {
    running.answered = true;
    get("progress").value = 1;
    if (data.png) showPicture(data.png, `${data.shape[0]} samples, seeds from ${data.seeds[0]}`);
    else showNumbers(data);
    say(`seed ${data.seeds[0]} · waited ${ms(data.queued_ms / 1000)} · ran ${ms(data.run_ms / 1000)}`);
  } else if (name === "error") {
    running.answered = true;
    if (data.error.type === "Cancelled") say("cancelled");
    else fail(data.error.message);
  }
}

async function sample(event) {
  event.preventDefault();
  get("error").hidden = true;
  get("progress").value = 0;
  running = { abort: new AbortController(), id: null, answered: false };
  get("go").disabled = true;
  get("cancel").disabled = false;
  try {
    const reply = await fetch("v1/samples", {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify(asked()),
      signal: running.abort.signal,
    });
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    for await (const one of events(reply.body.getReader())) handle(one);
    if (!running.answered) throw new Error("the connection ended before the result");
  } catch (error) {
    if (error.name === "AbortError") say("cancelled");
    else if (error instanceof TypeError) fail(`the server can't be reached (${error.message})`);
    else fail(error.message);
  } finally {
    running = null;
    get("go").disabled = false;
    get("cancel").disabled = true;
  }
}

async function cancel() {
  if (running === null) return;
  if (running.id === null) running.abort.abort();
  else await fetch(`v1/samples/${running.id}`, { method: "DELETE", headers: headers() });
}

get("form").addEventListener("submit", sample);
get("cancel").addEventListener("click", cancel);
get("model").addEventListener("change", showModel);
loadModels();
