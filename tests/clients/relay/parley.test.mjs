import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { after, test } from "node:test";

import {
  ask,
  contents,
  eventually,
  group,
  head,
  person,
  restartServer,
  say,
  shakyWay,
  url,
} from "../harness/index.mjs";
import "./build.mjs";
import { hold, once, reached } from "./way.mjs";

const require = createRequire(import.meta.url);
const {
  commitMutation,
  createOperationDescriptor,
  fetchQuery,
  getRequest,
  getSelector,
  requestSubscription,
} = require("relay-runtime");
const { createParley, following, GROUP, inOrder, MESSAGE, MESSAGES, Refusal, sending } = require("./parley.js");
const { LISTS, MINE, NEWS, NODE } = require("./refetch.js");
const OLDER = require("./__generated__/parleyOlderQuery.graphql.js");

// Relay says on the console what it thinks of documents and of changes to the store.
const complaints = [];
for (const level of ["warn", "error"]) console[level] = (...words) => complaints.push(words);

const [ada, bob] = await Promise.all([person("ada"), person("bob")]);
const open = [];
after(() => open.forEach(({ close }) => close()));

/** The environment of `who`, closed with the tests. */
function parley(who, options = {}) {
  const made = createParley({ url, token: who.token, ...options });
  open.push(made);
  return made.environment;
}

const fetched = (environment, query, variables) =>
  fetchQuery(environment, query, variables, { fetchPolicy: "network-only" }).toPromise();

/** Opens a group as a page does. It complains if a message is there twice or goes back to an older copy. */
async function opened(environment, id) {
  const operation = createOperationDescriptor(getRequest(GROUP), { id });
  environment.retain(operation);
  const { group } = await fetched(environment, GROUP, { id });
  const list = getSelector(MESSAGES, environment.lookup(operation.fragment).data.group);
  const versions = {};
  const page = {
    id,
    position: group.messages.headCursor,
    get nodes() {
      const nodes = inOrder(environment.lookup(list).data.messages);
      return nodes.map((node) => environment.lookup(getSelector(MESSAGE, node)).data);
    },
    get texts() {
      return page.nodes.map(({ content }) => content);
    },
    get info() {
      return environment.lookup(list).data.messages.pageInfo;
    },
  };
  environment.subscribe(environment.lookup(list), () => {
    const seen = new Set();
    for (const { id, sender, clientMessageId, version } of page.nodes) {
      const key = clientMessageId ? `${sender.__id} ${clientMessageId}` : id;
      if (seen.has(key)) complaints.push(`shown twice: ${key}`);
      if (version < versions[key]) complaints.push(`went back to ${version}: ${key}`);
      versions[key] = version;
      seen.add(key);
    }
  });
  return page;
}

/** Follows a group; `cursors` of what came, `end` is the code that ended it. */
function follow(environment, { id, position }) {
  const seen = { cursors: [], end: null };
  const { dispose } = requestSubscription(environment, {
    ...following(id, position),
    onNext: ({ groupMessages }) => seen.cursors.push(groupMessages.cursor),
    onError: (error) => (seen.end = error.code ?? String(error)),
  });
  return Object.assign(seen, { stop: dispose });
}

/** Commits a mutation; resolves with its response. */
const commit = (environment, config) =>
  new Promise((resolve, reject) => commitMutation(environment, { ...config, onCompleted: resolve, onError: reject }));

const send = (environment, ...args) => commit(environment, sending(...args));

const shows = (page, ...wanted) =>
  eventually(() => String(page.texts) === String(wanted), `${wanted}, not ${page.texts},`);

const edited = (content, other) => (text) => {
  const frame = JSON.parse(text);
  const message = frame.payload?.data?.groupMessages?.messageEdge.node;
  if (message?.content !== content) return null;
  Object.assign(message, other);
  return JSON.stringify(frame);
};

// --- pages -----------------------------------------------------------------------------------------------------------

