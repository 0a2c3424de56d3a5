import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";

import { ApolloLink } from "@apollo/client";
import { concatMap, defer, finalize, from, mergeMap, throwError } from "rxjs";

import {
  ask,
  contents,
  eventually,
  group,
  head,
  interruptedAt,
  person,
  restartServer,
  say,
  shakyWay,
  url,
} from "../harness/index.mjs";
import { GROUP, GROUP_HISTORY, LOGOUT, MY_GROUPS, NODE, VIEWER } from "./documents.mjs";
import {
  createParley,
  deliver,
  draft,
  follow,
  followGroups,
  keep,
  live,
  load,
  poll,
  react,
  send,
  unreact,
} from "./parley.mjs";

// Apollo says on the console what it thinks of documents and cache writes.
const complaints = [];
for (const level of ["warn", "error"]) console[level] = (...words) => complaints.push(words);

const [ada, bob] = await Promise.all([person("ada"), person("bob")]);
const open = [];
after(() => open.forEach(({ close }) => close()));

/** A client of `who`, closed with the tests. `me` is the viewer as the cache has it. */
async function client(who, options = {}) {
  const parley = createParley({ url, token: who.token, ...options });
  open.push(parley);
  const { data } = await parley.client.query({ query: VIEWER });
  return Object.assign(parley.client, { me: data.viewer, close: parley.close });
}

/** What a page that watches the group shows: `nodes` and `info`, and a complaint if it shows a message twice or an older copy. */
function watching(client, id) {
  const page = { nodes: [], versions: {} };
  client
    .watchQuery({ query: GROUP_HISTORY, variables: { id }, fetchPolicy: "cache-only" })
    .subscribe(({ data, dataState }) => {
      if (dataState !== "complete") return;
      const versions = {};
      page.nodes = data.group.messages.edges.map(({ node }) => node);
      page.info = data.group.messages.pageInfo;
      for (const { id, sender, clientMessageId, version } of page.nodes) {
        const key = clientMessageId ? `${sender.username} ${clientMessageId}` : id;
        if (key in versions) complaints.push(`shown twice: ${key}`);
        if (version < page.versions[key]) complaints.push(`went back to ${version}: ${key}`);
        versions[key] = version;
      }
      page.versions = versions;
    });
  return page;
}

/** Collects a group's events; `end` is the code that ended it. */
function collecting(events) {
  const seen = { contents: [], own: [], last: null, end: null };
  const subscription = events.subscribe({
    next({ message, cursor }) {
      seen.contents.push(message.content);
      seen.own.push(message.clientMessageId);
      seen.last = cursor;
    },
    error: (error) => (seen.end = error.errors?.[0].extensions.code ?? error.message),
  });
  return Object.assign(seen, { stop: () => subscription.unsubscribe() });
}

/** Results of the operations that `wanted` names wait until the returned function is called. */
const hold = (client, wanted) =>
  delay(client, wanted, (results, released) => results.pipe(concatMap((result) => released.then(() => result))));

/** Those operations reach the server only when the returned function is called. */
const holdBack = (client, wanted) =>
  delay(client, wanted, (results, released) => from(released).pipe(mergeMap(() => results)));

function delay(client, wanted, how) {
  const { promise, resolve } = Promise.withResolvers();
  const link = new ApolloLink((operation, forward) => {
    const results = defer(() => forward(operation));
    return wanted(operation) ? how(results, promise) : results;
  });
  client.setLink(link.concat(client.link));
  return resolve;
}

/** Answers over HTTP to requests with this text reach the client only when the returned function is called. */
function holdAnswers(context, text) {
  const { promise, resolve } = Promise.withResolvers();
  const state = { came: 0, release: resolve };
  const { fetch } = globalThis;
  context.mock.method(globalThis, "fetch", async (...request) => {
    const answer = await fetch(...request);
    if (request[1].body.includes(text)) (state.came++, await promise);
    return answer;
  });
  return state;
}

/** The messages of a group as the cache has them. */
const cached = (client, id) =>
  client.readQuery({ query: GROUP_HISTORY, variables: { id } }).group.messages.edges.map(({ node }) => node);

