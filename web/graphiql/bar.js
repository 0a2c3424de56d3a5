// The bar: signing in, registering, signing out.

import { find, say } from "./kit.js";
import { become, credentials, post } from "./session.js";

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
  say("");
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
    say("");
    buttons.forEach((button) => (button.disabled = true));
    await action(event.target).catch((problem) => say(problem.message));
    buttons.forEach((button) => (button.disabled = false));
  });
}

onSubmit("sign-in", enter);
onSubmit("signed-in", leave);
find("switch").addEventListener("click", () => choose(way === "login" ? "register" : "login"));