test("older pages join the list in front of the newest", async () => {
  const id = await group(ada);
  const numbers = Array.from({ length: 120 }, (_, number) => `${number}`);
  for (const number of numbers) await say(ada, id, number);
  const environment = parley(ada);
  const page = await opened(environment, id);
  assert.deepEqual(page.texts, numbers.slice(-50));
  for (const length of [100, 120]) {
    assert.equal(page.info.hasPreviousPage, true);
    await fetched(environment, OLDER, { id, count: 50, cursor: page.info.startCursor });
    assert.deepEqual(page.texts, numbers.slice(-length));
  }
  assert.equal(page.info.hasPreviousPage, false);
});

test("an older page does not move the position of the newest one", async () => {
  const id = await group(ada);
  for (let number = 0; number < 51; number++) await say(ada, id, `${number}`);
  const environment = parley(ada);
  const page = await opened(environment, id);
  await say(ada, id, "missed");
  await fetched(environment, OLDER, { id, count: 50, cursor: page.info.startCursor });
  const operation = createOperationDescriptor(getRequest(GROUP), { id });
  const { group: stored } = environment.lookup(operation.fragment).data;
  assert.equal(stored.messages.headCursor, page.position);
  const seen = follow(environment, { id, position: stored.messages.headCursor });
  await eventually(() => page.texts.at(-1) === "missed");
  assert.equal(page.texts.length, 52);
  seen.stop();
});

test("what a page was refused with is thrown", async () => {
  const id = await group(ada);
  const environment = parley(bob);
  const refused = (error) => error instanceof Refusal && error.code === "FORBIDDEN" && error.membershipStatus === null;
  await assert.rejects(fetched(environment, GROUP, { id }), refused);
});

test("objects are fetched anew by their global id", async () => {
  const id = await group(ada, bob);
  const environment = parley(ada);
  const message = await say(ada, id, "hello");
  const { group: held } = await fetched(environment, MINE, { id });
  await ask(ada.token, "UpdateGroup", { input: { groupId: id, name: "Go" } });
  const node = async (id) => (await fetched(environment, NODE, { id })).node;
  assert.deepEqual(await node(id), { __typename: "Group", id, name: "Go" });
  assert.equal((await node(message.id)).content, "hello");
  assert.equal((await node(ada.viewer.id)).firstName, "ada");
  assert.equal((await node(held.viewerMembership.id)).role, "ADMIN");
  assert.equal(await node("nothing"), null);
});

test("an object that is fetched anew is new wherever it is shown", async () => {
  const id = await group(ada);
  const environment = parley(ada);
  const operation = createOperationDescriptor(getRequest(MINE), { id });
  await fetched(environment, MINE, { id });
  let name;
  environment.subscribe(environment.lookup(operation.fragment), ({ data }) => (name = data.group.name));
  await ask(ada.token, "UpdateGroup", { input: { groupId: id, name: "Go" } });
  await fetched(environment, NODE, { id });
  assert.equal(name, "Go");
});

test("every list of the schema is a connection", async () => {
  const eve = await person("eve");
  await group(eve, bob);
  const { myGroups } = await fetched(parley(eve), LISTS, {});
  assert.deepEqual(
    myGroups.edges.map(({ node }) => [node.name, node.members.edges.map((edge) => edge.node.role)]),
    [["Chess", ["ADMIN", "MEMBER"]]],
  );
});

test("what happens to groups changes them in the store", async () => {
  const eve = await person("eve");
  const id = await group(eve);
  const environment = parley(eve);
  const operation = createOperationDescriptor(getRequest(MINE), { id });
  environment.retain(operation);
  await fetched(environment, MINE, { id });
  const types = [];
  const { dispose } = requestSubscription(environment, {
    subscription: NEWS,
    variables: {},
    onNext: ({ myGroupEvents }) => types.push(myGroupEvents.__typename),
  });
  await eventually(() => types.length === 1);
  await ask(eve.token, "UpdateGroup", { input: { groupId: id, name: "Go" } });
  await eventually(() => environment.lookup(operation.fragment).data.group.name === "Go");
  assert.deepEqual(types, ["GroupsSnapshotEvent", "GroupUpdatedEvent"]);
  dispose();
});

