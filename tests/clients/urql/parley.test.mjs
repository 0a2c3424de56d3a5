import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";

import { fromPromise, map, mergeMap, pipe, tap } from "wonka";

import {
  ask,
  contents,
  eventually,
  group,
  head,
  interruptedAt,
  operation,
  person,
  restartServer,
  say,
  shakyWay,
  url,
} from "../harness/index.mjs";
import { MY_GROUPS } from "./documents.mjs";
import {
  createParley,
  deliver,
  draft,
  followGroups,
  keep,
  live,
  older,
  openChat,
  poll,
  send,
  watch,
} from "./parley.mjs";

// urql says on the console what it thinks of documents, cache writes and exchanges.
const complaints = [];
for (const level of ["warn", "error"]) console[level] = (...words) => complaints.push(words);

const [ada, bob] = await Promise.all([person("ada"), person("bob")]);
const open = [];
after(() => open.reverse().forEach((leave) => leave()));

/** A client of `who`, closed with the tests. */
function connected(who, options = {}) {
  const { client, close } = createParley({ url, token: who.token, ...options });
  open.push(close);
  return client;
}

/** A group that is open at `who`; complains if it ever shows a message twice or goes back to an older copy. */
function opened(who, id, options) {
  const chat = openChat(connected(who, options), who.viewer, id);
  let before = {};
  watch(chat, () => {
    const versions = {};
    for (const { id, sender, clientMessageId, version } of chat.list) {
      const key = clientMessageId ? `${sender.username} ${clientMessageId}` : id;
      if (key in versions) complaints.push(`shown twice: ${key}`);
      if (version < before[key]) complaints.push(`went back to ${version}: ${key}`);
      versions[key] = version;
    }
    before = versions;
  });
  return chat;
}

/** Shows a group from now on; `end` is the code or the close code that ended it. */
function lively(who, id, { way, cursor, ...options } = {}) {
  const chat = Object.assign(opened(who, id, options), { cursor });
  chat.leave = live(chat, (error) => (chat.end = codeOf(error)), way);
  open.push(chat.leave);
  return chat;
}

const codeOf = ({ networkError, graphQLErrors }) => networkError?.code ?? graphQLErrors[0]?.extensions.code;
const started = (chat) => eventually(() => chat.cursor, "the newest page");
const texts = (chat) => chat.list.map(({ content }) => content);
const shows = (chat, ...contents) =>
  eventually(() => String(texts(chat)) === String(contents), `${contents}`).catch((error) => {
    throw new Error(`${error.message}; shown is ${texts(chat)}`);
  });

/** An exchange in which each result waits for what `wait(operation)` gives. */
const holding =
  (wait) =>
  ({ forward }) =>
  (operations) =>
    pipe(
      forward(operations),
      mergeMap((result) =>
        pipe(
          fromPromise(Promise.resolve(wait(result.operation))),
          map(() => result),
        ),
      ),
    );

/** How often something was asked for over this way from now on. */
function requestsTo(way, context) {
  const { mock } = context.mock.method(globalThis, "fetch");
  return () => mock.calls.filter(({ arguments: [address] }) => String(address) === way.url).length;
}

const isSendOf = (own, { variables }) => variables.input?.clientMessageId === own;
const quickly = (chat, onEnd) => poll(chat, onEnd, 20);

// --- asking ----------------------------------------------------------------------------------------------------------

test("a token in the headers authenticates a query", async () => {
  const { data } = await connected(ada).query(operation("Viewer"), {});
  assert.equal(data.viewer.username, ada.username);
});

test("a token that is not good is refused, by a query and once by the socket", async () => {
  let told = 0;
  const client = connected({ token: "no-such-token" }, { onSignedOut: () => told++ });
  const { error } = await client.query(operation("Viewer"), {});
  assert.equal(codeOf(error), "UNAUTHENTICATED");
  const end = await new Promise((resolve) => followGroups(client, resolve));
  assert.equal(codeOf(end), 4403);
  assert.equal(told, 1);
});

