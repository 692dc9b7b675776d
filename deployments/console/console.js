// Reads /readyz and /v1/decisions every two seconds while the page is seen. Whatever it shows goes through textContent.

const PERIOD_MS = 2000;
const NUM_DECISIONS = 50;

const byId = (id) => document.getElementById(id);
const fixed = (value, digits) => (value == null || Number.isNaN(value) ? "" : Number(value).toFixed(digits));
const seconds = (value) => (value == null ? "" : value < 1 ? `${(1000 * value).toFixed(0)} ms` : `${value.toFixed(2)} s`);
const usd = (value) => (value == null ? "" : Number(value).toPrecision(3));

/** A table row of texts; a cell may be [text, class]. */
function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const [text, kind] = Array.isArray(cell) ? cell : [cell, ""];
    const place = document.createElement("td");
    place.textContent = text ?? "";
    if (kind) place.className = kind;
    line.append(place);
  }
  return line;
}

function fill(table, rows) {
  byId(table).tBodies[0].replaceChildren(...rows);
}

function showState(ready) {
  const state = byId("state");
  state.textContent = ready.ready ? "answers questions" : "answers nobody";
  state.className = ready.ready ? "good" : "bad";
  const router = ready.router;
  const facts = {
    "router version": router.error ? router.error : router.router_version ?? "none",
    "refused version": router.refused_version,
    "kill switch": router.kill_switch ? "on" : null,
    "ejection": ready.ejection_panic ? "ignored: nearly all fail" : null,
    "in flight": ready.in_flight,
    "retries left": ready.retries_left,
    "pool seen": seconds(ready.pool_age_s) + " ago",
    "rows logged": ready.outcomes.written,
    "rows lost": ready.outcomes.dropped || null,
    "challenger": router.shadow?.version ? `${router.shadow.version}, differs in ${fixed(100 * router.shadow.disagreement, 0)} %` : null,
    "exploring left today": router.exploration ? `${usd(router.exploration.left_usd)} USD` : null,
  };
  const parts = Object.entries(facts).filter(([, value]) => value != null);
  byId("facts").replaceChildren(...parts.map(([name, value]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    pair.append(term, text);
    return pair;
  }));
}

function showCandidates(ready, decisions) {
  const answers = new Map();
  for (const one of decisions) answers.set(one.answered_by, (answers.get(one.answered_by) ?? 0) + 1);
  fill("candidates", Object.entries(ready.candidates).map(([id, state]) => {
    const capacity = ready.capacity[id] ?? {};
    const stage = ready.router.stages?.[id];
    const wanted = ready.wanted_in_vain[id];
    const told = stage && stage !== "full" && state === "available" ? `${state}, ${stage}` : state;
    return row([
      id, [told, state === "available" ? "good" : "bad"],
      capacity.max_replicas == null ? capacity.replicas : `${capacity.replicas} of ${capacity.max_replicas}`,
      capacity.in_flight, capacity.slots, answers.get(id) ?? 0,
      wanted ? wanted.queries : "", wanted ? fixed(wanted.regret_quality, 2) : "",
    ]);
  }));
}

let chosen = null;

function showDecisions(decisions) {
  const focused = document.activeElement?.dataset?.decision;
  fill("decisions", decisions.map((one) => {
    const at = one.candidate_ids.indexOf(one.answered_by);
    const line = row([
      new Date(one.time).toLocaleTimeString(), one.answered_by ?? "", one.policy,
      fixed(one.quality_means[at], 3), seconds(one.time_to_first_token_s), seconds(one.latency_s),
      usd(one.cost_usd), [one.status, one.status === "ok" ? "" : "bad"],
    ]);
    line.tabIndex = 0;
    line.dataset.decision = one.decision_id;
    line.classList.toggle("chosen", one.decision_id === chosen);
    const choose = () => { chosen = one.decision_id; showReceipt(one); showDecisions(decisions); };
    line.addEventListener("click", choose);
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(); });
    return line;
  }));
  if (focused) document.querySelector(`[data-decision="${CSS.escape(focused)}"]`)?.focus();
}

function showReceipt(one) {
  byId("receipt").hidden = false;
  byId("decision-id").textContent = one.decision_id;
  fill("predictions", one.candidate_ids.map((id, at) => {
    const line = row([
      id, fixed(one.quality_means[at], 3), fixed(one.quality_stds[at], 3), usd(one.costs_usd[at]),
      seconds(one.latencies_s[at]), seconds(one.waits_s?.[at]), fixed(one.utilities[at], 3),
      fixed(one.propensities[at], 3), [one.refusals[at], "bad"],
    ]);
    line.classList.toggle("chosen", id === one.choice);
    return line;
  }));
  fill("attempts", one.attempts.map((attempt) => row([
    attempt.candidate_id, seconds(attempt.started_s), seconds(attempt.duration_s), [attempt.error, "bad"],
  ])));
}

async function look() {
  const [ready, latest] = await Promise.all([
    fetch("/readyz").then((reply) => reply.json()),
    fetch(`/v1/decisions?limit=${NUM_DECISIONS}`).then((reply) => reply.json()),
  ]);
  showState(ready);
  showCandidates(ready, latest.data);
  showDecisions(latest.data);
}

async function run() {
  for (;;) {
    if (!document.hidden) {
      try {
        await look();
      } catch (error) {
        byId("state").textContent = `cannot be reached: ${error.message}`;
        byId("state").className = "bad";
      }
    }
    await new Promise((resolve) => { setTimeout(resolve, PERIOD_MS); });
  }
}

run();