// --- sending ---------------------------------------------------------------------------------------------------------

test("a draft is shown at once, and its message takes exactly its place", async () => {
  const id = await group(ada);
  const environment = parley(ada);
  const page = await opened(environment, id);
  const [first, second] = [randomUUID(), randomUUID()];
  const release = [first, second].map((own) => hold("request", own));
  const sent = [first, second].map((own) => send(environment, id, "same words", own));
  assert.deepEqual(
    page.nodes.map(({ version, clientMessageId }) => [version, clientMessageId]),
    [
      [0, first],
      [0, second],
    ],
  );
  release[0]();
  await sent[0];
  assert.deepEqual(
    page.nodes.map(({ version, clientMessageId }) => [version > 0, clientMessageId]),
    [
      [true, first],
      [false, second],
    ],
  );
  release[1]();
  await sent[1];
  assert.deepEqual(page.texts, await contents(ada, id));
});

test("messages are in the log in the order in which they were sent", async () => {
  const id = await group(ada);
  const environment = parley(ada);
  const page = await opened(environment, id);
  const numbers = Array.from({ length: 10 }, (_, number) => `${number}`);
  await Promise.all(numbers.map((content) => send(environment, id, content)));
  assert.deepEqual(await contents(ada, id), numbers);
  assert.deepEqual(page.texts, numbers);
});

test("messages of others are shown in the order of the log, whenever they come", async () => {
  const id = await group(ada, bob);
  const environment = parley(ada);
  const page = await opened(environment, id);
  const releaseFrame = hold("frame", "of bob");
  const seen = follow(environment, page);
  const own = randomUUID();
  const release = hold("request", own);
  const sent = send(environment, id, "mine", own);
  await say(bob, id, "of bob");
  release();
  await sent;
  assert.deepEqual(page.texts, ["mine"]);
  releaseFrame();
  await shows(page, "of bob", "mine");
  seen.stop();
});

test("two senders may use the same clientMessageId", async () => {
  const id = await group(ada, bob);
  const environment = parley(ada);
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  const own = randomUUID();
  const release = hold("request", "of ada");
  const sent = send(environment, id, "of ada", own);
  await say(bob, id, "of bob", own);
  await shows(page, "of bob", "of ada");
  release();
  await sent;
  assert.deepEqual(page.texts, await contents(ada, id));
  seen.stop();
});

test("a refused draft goes and says why; other drafts stay", async () => {
  const id = await group(ada);
  const environment = parley(ada);
  const page = await opened(environment, id);
  const other = randomUUID();
  const release = hold("request", other);
  const long = send(environment, id, "x".repeat(4_001));
  const sent = send(environment, id, "other", other);
  assert.equal(page.texts.length, 2);
  await assert.rejects(long, ({ code, field }) => code === "BAD_USER_INPUT" && field === "content");
  assert.deepEqual(page.texts, ["other"]);
  release();
  await sent;
});

test("a draft stays while the server cannot be reached, and is then delivered once", async () => {
  const id = await group(ada);
  const way = await shakyWay();
  const environment = parley(ada, { url: way.url });
  const page = await opened(environment, id);
  way.admit(false);
  way.cut();
  const sent = send(environment, id, "later");
  await eventually(() => page.nodes[0]?.version === 0);
  way.admit(true);
  await sent;
  assert.ok(page.nodes[0].version > 0);
  assert.deepEqual(await contents(ada, id), ["later"]);
  await way.close();
});

test("a send whose answers are lost is in the log once", async () => {
  const id = await group(ada);
  const environment = parley(ada);
  const page = await opened(environment, id);
  const own = randomUUID();
  let lost = 0;
  for (let time = 0; time < 2; time++) once("answer", (body) => body.includes(own) && ++lost);
  await send(environment, id, "hello", own);
  assert.equal(lost, 2);
  assert.deepEqual(await contents(ada, id), ["hello"]);
  assert.deepEqual(page.texts, ["hello"]);
});

