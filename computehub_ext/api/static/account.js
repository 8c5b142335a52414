// The account page's script: counts running costs on, sends the buttons to the API, fetches the page again.
"use strict";

const MICROCREDITS_PER_CREDIT = 1_000_000;
const REFRESH_SECONDS = 30;
let seenAt = performance.now(); // when what the page shows was true
let refreshing = null;

const main = () => document.getElementById("main");

function tell(sentence, failed = false) {
  const status = document.getElementById("status");
  status.className = failed ? "failed" : "";
  status.textContent = sentence;
}

function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found ? found.slice(name.length + 1) : "";
}

function newKey() {
  // randomUUID is missing where the page did not come over HTTPS or from localhost.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function inWords(seconds) {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

// The server's figure and clock are the start; only the seconds since are the browser's.
function tick() {
  const since = performance.now() - seenAt;
  for (const lease of document.querySelectorAll("[data-lease]")) {
    const { now, ends, cost, rate, state } = lease.dataset;
    const leftMs = Math.max(0, Date.parse(ends) - Date.parse(now) - since);
    lease.querySelector("[data-left]").textContent = `, ${inWords(leftMs / 1000)} left`;
    if (state !== "running") continue;
    const countedMs = Math.min(since, Math.max(0, Date.parse(ends) - Date.parse(now)));
    const microcredits = Number(cost) + Math.floor((Number(rate) * countedMs) / 3_600_000);
    const shown = Math.floor(microcredits / 100) / 10_000; // cut, not rounded up, as on the server
    lease.querySelector("[data-running-cost]").textContent = shown.toFixed(4);
  }
}

function localTimes() {
  const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of document.querySelectorAll("time")) {
    time.title = time.textContent;
    time.textContent = form.format(new Date(time.dateTime));
  }
}

async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return location.reload(); // most likely logged out
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement;
  const place = focused?.dataset.post || focused?.id;
  main().replaceWith(document.adoptNode(page.getElementById("main")));
  document.title = page.title;
  seenAt = performance.now();
  localTimes();
  tick();
  if (place) {
    const again = [...document.querySelectorAll("[data-post], [id]")].find((e) => (e.dataset.post || e.id) === place);
    (again || main()).focus({ preventScroll: true });
  }
}

function refreshSoon() {
  // Not under somebody's hands: a form that is being filled in stays as it is.
  const writing = document.activeElement?.tagName === "INPUT";
  if (document.hidden || writing) return;
  refreshing ??= refresh()
    .catch(() => tell("The server does not answer; the figures may be old.", true))
    .finally(() => (refreshing = null));
}

async function send(method, path, body, key) {
  const headers = { "Content-Type": "application/json", "X-XSRFToken": cookie("_xsrf") };
  if (key) headers["Idempotency-Key"] = key;
  const answer = await fetch(`${main().dataset.api}/${path}`, { method, headers, body, credentials: "same-origin" });
  if (answer.ok) return;
  const failure = await answer.json().catch(() => ({}));
  throw new Refusal(failure.message || `The server answered ${answer.status}.`);
}

class Refusal extends Error {}

async function act(element, method, path, body) {
  if (element.getAttribute("aria-disabled") === "true") return;
  if (element.dataset.ask && !window.confirm(element.dataset.ask)) return;
  element.setAttribute("aria-disabled", "true");
  if ("key" in element.dataset) element.dataset.key ||= newKey();
  try {
    await send(method, path, body, element.dataset.key);
    element.dataset.key = "";
    const done = element.dataset.done;
    await refresh();
    tell(done);
  } catch (failure) {
    element.removeAttribute("aria-disabled");
    if (failure instanceof Refusal) {
      if ("key" in element.dataset) element.dataset.key = ""; // answered: the next click is a new wish
      tell(failure.message, true);
    } else {
      tell("The server does not answer. Nothing is done twice if you try again.", true); // the key stays
    }
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-post]");
  if (button) act(button, "POST", button.dataset.post, button.dataset.body || "{}");
});

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  const credits = Number(form.elements.per_day.value);
  const body = JSON.stringify({ per_day_microcredits: Math.round(credits * MICROCREDITS_PER_CREDIT) });
  act(form, "PUT", form.dataset.put, body);
});

document.addEventListener("visibilitychange", refreshSoon);
localTimes();
tick();
setInterval(tick, 1000);
setInterval(refreshSoon, REFRESH_SECONDS * 1000);
