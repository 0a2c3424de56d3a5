// Parley's own GraphiQL in a real browser that reaches nothing but the server.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { after, afterEach, before, test } from "node:test";

import { ask, eventually, group, head, operation, person, restartServer, say, url } from "../harness/index.mjs";
import { elsewhere, offlineBrowser, PASSWORD, profile, Tab } from "./graphiql.mjs";

const DOCUMENTS = readdirSync(new URL("../../../graphql/operations/", import.meta.url))
  .filter((file) => file.endsWith(".graphql"))
  .map((file) => file.replace(".graphql", ""));
const START = ["Welcome", "MyGroups", "SendGroupMessage", "GroupMessages"];
let browser;
let tabs = [];

before(async () => (browser = await offlineBrowser()));
after(() => browser?.close());

afterEach(async () => {
  const used = tabs;
  tabs = [];
  const contexts = new Set(used.map((tab) => tab.page.context()));
  for (const context of contexts) await context.close();
  assert.deepEqual(used.flatMap((tab) => tab.unexpected), []);
  for (const context of contexts) {
    assert.ok(context.asked.includes(url));
    assert.deepEqual(elsewhere(context), []);
  }
});

/** A browser tab; in a fresh profile unless one is given. */
async function opened(context) {
  const tab = await Tab.open(context ?? (await profile(browser)));
  tabs.push(tab);
  return tab;
}

const newName = (prefix) => `${prefix}-${randomUUID().slice(0, 8)}`;

/** A browser tab in which somebody new is signed in: `{ tab, token, viewer, username }`. */
async function visitor(prefix) {
  const somebody = await person(prefix);
  const tab = await opened();
  await tab.signIn(somebody.username);
  return { tab, ...somebody };
}

/** Two people in one group, each in a tab of their own; its id. */
async function conversation() {
  const [ada, bob] = await Promise.all([visitor("ada"), visitor("bob")]);
  return { ada, bob, id: await group(ada, bob) };
}

const stored = (tab, area) => tab.page.evaluate((name) => JSON.stringify({ ...window[name] }), area);
const tokenOf = async (tab) => JSON.parse(await tab.page.evaluate(() => sessionStorage["parley:session"])).token;
const code = (answer) => answer.errors?.[0].extensions.code;