for (const order of [
  "draft answer event",
  "draft event answer",
  "answer draft event",
  "answer event draft",
  "event draft answer",
  "event answer draft",
]) {
  test(`in the order ${order} there is one message`, async () => {
    const id = await group(ada, bob);
    const environment = parley(ada);
    const page = await opened(environment, id);
    const seen = follow(environment, page);
    const [own, other] = [randomUUID(), randomUUID()];
    const release = { answer: hold("answer", own), event: hold("frame", own) };
    const releaseOther = hold("request", other);
    // A draft that comes later is one from an outbox: the page was reloaded before it knew that the message was sent.
    const draftFirst = order.startsWith("draft");
    const sent = commit(environment, { ...sending(id, "hello", own), ...(!draftFirst && { optimisticUpdater: null }) });
    const pending = [send(environment, id, "hello", other)];
    const steps = {
      draft: () => draftFirst || pending.push(send(environment, id, "hello", own)),
      answer: () => (release.answer(), sent),
      event: () => (release.event(), eventually(() => seen.cursors.length === 1)),
    };
    for (const step of order.split(" ")) {
      await steps[step]();
      assert.deepEqual(
        page.nodes.map(({ clientMessageId }) => clientMessageId),
        [own, other],
        step,
      );
    }
    assert.ok(page.nodes[0].version > 0);
    assert.equal(page.nodes[1].version, 0);
    releaseOther();
    await Promise.all(pending);
    const inTheLog = (await ask(ada.token, "GroupHistory", { id })).messages.edges.map(({ node }) => node.id);
    await eventually(() => seen.cursors.length === 2);
    assert.deepEqual(
      page.nodes.map(({ id }) => id),
      inTheLog,
    );
    seen.stop();
  });
}

// --- copies of different age ------------------------------------------------------------------------------------------

test("a page that was under way does not take away what came meanwhile", async () => {
  const id = await group(ada);
  await say(ada, id, "one");
  const environment = parley(ada);
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  const its = JSON.stringify({ id });
  const release = hold("answer", its);
  const late = fetched(environment, GROUP, { id });
  await eventually(() => reached("answer", its));
  await say(ada, id, "two");
  await shows(page, "one", "two");
  release();
  await late;
  assert.deepEqual(page.texts, ["one", "two"]);
  seen.stop();
});

test("a newest page that does not reach down to the list replaces it, and a late event leaves no hole in it", async () => {
  const id = await group(ada);
  await say(ada, id, "long ago");
  const environment = parley(ada);
  const page = await opened(environment, id);
  for (let number = 0; number < 51; number++) await say(ada, id, `${number}`);
  const { group: newest } = await fetched(environment, GROUP, { id });
  assert.deepEqual([page.texts.length, page.texts[0]], [50, "1"]);
  const lagging = follow(environment, page);
  await eventually(() => lagging.cursors.length === 51);
  assert.deepEqual([page.texts.length, page.texts[0]], [50, "1"]);
  assert.notEqual(newest.messages.headCursor, page.position);
  await fetched(environment, OLDER, { id, count: 50, cursor: page.info.startCursor });
  assert.deepEqual([page.texts.length, page.texts.slice(0, 2)], [52, ["long ago", "0"]]);
  lagging.stop();
});

test("a page that was under way does not bring back an older copy of a message", async () => {
  const id = await group(ada);
  const { version } = await say(ada, id, "hello");
  const environment = parley(ada);
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  const its = JSON.stringify({ id });
  const release = hold("answer", its);
  const late = fetched(environment, GROUP, { id });
  await eventually(() => reached("answer", its));
  once("came", edited("more", { id: page.nodes[0].id, content: "hello!", version: version + 1 }));
  await say(ada, id, "more");
  await shows(page, "hello!");
  release();
  await late;
  assert.deepEqual(page.texts.slice(0, 1), ["hello!"]);
  assert.equal(page.nodes[0].version, version + 1);
  seen.stop();
});