/** A draft that is not sent; its clientMessageId. */
function pending(client, id, content) {
  const own = randomUUID();
  keep(client, id, draft(client.me, content, own));
  return own;
}

const texts = (page) => page.nodes.map(({ content }) => content);
const shows = (page, ...contents) =>
  eventually(() => String(texts(page)) === String(contents), `${contents}, not ${texts(page)},`);
const isSendOf =
  (id) =>
  ({ variables }) =>
    variables.input?.clientMessageId === id;
const isStream = ({ operationType }) => operationType === "subscription";

// --- the cache -------------------------------------------------------------------------------------------------------

test("older pages join the list in front of the newest", async () => {
  const id = await group(ada);
  const numbers = Array.from({ length: 120 }, (_, number) => `${number}`);
  for (const number of numbers) await say(ada, id, number);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  await load(apollo, id);
  await shows(page, ...numbers.slice(-50));
  for (const length of [100, 120]) {
    assert.equal(page.info.hasPreviousPage, true);
    await load(apollo, id, page.info.startCursor);
    await shows(page, ...numbers.slice(-length));
  }
  assert.deepEqual([page.info.hasPreviousPage, page.info.hasNextPage], [false, false]);
});

test("a newest page that does not reach down to the list replaces it, and leaves drafts", async () => {
  const id = await group(ada, bob);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  await say(bob, id, "long ago");
  await load(apollo, id);
  pending(apollo, id, "draft");
  for (let number = 0; number < 60; number++) await say(bob, id, `${number}`);
  await load(apollo, id);
  await shows(page, ...Array.from({ length: 50 }, (_, number) => `${number + 10}`), "draft");
});

test("an event between a cached list and a newer headCursor in the same cache is not missed", async () => {
  const id = await group(ada, bob);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  await load(apollo, id);
  await say(bob, id, "between");
  // Every group query writes Group.headCursor, so the cached one says nothing about the cached list.
  await apollo.query({ query: GROUP, variables: { id }, fetchPolicy: "network-only" });
  await apollo.query({ query: MY_GROUPS, fetchPolicy: "network-only" });
  const seen = collecting(live(apollo, id));
  await shows(page, "between");
  seen.stop();
});

test("a page that was read before an edit does not bring back what the message said", async (context) => {
  const id = await group(ada, bob);
  const message = await say(ada, id, "as it was");
  const apollo = await client(bob);
  const page = watching(apollo, id);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  await shows(page, "as it was");
  const held = holdAnswers(context, "query GroupHistory");
  const late = load(apollo, id);
  await eventually(() => held.came, "the page that was read before");
  await ask(ada.token, "EditMessage", { input: { messageId: message.id, content: "edited" } });
  await shows(page, "edited");
  held.release();
  await late;
  const [{ content, version, editedAt }] = cached(apollo, id);
  const [{ node }] = (await ask(bob.token, "GroupHistory", { id })).messages.edges;
  assert.deepEqual([content, version, editedAt], ["edited", node.version, node.editedAt]);
  seen.stop();
});

test("a list of groups that was read before a deletion does not bring back the last message", async (context) => {
  const id = await group(ada, bob);
  const message = await say(ada, id, "as it was");
  const apollo = await client(bob);
  const page = watching(apollo, id);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  const held = holdAnswers(context, "query MyGroups");
  const late = apollo.query({ query: MY_GROUPS, fetchPolicy: "network-only" });
  await eventually(() => held.came, "the list that was read before");
  await ask(ada.token, "DeleteMessage", { input: { messageId: message.id } });
  await shows(page, "");
  held.release();
  await late;
  const [{ content, deletedAt }] = cached(apollo, id);
  assert.equal(content, "");
  assert.notEqual(deletedAt, null);
  seen.stop();
});

test("an answer to a send that comes after an edit does not bring back what was sent", async () => {
  const id = await group(ada);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  const own = randomUUID();
  const release = hold(apollo, isSendOf(own));
  const sent = send(apollo, apollo.me, id, "as it was", own);
  await eventually(() => seen.own.includes(own));
  await ask(ada.token, "EditMessage", { input: { messageId: page.nodes[0].id, content: "edited" } });
  await shows(page, "edited");
  release();
  await sent;
  assert.equal(cached(apollo, id)[0].content, "edited");
  seen.stop();
});

