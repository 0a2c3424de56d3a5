// The components with React's test renderer.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, test } from "node:test";

import { ask, eventually, group, head, person, say, url } from "../harness/index.mjs";
import "./build.mjs";
import { hold, once } from "./way.mjs";

const require = createRequire(import.meta.url);
const { createElement, StrictMode } = require("react");
const { RelayEnvironmentProvider } = require("react-relay");
const { create } = require("react-test-renderer");
const { Chat } = require("./chat.jsx");
const { createParley } = require("./parley.js");

// What React and Relay think of the components; of its test renderer React thinks that a browser would be better.
const complaints = [];
for (const level of ["warn", "error"])
  console[level] = (...words) => /react-test-renderer is deprecated/.test(words[0]) || complaints.push(words);

// Relay keeps what a page stood on for five minutes; nobody waits for that here.
const { setTimeout } = globalThis;
globalThis.setTimeout = (work, milliseconds, ...rest) => {
  const timer = setTimeout(work, milliseconds, ...rest);
  return milliseconds > 60_000 ? timer.unref() : timer;
};

const [ada, bob] = await Promise.all([person("ada"), person("bob")]);
const open = [];
after(() => open.forEach(({ close }) => close()));

function parley(who) {
  const made = createParley({ url, token: who.token });
  open.push(made);
  return made.environment;
}

/** A group on a page: what is on it now, and what somebody can do there. */
function page(environment, groupId, strict = false) {
  const chat = createElement(Chat, { groupId });
  const provider = createElement(RelayEnvironmentProvider, { environment }, chat);
  const renderer = create(strict ? createElement(StrictMode, null, provider) : provider);
  const all = (type) => (renderer.toJSON() ? renderer.root.findAllByType(type) : []);
  return {
    get lines() {
      return all("li").map(({ children, props }) => children.join("") + (props.className && ` (${props.className})`));
    },
    get status() {
      return all("p")[0]?.children.join("");
    },
    get buttons() {
      return all("button");
    },
    send(content) {
      const form = new FormData();
      form.set("content", content);
      all("form")[0].props.action(form);
    },
    close: () => renderer.unmount(),
  };
}

const by = (who, ...contents) => contents.map((content) => `${who.username}: ${content}`);
const shows = (shown, lines) =>
  eventually(() => String(shown.lines) === String(lines), `${lines}, not ${shown.lines},`);

test("a page shows the newest messages, older ones when asked, and what comes", async () => {
  const id = await group(ada, bob);
  const numbers = Array.from({ length: 60 }, (_, number) => `${number}`);
  for (const number of numbers) await say(ada, id, number);
  const shown = page(parley(bob), id);
  await shows(shown, by(ada, ...numbers.slice(10)));
  shown.buttons[0].props.onClick();
  await shows(shown, by(ada, ...numbers));
  assert.equal(shown.buttons.length, 0);
  await say(ada, id, "new");
  await shows(shown, by(ada, ...numbers, "new"));
  shown.close();
});

for (const strict of [false, true]) {
  test(`a draft is shown at once and becomes its message${strict ? " in React's strict mode" : ""}`, async () => {
    const id = await group(ada, bob);
    const pages = [page(parley(ada), id, strict), page(parley(bob), id, strict)];
    for (const shown of pages) await eventually(() => shown.status === "");
    const release = hold("request", '"hello"');
    pages[0].send("hello");
    await shows(pages[0], [`${ada.username}: hello (draft)`]);
    release();
    for (const shown of pages) await shows(shown, by(ada, "hello"));
    pages[1].send("hi");
    for (const shown of pages) await shows(shown, [...by(ada, "hello"), ...by(bob, "hi")]);
    for (const shown of pages) shown.close();
  });
}

test("a refused message goes, and the page says why", async () => {
  const id = await group(ada);
  const shown = page(parley(ada), id);
  await eventually(() => shown.status === "");
  shown.send("x".repeat(4_001));
  await eventually(() => /4,000/.test(shown.status));
  assert.deepEqual(shown.lines, []);
  shown.close();
});

test("a group that is opened again shows what came meanwhile, and goes on", async () => {
  const id = await group(ada, bob);
  const environment = parley(bob);
  const first = page(environment, id);
  await say(ada, id, "one");
  await shows(first, by(ada, "one"));
  first.close();
  await say(ada, id, "two");
  const second = page(environment, id);
  await shows(second, by(ada, "one", "two"));
  await say(ada, id, "three");
  await shows(second, by(ada, "one", "two", "three"));
  second.close();
});

test("a group whose position means nothing any more is begun anew", async () => {
  const [id, elsewhere] = [await group(ada, bob), await group(bob)];
  const position = await head(bob, elsewhere);
  let spoilt = 0;
  once("sent", (text) => {
    const frame = JSON.parse(text);
    if (frame.payload?.variables?.groupId !== id) return null;
    spoilt++;
    frame.payload.variables.after = position;
    return JSON.stringify(frame);
  });
  const shown = page(parley(bob), id);
  await eventually(() => spoilt);
  await say(ada, id, "hello");
  await shows(shown, by(ada, "hello"));
  await say(ada, id, "again");
  await shows(shown, by(ada, "hello", "again"));
  assert.equal(shown.status, "");
  shown.close();
});

test("the end of a membership is told", async () => {
  const id = await group(ada, bob);
  const shown = page(parley(bob), id);
  await say(ada, id, "hello");
  await shows(shown, by(ada, "hello"));
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  // Which of two refusals it is depends on whether the stream had begun.
  await eventually(() => /membership of this group has ended|not a member/.test(shown.status));
  shown.close();
});

test("React and Relay had nothing to complain about", () => assert.deepEqual(complaints, []));