const reactions = ({ nodes }) => nodes.flatMap(({ reactions }) => reactions.map(({ emoji, count }) => [emoji, count]));

test("who follows shows the reactions of a fresh fetch, also after a page that was read before them", async () => {
  const id = await group(ada, bob);
  const { id: messageId } = await say(ada, id, "hello");
  const environment = parley(ada);
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  const its = JSON.stringify({ id });
  const release = hold("answer", its);
  const late = fetched(environment, GROUP, { id });
  await eventually(() => reached("answer", its));
  for (const [who, name, emoji] of [
    [ada, "AddReaction", "👍"],
    [bob, "AddReaction", "👍"],
    [bob, "AddReaction", "tada"],
    [ada, "RemoveReaction", "👍"],
    [ada, "RemoveReaction", "👍"],
  ])
    await ask(who.token, name, { input: { messageId, emoji } });
  await eventually(() => seen.cursors.length === 4, "an event for each change");
  release();
  await late;
  assert.deepEqual(reactions(page), [["👍", 1], ["tada", 1]]);
  assert.deepEqual(reactions(await opened(parley(ada), id)), reactions(page));
  seen.stop();
});

// --- following -------------------------------------------------------------------------------------------------------

test("what others send comes into the list", async () => {
  const id = await group(ada, bob);
  const environment = parley(bob);
  await say(ada, id, "before");
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  assert.deepEqual(page.texts, ["before"]);
  await say(ada, id, "after");
  await shows(page, "before", "after");
  seen.stop();
});

test("what came between the page and the stream is in the list", async () => {
  const id = await group(ada, bob);
  const environment = parley(bob);
  const page = await opened(environment, id);
  await say(ada, id, "between");
  const seen = follow(environment, page);
  await shows(page, "between");
  seen.stop();
});

test("after a broken connection a stream resumes with the last cursor", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const environment = parley(bob, { url: way.url });
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  await say(ada, id, "before");
  await shows(page, "before");
  way.admit(false);
  way.cut();
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  way.admit(true);
  await shows(page, "before", "one", "two", "three");
  assert.equal(new Set(seen.cursors).size, 4);
  assert.equal(seen.cursors.length, 4, "each event once");
  seen.stop();
  await way.close();
});

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`after the server's restart by ${signal} a stream resumes with the last cursor`, async () => {
    const id = await group(ada, bob);
    const environment = parley(bob);
    const page = await opened(environment, id);
    const seen = follow(environment, page);
    await say(ada, id, "before");
    await shows(page, "before");
    await restartServer(signal);
    await say(ada, id, "missed");
    await shows(page, "before", "missed");
    assert.equal(seen.cursors.length, 2, "each event once");
    seen.stop();
  });
}

test("a connection that has gone silent is replaced, and nothing is lost", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const environment = parley(bob, { url: way.url, keepAlive: 1_000 });
  const page = await opened(environment, id);
  way.cut(); // over what is idle after this request Node would open the next socket, and it would be as silent
  const seen = follow(environment, page);
  await say(ada, id, "before");
  await shows(page, "before");
  way.freeze();
  await say(ada, id, "missed");
  await shows(page, "before", "missed");
  assert.equal(seen.cursors.length, 2, "each event once");
  seen.stop();
  await way.close();
});

test("a connection that the server does not acknowledge is replaced", async () => {
  const id = await group(ada, bob);
  const environment = parley(bob, { keepAlive: 1_000 });
  const page = await opened(environment, id);
  once("came", (text) => text.includes("connection_ack") && '{"type":"pong"}');
  const seen = follow(environment, page);
  await say(ada, id, "missed");
  await shows(page, "missed");
  seen.stop();
});

