// What pages do beyond forms and links. Each of them works without it.
//
// A page whose main part has data-refresh is asked for again, and what is new in it put in place: every few seconds
// while it can be seen, and whenever its stream says that there is something new.
"use strict";

(() => {
  const POLL_MS = 5000;
  const STREAMED_POLL_MS = 10000;
  const RECONNECT_MAX_MS = 4000;
  const CHECK_MS = 250;
  const state = document.getElementById("live-state");
  let streamed = false;
  let isConnecting = document.getElementById("stream") !== null;
  let trouble = "";
  let running = false;
  let again = false;
  let timer;

  const region = () => document.querySelector("[data-refresh]");
  const stream = () => document.getElementById("stream");

  function say(sentence) {
    if (!state) return;
    if (state.textContent !== sentence) state.textContent = sentence;
    state.classList.toggle("trouble", trouble !== "");
  }

  function describe() {
    if (trouble) say(trouble);
    else if (!region() || isConnecting) say("");
    else say(streamed && stream() ? "Live" : "Refreshed every 5 seconds");
  }

  function asOf() {
    return document.querySelector("[data-as-of]")?.textContent ?? "";
  }

  function lose(why) {
    trouble = `${why} What you see is as of ${asOf()}.`;
    describe();
  }

  function mend() {
    trouble = "";
    describe();
  }

  function plan() {
    clearTimeout(timer);
    if (region()) timer = setTimeout(look, streamed && !trouble ? STREAMED_POLL_MS : POLL_MS);
  }

  async function look() {
    if (!region() || document.hidden) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    clearTimeout(timer);
    await htmx.ajax("GET", location.pathname + location.search, {
      source: region(), target: region(), select: "#live", swap: "outerMorph",
    });
    running = false;
    if (again) {
      again = false;
      look();
    } else {
      plan();
    }
  }

  // What a person has opened stays open.
  htmx.registerExtension("keep-open", {
    htmx_before_morph_attr: (element, { attrName }) => !(attrName === "open" && element.matches("details, dialog")),
  });

  document.addEventListener("htmx:before:swap", (event) => {
    const { select, text } = event.detail.ctx;
    if (select !== "#live" || text.includes('id="live"')) return;
    event.preventDefault(); // no page of ours: a proxy in front asks who the person is
    lose("Your session has ended: open the console again.");
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (event.detail.ctx.response?.raw.ok) mend();
  });
  document.addEventListener("htmx:response:error", (event) => {
    const status = event.detail.ctx.response.status;
    if (event.target === stream()) {
      isConnecting = false; // too many follow already: the page is asked for every few seconds
      describe();
      return;
    }
    if (status === 401) lose("Your session has ended: open the console again.");
    else if (status === 403) lose("You may not see this any more.");
    else if (status === 404) lose("This is not there any more.");
    else lose(status < 500 ? `The daemon refused with the error ${status}.` : "The daemon does not answer.");
  });
  document.addEventListener("htmx:error", (event) => {
    isConnecting = false;
    lose("The daemon does not answer.");
  });
  document.addEventListener("htmx:sse:after:connection", () => {
    const isBack = trouble !== "";
    streamed = true;
    isConnecting = false;
    if (isBack) look();
    describe();
    plan();
  });
  document.addEventListener("htmx:sse:error", (event) => {
    streamed = false;
    if ((event.detail.status ?? 500) >= 500) lose("The daemon does not answer.");
    plan();
  });
  document.addEventListener("htmx:sse:close", () => {
    streamed = false;
    describe();
    plan();
  });
  for (const name of ["phase", "progress", "end"]) document.addEventListener(name, look);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) look();
  });

  // Keys. A letter that is typed into a field is that letter.
  const keys = document.getElementById("keys");
  const places = { e: "/console/exports", j: "/console/jobs", o: "/console/" };
  let isGoing = false;

  function press(event) {
    const isWritten = event.target.matches("input:not([type=checkbox], [type=radio]), select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || isWritten) return;
    const wasGoing = isGoing;
    isGoing = event.key === "g";
    if (wasGoing && places[event.key]) location.assign(places[event.key]);
    else if (event.key === "?" && keys) keys.showModal();
    else if (event.key === "/") {
      const field = document.querySelector("main input[type=search], main .filters input");
      if (!field) return;
      event.preventDefault();
      field.focus();
      field.select();
    }
  }

  document.addEventListener("keydown", press);
  for (const button of document.querySelectorAll("[data-opens]")) {
    button.hidden = false;
    button.addEventListener("click", () => document.getElementById(button.dataset.opens).showModal());
  }

  // What is there to be pasted elsewhere can be copied at once.
  for (const text of navigator.clipboard ? document.querySelectorAll("main pre") : []) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    });
    text.before(button);
  }

  // The form of a schedule: what its rule does, while it is written.
  const form = document.getElementById("schedule-form");
  const ruleFields = ["kind", "unit", "period", "offset", "cron"];
  let checking;

  function checkRule() {
    const data = new FormData(form);
    const values = Object.fromEntries(ruleFields.map((name) => [name, data.get(name) ?? ""]));
    return htmx.ajax("POST", location.pathname, {
      source: document.body, target: "#rule", select: "#rule", swap: "outerMorph", values: { ...values, action: "check" },
    });
  }

  function writeLocalTimes() {
    for (const place of document.querySelectorAll("[data-local]")) {
      const at = new Date(place.dataset.local);
      place.textContent = `${at.toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" })} here`;
    }
  }

  if (form && !form.querySelector("button[value=save]").disabled) {
    form.querySelector("button[value=check]").hidden = true;
    form.addEventListener("input", (event) => {
      if (!ruleFields.includes(event.target.name)) return;
      if (event.target.name === "cron") form.querySelector("[name=kind][value=advanced]").checked = true;
      else if (event.target.name !== "kind") form.querySelector("[name=kind][value=simple]").checked = true;
      clearTimeout(checking);
      checking = setTimeout(checkRule, CHECK_MS);
    });
    document.addEventListener("htmx:after:swap", writeLocalTimes);
    writeLocalTimes();
  }

  // Its entities: in a dialog with a search, instead of a long list.
  function make(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function addReferences(boxes) {
    const byCode = new Map(boxes.map((box) => [box.value, box]));
    const waiting = boxes.filter((box) => box.checked);
    for (const box of waiting) {
      for (const code of box.dataset.refers.split(" ")) {
        const found = byCode.get(code);
        if (found && !found.checked) {
          found.checked = true;
          waiting.push(found);
        }
      }
    }
  }

  function pickInDialog(list) {
    const boxes = [...list.querySelectorAll("input[type=checkbox]")];
    let before = [];
    const search = make("input", { type: "search", autocomplete: "off" });
    const count = make("p", { className: "quiet", role: "status" });
    const refer = make("button", { type: "button", textContent: "Add what these refer to" });
    const add = make("button", { type: "button", className: "main", textContent: "Add" });
    const heading = make("h2", { id: "picker-heading", textContent: "Operational data entities" });
    const chosen = make("p", { id: "chosen" });
    const open = make("button", { type: "button", id: "pick", textContent: "+ Choose entities" });
    const dialog = make("dialog", { id: "picker" }, heading, make("label", {}, "Search ", search));
    dialog.setAttribute("aria-labelledby", heading.id);

    const words = (box) => box.closest("label").textContent.trim().replace(/\s+/g, " ");
    const picked = () => boxes.filter((box) => box.checked);
    function tell() {
      count.textContent = `${picked().length} of ${boxes.length} chosen`;
      chosen.textContent = picked().map((box) => box.closest("label").firstChild.nextSibling.textContent.trim()).join(", ")
        || "None yet.";
    }
    function filter() {
      const wanted = search.value.trim().toLowerCase();
      for (const box of boxes) box.closest("label").hidden = !words(box).toLowerCase().includes(wanted);
    }

    list.replaceWith(make("div", { className: "choices" },
      make("span", { className: "quiet", textContent: "Operational data entities" }), chosen, make("div", {}, open), dialog));
    dialog.append(list, count, make("div", { className: "deeds" }, add, refer));
    open.addEventListener("click", () => {
      before = picked();
      search.value = "";
      filter();
      dialog.showModal();
      search.focus();
    });
    search.addEventListener("input", filter);
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") event.preventDefault(); // it would send the form
    });
    list.addEventListener("change", tell);
    refer.addEventListener("click", () => {
      addReferences(boxes);
      search.value = "";
      filter();
      tell();
    });
    add.addEventListener("click", () => dialog.close("add"));
    dialog.addEventListener("close", () => {
      if (dialog.returnValue !== "add") for (const box of boxes) box.checked = before.includes(box);
      dialog.returnValue = "";
      tell();
    });
    tell();
  }

  const entities = document.getElementById("entities");
  if (entities) pickInDialog(entities);

  htmx.config.sse = { reconnectDelay: 500, reconnectMaxDelay: RECONNECT_MAX_MS };
  describe();
  plan();
})();
