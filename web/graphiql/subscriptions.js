// Subscriptions that run in this page: each on a socket of its own, resumed where it was cut, and all events in one list.
/* global graphqlWs */

import { cell } from "./kit.js";
import { endpoint, noticeRefusal } from "./session.js";
import { chosenTab, isOpen } from "./tabs.js";
import { learn } from "./variables.js";

const SHOWN = 200;
const LONGEST_WAIT = 5_000;
const ATTEMPTS = 30;

const socket = new URL(endpoint);
socket.protocol = endpoint.protocol === "https:" ? "wss:" : "ws:";

export const running = cell([]);
/** The newest entries, newest last, and how many there were. An entry is a result, or a note on the connection. */
export const list = cell({ entries: [], total: 0 });

// ---- The list. Entries are drawn together, so that a thousand events a second stay readable.

let waiting = [];
let entries = 0;
let results = 0;

function add(subscription, entry) {
  if (waiting.length === 0) setTimeout(draw, 50);
  if (waiting.length === SHOWN) waiting.shift(); // a hidden page draws once a minute
  waiting.push({ ...entry, subscription, id: ++entries, at: new Date() });
  if (entry.result) results += 1;
}

function draw() {
  const drawn = waiting;
  waiting = [];
  list.set({ entries: [...list.get().entries, ...drawn].slice(-SHOWN), total: results });
  const newest = new Map(drawn.filter((each) => each.result).map((each) => [each.subscription, each.result]));
  newest.forEach((result, subscription) => subscription.sink?.next(result));
}

export function clear() {
  results = 0;
  list.set({ entries: [], total: 0 });
}

// ---- One subscription.

/** What GraphiQL's fetcher returns for a subscription. */
export function subscription(params, headers, operation) {
  return { subscribe: (sink) => new Subscription(params, headers, operation, sink) };
}

class Subscription {
  state = "Connecting";

  /** `sink` is GraphiQL's response pane, and listens only while the tab is chosen in which this was started. */
  constructor({ query, operationName, variables }, headers, operation, sink) {
    this.name = operation.name?.value ?? "subscription";
    this.tab = chosenTab();
    this.sink = sink;
    this.position = new Position(operation, variables);
    running.get().filter((each) => each.tab === this.tab).forEach((each) => each.stop());
    running.set([...running.get(), this]);
    this.client = this.connection(headers);
    const payload = { query, operationName, variables: this.position.variables };
    this.leave = this.client.subscribe(payload, {
      next: (result) => this.next(result),
      error: (problem) => this.end(problem),
      complete: () => this.end(),
    });
  }

  connection(connectionParams) {
    return graphqlWs.createClient({
      url: socket.href,
      connectionParams,
      retryAttempts: ATTEMPTS,
      retryWait: (retries) => new Promise((go) => setTimeout(go, Math.min(250 * 2 ** retries, LONGEST_WAIT))),
      // 4403 says that the token is not good, which trying again does not change.
      shouldRetry: (problem) => problem?.code !== 4403,
      on: {
        connected: (_socket, _payload, again) => this.become("Live", again && this.position.resumed),
        closed: (event) => event.code !== 1000 && this.become("Reconnecting", `connection lost (${event.code})`),
      },
    });
  }

  next(result) {
    this.position.follow(result);
    learn(result.data);
    add(this, { result });
  }

  become(state, note) {
    if (!running.get().includes(this)) return;
    if (note && this.state !== state) add(this, { note });
    this.state = state;
    running.set([...running.get()]);
  }

  /** GraphiQL calls it when Stop is pressed and when another tab is chosen: then the subscription goes on. */
  unsubscribe() {
    this.sink = null;
    setTimeout(() => (chosenTab() === this.tab || !isOpen(this.tab)) && this.stop());
  }

  detach() {
    this.sink?.complete();
    this.sink = null;
  }

  stop() {
    this.leave();
    this.end(null, "stopped");
  }

  end(problem, note = "ended") {
    if (!running.get().includes(this)) return;
    running.set(running.get().filter((each) => each !== this));
    add(this, { note: problem ? `${note}: ${readable(problem)[0].message}` : note });
    draw();
    if (problem) this.sink?.error(readable(problem));
    else this.sink?.complete();
    noticeRefusal(problem);
    this.client.dispose();
  }
}

function readable(problem) {
  if (problem instanceof CloseEvent) return [{ message: `The connection was closed: ${problem.code} ${problem.reason}` }];
  return Array.isArray(problem) ? problem : [{ message: problem.message }];
}

/** Where a reconnect goes on: groupMessages after the last cursor that came, if `after` is a variable of the document. */
class Position {
  constructor(operation, variables) {
    this.variables = variables;
    const field = operation.selectionSet.selections.find((each) => each.name?.value === "groupMessages");
    const after = field?.arguments.find((each) => each.name.value === "after")?.value;
    if (after?.kind !== "Variable") return;
    this.field = (field.alias ?? field.name).value;
    this.last = variables?.[after.name.value];
    const last = () => this.last;
    // The client reads the variables anew for each connection.
    this.variables = { ...variables, get [after.name.value]() { return last(); } };
  }

  follow(result) {
    if (this.field) this.last = result.data?.[this.field]?.cursor ?? this.last;
  }

  get resumed() {
    return this.last ? "connected again, resumed after the last cursor" : "connected again, from now on";
  }
}

/** What another choice of tab means for what runs: it goes on without the response pane, and ends with its own tab. */
export function tabsChanged() {
  for (const each of running.get()) {
    if (!isOpen(each.tab)) each.stop();
    else if (each.tab !== chosenTab()) each.detach();
  }
}