test("older pages join the list in front of the newest", async () => {
  const id = await group(ada);
  const numbers = Array.from({ length: 120 }, (_, number) => `${number}`);
  for (const number of numbers) await say(ada, id, number);
  const chat = lively(ada, id);
  const position = await started(chat);
  await shows(chat, ...numbers.slice(-50));
  for (const length of [100, 120]) {
    assert.equal(chat.pageInfo.hasPreviousPage, true);
    await older(chat);
    await shows(chat, ...numbers.slice(-length));
  }
  assert.equal(chat.pageInfo.hasPreviousPage, false);
  assert.equal(chat.cursor, position);
});

test("what cannot be asked now is asked again", async (context) => {
  const id = await group(ada, bob);
  await say(ada, id, "hello");
  const way = await shakyWay();
  const attempts = requestsTo(way, context);
  way.admit(false);
  const chat = lively(bob, id, { url: way.url });
  await eventually(() => attempts() > 1, "another attempt");
  way.admit(true);
  await shows(chat, "hello");
  await way.close();
});

// --- sending ---------------------------------------------------------------------------------------------------------

test("a draft is shown at once, and the answer takes exactly its place", async () => {
  const id = await group(ada);
  const own = [randomUUID(), randomUUID(), randomUUID()];
  const { promise, resolve: release } = Promise.withResolvers();
  const chat = opened(ada, id, { exchanges: [holding((operation) => isSendOf(own[1], operation) && promise)] });
  const sent = own.map((own) => send(chat, "the same words", own));
  const shown = () => chat.list.map(({ clientMessageId, version }) => (version > 0 ? "sent" : clientMessageId));
  assert.deepEqual(shown(), own);
  await sent[0];
  assert.deepEqual(shown(), ["sent", own[1], own[2]]);
  release();
  await Promise.all(sent);
  assert.deepEqual(shown(), ["sent", "sent", "sent"]);
  assert.deepEqual(
    chat.list.map(({ clientMessageId }) => clientMessageId),
    own,
  );
});

test("messages are in the log in the order in which they were sent", async () => {
  const id = await group(ada);
  let [underWay, most] = [0, 0];
  const counting =
    ({ forward }) =>
    (operations) =>
      pipe(
        operations,
        tap(({ kind }) => kind === "mutation" && (most = Math.max(most, ++underWay))),
        forward,
        tap(() => underWay--),
      );
  const chat = opened(ada, id, { exchanges: [counting] });
  const numbers = Array.from({ length: 10 }, (_, number) => `${number}`);
  await Promise.all(numbers.map((content) => send(chat, content)));
  assert.equal(most, 1);
  assert.deepEqual(await contents(ada, id), numbers);
});

test("of two copies the higher version stays, however late the other comes", async () => {
  const chat = opened(ada, await group(ada));
  const [message, other] = [{ ...draft(ada.viewer, "edited", randomUUID()), version: 2 }, randomUUID()];
  keep(chat, message, { ...message, version: 1, content: "as it was" }, draft(ada.viewer, "other", other));
  assert.deepEqual(texts(chat), ["edited", "other"]);
});

test("who follows shows the reactions of a fresh fetch, also after a page that was read before them", async (context) => {
  const id = await group(ada, bob);
  const { id: messageId } = await say(ada, id, "hello");
  const chat = lively(bob, id);
  await started(chat);
  let came = 0;
  const { promise: released, resolve: release } = Promise.withResolvers();
  const { fetch } = globalThis;
  context.mock.method(globalThis, "fetch", async (...request) => {
    const answer = await fetch(...request);
    if (request[1].body.includes("query GroupHistory")) (came++, await released);
    return answer;
  });
  const again = { ...chat, pageInfo: {} }; // what is kept is that of the chat
  const late = older(again);
  await eventually(() => came, "the page that was read before");
  for (const [who, name, emoji] of [
    [ada, "AddReaction", "👍"],
    [bob, "AddReaction", "👍"],
    [bob, "AddReaction", "tada"],
    [ada, "RemoveReaction", "👍"],
    [ada, "RemoveReaction", "👍"],
  ])
    await ask(who.token, name, { input: { messageId, emoji } });
  const reactions = ({ list: [message] }) => String(message?.reactions.map(({ emoji, count }) => [emoji, count]));
  await eventually(() => reactions(chat) === "👍,1,tada,1", "what its events say");
  release();
  await late;
  assert.equal(reactions(again), "👍,1,tada,1");
  const fresh = lively(bob, id);
  await started(fresh);
  assert.equal(reactions(fresh), reactions(chat));
});

