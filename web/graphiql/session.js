// Who is signed in, and requests in their name. The session lies in sessionStorage: two browser tabs are two people.

import { find, say } from "./kit.js";

const SESSION = "parley:session";
let session = JSON.parse(sessionStorage.getItem(SESSION));

export const endpoint = new URL(location.pathname, location.origin);
export const username = () => session?.username ?? "";

export function become(next, notice = "") {
  session = next;
  if (next) sessionStorage.setItem(SESSION, JSON.stringify(next));
  else sessionStorage.removeItem(SESSION);
  find("sign-in").hidden = Boolean(next);
  find("signed-in").hidden = !next;
  find("who").textContent = username();
  say(notice);
  document.title = next ? `${next.username} · Parley` : "Parley";
}

/** The headers to send: what the person wrote in GraphiQL's Headers goes before the bar's session. */
export function credentials(written = {}) {
  const own = Object.keys(written).some((name) => name.toLowerCase() === "authorization");
  return session && !own ? { authorization: `Bearer ${session.token}`, ...written } : written;
}

const JSON_BOTH_WAYS = {
  "content-type": "application/json",
  accept: "application/graphql-response+json, application/json",
};

export async function post(params, headers) {
  const body = JSON.stringify(params);
  const request = fetch(endpoint, { method: "POST", headers: { ...JSON_BOTH_WAYS, ...headers }, body });
  const response = await request.catch(() => Promise.reject(new Error("The server cannot be reached.")));
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`The server answered HTTP ${response.status}: ${text.slice(0, 200) || response.statusText}`);
  }
}

const endsSession = (error) => ["UNAUTHENTICATED", "SESSION_EXPIRED"].includes(error.extensions?.code);
const wantsSession = (error) => error.extensions?.code === "UNAUTHENTICATED" && error.path?.[0] !== "login";

/** Signs out in this tab if the server no longer knows the token. */
async function verify() {
  const asked = session;
  if (!asked) return;
  const { data, errors = [] } = await post({ query: "{ viewer { username } }" }, credentials());
  const gone = !data?.viewer && errors.every(endsSession);
  if (gone && session === asked) become(null, "The session has ended: sign in again.");
}

/** A refusal can mean that the session is over, or only that a password in the editor was wrong: the server knows. */
export function noticeRefusal(problem) {
  const errors = Array.isArray(problem) ? problem : [];
  if (session && (problem?.code === 4403 || errors.some(endsSession))) verify().catch(() => {});
  if (!session && errors.some(wantsSession)) say("Nobody is signed in here. Sign in first, then run it again.");
}

become(session);
verify().catch(() => {});