test("a stream that ends with retry goes on after the last event that came", async () => {
  const id = await group(ada, bob);
  const environment = parley(bob);
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  const end = [{ message: "…", extensions: { code: "SERVICE_UNAVAILABLE", retry: true } }];
  once(
    "came",
    (text) => text.includes('"two"') && JSON.stringify({ ...JSON.parse(text), type: "error", payload: end }),
  );
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  await shows(page, "one", "two", "three");
  assert.equal(seen.cursors.length, 3, "each event once");
  assert.equal(seen.end, null);
  seen.stop();
});

test("an end with MEMBERSHIP_ENDED is told, and not repeated", async () => {
  const id = await group(ada, bob);
  const environment = parley(bob);
  const seen = follow(environment, await opened(environment, id));
  await say(ada, id, "one");
  await eventually(() => seen.cursors.length === 1);
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => seen.end);
  assert.equal(seen.end, "MEMBERSHIP_ENDED");
});

test("polling gives the same events with the same cursors, and ends when the membership does", async () => {
  const id = await group(ada, bob);
  const [streaming, asking] = [parley(bob), parley(bob, { poll: 20 })];
  const pages = [await opened(streaming, id), await opened(asking, id)];
  const [streamed, polled] = [follow(streaming, pages[0]), follow(asking, pages[1])];
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  for (const page of pages) await shows(page, "one", "two", "three");
  assert.deepEqual(polled.cursors, streamed.cursors);
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => streamed.end && polled.end);
  assert.deepEqual([streamed.end, polled.end], ["MEMBERSHIP_ENDED", "FORBIDDEN"]);
});

test("polling goes on after the server could not be reached", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const environment = parley(bob, { url: way.url, poll: 20 });
  const page = await opened(environment, id);
  const seen = follow(environment, page);
  way.admit(false);
  way.cut();
  await say(ada, id, "missed");
  way.admit(true);
  await shows(page, "missed");
  seen.stop();
  await way.close();
});

// --- logging out -----------------------------------------------------------------------------------------------------

test("the end of a token is told once, and nothing comes back", async () => {
  const eve = await person("eve");
  const id = await group(eve, ada);
  let told = 0;
  const environment = parley(eve, { onSignedOut: () => told++ });
  const seen = follow(environment, await opened(environment, id));
  await say(ada, id, "one");
  await eventually(() => seen.cursors.length === 1);
  await ask(eve.token, "Logout");
  await eventually(() => told);
  assert.equal(seen.end, "SESSION_EXPIRED");
  assert.equal(told, 1);
  await assert.rejects(send(environment, id, "hello"), ({ code }) => code === "UNAUTHENTICATED");
});

test("a token that ended while the client was away ends its streams", async () => {
  const eve = await person("eve");
  const id = await group(eve, ada);
  const way = await shakyWay();
  let told = 0;
  const environment = parley(eve, { url: way.url, onSignedOut: () => told++ });
  const seen = follow(environment, await opened(environment, id));
  await say(ada, id, "one");
  await eventually(() => seen.cursors.length === 1);
  way.admit(false);
  way.cut();
  await ask(eve.token, "Logout");
  way.admit(true);
  await eventually(() => seen.end);
  assert.equal(seen.end, 4403);
  assert.equal(told, 1);
  await way.close();
});

test("the next one to log in sees nothing of the one before, not even a late answer", async () => {
  const id = await group(ada, bob);
  const made = createParley({ url, token: ada.token });
  const page = await opened(made.environment, id);
  const own = randomUUID();
  const release = hold("answer", own);
  const sent = send(made.environment, id, "secret", own).catch((error) => error);
  await eventually(async () => (await contents(bob, id)).length === 1);
  made.close();
  const next = parley(await person("eve"));
  release();
  await sent;
  await assert.rejects(opened(next, id), ({ code }) => code === "FORBIDDEN");
  assert.doesNotMatch(JSON.stringify(next.getStore().getSource().toJSON()), /secret|ada/);
});

test("Relay had nothing to complain about", () => assert.deepEqual(complaints, []));