// --- reactions -------------------------------------------------------------------------------------------------------

const reactions = ([{ reactions }]) =>
  reactions.map(({ emoji, count, viewerHasReacted }) => [emoji, count, viewerHasReacted]);
const reacted = (page, ...wanted) =>
  eventually(() => String(page.nodes[0] && reactions(page.nodes)) === String(wanted), `${wanted}`);

test("who follows shows the reactions of a fresh fetch", async () => {
  const id = await group(ada, bob);
  const { id: messageId } = await say(ada, id, "hello");
  const [apollo, fresh] = [await client(bob), await client(bob)];
  const page = watching(apollo, id);
  const seen = collecting(live(apollo, id));
  await shows(page, "hello");
  const theirs = (name, emoji) => ask(ada.token, name, { input: { messageId, emoji } });
  await theirs("AddReaction", "👍");
  await react(apollo, messageId, "👍");
  await react(apollo, messageId, "🎉");
  await theirs("AddReaction", "tada");
  await theirs("RemoveReaction", "👍");
  await reacted(page, ["👍", 1, true], ["🎉", 1, true], ["tada", 1, false]);
  await unreact(apollo, messageId, "🎉");
  await unreact(apollo, messageId, "🎉");
  await reacted(page, ["👍", 1, true], ["tada", 1, false]);
  const beside = watching(fresh, id);
  await load(fresh, id);
  await reacted(beside, ...reactions(page.nodes));
  seen.stop();
});

test("a page that was read before a reaction does not take it away", async (context) => {
  const id = await group(ada, bob);
  const { id: messageId } = await say(ada, id, "hello");
  const apollo = await client(bob);
  const page = watching(apollo, id);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  const held = holdAnswers(context, "query GroupHistory");
  const late = load(apollo, id);
  await eventually(() => held.came, "the page that was read before");
  await ask(ada.token, "AddReaction", { input: { messageId, emoji: "👍" } });
  await reacted(page, ["👍", 1, false]);
  held.release();
  await late;
  assert.deepEqual(reactions(cached(apollo, id)), [["👍", 1, false]]);
  seen.stop();
});

// --- sending ---------------------------------------------------------------------------------------------------------

test("a draft is shown at once, and the answer takes exactly its place", async () => {
  const id = await group(ada);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  await load(apollo, id);
  const own = [randomUUID(), randomUUID(), randomUUID()];
  const release = hold(apollo, isSendOf(own[1]));
  const sent = own.map((own) => send(apollo, apollo.me, id, "the same words", own));
  const shown = () => page.nodes.map(({ clientMessageId, version }) => (version > 0 ? "sent" : clientMessageId));
  await eventually(() => page.nodes.length === 3);
  assert.deepEqual(shown(), own);
  await sent[0];
  assert.deepEqual(shown(), ["sent", own[1], own[2]]);
  release();
  await Promise.all(sent);
  await eventually(() => String(shown()) === "sent,sent,sent");
  assert.deepEqual(
    page.nodes.map(({ clientMessageId }) => clientMessageId),
    own,
  );
});

test("messages are in the log in the order in which they were sent", async () => {
  const id = await group(ada);
  const apollo = await client(ada);
  let [underWay, most] = [0, 0];
  const counting = new ApolloLink((operation, forward) => {
    most = Math.max(most, ++underWay);
    return forward(operation).pipe(finalize(() => underWay--));
  });
  apollo.setLink(counting.concat(apollo.link));
  const numbers = Array.from({ length: 10 }, (_, number) => `${number}`);
  await Promise.all(numbers.map((content) => send(apollo, apollo.me, id, content)));
  assert.equal(most, 1);
  assert.deepEqual(await contents(ada, id), numbers);
});

test("two senders may use the same clientMessageId", async () => {
  const id = await group(ada, bob);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  const own = pending(apollo, id, "of ada");
  await say(bob, id, "of bob", own);
  await eventually(() => page.nodes.length === 2);
  assert.deepEqual(texts(page), ["of bob", "of ada"]);
  seen.stop();
});

