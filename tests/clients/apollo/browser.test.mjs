// The page in a real browser, from another origin than the server's.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import { after, afterEach, before, test } from "node:test";

import { build } from "esbuild";
import { chromium } from "playwright-core";

import { ask, contents, eventually, restartServer, say, socketUrl, url } from "../harness/index.mjs";

const here = (path) => new URL(path, import.meta.url);
const PASSWORD = "correct horse";
const outside = []; // what a page asked of anything but 127.0.0.1
let site, dead, browser;

before(async () => {
  const executablePath = process.env.PARLEY_CHROMIUM;
  assert.ok(executablePath, "Chromium is missing; on Debian `apt-get install chromium` brings it");
  site = await serving(await pageFiles());
  // Chromium takes no proxy for 127.0.0.1, so this one is for what it asks of the world by itself: it refuses everything.
  dead = await serving({});
  dead.on("connect", (request, socket) => socket.destroy());
  const args = ["--no-sandbox", `--proxy-server=${dead.address}`];
  browser = await chromium.launch({ executablePath, args });
});

after(async () => {
  await browser?.close();
  for (const server of [site, dead]) server?.close();
});

afterEach(() => assert.deepEqual(outside, []));

async function pageFiles() {
  const bundle = await build({
    entryPoints: [here("page/main.jsx").pathname],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    conditions: ["development"], // Apollo then complains on the console, where a complaint fails the test
    loader: { ".graphql": "text" },
  });
  return {
    "/": ["text/html", readFileSync(here("page/index.html"))],
    "/main.js": ["text/javascript", bundle.outputFiles[0].contents],
  };
}

/** A server of these files on a port of its own, with the strictest policy under which the page can work. */
async function serving(files) {
  const policy = `default-src 'none'; script-src 'self'; img-src data:; connect-src ${url} ${socketUrl}`;
  const server = http.createServer((request, response) => {
    const [type, body] = files[new URL(request.url, "http://127.0.0.1").pathname] ?? [];
    if (!body) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": type, "Content-Security-Policy": policy }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(server, { address: `http://127.0.0.1:${server.address().port}` });
}

/** Somebody new in a browser of their own, registered through the page. `complaints` is what the console said. */
async function visitor(prefix) {
  const context = await browser.newContext();
  const look = (url) => new URL(url).hostname === "127.0.0.1" || outside.push(url);
  context.on("request", (request) => look(request.url()));
  const page = await context.newPage();
  page.on("websocket", (socket) => look(socket.url()));
  page.complaints = [];
  page.on(
    "console",
    (message) => ["error", "warning"].includes(message.type()) && page.complaints.push(message.text()),
  );
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.username = `${prefix}-${randomUUID().slice(0, 8)}`;
  await page.goto(`${site.address}/?api=${encodeURIComponent(url)}`);
  await signIn(page, "Register");
  return page;
}

async function signIn(page, button, username = page.username) {
  await page.getByPlaceholder("User name").fill(username);
  await page.getByPlaceholder("Password").fill(PASSWORD);
  await page.getByRole("button", { name: button }).click();
  await page.getByText(`You are ${username} Page`).waitFor();
}

async function sendIn(page, content) {
  await page.getByPlaceholder("A message").fill(content);
  await page.getByRole("button", { name: "Send" }).click();
}

async function shows(page, ...lines) {
  const shown = () => page.locator("ol li").allTextContents();
  await eventually(async () => String(await shown()) === String(lines), `${lines}`);
}

/** Two people in one group, with the group open in both pages; its id and a token of each for the tests' own requests. */
async function conversation() {
  const [ada, bob] = await Promise.all([visitor("ada"), visitor("bob")]);
  await ada.getByPlaceholder("A new group").fill("Chess");
  await ada.getByPlaceholder("with this user").fill(bob.username);
  await ada.getByRole("button", { name: "Create" }).click();
  for (const page of [ada, bob]) await page.getByRole("button", { name: "Chess" }).click();
  for (const page of [ada, bob])
    page.token = (await ask(null, "Login", { input: { username: page.username, password: PASSWORD } })).token;
  const [{ node }] = (await ask(ada.token, "MyGroups")).edges;
  return { ada, bob, id: node.id };
}

test("two pages chat from another origin, and a draft is shown before the server has answered", async () => {
  const { ada, bob, id } = await conversation();
  assert.notEqual(new URL(site.address).origin, new URL(url).origin);
  const { promise: released, resolve: release } = Promise.withResolvers();
  await ada.route(url, async (route) => {
    if (route.request().postData()?.includes("SendGroupMessage")) await released;
    await route.continue();
  });
  await sendIn(ada, "hello");
  await shows(ada, `${ada.username}: hello`);
  assert.equal(await ada.locator("li.draft").count(), 1);
  await shows(bob);
  release();
  await shows(bob, `${ada.username}: hello`);
  await ada.locator("li.draft").waitFor({ state: "detached" });
  await sendIn(bob, "hi");
  for (const page of [ada, bob]) await shows(page, `${ada.username}: hello`, `${bob.username}: hi`);
  assert.deepEqual(await contents(ada, id), ["hello", "hi"]);
  assert.deepEqual([...ada.complaints, ...bob.complaints], []);
  await Promise.all([ada, bob].map((page) => page.context().close()));
});

test("older messages are fetched when asked for", async () => {
  const { ada, id } = await conversation();
  const numbers = Array.from({ length: 60 }, (_, number) => `${number}`);
  for (const number of numbers) await say(ada, id, number);
  await ada.reload();
  await signIn(ada, "Log in");
  await ada.getByRole("button", { name: "Chess" }).click();
  const lines = numbers.map((number) => `${ada.username}: ${number}`);
  await shows(ada, ...lines.slice(10));
  await ada.getByRole("button", { name: "Older" }).click();
  await shows(ada, ...lines);
  assert.equal(await ada.getByRole("button", { name: "Older" }).count(), 0);
  assert.deepEqual(ada.complaints, []);
  await ada.context().close();
});

test("the server is restarted, and the pages go on where they were", async () => {
  const { ada, bob, id } = await conversation();
  await sendIn(ada, "before");
  for (const page of [ada, bob]) await shows(page, `${ada.username}: before`);
  await restartServer("SIGKILL");
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  await sendIn(bob, "after");
  const lines = ["before", "one", "two", "three"].map((content) => `${ada.username}: ${content}`);
  for (const page of [ada, bob]) await shows(page, ...lines, `${bob.username}: after`);
  // What Chromium itself says of a server that is down, or that went in the middle of an answer.
  const network = /WebSocket connection to .* failed|Failed to load resource: net::/;
  const unexpected = [...ada.complaints, ...bob.complaints].filter((text) => !network.test(text));
  assert.deepEqual(unexpected, []);
  await Promise.all([ada, bob].map((page) => page.context().close()));
});

test("the next one to log in on the same page sees nothing of the one before", async () => {
  const { ada, bob, id } = await conversation();
  await say(ada, id, "secret");
  await shows(bob, `${ada.username}: secret`);
  await bob.getByRole("button", { name: "Log out" }).click();
  await bob.getByPlaceholder("User name").waitFor();
  const stranger = await visitor("eve");
  await signIn(bob, "Log in", stranger.username);
  await bob.getByText("You are eve").waitFor();
  assert.doesNotMatch(await bob.locator("body").innerText(), /secret|Chess/);
  assert.deepEqual(bob.complaints, []);
  await Promise.all([ada, bob, stranger].map((page) => page.context().close()));
});