test("two senders may use the same clientMessageId", async () => {
  const id = await group(ada, bob);
  const chat = lively(ada, id);
  await started(chat);
  const own = randomUUID();
  keep(chat, draft(ada.viewer, "of ada", own));
  await say(bob, id, "of bob", own);
  await shows(chat, "of bob", "of ada");
});

test("messages of others are shown while a draft waits for its answer", async () => {
  const id = await group(ada, bob);
  const own = randomUUID();
  const { promise, resolve: release } = Promise.withResolvers();
  const chat = lively(ada, id, { exchanges: [holding((operation) => isSendOf(own, operation) && promise)] });
  await started(chat);
  await say(bob, id, "before");
  keep(chat, draft(ada.viewer, "another", randomUUID()));
  const sent = send(chat, "mine", own);
  await say(bob, id, "after");
  await eventually(() => chat.list.length === 4);
  release();
  await sent;
  await shows(chat, ...(await contents(ada, id)), "another");
});

test("a send whose answers are lost is in the log once", async (context) => {
  const id = await group(ada);
  const chat = opened(ada, id);
  const { fetch } = globalThis;
  let requests = 0;
  const losing = context.mock.method(globalThis, "fetch", async (...request) => {
    const response = await fetch(...request);
    if (requests++ < 2) throw new TypeError("fetch failed");
    return response;
  });
  await send(chat, "hello");
  losing.mock.restore();
  assert.equal(requests, 3);
  assert.deepEqual(await contents(ada, id), ["hello"]);
  assert.deepEqual(texts(chat), ["hello"]);
});

test("a refused draft goes and says why; other drafts stay", async () => {
  const id = await group(ada);
  const chat = opened(ada, id);
  keep(chat, draft(ada.viewer, "other", randomUUID()));
  await assert.rejects(send(chat, "x".repeat(4_001)), (error) => codeOf(error) === "BAD_USER_INPUT");
  assert.deepEqual(texts(chat), ["other"]);
});

test("a draft stays while the server cannot be reached, and is delivered later", async (context) => {
  const id = await group(ada);
  const way = await shakyWay();
  const attempts = requestsTo(way, context);
  const chat = opened(ada, id, { url: way.url });
  way.admit(false);
  const input = { groupId: id, content: "later", clientMessageId: randomUUID() };
  const sent = send(chat, input.content, input.clientMessageId);
  await eventually(() => attempts() > 1, "another attempt");
  assert.deepEqual(
    chat.list.map(({ version }) => version),
    [0],
  );
  way.admit(true);
  await sent;
  await deliver(chat, input);
  assert.ok(chat.list[0].version > 0);
  assert.deepEqual(texts(chat), await contents(ada, id));
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
    const own = randomUUID();
    const held = { answer: Promise.withResolvers(), event: Promise.withResolvers() };
    const wait = (operation) => {
      if (operation.kind === "subscription") return held.event.promise;
      return isSendOf(own, operation) && held.answer.promise;
    };
    const chat = lively(ada, id, { exchanges: [holding(wait)] });
    const position = await started(chat);
    const other = draft(ada.viewer, "hello", randomUUID());
    keep(chat, other);
    // A draft that comes later is one from an outbox: the page was reloaded before it knew that the message was sent.
    const input = { groupId: id, content: "hello", clientMessageId: own };
    const sent = order.startsWith("draft") ? [] : [deliver(chat, input)];
    const steps = {
      draft: () => sent.push(send(chat, "hello", own)),
      answer: held.answer.resolve,
      event: held.event.resolve,
    };
    const done = {
      draft: () => true,
      answer: () => Promise.all(sent).then(() => true),
      event: () => chat.cursor !== position,
    };
    for (const step of order.split(" ")) {
      steps[step]();
      await eventually(done[step], step);
      assert.equal(chat.list.filter(({ clientMessageId }) => clientMessageId === own).length, 1);
    }
    await Promise.all(sent);
    const [inTheLog] = (await ask(ada.token, "GroupHistory", { id })).messages.edges;
    assert.ok(chat.list[0].version > 0);
    assert.deepEqual(
      chat.list.map(({ id }) => id),
      [inTheLog.node.id, other.id],
    );
  });
}

