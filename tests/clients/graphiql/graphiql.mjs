// GraphiQL as a person has it before them, and everything that its browser asks for.

import assert from "node:assert/strict";
import http from "node:http";

import { chromium } from "playwright-core";

import { eventually, url } from "../harness/index.mjs";

export const PASSWORD = "correct horse";
// What Chromium itself says of a server that is down, or that went in the middle of an answer.
const NETWORK = /WebSocket connection to .* failed|Failed to load resource: net::/;

/** A Chromium for which there is only the server under test, like a laptop on a plane. */
export async function offlineBrowser() {
  const executablePath = process.env.PARLEY_CHROMIUM;
  assert.ok(executablePath, "Chromium is missing; on Debian `apt-get install chromium` brings it");
  // Chromium takes no proxy for 127.0.0.1: this one is for what it asks of the world by itself, and refuses everything.
  const proxy = http.createServer((request, response) => response.writeHead(502).end());
  proxy.on("connect", (request, socket) => socket.destroy());
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const args = ["--no-sandbox", `--proxy-server=http://127.0.0.1:${proxy.address().port}`];
  const browser = await chromium.launch({ executablePath, args });
  browser.on("disconnected", () => proxy.close());
  return browser;
}

/** A profile as after a fresh installation; `asked` is all that its pages asked for, from the first request on. */
export async function profile(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(30_000);
  context.asked = [];
  context.on("request", (request) => context.asked.push(request.url()));
  context.on("page", (page) => page.on("websocket", (socket) => context.asked.push(socket.url())));
  return context;
}

/** What was asked of anything but the server under test. A `data:` address names nobody. */
export const elsewhere = ({ asked }) =>
  asked.filter((address) => !address.startsWith("data:") && new URL(address).host !== new URL(url).host);

/** One browser tab with the page in it. */
export class Tab {
  complaints = [];

  static async open(context) {
    const tab = new Tab();
    tab.page = await context.newPage();
    tab.page.on("console", (said) => said.type() === "error" && tab.complaints.push(said.text()));
    tab.page.on("pageerror", (error) => tab.complaints.push(String(error)));
    await tab.goto();
    return tab;
  }

  async goto() {
    await this.page.goto(url);
    await this.page.locator(".graphiql-query-editor .CodeMirror").waitFor();
    // In a wide window the page opens this pane by itself.
    if (this.page.viewportSize().width >= 1_200) await this.page.locator("#operations").waitFor();
  }

  /** What the console and the page's own errors said, but for a server that was down. */
  get unexpected() {
    return this.complaints.filter((text) => !NETWORK.test(text));
  }

  // ---- The bar.

  async register(username) {
    await this.page.getByRole("button", { name: "New here? Register" }).click();
    await this.page.getByPlaceholder("First name").fill(username);
    await this.page.getByPlaceholder("Last name").fill("Test");
    await this.signIn(username, "Register");
  }

  async signIn(username, button = "Sign in") {
    await this.page.getByPlaceholder("Username").fill(username);
    await this.page.getByPlaceholder("Password").fill(PASSWORD);
    await this.page.getByRole("button", { name: button, exact: true }).click();
    await this.page.getByText(`Signed in as ${username}`).waitFor();
  }

  async signOut() {
    await this.page.getByRole("button", { name: "Sign out" }).click();
    await this.page.getByPlaceholder("Username").waitFor();
  }

  says = (text) => this.page.getByRole("status").getByText(text).waitFor();

  // ---- GraphiQL.

  /** Opens a document of graphql/operations from the pane, in its tab. */
  async choose(name) {
    await this.show("Operations");
    await this.page.locator("#operations").getByRole("button", { name: new RegExp(`^${name}\\b`) }).click();
    await this.isChosen(name);
  }

  async show(pane) {
    const button = this.page.getByRole("button", { name: `Show ${pane}` });
    if (await button.count()) await button.click();
  }

  /** Waits until this operation's tab is chosen, and GraphiQL has read its document: it does that a moment later. */
  async isChosen(name) {
    await this.page.locator(".graphiql-tab-active").getByText(name, { exact: true }).waitFor();
    const editor = this.page.locator(".graphiql-query-editor .CodeMirror");
    const isRead = ({ CodeMirror }, wanted) => CodeMirror.operationName === wanted;
    await eventually(() => editor.evaluate(isRead, name), `the document ${name}`);
  }

  /** The text of an editor: "query", "variable" or "response". */
  text(which) {
    const boxes = { query: ".graphiql-query-editor", variable: ".graphiql-editor-tool", response: ".result-window" };
    return this.page.locator(`${boxes[which]} .CodeMirror:visible`).evaluate(({ CodeMirror }) => CodeMirror.getValue());
  }

  async vary(variables) {
    await this.page.locator(".graphiql-editor-tool .CodeMirror:visible").click();
    await this.page.keyboard.press("Control+A");
    await this.page.keyboard.insertText(JSON.stringify(variables));
    await this.page.locator(".graphiql-query-editor .CodeMirror-lines").click({ position: { x: 60, y: 4 } });
  }

  /** Runs the chosen tab's operation; the answer. */
  async run(name, variables) {
    await this.choose(name);
    if (variables) await this.vary(variables);
    const answered = this.page.waitForResponse((answer) => answer.request().postDataJSON()?.operationName === name);
    await this.page.keyboard.press("Control+Enter");
    const answer = await (await answered).json();
    await this.shows(answer);
    return answer;
  }

  /** Waits until the response pane holds exactly this answer. */
  async shows(answer) {
    const whole = JSON.stringify(answer);
    await eventually(async () => compact(await this.text("response")) === whole, `the answer ${whole}`);
  }

  /** Runs a subscription. Whoever must miss nothing gives it a position: a socket is live before its streams are. */
  async follow(name, variables) {
    await this.choose(name);
    if (variables) await this.vary(variables);
    await this.page.keyboard.press("Control+Enter");
    await this.page.locator(".running.live", { hasText: name }).waitFor();
  }

  /** The lines of the panel of events without their times, and without the notes about the connection. */
  async events() {
    const lines = await this.page.locator("#events li:not(.note) summary").allInnerTexts();
    return lines.map((line) => line.replace(/^\S+ /, ""));
  }

  notes = () => this.page.locator("#events li.note").allInnerTexts();

  async sees(...lines) {
    await eventually(async () => String(await this.events()) === String(lines), `the events ${lines}`);
  }
}

const compact = (text) => (text ? JSON.stringify(JSON.parse(text)) : "");