test("messages of others are shown while a draft waits for its answer", async () => {
  const id = await group(ada, bob);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  const own = randomUUID();
  const release = holdBack(apollo, isSendOf(own));
  const sent = send(apollo, apollo.me, id, "mine", own);
  await say(bob, id, "of bob");
  await shows(page, "of bob", "mine");
  release();
  await sent;
  await shows(page, ...(await contents(ada, id)));
  seen.stop();
});

test("a send whose answers are lost is in the log once", async (context) => {
  const id = await group(ada);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  await load(apollo, id);
  let sent = 0;
  const fetched = globalThis.fetch;
  context.mock.method(globalThis, "fetch", async (...request) => {
    const answer = await fetched(...request);
    if (sent++ < 2) throw new TypeError("fetch failed");
    return answer;
  });
  await send(apollo, apollo.me, id, "hello");
  assert.equal(sent, 3);
  context.mock.restoreAll();
  assert.deepEqual(await contents(ada, id), ["hello"]);
  assert.deepEqual(texts(page), ["hello"]);
});

test("a refused draft goes and says why; other drafts stay", async () => {
  const id = await group(ada);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  await load(apollo, id);
  pending(apollo, id, "other");
  await assert.rejects(
    send(apollo, apollo.me, id, "x".repeat(4_001)),
    ({ errors }) => errors[0].extensions.code === "BAD_USER_INPUT",
  );
  await shows(page, "other");
});

test("a draft stays while the server cannot be reached, and is delivered later", async () => {
  const id = await group(ada);
  const way = await shakyWay();
  const apollo = await client(ada, { url: way.url });
  const page = watching(apollo, id);
  await load(apollo, id);
  way.admit(false);
  way.cut();
  const input = { groupId: id, content: "later", clientMessageId: randomUUID() };
  const sent = send(apollo, apollo.me, id, input.content, input.clientMessageId);
  await eventually(() => page.nodes.length === 1);
  assert.equal(page.nodes[0].version, 0);
  way.admit(true);
  await sent;
  await deliver(apollo, input);
  assert.ok(page.nodes[0].version > 0);
  assert.deepEqual(texts(page), await contents(ada, id));
  await way.close();
});

// --- all six orders --------------------------------------------------------------------------------------------------

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
    const apollo = await client(ada);
    const page = watching(apollo, id);
    const position = await load(apollo, id);
    const input = { groupId: id, content: "hello", clientMessageId: randomUUID() };
    const steps = { answer: hold(apollo, isSendOf(input.clientMessageId)), event: hold(apollo, isStream) };
    const other = pending(apollo, id, "hello");
    const seen = collecting(follow(apollo, id, position));
    // A draft that comes later is one from an outbox: the page was reloaded before it knew that the message was sent.
    const sent = order.startsWith("draft") ? [] : [deliver(apollo, input)];
    steps.draft = () => sent.push(send(apollo, apollo.me, id, input.content, input.clientMessageId));
    const done = {
      draft: () => true,
      answer: () => Promise.all(sent).then(() => true),
      event: () => seen.own.includes(input.clientMessageId),
    };
    for (const step of order.split(" ")) {
      steps[step]();
      await eventually(done[step], step);
      await eventually(() => page.nodes.some(({ clientMessageId }) => clientMessageId === input.clientMessageId));
    }
    await Promise.all(sent);
    const [inTheLog] = (await ask(ada.token, "GroupHistory", { id })).messages.edges;
    await eventually(() => page.nodes[0].version > 0);
    assert.deepEqual(
      page.nodes.map((node) => node.id),
      [inTheLog.node.id, other],
    );
    seen.stop();
  });
}

// --- following -------------------------------------------------------------------------------------------------------

test("what others send comes into the list", async () => {
  const id = await group(ada, bob);
  const apollo = await client(bob);
  const page = watching(apollo, id);
  await say(ada, id, "before");
  const seen = collecting(live(apollo, id));
  await shows(page, "before");
  await say(ada, id, "after");
  await shows(page, "before", "after");
  seen.stop();
});

test("after a broken connection a stream resumes with the last cursor", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const apollo = await client(bob, { url: way.url });
  const page = watching(apollo, id);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  await say(ada, id, "before");
  await shows(page, "before");
  way.admit(false);
  way.cut();
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  way.admit(true);
  await shows(page, "before", "one", "two", "three");
  assert.deepEqual(seen.contents, ["before", "one", "two", "three"], "each event once");
  seen.stop();
  await way.close();
});

