// Parley's GraphiQL page: who is signed in, the fetcher (HTTP, and graphql-transport-ws for subscriptions), the bar,
// and the start of GraphiQL.
/* global React, ReactDOM, GraphiQL, graphqlWs */

const find = (id) => document.getElementById(id);
const endpoint = new URL(location.pathname, location.origin);
const socket = new URL(endpoint);
socket.protocol = endpoint.protocol === "https:" ? "wss:" : "ws:";

// ---- Who is signed in. In sessionStorage, so that two browser tabs are two people.

const SESSION = "parley:session";
let session = JSON.parse(sessionStorage.getItem(SESSION));

function become(next, notice = "") {
  session = next;
  if (next) sessionStorage.setItem(SESSION, JSON.stringify(next));
  else sessionStorage.removeItem(SESSION);
  find("sign-in").hidden = Boolean(next);
  find("signed-in").hidden = !next;
  find("who").textContent = next?.username ?? "";
  find("notice").textContent = notice;
  document.title = next ? `${next.username} · Parley` : "Parley";
}

/** The headers to send: what the person wrote in GraphiQL's Headers goes before the bar's session. */
function credentials(written = {}) {
  const own = Object.keys(written).some((name) => name.toLowerCase() === "authorization");
  return session && !own ? { authorization: `Bearer ${session.token}`, ...written } : written;
}

/** Signs out in this tab if the server no longer knows the token. */
async function verify() {
  const asked = session;
  if (!asked) return;
  const { data, errors = [] } = await post({ query: "{ viewer { username } }" }, credentials());
  const gone = !data?.viewer && errors.every(endsSession);
  if (gone && session === asked) become(null, "The session has ended: sign in again.");
}

// ---- Requests.

const JSON_BOTH_WAYS = {
  "content-type": "application/json",
  accept: "application/graphql-response+json, application/json",
};

async function post(params, headers) {
  const body = JSON.stringify(params);
  const response = await fetch(endpoint, { method: "POST", headers: { ...JSON_BOTH_WAYS, ...headers }, body });
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`The server answered HTTP ${response.status}: ${text.slice(0, 200) || response.statusText}`);
  }
}

let live = null; // the subscription whose state the bar shows

/** One socket per subscription: it carries the session of the moment it was started, and closes with it. */
function subscribe(params, headers) {
  const show = (state) => live === client && (find("live").textContent = state);
  const client = graphqlWs.createClient({
    url: socket.href,
    connectionParams: headers,
    // 4403 says that the token is not good, which trying again does not change.
    shouldRetry: (problem) => problem?.code !== 4403,
    on: {
      connecting: () => show("Connecting"),
      connected: () => show("Live"),
      closed: (event) => show(event.code === 1000 ? "" : "Reconnecting"),
    },
  });
  live = client;
  const ended = () => {
    show("");
    if (live === client) live = null;
  };
  const run = (sink) =>
    client.subscribe(params, {
      next: (result) => sink.next(result),
      complete: () => (ended(), sink.complete()),
      error: (problem) => (ended(), noticeRefusal(problem), sink.error(readable(problem))),
    });
  const subscription = (stop) => ({ unsubscribe: () => (ended(), stop()) });
  return { subscribe: (sink) => subscription(run(sink)) };
}

function readable(problem) {
  if (!(problem instanceof CloseEvent)) return problem;
  return [{ message: `The connection was closed: ${problem.code} ${problem.reason}`.trim() }];
}

const endsSession = (error) => ["UNAUTHENTICATED", "SESSION_EXPIRED"].includes(error.extensions?.code);

/** A refusal can mean that the session is over, or only that a password in the editor was wrong: the server knows. */
function noticeRefusal(problem) {
  if (problem?.code === 4403 || (Array.isArray(problem) && problem.some(endsSession))) verify().catch(() => {});
}

async function fetcher(params, { headers, documentAST } = {}) {
  const all = credentials(headers);
  const operation = documentAST && GraphiQL.GraphQL.getOperationAST(documentAST, params.operationName);
  if (operation?.operation === "subscription") return subscribe(params, all);
  const result = await post(params, all);
  noticeRefusal(result.errors);
  return result;
}

// ---- The bar.

const WAYS = {
  login: {
    enter: "Sign in",
    other: "New here? Register",
    password: "current-password",
    query: "mutation Login($input: LoginInput!) { entered: login(input: $input) { token viewer { username } } }",
  },
  register: {
    enter: "Register",
    other: "Sign in instead",
    password: "new-password",
    query: "mutation Register($input: RegisterInput!) { entered: register(input: $input) { token viewer { username } } }",
  },
};
let way = "login";

function choose(next) {
  way = next;
  find("enter").textContent = WAYS[way].enter;
  find("switch").textContent = WAYS[way].other;
  find("sign-in").password.autocomplete = WAYS[way].password;
  find("names").hidden = find("names").disabled = way === "login";
  find("notice").textContent = "";
}

async function enter(form) {
  const input = Object.fromEntries(new FormData(form));
  const { data, errors } = await post({ query: WAYS[way].query, variables: { input } });
  if (!data?.entered) throw new Error(errors?.[0]?.message ?? "The server gave no answer.");
  form.reset();
  choose("login");
  become({ token: data.entered.token, username: data.entered.viewer.username });
}

async function leave() {
  const headers = credentials();
  become(null);
  await post({ query: "mutation Logout { logout { loggedOut } }" }, headers);
}

/** Runs the form's action once at a time; what goes wrong is said in the bar. */
function onSubmit(id, action) {
  find(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = [...event.target.querySelectorAll("button")];
    find("notice").textContent = "";
    buttons.forEach((button) => (button.disabled = true));
    await action(event.target).catch((problem) => (find("notice").textContent = problem.message));
    buttons.forEach((button) => (button.disabled = false));
  });
}

onSubmit("sign-in", enter);
onSubmit("signed-in", leave);
find("switch").addEventListener("click", () => choose(way === "login" ? "register" : "login"));
become(session);
verify().catch(() => {});

// ---- GraphiQL.

// Editors and history can hold passwords and tokens: they stay with the browser tab. Taste and favourites outlive it.
const LASTING = new Set(["graphiql:theme", "graphiql:favorites"]);
const place = (key) => (LASTING.has(key) ? localStorage : sessionStorage);
const keysIn = (area) => Object.keys(area).filter((key) => key.startsWith("graphiql:"));
const storage = {
  getItem: (key) => place(key).getItem(key),
  setItem: (key, value) => place(key).setItem(key, value),
  removeItem: (key) => place(key).removeItem(key),
  clear: () => [localStorage, sessionStorage].forEach((area) => keysIn(area).forEach((key) => area.removeItem(key))),
  get length() { return keysIn(localStorage).length + keysIn(sessionStorage).length; },
};

const VARIABLES = { groupId: "", username: "", userId: "", content: "Hello!" };
const welcome = await (await fetch(find("graphiql").dataset.welcome)).text();

ReactDOM.createRoot(find("graphiql")).render(
  React.createElement(GraphiQL, {
    fetcher,
    storage,
    shouldPersistHeaders: false,
    defaultQuery: "",
    defaultEditorToolsVisibility: "variables",
    defaultTabs: [{ query: welcome, variables: JSON.stringify(VARIABLES, null, 2) }],
  }),
);