// --- following -------------------------------------------------------------------------------------------------------

test("what others send comes into the list", async () => {
  const id = await group(ada, bob);
  await say(ada, id, "before");
  const chat = lively(bob, id);
  await shows(chat, "before");
  await say(ada, id, "after");
  await shows(chat, "before", "after");
});

test("a group that was left and is opened again goes on where it was", async () => {
  const id = await group(ada, bob);
  const chat = lively(bob, id);
  await started(chat);
  await say(ada, id, "one");
  await shows(chat, "one");
  chat.leave();
  await say(ada, id, "two");
  open.push(live(chat, assert.fail));
  await shows(chat, "one", "two");
});

test("after a broken connection a stream resumes with the last cursor", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const chat = lively(bob, id, { url: way.url });
  const events = [];
  await started(chat);
  watch(chat, () => events.push(texts(chat).at(-1)));
  await say(ada, id, "before");
  await shows(chat, "before");
  way.admit(false);
  way.cut();
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  way.admit(true);
  await shows(chat, "before", "one", "two", "three");
  assert.deepEqual(events, ["before", "one", "two", "three"], "each event once");
  await way.close();
});

test("after the server's restart a stream resumes with the last cursor", async () => {
  const id = await group(ada, bob);
  const chat = lively(bob, id);
  await started(chat);
  await say(ada, id, "before");
  await shows(chat, "before");
  const events = [];
  watch(chat, () => events.push(texts(chat).at(-1)));
  await restartServer("SIGKILL");
  await say(ada, id, "missed");
  await shows(chat, "before", "missed");
  assert.deepEqual(events, ["missed"], "each event once");
});

test("a connection that has gone silent is replaced, and nothing is lost", async () => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  // No page is fetched over this way: Node's WebSocket may come back over the connection of a fetch, which is frozen.
  const chat = lively(bob, id, { url: way.url, keepAlive: 200, cursor: await head(bob, id) });
  await say(ada, id, "before");
  await shows(chat, "before");
  way.freeze();
  await say(ada, id, "missed");
  await shows(chat, "before", "missed");
  chat.leave();
  await way.close();
});

test("a client can be closed while it is coming back", async (context) => {
  const id = await group(ada, bob);
  let connections = 0;
  const counted = class extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      connections++;
    }
  };
  context.mock.property(globalThis, "WebSocket", counted);
  const way = await shakyWay();
  const { client, close } = createParley({ url: way.url, token: bob.token });
  const chat = Object.assign(openChat(client, bob.viewer, id), { cursor: await head(bob, id) });
  const leave = live(chat, assert.fail);
  await eventually(() => connections === 1);
  await way.close();
  await eventually(() => connections === 2, "another attempt");
  leave();
  await close();
});

test("a stream that ends with retry goes on after the last event that came", async (context) => {
  const id = await group(ada, bob);
  context.mock.property(globalThis, "WebSocket", interruptedAt("two"));
  const chat = lively(bob, id);
  await started(chat);
  for (const content of ["one", "two", "three"]) await say(ada, id, content);
  await shows(chat, "one", "two", "three");
  assert.equal(chat.end, undefined);
});

test("an end with MEMBERSHIP_ENDED is told, and not repeated", async () => {
  const id = await group(ada, bob);
  const chat = lively(bob, id);
  await started(chat);
  await say(ada, id, "one");
  await shows(chat, "one");
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => chat.end);
  assert.equal(chat.end, "MEMBERSHIP_ENDED");
});