test("a group that is opened while the server cannot be reached is shown as soon as it can", async () => {
  const id = await group(ada, bob);
  await say(ada, id, "hello");
  const way = await shakyWay();
  const apollo = await client(bob, { url: way.url });
  const page = watching(apollo, id);
  way.admit(false);
  way.cut();
  let failed = 0;
  const { fetch } = globalThis;
  globalThis.fetch = (...request) => fetch(...request).catch((error) => (failed++, Promise.reject(error)));
  const seen = collecting(live(apollo, id));
  await eventually(() => failed > 1);
  globalThis.fetch = fetch;
  way.admit(true);
  await shows(page, "hello");
  assert.equal(seen.end, null);
  seen.stop();
  await way.close();
});

test("after the server's restart a stream resumes with the last cursor", async () => {
  const id = await group(ada, bob);
  const apollo = await client(bob);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  await say(ada, id, "before");
  await eventually(() => seen.contents.length === 1);
  await restartServer("SIGKILL");
  await say(ada, id, "missed");
  await eventually(() => seen.contents.length === 2);
  assert.deepEqual(seen.contents, ["before", "missed"]);
  seen.stop();
});

test("a connection that has gone silent is replaced, and nothing is lost", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const apollo = await client(bob, { url: way.url, keepAlive: 200 });
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  await say(ada, id, "before");
  await eventually(() => seen.contents.length === 1);
  way.freeze();
  await say(ada, id, "missed");
  await eventually(() => seen.contents.length === 2);
  assert.deepEqual(seen.contents, ["before", "missed"]);
  seen.stop();
  await way.close();
});

test("a stream that ends with retry goes on after the last event that came", async (context) => {
  const id = await group(ada, bob);
  context.mock.property(globalThis, "WebSocket", interruptedAt("two"));
  const apollo = await client(bob);
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  await eventually(() => seen.contents.length === 3);
  assert.deepEqual(seen.contents, ["one", "two", "three"]);
  seen.stop();
});

test("an end with MEMBERSHIP_ENDED is told, and not repeated", async () => {
  const id = await group(ada, bob);
  const apollo = await client(bob);
  const seen = collecting(live(apollo, id));
  await say(ada, id, "one");
  await eventually(
    () => apollo.readQuery({ query: GROUP_HISTORY, variables: { id } })?.group.messages.edges.length === 1,
  );
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => seen.end);
  assert.equal(seen.end, "MEMBERSHIP_ENDED");
});

test("a group whose position means nothing any more is begun anew", async () => {
  const [id, elsewhere] = [await group(ada, bob), await group(bob)];
  const apollo = await client(bob);
  const page = watching(apollo, id);
  const position = await head(bob, elsewhere);
  let spoilt = false;
  const spoiling = new ApolloLink((operation, forward) => {
    if (isStream(operation) && !spoilt)
      ((spoilt = true), (operation.variables = { ...operation.variables, after: position }));
    return forward(operation);
  });
  apollo.setLink(spoiling.concat(apollo.link));
  const seen = collecting(live(apollo, id));
  await eventually(() => spoilt);
  await say(ada, id, "hello");
  await shows(page, "hello");
  assert.equal(seen.end, null);
  seen.stop();
});

test("polling gives the same events, and takes over where a stream stopped", async () => {
  const id = await group(ada, bob);
  const apollo = await client(bob);
  const page = watching(apollo, id);
  const stream = collecting(follow(apollo, id, await load(apollo, id)));
  await say(ada, id, "one");
  await eventually(() => stream.contents.length === 1);
  stream.stop();
  await say(ada, id, "two");
  const polled = collecting(poll(apollo, id, stream.last, 20));
  await eventually(() => polled.contents.length === 1);
  await say(ada, id, "three");
  await eventually(() => polled.contents.length === 2);
  assert.deepEqual(polled.contents, ["two", "three"]);
  assert.deepEqual(texts(page), ["one", "two", "three"]);
  polled.stop();
});

