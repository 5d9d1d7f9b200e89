// What pages do beyond forms and links. Each of them works without it.
//
// A page whose main part has data-refresh is asked for again, and what is new in it put in place: every few seconds
// while it can be seen, and whenever its stream says that there is something new.
"use strict";

(() => {
  const POLL_MS = 5000;
  const STREAMED_POLL_MS = 10000;
  const RECONNECT_MAX_MS = 4000;
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
    return region()?.querySelector("[data-as-of]")?.textContent ?? "";
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

  document.addEventListener("htmx:after:swap", (event) => {
    const { sourceElement, response } = event.detail.ctx;
    if (sourceElement.id === "live" && response?.raw.ok) mend();
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
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
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

  htmx.config.sse = { reconnectDelay: 500, reconnectMaxDelay: RECONNECT_MAX_MS };
  describe();
  plan();
})();