test("on a wiped profile the page opens with its tabs, the docs, the explorer, and every document", async () => {
  const tab = await opened();
  await tab.page.locator('.result-window [data-hint^="The answer appears here"]').waitFor();
  assert.deepEqual(await tab.page.locator(".graphiql-tab-button").allInnerTexts(), START);
  assert.match(await tab.text("query"), /^# Two people/);
  const listed = await tab.page.locator("#operations .name").allInnerTexts();
  assert.deepEqual(listed.map((name) => name.replace(/\s*live$/, "")).sort(), [...DOCUMENTS].sort());

  await tab.show("Documentation Explorer");
  const types = tab.page.locator(".graphiql-doc-explorer-content");
  await types.getByRole("link", { name: "Subscription", exact: true }).click();
  await types.getByText("What happens to the messages of a group").waitFor();
  await tab.page.getByRole("link", { name: "Docs" }).click();
  await types.getByRole("link", { name: "Message", exact: true }).click(); // far down in a list, and long itself
  await types.getByText("What a member sent.").waitFor();
  await eventually(() => tab.page.locator(".graphiql-plugin").evaluate(({ scrollTop }) => scrollTop === 0), "the top");

  await tab.show("GraphiQL Explorer");
  await tab.page.locator(".graphiql-explorer-root").getByText("displayName").first().waitFor();

  await tab.show("History");
  await tab.page.getByRole("region", { name: "History" }).waitFor();
});

test("menus and dialogs open under the page's policy", async () => {
  const tab = await opened();
  for (const name of ["Open settings dialog", "Open short keys dialog"]) {
    await tab.page.getByRole("button", { name }).click();
    await tab.page.getByRole("dialog").waitFor();
    await tab.page.keyboard.press("Escape");
    await tab.page.getByRole("dialog").waitFor({ state: "detached" });
  }
  await tab.page.getByRole("button", { name: /^Execute query/ }).click();
  await tab.page.getByRole("menuitem", { name: "Welcome" }).click();
  await tab.says("Nobody is signed in here");
  assert.equal(code(JSON.parse(await tab.text("response"))), "UNAUTHENTICATED");
});

test("each document of graphql/operations opens as a tab, as it is", async () => {
  const tab = await opened();
  for (const name of DOCUMENTS) {
    await tab.choose(name);
    assert.equal(await tab.text("query"), operation(name));
  }
  const titles = await tab.page.locator(".graphiql-tab-button").allInnerTexts();
  assert.deepEqual([...titles].sort(), ["Welcome", ...DOCUMENTS].sort(), "each has one tab");
});

test("somebody registers, signs out and signs in again inside the page", async () => {
  const tab = await opened();
  const ada = newName("ada");
  await tab.register(ada);
  const first = await tokenOf(tab);
  assert.equal((await ask(first, "Viewer")).username, ada);
  assert.doesNotMatch((await stored(tab, "localStorage")) + (await tab.page.evaluate(() => document.cookie)), /token/i);
  await tab.goto();
  await tab.page.getByText(`Signed in as ${ada}`).waitFor();

  await tab.signOut();
  assert.ok(!(await stored(tab, "sessionStorage")).includes(first));
  await eventually(() => ask(first, "Viewer").then(() => false, () => true), "the end of the token");

  await tab.page.getByPlaceholder("Username").fill(ada);
  await tab.page.getByPlaceholder("Password").fill("wrong horse");
  await tab.page.getByRole("button", { name: "Sign in", exact: true }).click();
  await tab.says("The username or the password is wrong.");
  await tab.signIn(ada);
  assert.notEqual(await tokenOf(tab), first);
});

test("two tabs of one browser are two people, and one hears the other", async () => {
  const context = await profile(browser);
  const [one, two] = [await opened(context), await opened(context)];
  const people = [];
  for (const [tab, username] of [[one, newName("ada")], [two, newName("bob")]]) {
    await tab.page.bringToFront();
    await tab.register(username);
    const { viewer } = (await tab.run("Viewer")).data;
    assert.equal(viewer.username, username);
    people.push({ viewer, token: await tokenOf(tab) });
  }
  const groupId = await group(...people);
  await one.page.bringToFront();
  await one.follow("GroupMessages", { groupId, after: await head(people[0], groupId) });
  await two.page.bringToFront();
  await two.run("SendGroupMessage", { input: { groupId, content: "hello" } });
  await one.page.bringToFront();
  await one.sees(`SENT ${people[1].viewer.displayName}: hello`);
});

test("a token that has ended signs its tab out, and the bar says so", async () => {
  const { tab, username } = await visitor("ada");
  await ask(await tokenOf(tab), "Logout");
  assert.equal(code(await tab.run("Viewer")), "UNAUTHENTICATED");
  await tab.says("The session has ended: sign in again.");
  await tab.signIn(username);
  assert.equal((await tab.run("Viewer")).data.viewer.username, username);
});

test("what an answer names is filled into the variables of every other operation", async () => {
  const { ada, bob, id } = await conversation();
  const { tab } = ada;
  assert.equal(code(await tab.run("GroupMembers")), "NOT_FOUND");
  await tab.says("Variables still hold <group id>. Run MyGroups or CreateGroup first");
  await tab.run("MyGroups");
  await tab.choose("GroupMembers");
  assert.equal(JSON.parse(await tab.text("variable")).id, id);
  await tab.run("User", { username: bob.username });
  const answer = await tab.run("ChangeMemberRole");
  assert.equal(answer.data.changeMemberRole.membership.user.username, bob.username);
});

test("a refused operation shows its code", async () => {
  const ada = await person("ada");
  const { tab } = await visitor("eve");
  const id = await group(ada);
  assert.equal(code(await tab.run("Group", { id })), "FORBIDDEN");
  await tab.choose("GroupMessages");
  await tab.vary({ groupId: id });
  await tab.page.keyboard.press("Control+Enter");
  await tab.page.locator("#events li.note", { hasText: "GroupMessages ended: " }).waitFor();
  assert.equal(code(JSON.parse(await tab.text("response"))), "FORBIDDEN");
});

test("somebody listens in one tab while somebody else sends, and sees each event as it comes", async () => {
  const { ada, bob, id } = await conversation();
  await ada.tab.follow("GroupMessages", { groupId: id, after: await head(ada, id) });
  const lines = [];
  for (const content of ["one", "two", "three"]) {
    await bob.tab.run("SendGroupMessage", { input: { groupId: id, content } });
    lines.push(`SENT ${bob.viewer.displayName}: ${content}`);
    await ada.tab.sees(...lines);
  }
  assert.equal(JSON.parse(await ada.tab.text("response")).data.groupMessages.message.content, "three");
  await ada.tab.page.locator("#events summary").first().click();
  await ada.tab.page.locator("#events pre", { hasText: '"content": "one"' }).waitFor();

  // In another tab of GraphiQL it goes on, beside that tab's own answer.
  const own = await ada.tab.run("SendGroupMessage", { input: { groupId: id, content: "four" } });
  lines.push(`SENT ${ada.viewer.displayName}: four`);
  await ada.tab.sees(...lines);
  await ada.tab.shows(own);

  await ada.tab.page.getByRole("button", { name: "Stop GroupMessages" }).click();
  await ada.tab.page.locator("#events .running").waitFor({ state: "detached" });
  await bob.tab.run("SendGroupMessage", { input: { groupId: id, content: "unheard" } });
  assert.deepEqual(await ada.tab.events(), lines);
});

test("the server is killed and started again, and the subscription goes on without loss", async () => {
  const { ada, bob, id } = await conversation();
  await ada.tab.follow("GroupMessages", { groupId: id, after: await head(ada, id) });
  await say(bob, id, "before");
  const lines = [`SENT ${bob.viewer.displayName}: before`];
  await ada.tab.sees(...lines);
  await restartServer("SIGKILL");
  for (const content of ["one", "two", "three"]) {
    await say(bob, id, content);
    lines.push(`SENT ${bob.viewer.displayName}: ${content}`);
  }
  await ada.tab.sees(...lines);
  await ada.tab.page.locator(".running.live").waitFor();
  const notes = (await ada.tab.notes()).map((note) => note.replace(/^\S+ /, ""));
  assert.match(notes[0], /^GroupMessages connection lost \(\d+\)$/);
  assert.equal(notes.at(-1), "GroupMessages connected again, resumed after the last cursor");
  await say(bob, id, "after");
  await ada.tab.sees(...lines, `SENT ${bob.viewer.displayName}: after`);
});

test("while the server is away the page says so in one sentence", async () => {
  const { tab } = await visitor("ada");
  await tab.choose("Viewer");
  await tab.page.route(url, (route) => route.abort("connectionrefused"));
  await tab.page.keyboard.press("Control+Enter");
  await tab.shows({ errors: [{ message: "The server cannot be reached." }] });
});

test("everything is reached and run with the keyboard alone", async () => {
  const { username } = await person("ada");
  const tab = await opened();
  const { page } = tab;
  await page.keyboard.press("Tab");
  await page.keyboard.type(username);
  await page.keyboard.press("Tab");
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press("Enter");
  await page.getByText(`Signed in as ${username}`).waitFor();
  const focused = () => page.evaluate(({ activeElement: it } = document) => it.ariaLabel ?? it.innerText);
  const reach = async (what) => {
    for (let presses = 0; !(await focused()).startsWith(what); presses++) {
      assert.ok(presses < 100, `${what} is not reached with the Tab key`);
      await page.keyboard.press("Tab");
    }
  };
  await reach("Viewer");
  await page.keyboard.press("Enter");
  await tab.isChosen("Viewer");
  await page.keyboard.press("Control+Enter");
  await page.locator(".result-window", { hasText: username }).waitFor();
  for (const editor of ["Variables", "Response"]) await reach(editor);
});

test("in a narrow window the pane gives way, and the chosen tab is in view", async () => {
  const tab = await opened(await profile(browser, { viewport: { width: 800, height: 900 } }));
  assert.equal(await tab.page.locator("#operations").count(), 0);
  for (const name of ["GroupHistory", "ChangeMemberRole", "MyGroups"]) {
    await tab.choose(name);
    await tab.page.locator("#operations").waitFor({ state: "detached" });
    const chosen = tab.page.locator(".graphiql-tab-active");
    await eventually(() => chosen.evaluate((element) => {
      const [inner, outer] = [element, element.parentElement].map((each) => each.getBoundingClientRect());
      return inner.left >= outer.left - 1 && inner.right <= outer.right + 1;
    }), `${name} in view`);
  }
  assert.equal(await tab.page.evaluate(() => document.documentElement.scrollWidth), 800);
});