test("polling goes on after the server could not be reached, and ends when the membership does", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const apollo = await client(bob, { url: way.url });
  const polled = collecting(poll(apollo, id, await load(apollo, id), 20));
  way.admit(false);
  way.cut();
  await say(ada, id, "one");
  way.admit(true);
  await eventually(() => polled.contents.length === 1);
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => polled.end);
  assert.equal(polled.end, "FORBIDDEN");
  await way.close();
});

test("the list of groups follows what happens to them, and a lost group leaves the cache", async () => {
  const eve = await person("eve");
  const apollo = await client(eve);
  let names;
  apollo
    .watchQuery({ query: MY_GROUPS })
    .subscribe(({ data }) => (names = data?.myGroups?.edges.map(({ node }) => node.name)));
  const events = followGroups(apollo).subscribe();
  await eventually(() => names);
  const id = await group(ada, eve);
  await eventually(() => String(names) === "Chess");
  await ask(ada.token, "UpdateGroup", { input: { groupId: id, name: "Go" } });
  await eventually(() => String(names) === "Go");
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: eve.viewer.id } });
  await eventually(() => names.length === 0);
  assert.equal(apollo.extract()[`Group:${id}`], undefined);
  events.unsubscribe();
});

test("an object behind an interface is read from the cache", async () => {
  const id = await group(ada);
  const apollo = await client(ada);
  await apollo.query({ query: NODE, variables: { id } });
  const { node } = apollo.readQuery({ query: NODE, variables: { id } });
  assert.deepEqual([node.__typename, node.name], ["Group", "Chess"]);
});

// --- logging out -----------------------------------------------------------------------------------------------------

test("the end of a token is told once, and nothing comes back", async () => {
  const eve = await person("eve");
  const id = await group(eve, ada);
  let told = 0;
  const apollo = await client(eve, { onSignedOut: () => told++ });
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  await say(ada, id, "one");
  await eventually(() => seen.contents.length === 1);
  await apollo.mutate({ mutation: LOGOUT });
  await eventually(() => told);
  assert.equal(seen.end, "SESSION_EXPIRED");
  assert.equal(told, 1);
});

test("a token that ended while the client was away ends its streams", async () => {
  const eve = await person("eve");
  const id = await group(eve, ada);
  const way = await shakyWay();
  let told = 0;
  const apollo = await client(eve, { url: way.url, onSignedOut: () => told++ });
  const seen = collecting(follow(apollo, id, await load(apollo, id)));
  await say(ada, id, "one");
  await eventually(() => seen.contents.length === 1);
  way.admit(false);
  way.cut();
  await ask(eve.token, "Logout");
  way.admit(true);
  await eventually(() => seen.end);
  assert.match(seen.end, /4403/);
  assert.equal(told, 1);
  await way.close();
});

test("the next one to log in sees nothing of the one before, not even from late answers and events", async () => {
  const id = await group(ada, bob);
  const first = await client(await login(ada));
  const seen = collecting(live(first, id));
  await eventually(() => first.readQuery({ query: GROUP_HISTORY, variables: { id } }));
  const own = randomUUID();
  const release = hold(first, isSendOf(own));
  const sent = send(first, first.me, id, "secret", own).catch((error) => error);
  await eventually(async () => (await contents(bob, id)).length === 1);
  await first.mutate({ mutation: LOGOUT });
  first.close();

  const eve = await client(await person("eve"));
  release();
  await sent;
  assert.equal(eve.me.firstName, "eve");
  assert.doesNotMatch(JSON.stringify(eve.extract()), /secret|ada/);
  await assert.rejects(load(eve, id), ({ errors }) => errors[0].extensions.code === "FORBIDDEN");
  seen.stop();
});

const login = async ({ username, password }) => ask(null, "Login", { input: { username, password } });

test("Apollo had nothing to complain about", () => assert.deepEqual(complaints, []));

test("an own message does not join a newest page to a list that it does not reach", async () => {
  const id = await group(ada, bob);
  const apollo = await client(ada);
  const page = watching(apollo, id);
  await say(bob, id, "long ago");
  await load(apollo, id);
  for (let number = 0; number < 60; number++) await say(bob, id, `${number}`);
  await send(apollo, apollo.me, id, "mine");
  await load(apollo, id);
  await eventually(() => texts(page).length > 40);
  assert.equal(texts(page)[0], "11");
});