test("a group that may not be read says so", async () => {
  const chat = lively(bob, await group(ada));
  await eventually(() => chat.end);
  assert.equal(chat.end, "FORBIDDEN");
});

for (const way of [undefined, quickly])
  test(`a group whose position means nothing any more is begun anew, by ${way ? "polling" : "socket"}`, async () => {
    const [id, elsewhere] = [await group(ada, bob), await group(bob)];
    const chat = opened(bob, id);
    chat.cursor = await head(bob, elsewhere);
    keep(
      chat,
      { ...draft(ada.viewer, "never was", randomUUID()), version: 1 },
      draft(bob.viewer, "mine", randomUUID()),
    );
    await say(ada, id, "hello");
    open.push(live(chat, assert.fail, way));
    await shows(chat, "hello", "mine");
  });

// --- polling ---------------------------------------------------------------------------------------------------------

test("polling gives the same events, and takes over where a stream stopped", async () => {
  const id = await group(ada, bob);
  const chat = lively(bob, id);
  await started(chat);
  await say(ada, id, "one");
  await shows(chat, "one");
  chat.leave();
  await say(ada, id, "two");
  open.push(live(chat, assert.fail, quickly));
  await shows(chat, "one", "two");
  await say(ada, id, "three");
  await shows(chat, "one", "two", "three");
});

test("polling goes on after the server could not be reached, and ends when the membership does", async (context) => {
  const id = await group(ada, bob);
  const way = await shakyWay();
  const chat = lively(bob, id, { url: way.url, way: quickly });
  await started(chat);
  way.admit(false);
  way.cut();
  const attempts = requestsTo(way, context);
  await say(ada, id, "one");
  await eventually(() => attempts() > 1, "another attempt");
  way.admit(true);
  await shows(chat, "one");
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: bob.viewer.id } });
  await eventually(() => chat.end);
  assert.equal(chat.end, "FORBIDDEN");
  await way.close();
});

// --- the list of groups ----------------------------------------------------------------------------------------------

test("the list of groups follows what happens to them", async () => {
  const eve = await person("eve");
  const client = connected(eve);
  let names;
  const list = client
    .query(MY_GROUPS, {})
    .subscribe(({ data }) => (names = data.myGroups.edges.map(({ node }) => node.name)));
  open.push(list.unsubscribe, followGroups(client, assert.fail));
  await eventually(() => names);
  const id = await group(ada, eve);
  await eventually(() => String(names) === "Chess");
  await ask(ada.token, "UpdateGroup", { input: { groupId: id, name: "Go" } });
  await eventually(() => String(names) === "Go");
  await ask(ada.token, "RemoveMember", { input: { groupId: id, userId: eve.viewer.id } });
  await eventually(() => names.length === 0);
});

// --- logging out -----------------------------------------------------------------------------------------------------

test("the end of a token is told once, and nothing comes back", async () => {
  const eve = await person("eve");
  const id = await group(eve, ada);
  let told = 0;
  const chat = lively(eve, id, { onSignedOut: () => told++ });
  await started(chat);
  await say(ada, id, "one");
  await shows(chat, "one");
  await chat.client.mutation(operation("Logout"), {});
  await eventually(() => told);
  assert.equal(chat.end, "SESSION_EXPIRED");
  assert.equal(told, 1);
});

test("a token that ended while the client was away ends its streams", async () => {
  const eve = await person("eve");
  const id = await group(eve, ada);
  const way = await shakyWay();
  let told = 0;
  const chat = lively(eve, id, { url: way.url, onSignedOut: () => told++ });
  await started(chat);
  await say(ada, id, "one");
  await shows(chat, "one");
  way.admit(false);
  way.cut();
  await ask(eve.token, "Logout");
  way.admit(true);
  await eventually(() => chat.end);
  assert.equal(chat.end, 4403);
  assert.equal(told, 1);
  await way.close();
});

test("urql had nothing to complain about", () => assert.deepEqual(complaints, []));
